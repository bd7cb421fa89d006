"""Error against time: which methods no other one beats in both."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tgmm.columns import reads
from tgmm.figures import style
from tgmm.figures.data import OK, fill, mark_undefined, provenance, select_summary
from tgmm.figures.layout import grid_layout, method_legend
from tgmm.figures.style import FILLED, INK, is_floor, method_style, metric_text

HEIGHT = 1.9
KEYS = ["method", "d", "K"]


@reads()
def draw_error_against_seconds(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw a panel for each d and K: a metric against the seconds of a task, and the frontier as a line."""
    points = costs(summary, settings)
    groups = [(d, K, rows) for (d, K), rows in points.groupby(["d", "K"], sort=True)]
    across = points["K"].nunique()
    methods = list(dict.fromkeys(points["method"]))
    lines = fill(["seconds: those of the method alone, in batches on one thread", provenance(points)])
    legend = method_legend(methods)
    layout = grid_layout(len(groups), across, HEIGHT, legend_rows=legend.rows, footer_rows=len(lines), share_y="row")
    for ax, (d, K, rows) in zip(layout.axes, groups, strict=True):
        _draw_panel(ax, rows)
        ax.set_title(f"d = {d}, K = {K}", fontsize=style.SMALL)
    layout.label_axes("seconds a task", metric_text(settings["metric"]).label)
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def costs(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a cell and method that has a value, with its ``seconds`` beside the metric's mean and interval."""
    free = ("d", "K")
    shown = mark_undefined(select_summary(summary, settings, free=free))
    seconds = select_summary(summary, settings | {"metric": "seconds"}, free=free)
    shown = shown.merge(seconds[[*KEYS, "mean"]].rename(columns={"mean": "seconds"}), on=KEYS)
    return shown[(shown["status"] == OK) & (shown["seconds"] > 0)]


def frontier(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other one beats in both seconds and error, by seconds; floors, which know more, are left out."""
    rivals = rows[[not is_floor(method) for method in rows["method"]]].sort_values(["seconds", "mean"])
    return rivals[rivals["mean"] < rivals["mean"].cummin().shift(fill_value=float("inf"))]


def _draw_panel(ax: Axes, rows: pd.DataFrame) -> None:
    for row in rows.itertuples():
        look = method_style(row.method)
        marker = look.marker or "_"
        spread = [[max(0.0, row.mean - row.low)], [max(0.0, row.high - row.mean)]]
        ax.errorbar(
            row.seconds, row.mean, yerr=spread, color=look.color, marker=marker, markersize=look.size + 1,
            linestyle="none", elinewidth=0.7, **(FILLED if look.marker else {"markeredgewidth": 1.4}),
        )  # fmt: skip
    best = frontier(rows)
    ax.step(best["seconds"], best["mean"], where="post", color=INK, linewidth=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")


def caption_error_against_seconds(settings: dict) -> str:
    """Return two sentences on what is shown."""
    return (
        f"{metric_text(settings['metric']).headline} against the processor time of a task, for each d and number of "
        f"components K, on the task set '{settings['taskset']}': means over tasks with 95 % bootstrap intervals. The "
        "line joins the methods that no other one beats in both; estimates that know the truth or the prior are apart."
    )
