"""Figures of the probes: what a trained network does from block to block, beside EM from the same start.

Read the tables that ``tgmm probe`` writes: measurements, one table a family, and the data of one task's picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from tgmm.columns import PICTURE_COLUMNS, PROBE_COLUMNS, reads
from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.data import fill, untrained_note
from tgmm.figures.layout import Layout, Legend, grid_layout, plain_numbers, stacked_layout
from tgmm.figures.style import INK, NEUTRAL, SERIES, SERIES_MARKERS

# --- probes --------------------------------------------------------------------------------------------------------

DASHED, DOTTED = (0, (4, 1.5)), (0, (1, 1.2))
LOOKS = {
    "trained": {"linestyle": "-", "markersize": 3.4},
    "untrained": {"linestyle": DOTTED, "markersize": 2.6, "markerfacecolor": "white"},
    "em": {"linestyle": DASHED, "marker": "", "linewidth": 1.0},
    "oracle": {"linestyle": DOTTED, "marker": "", "linewidth": 0.8},
}
ACROSS, PROBE_HEIGHT = 4, 1.15
PROBE_MARGINS = {"left": 0.34, "right": 0.06, "top": 0.36, "gap_across": 0.34}
GAP_DOWN, HEADING = 0.44, 0.2


@dataclass(frozen=True)
class ProbePanel:
    """A panel's title, how it is drawn, and its vertical axis ("share" from 0 to 1, or "log")."""

    title: str
    draw: Callable[[Axes, pd.DataFrame], None]
    axis: str = "share"


