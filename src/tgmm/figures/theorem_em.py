"""Kind ``theorem-em``: how far the constructed transformer of Theorem 1 is from EM.

Reads the table that ``tgmm theory measure em`` writes.
"""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tgmm.errors import UserError
from tgmm.figures.frame import make_frame
from tgmm.figures.palette import BLUE, INK, NEUTRAL, ORANGE, PURPLE, VERMILION
from tgmm.theory.report import fitted_slope

COLUMNS = ("mixtures", "d", "K", "L", "W", "copies", "exact", "N", "n_tasks", "seed", "median", "largest")
COLORS = (BLUE, ORANGE, VERMILION, PURPLE)
LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
MARKERS = ("o", "s", "^")
MAIN_WIDTH = 2048
LEVEL = 1e-4
FLOOR = 1e-9  # EM that has come to its fixed point in double precision differs by rounding only: not shown


def draw(measurements: pd.DataFrame, settings: dict, histories: dict | None = None) -> Figure:
    """Largest difference from EM against the hidden width at the most steps, and against the steps at one width."""
    learnt = measurements[~measurements["exact"]]
    copies, n_steps = learnt["copies"].max(), learnt["L"].max()
    width = MAIN_WIDTH if MAIN_WIDTH in set(learnt["W"]) else learnt["W"].max()
    kinds = list(dict.fromkeys(learnt["mixtures"]))
    main, plain = learnt[learnt["copies"] == copies], learnt[(learnt["copies"] == 1) & (copies > 1)]
    if main.empty:
        raise UserError("the measurements of Theorem 1 have no row for a network of ReLU perceptrons")
    frame = make_frame(2 * len(kinds), 2 * len(kinds), 2.0, legend_rows=2, footer_rows=2, share_x=False)
    for panel, kind in zip(frame.panels, kinds, strict=False):
        _draw_lines(panel, plain[(plain["mixtures"] == kind) & (plain["L"] == n_steps)], "W", plain=True)
        _draw_lines(panel, main[(main["mixtures"] == kind) & (main["L"] == n_steps)], "W")
        _draw_guides(panel, sorted(main["W"].unique()))
        panel.set_title(f"{kind}, L = {n_steps}")
    for panel, kind in zip(frame.panels[len(kinds) :], kinds, strict=True):
        _draw_lines(panel, main[(main["mixtures"] == kind) & (main["W"] == width)], "L")
        panel.set_title(f"{kind}, W = {width}")
    _scale_axes(frame.panels)
    frame.label_axes("hidden width W (two panels on the left), EM steps L (two on the right)", "largest difference")
    frame.add_legend(_handles(main, plain), 4)
    frame.add_footer(_footer(measurements))
    return frame.figure


def _draw_lines(panel: Axes, rows: pd.DataFrame, axis: str, plain: bool = False) -> None:
    dimensions, counts = sorted(rows["d"].unique()), sorted(rows["K"].unique())
    for (d, K), cell in rows.sort_values(axis).groupby(["d", "K"]):
        look = _look(dimensions.index(d), counts.index(K))
        if plain:
            look |= {"color": NEUTRAL, "linewidth": 0.7, "marker": "", "gid": "plain"}
        panel.plot(cell[axis], cell["largest"], zorder=2 if plain else 3, **look)


def _look(dimension: int, count: int) -> dict:
    marker = {"marker": MARKERS[dimension % len(MARKERS)], "markersize": 3.4}
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    return {"color": COLORS[count % len(COLORS)], "linestyle": LINES[dimension % len(LINES)], **marker, **edge}


def _draw_guides(panel: Axes, widths: list[int]) -> None:
    """The level to reach and a line that falls as W^-2."""
    panel.axhline(LEVEL, color=INK, linewidth=0.6, linestyle=(0, (1, 1.5)), zorder=1, gid="level")
    low, high = widths[0], widths[-1]
    panel.plot([low, high], [2e-7, 2e-7 * (low / high) ** 2], color=INK, linewidth=0.8, zorder=1, gid="slope")
    panel.annotate("$W^{-2}$", (high, 2e-7 * (low / high) ** 2), xytext=(0, 7), textcoords="offset points", ha="right")


def _scale_axes(panels: list[Axes]) -> None:
    for panel in panels:
        panel.set(xscale="log", yscale="log", xlabel="", ylabel="")
        ticks = sorted({float(x) for line in panel.lines if line.get_gid() is None for x in line.get_xdata()})
        panel.xaxis.set_major_locator(FixedLocator(ticks))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set_ylim(bottom=FLOOR)
        panel.grid()


def _handles(main: pd.DataFrame, plain: pd.DataFrame) -> list[Line2D]:
    counts, dimensions = sorted(main["K"].unique()), sorted(main["d"].unique())
    handles = [Line2D([], [], color=_look(0, number)["color"], label=f"K = {K}") for number, K in enumerate(counts)]
    if len(plain):
        label = f"one token a component, K = {plain['K'].max()}"
        handles.append(Line2D([], [], color=NEUTRAL, linewidth=0.7, label=label))
    for number, d in enumerate(dimensions):
        look = _look(number, 0) | {"color": INK, "markeredgecolor": INK, "markersize": 3.0}
        handles.append(Line2D([], [], label=f"d = {d}", **look))
    level = {"color": INK, "linewidth": 0.6, "linestyle": (0, (1, 1.5))}
    return [*handles, Line2D([], [], label=r"$10^{-4}$", **level)]


def _footer(measurements: pd.DataFrame) -> list[str]:
    row, slope = measurements.iloc[0], fitted_slope(measurements)
    tasks = f"largest of {row['n_tasks']} tasks a cell · N = {row['N']} · seed {row['seed']}"
    parts = [] if math.isnan(slope) else [f"fitted slope in W from 1024 on {slope:.2f}"]
    exact = measurements[measurements["exact"]]
    if len(exact):
        parts.append(f"with exact scalar maps the difference is at most {exact['largest'].max():.0e}")
    return [tasks, " · ".join(parts).replace("-", "−")]


def caption(settings: dict) -> str:
    """One or two sentences on what is shown."""
    return (
        "Theorem 1 as a program: the largest difference of any mean's coordinate or weight between a transformer of "
        "2 L blocks with constructed weights and L steps of EM from the same start, against the hidden width W and "
        "against L. One network serves every d and K; overlapping mixtures have means three standard deviations apart. "
        "Cells where both have converged to rounding lie below the axis."
    )
