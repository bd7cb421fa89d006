"""Error against time, and error against error: which methods no other one beats in both."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tgmm.columns import reads
from tgmm.figures import style
from tgmm.figures.data import OK, fill, mark_undefined, provenance, select_summary
from tgmm.figures.layout import grid_layout, label_log_axis, method_legend
from tgmm.figures.style import FILLED, INK, is_floor, method_style, metric_text

HEIGHT = 1.9
KEYS = ["method", "d", "K"]
STATISTICS = ["mean", "low", "high"]


@reads()
def draw_error_against_seconds(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw a panel for each d and K: a metric against the seconds of a task, and the frontier as a line."""
    note = "seconds: those of the method alone, in batches on one thread"
    return _draw(costs(summary, settings), ("seconds a task", metric_text(settings["metric"]).label), [note])


@reads()
def draw_error_against_error(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw a panel for each d and K: one metric against another, and the frontier as a line."""
    names = [metric_text(metric).label for metric in settings["metrics"]]
    return _draw(trade_offs(summary, settings), (names[0].replace("\n", " "), names[1]), [])


def _draw(points: pd.DataFrame, labels: tuple[str, str], notes: list[str]) -> Figure:
    """A panel for each d and K of rows with ``method``, ``x`` and ``y`` and their intervals."""
    groups = [(d, K, rows) for (d, K), rows in points.groupby(["d", "K"], sort=True)]
    across = points["K"].nunique()
    methods = list(dict.fromkeys(points["method"]))
    lines = fill([*notes, provenance(points)])
    legend = method_legend(methods)
    layout = grid_layout(len(groups), across, HEIGHT, legend_rows=legend.rows, footer_rows=len(lines), share_y="row")
    for ax, (d, K, rows) in zip(layout.axes, groups, strict=True):
        _draw_panel(ax, rows)
        ax.set_title(f"d = {d}, K = {K}", fontsize=style.SMALL)
    layout.label_axes(*labels)
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def trade_offs(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a cell and method that has both metrics, the first as ``x`` and the second as ``y`` with intervals."""
    free = ("d", "K")
    x, y = (
        mark_undefined(select_summary(summary, settings | {"metric": metric}, free=free))
        for metric in settings["metrics"]
    )
    across = x[(x["status"] == OK) & (x["mean"] > 0)]
    across = across[[*KEYS, *STATISTICS]].rename(columns={"mean": "x", "low": "x_low", "high": "x_high"})
    return y[(y["status"] == OK) & (y["mean"] > 0)].merge(across, on=KEYS)


def costs(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a cell and method that has a value, with its ``seconds`` beside the metric's mean and interval."""
    free = ("d", "K")
    shown = mark_undefined(select_summary(summary, settings, free=free))
    seconds = select_summary(summary, settings | {"metric": "seconds"}, free=free)
    shown = shown.merge(seconds[[*KEYS, "mean"]].rename(columns={"mean": "seconds"}), on=KEYS)
    return shown[(shown["status"] == OK) & (shown["seconds"] > 0)].assign(x=lambda rows: rows["seconds"])


def frontier(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other one beats in both ``x`` and mean, by ``x``; floors, which know more, are left out."""
    rivals = rows[[not is_floor(method) for method in rows["method"]]].sort_values(["x", "mean"])
    return rivals[rivals["mean"] < rivals["mean"].cummin().shift(fill_value=float("inf"))]


def _draw_panel(ax: Axes, rows: pd.DataFrame) -> None:
    for row in rows.itertuples():
        look = method_style(row.method)
        marker = look.marker or "_"
        across = getattr(row, "x_low", row.x), getattr(row, "x_high", row.x)
        ax.errorbar(
            row.x, row.mean, xerr=_spread(row.x, *across), yerr=_spread(row.mean, row.low, row.high),
            color=look.color, marker=marker, markersize=look.size + 1, linestyle="none", elinewidth=0.7,
            **(FILLED if look.marker else {"markeredgewidth": 1.4}),
        )  # fmt: skip
    best = frontier(rows)
    ax.step(best["x"], best["mean"], where="post", color=INK, linewidth=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        label_log_axis(axis, high / low)


def _spread(value: float, low: float, high: float) -> list[list[float]]:
    """An interval as matplotlib takes it."""
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def caption_error_against_seconds(settings: dict) -> str:
    """Return two sentences on what is shown."""
    return _caption(metric_text(settings["metric"]).headline, "the processor time of a task", settings)


def caption_error_against_error(settings: dict) -> str:
    """Return two sentences on what is shown."""
    first, second = (metric_text(metric) for metric in settings["metrics"])
    return _caption(second.headline, first.name, settings)


def _caption(metric: str, other: str, settings: dict) -> str:
    return (
        f"{metric} against {other}, for each d and number of components K, on the task set "
        f"'{settings['taskset']}': means over tasks with 95 % bootstrap intervals. The line joins the methods that no "
        "other one beats in both; estimates that know the truth or the prior are apart."
    )
