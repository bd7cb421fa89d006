"""Kind ``probes``: what a trained network does from block to block, beside EM from the same start.

Reads the tables that ``tgmm probe`` writes, one a family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.footnotes import fill, untrained_note
from tgmm.figures.frame import AXIS_ROOM, FOOTER_ROW, LEGEND_ROW, Frame
from tgmm.figures.palette import BLUE, INK, NEUTRAL, ORANGE, PURPLE, VERMILION

COLUMNS = (
    "scale", "family", "covariance", "d", "N", "seed", "quantity", "variant", "reference", "layer", "head", "best", "K",
    "mean", "median", "low", "high", "n_tasks",
)  # fmt: skip
COLORS = (BLUE, ORANGE, VERMILION, PURPLE)
DASHED, DOTTED = (0, (4, 1.5)), (0, (1, 1.2))
LOOKS = {
    "trained": {"linestyle": "-", "marker": "o", "markersize": 3.2},
    "untrained": {"linestyle": DOTTED, "marker": "o", "markersize": 2.4, "markerfacecolor": "white"},
    "em": {"linestyle": DASHED, "marker": "", "linewidth": 1.0},
    "oracle": {"linestyle": DOTTED, "marker": "", "linewidth": 0.8},
}
ACROSS, PANEL_HEIGHT = 4, 1.15
LEFT, RIGHT, TOP, GAP_ACROSS, GAP_DOWN, HEADING = 0.34, 0.06, 0.36, 0.34, 0.44, 0.2


@dataclass(frozen=True)
class Panel:
    """A panel: its title, what it draws, and its vertical axis ("share" from 0 to 1, or "log")."""

    title: str
    draw: Callable[[Axes, pd.DataFrame], None]
    axis: str = "share"


def draw(measurements: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame] | None = None) -> Figure:
    """Eight panels for every family; a colour for each K.

    Parameters
    ----------
    measurements : rows with ``COLUMNS``; not looked at where ``histories`` is given.
    settings : ``families``, in the order of the figure; all of them if absent.
    histories : the table of each family.
    """
    tables = histories or dict(list(measurements.groupby("family", sort=False)))
    families = settings.get("families") or list(tables)
    missing = [family for family in families if family not in tables]
    if missing:
        raise UserError(f"no probe measurements were given for family '{missing[0]}'")
    shown = [tables[family] for family in families]
    lines = [*fill(untrained_note(settings)), *_footer(shown)]
    frame = _frame(len(shown), len(lines))
    for number, table in enumerate(shown):
        _draw_family(frame, number, table)
    counts = sorted({K for table in shown for K in table["K"].unique()})
    frame.add_legend(_handles(counts), 4)
    frame.add_footer(lines)
    return frame.figure


def _frame(n_families: int, footer_rows: int) -> Frame:
    """Two rows of panels for each family, every panel with a vertical axis of its own."""
    rows = 2 * n_families
    below = AXIS_ROOM + 2 * LEGEND_ROW + footer_rows * FOOTER_ROW + 0.1
    height = TOP + rows * PANEL_HEIGHT + (rows - 1) * GAP_DOWN + (n_families - 1) * HEADING + below
    figure = Figure(figsize=(style.WIDTH, height))
    width = (style.WIDTH - LEFT - RIGHT - (ACROSS - 1) * GAP_ACROSS) / ACROSS
    panels = []
    for row in range(rows):
        bottom = height - TOP - (row + 1) * PANEL_HEIGHT - row * GAP_DOWN - (row // 2) * HEADING
        for column in range(ACROSS):
            left = LEFT + column * (width + GAP_ACROSS)
            box = (left / style.WIDTH, bottom / height, width / style.WIDTH, PANEL_HEIGHT / height)
            panels.append(figure.add_axes(box))
    frame = Frame(figure, panels, below)
    figure.text(0.5, (below - 0.3) / height, "block (for EM: 1 + EM steps)", ha="center", va="center")
    return frame


def _draw_family(frame: Frame, number: int, table: pd.DataFrame) -> None:
    panels = frame.panels[2 * ACROSS * number : 2 * ACROSS * (number + 1)]
    for axes, panel in zip(panels, PANELS, strict=True):
        panel.draw(axes, table)
        axes.set_title(panel.title, fontsize=style.SMALL)
        _scale_axes(axes, panel.axis)
    row = table.iloc[0]
    top = panels[0].get_position()
    height = frame.figure.get_size_inches()[1]
    frame.figure.text(
        0.06 / style.WIDTH, top.y1 + 0.2 / height, f"{row['covariance']}, d = {row['d']}, N = {row['N']}",
        ha="left", va="bottom", weight="bold",
    )  # fmt: skip


def _scale_axes(axes: Axes, axis: str) -> None:
    axes.grid()
    axes.set(xlabel="", ylabel="")
    if axis == "log":
        axes.set(xscale="log", yscale="log")
        last = max(float(x) for line in axes.lines for x in line.get_xdata())
        axes.xaxis.set_major_locator(FixedLocator([x for x in (1, 2, 3, 4, 6, 10, 20, 50) if x <= last]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    layers = sorted({float(x) for line in axes.lines for x in line.get_xdata()})
    axes.xaxis.set_major_locator(FixedLocator(layers[:: 1 + len(layers) // 8]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lowest = min([0.0, *(float(y) for line in axes.lines for y in line.get_ydata())])
    axes.set_ylim(min(-0.04, lowest - 0.04), 1.04)


def _curves(axes: Axes, rows: pd.DataFrame, variant: str, statistic: str = "mean") -> None:
    """A line for each K, with its interval where the statistic is the mean."""
    counts = sorted(rows["K"].unique())
    for color, count in zip(COLORS, counts, strict=False):
        cell = rows[rows["K"] == count].sort_values("layer")
        look = {"color": color, "markeredgecolor": color if variant == "untrained" else "white", **LOOKS[variant]}
        axes.plot(cell["layer"], cell[statistic], markeredgewidth=0.5, zorder=3, **look)
        if statistic == "mean" and variant in ("trained", "untrained"):
            axes.vlines(cell["layer"], cell["low"], cell["high"], color=color, linewidth=0.9, zorder=2)


def _probe(quantity: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_probe(axes: Axes, table: pd.DataFrame) -> None:
        rows = table[table["quantity"] == quantity]
        for variant in ("untrained", "trained"):
            _curves(axes, rows[rows["variant"] == variant], variant)

    return draw_probe


def _error(statistic: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_error(axes: Axes, table: pd.DataFrame) -> None:
        rows = table[table["quantity"] == "l2_error"]
        last = rows["layer"].max()
        oracle = rows[rows["variant"] == "oracle"]
        ends = pd.concat([oracle.assign(layer=1), oracle.assign(layer=last)])
        _curves(axes, ends, "oracle", statistic)
        _curves(axes, rows[rows["variant"] == "em"], "em", statistic)
        _curves(axes, rows[rows["variant"] == "network"], "trained", statistic)

    return draw_error


def _attention(quantity: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_attention(axes: Axes, table: pd.DataFrame) -> None:
        rows = table[(table["quantity"] == quantity) & (table["reference"] == "own") & table["best"]]
        for variant in ("untrained", "trained"):
            _curves(axes, rows[rows["variant"] == variant], variant)

    return draw_attention


def _update(variant: str, reference: str) -> Callable[[Axes, pd.DataFrame], None]:
    def draw_update(axes: Axes, table: pd.DataFrame) -> None:
        rows = table[(table["quantity"] == "update_cosine") & (table["variant"] == variant)]
        _curves(axes, rows[rows["reference"] == reference], "trained")

    return draw_update


PANELS = (
    Panel(r"probe of the means, $R^2$", _probe("probe_means_r2")),
    Panel(r"probe of the weights, $R^2$", _probe("probe_weights_r2")),
    Panel(r"mean $\ell_2$-error", _error("mean"), "log"),
    Panel(r"median $\ell_2$-error", _error("median"), "log"),
    Panel("points' attention, r", _attention("scatter_correlation")),
    Panel("components' attention, r", _attention("gather_correlation")),
    Panel("update and EM step, cos", _update("network", "em")),
    Panel("same, truth taken out, cos", _update("network", "em beside truth")),
)


def _handles(counts: list[int]) -> list[Line2D]:
    handles = [Line2D([], [], color=color, label=f"K = {K}") for color, K in zip(COLORS, counts, strict=False)]
    labels = {
        "trained": "trained network", "untrained": "before training", "em": "EM from block 1's read-out",
        "oracle": "EM from the truth (floor)",
    }  # fmt: skip
    for variant, label in labels.items():
        edge = {"markeredgecolor": INK if variant == "untrained" else "white", "markeredgewidth": 0.5}
        handles.append(
            Line2D([], [], color=NEUTRAL if variant == "oracle" else INK, label=label, **edge, **LOOKS[variant])
        )
    pairs = zip(handles[:4], handles[-4:], strict=False)
    return [handle for pair in pairs for handle in pair] if len(counts) == 4 else handles


def _footer(tables: list[pd.DataFrame]) -> list[str]:
    row = tables[0].iloc[0]
    tasks = sorted({int(count) for table in tables for count in table["n_tasks"].unique()})
    provenance = f"scale {row['scale']} · {', '.join(map(str, tasks))} tasks for each K · seed {row['seed']}"
    return [provenance, "bars: 95 % bootstrap interval of the mean over tasks; the best head is chosen on other tasks"]


def caption(settings: dict) -> str:
    """What is computed, whatever comes out."""
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