@reads(summary=PROBE_COLUMNS, tables=PROBE_COLUMNS)
def draw_probes(measurements: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw eight panels for every family of the settings (all if they name none), a colour for each K.

    ``tables`` holds the measurements of each family; without any they are taken from ``measurements``.
    """
    tables = tables or dict(list(measurements.groupby("family", sort=False)))
    families = settings.get("families") or list(tables)
    missing = [family for family in families if family not in tables]
    if missing:
        raise UserError(f"no probe measurements were given for family '{missing[0]}'")
    shown = [tables[family] for family in families]
    lines = [*fill(untrained_note(settings)), *_probe_footer(shown)]
    gaps = [GAP_DOWN, GAP_DOWN + HEADING] * len(shown)
    heights = [PROBE_HEIGHT] * (2 * len(shown))
    layout = stacked_layout(heights, gaps[:-1], ACROSS, legend_rows=2, footer_rows=len(lines), **PROBE_MARGINS)
    for number, table in enumerate(shown):
        _draw_family(layout, number, table)
    height = layout.height
    layout.figure.text(0.5, (layout.below - 0.3) / height, "block (for EM: 1 + EM steps)", ha="center", va="center")
    counts = sorted({K for table in shown for K in table["K"].unique()})
    layout.add_legend(Legend(_probe_handles(counts), 4, 2))
    layout.add_footer(lines)
    return layout.figure


def _draw_family(layout: Layout, number: int, table: pd.DataFrame) -> None:
    axes = layout.axes[2 * ACROSS * number : 2 * ACROSS * (number + 1)]
    for ax, panel in zip(axes, PANELS, strict=True):
        panel.draw(ax, table)
        ax.set_title(panel.title, fontsize=style.SMALL)
        _scale_probe_axes(ax, panel.axis)
    row = table.iloc[0]
    top = axes[0].get_position()
    layout.figure.text(
        0.06 / style.WIDTH, top.y1 + 0.2 / layout.height, f"{row['covariance']}, d = {row['d']}, N = {row['N']}",
        ha="left", va="bottom", weight="bold",
    )  # fmt: skip


def _scale_probe_axes(ax: Axes, axis: str) -> None:
    ax.grid()
    ax.set(xlabel="", ylabel="")
    if axis == "log":
        ax.set(xscale="log", yscale="log")
        last = max(float(x) for line in ax.lines for x in line.get_xdata())
        ax.xaxis.set_major_locator(FixedLocator([x for x in (1, 2, 3, 4, 6, 10, 20, 50) if x <= last]))
        ax.xaxis.set_major_formatter(plain_numbers())
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.yaxis.set_major_formatter(plain_numbers())
        ax.yaxis.set_minor_formatter(NullFormatter())
        return
    layers = sorted({float(x) for line in ax.lines for x in line.get_xdata()})
    ax.xaxis.set_major_locator(FixedLocator(layers[:: 1 + len(layers) // 8]))
    ax.xaxis.set_major_formatter(plain_numbers())
    lowest = min([0.0, *(float(y) for line in ax.lines for y in line.get_ydata())])
    ax.set_ylim(min(-0.04, lowest - 0.04), 1.04)


def _curves(ax: Axes, rows: pd.DataFrame, variant: str, statistic: str = "mean") -> None:
    """Draw a line for each K, with its interval where the statistic is the mean."""
    counts = sorted(rows["K"].unique())
    for color, marker, count in zip(SERIES, SERIES_MARKERS, counts, strict=False):
        cell = rows[rows["K"] == count].sort_values("layer")
        edge = {"markeredgecolor": color if variant == "untrained" else "white", "markeredgewidth": 0.5}
        look = {"color": color, "marker": marker, **edge, **LOOKS[variant]}
        ax.plot(cell["layer"], cell[statistic], zorder=3, **look)
        if statistic == "mean" and variant in ("trained", "untrained"):
            ax.vlines(cell["layer"], cell["low"], cell["high"], color=color, linewidth=0.9, zorder=2)


def _probe(quantity: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_probe(ax: Axes, table: pd.DataFrame) -> None:
        rows = table[table["quantity"] == quantity]
        for variant in ("untrained", "trained"):
            _curves(ax, rows[rows["variant"] == variant], variant)

    return draw_probe


def _error(statistic: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_error(ax: Axes, table: pd.DataFrame) -> None:
        rows = table[table["quantity"] == "l2_error"]
        last = rows["layer"].max()
        oracle = rows[rows["variant"] == "oracle"]
        ends = pd.concat([oracle.assign(layer=1), oracle.assign(layer=last)])
        _curves(ax, ends, "oracle", statistic)
        _curves(ax, rows[rows["variant"] == "em"], "em", statistic)
        _curves(ax, rows[rows["variant"] == "network"], "trained", statistic)

    return draw_error


def _attention(quantity: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_attention(ax: Axes, table: pd.DataFrame) -> None:
        rows = table[(table["quantity"] == quantity) & (table["reference"] == "own") & table["best"]]
        for variant in ("untrained", "trained"):
            _curves(ax, rows[rows["variant"] == variant], variant)

    return draw_attention


def _update(variant: str, reference: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_update(ax: Axes, table: pd.DataFrame) -> None:
        rows = table[(table["quantity"] == "update_cosine") & (table["variant"] == variant)]
        _curves(ax, rows[rows["reference"] == reference], "trained")

    return draw_update


PANELS = (
    ProbePanel(r"probe of the means, $R^2$", _probe("probe_means_r2")),
    ProbePanel(r"probe of the weights, $R^2$", _probe("probe_weights_r2")),
    ProbePanel(r"mean $\ell_2$-error", _error("mean"), "log"),
    ProbePanel(r"median $\ell_2$-error", _error("median"), "log"),
    ProbePanel("points' attention, r", _attention("scatter_correlation")),
    ProbePanel("components' attention, r", _attention("gather_correlation")),
    ProbePanel("update and EM step, cos", _update("network", "em")),
    ProbePanel("same, truth taken out, cos", _update("network", "em beside truth")),
)


def _probe_handles(counts: list[int]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=color, label=f"K = {K}", markeredgecolor="white", markersize=4.0, marker=marker)
        for color, marker, K in zip(SERIES, SERIES_MARKERS, counts, strict=False)
    ]
    labels = {
        "trained": "trained network", "untrained": "before training", "em": "EM from block 1's read-out",
        "oracle": "EM from the truth (floor)",
    }  # fmt: skip
    for variant, label in labels.items():
        edge = {"markeredgecolor": INK if variant == "untrained" else "white", "markeredgewidth": 0.5}
        look = {"color": NEUTRAL if variant == "oracle" else INK, "marker": "o", **edge, **LOOKS[variant]}
        handles.append(Line2D([], [], label=label, **look))
    pairs = zip(handles[:4], handles[-4:], strict=False)
    return [handle for pair in pairs for handle in pair] if len(counts) == 4 else handles


def _probe_footer(tables: list[pd.DataFrame]) -> list[str]:
    row = tables[0].iloc[0]
    tasks = sorted({int(count) for table in tables for count in table["n_tasks"].unique()})
    provenance = f"scale {row['scale']} · {', '.join(map(str, tasks))} tasks for each K · seed {row['seed']}"
    return [provenance, "bars: 95 % bootstrap interval of the mean over tasks; the best head is chosen on other tasks"]


def caption_probes(settings: dict) -> str:
    """Return what is computed, whatever comes out."""
    return (
        "Inside trained component-token networks, block by block. Linear probes: R² of ridge regressions from "
        "component tokens to true means and weights, fitted and tested on different tasks; block 0 is the tokens "
        "before any block (R² is then due to the order of the tokens alone). ℓ2-error of the read-out after every "
        "block, and of EM started from the first read-out. Attention: correlation over points and components of the "
        "best head with the responsibilities under the same block's read-out (for components, each one's normalised "
        "over the points). Updates: cosine of the angle between a block's change of the read-out and the EM step from "
        "the same place, and the same after the direction to the truth has been taken out of both. Dotted lines with "
        "open markers: the same network with the weights that its training began from."
    )


# --- probe-picture -------------------------------------------------------------------------------------------------

PICTURE_HEIGHT = 2.9


@reads(summary=PICTURE_COLUMNS)
def draw_probe_picture(rows: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw points by true responsibilities with EM's means on the left, by attention with the network's on the right.

    Parameters
    ----------
    rows : with ``PICTURE_COLUMNS``; not looked at where ``tables`` holds a table.
    """
    rows = next(iter(tables.values())) if tables else rows
    if rows["K"].iloc[0] > len(SERIES):
        raise UserError(f"the picture has colours for K up to {len(SERIES)}")
    block, head = (int(rows[name].iloc[0]) for name in ("block", "head"))
    layout = grid_layout(2, 2, PICTURE_HEIGHT, legend_rows=1, footer_rows=1, share_x=False)
    left, right = layout.axes
    _draw_picture(left, rows, "responsibility", "em")
    left.set_title("points: responsibilities under the truth · means: EM")
    _draw_picture(right, rows, "attention", "network")
    right.set_title(f"points: attention, block {block}, head {head + 1} · means: network")
    layout.label_axes(r"$x_1$", r"$x_2$")
    layout.add_legend(Legend(_picture_handles(), 4, 1))
    layout.add_footer([_picture_footer(rows)])
    return layout.figure


def _draw_picture(ax: Axes, rows: pd.DataFrame, share: str, way: str) -> None:
    points = rows[rows["part"] == "point"]
    shares = points.pivot(index="item", columns="component", values=share).to_numpy()
    places = points[points["component"] == 0].sort_values("item")
    ax.scatter(places["x"], places["y"], c=blend(shares), s=9, linewidths=0, alpha=0.8, zorder=2, gid="points")
    for component, steps in rows[rows["part"] == way].groupby("component"):
        steps = steps.sort_values("item")
        ax.plot(steps["x"], steps["y"], color=INK, linewidth=0.9, marker="o", markersize=2.2, zorder=4, gid=way)
        first, last = steps.iloc[[0]], steps.iloc[[-1]]
        ax.plot(first["x"], first["y"], **_marks("first"), zorder=5)
        ax.plot(last["x"], last["y"], **_marks("last", SERIES[int(component)]), zorder=6)
    truth = rows[rows["part"] == "truth"]
    ax.plot(truth["x"], truth["y"], **_marks("truth"), zorder=7)
    ax.set_aspect("equal", adjustable="datalim")


def blend(shares: np.ndarray) -> np.ndarray:
    """Return colours (N, 3): the components' colours mixed by each point's shares (N, K)."""
    return np.clip(shares @ np.array([to_rgb(color) for color in SERIES[: shares.shape[1]]]), 0.0, 1.0)


def _marks(name: str, color: str = "#a6a6a6") -> dict:
    looks = {
        "first": {"marker": "o", "markersize": 4.5, "markerfacecolor": "white", "markeredgecolor": INK},
        "last": {"marker": "o", "markersize": 5.5, "markerfacecolor": color, "markeredgecolor": INK},
        "truth": {"marker": "x", "markersize": 6.5, "markeredgecolor": INK, "markeredgewidth": 1.4},
    }
    return {"linestyle": "", "markeredgewidth": 0.9, **looks[name]}


def _picture_handles() -> list[Line2D]:
    labels = {"first": "first read-out", "last": "last estimate", "truth": "true mean"}
    way = Line2D([], [], color=INK, linewidth=0.9, marker="o", markersize=2.2, label="EM step (left), block (right)")
    return [*(Line2D([], [], label=label, **_marks(name)) for name, label in labels.items()), way]


def _picture_footer(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    steps = rows.loc[rows["part"] == "em", "item"].max()
    return (
        f"scale {row['scale']} · K = {row['K']}, N = {row['N']} · task {row['task_id']}, the one of median error "
        f"({row['l2_error']:.3f}) · {steps} EM steps · seed {row['seed']}"
    )


def caption_probe_picture(settings: dict) -> str:
    """Return what is computed, whatever comes out."""
    return (
        "One task in two dimensions, the test task whose final error is the median. Left: points coloured by their "
        "responsibilities under the true parameters, and the means of EM from the network's first read-out. Right: "
        "points coloured by their attention to the component tokens, in the head that correlates best with the "
        "responsibilities on other tasks, and the means that the network reads out after each block."
    )
