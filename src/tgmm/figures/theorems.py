"""Figures of the theorems: how far the constructed transformers are from EM and from the tensor power iteration.

Read the tables that ``tgmm theory measure em`` and ``tgmm theory measure power`` write.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from tgmm.columns import reads
from tgmm.errors import UserError
from tgmm.figures.layout import Legend, grid_layout, plain_numbers
from tgmm.figures.style import FILLED, INK, NEUTRAL, SERIES, SERIES_MARKERS, VERMILION

EM_COLUMNS = ("mixtures", "d", "K", "L", "W", "copies", "exact", "N", "n_tasks", "seed", "median", "largest")
POWER_COLUMNS = ("measure", "method", "d", "K", "iteration", "N", "n_tasks", "seed", "median", "largest")
PANEL_HEIGHT = 2.0


# --- theorem-em ----------------------------------------------------------------------------------------------------

LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
MAIN_WIDTH = 2048
LEVEL = 1e-4
SMALLEST_WIDTH = 1024  # of the fit: narrower networks have terms of higher order
FLOOR = 1e-9  # EM that has come to its fixed point in double precision differs by rounding only: not shown


@reads(summary=EM_COLUMNS)
def draw_theorem_em(measurements: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the largest difference from EM against the hidden width, and at one width against the steps."""
    learnt = measurements[~measurements["exact"]]
    copies, n_steps = learnt["copies"].max(), learnt["L"].max()
    width = MAIN_WIDTH if MAIN_WIDTH in set(learnt["W"]) else learnt["W"].max()
    kinds = list(dict.fromkeys(learnt["mixtures"]))
    main, plain = learnt[learnt["copies"] == copies], learnt[(learnt["copies"] == 1) & (copies > 1)]
    if main.empty:
        raise UserError("the measurements of Theorem 1 have no row for a network of ReLU perceptrons")
    layout = grid_layout(2 * len(kinds), 2 * len(kinds), PANEL_HEIGHT, legend_rows=2, footer_rows=2, share_x=False)
    for ax, kind in zip(layout.axes, kinds, strict=False):
        _draw_lines(ax, plain[(plain["mixtures"] == kind) & (plain["L"] == n_steps)], "W", plain=True)
        _draw_lines(ax, main[(main["mixtures"] == kind) & (main["L"] == n_steps)], "W")
        _draw_guides(ax, sorted(main["W"].unique()))
        ax.set_title(f"{kind}, L = {n_steps}")
    for ax, kind in zip(layout.axes[len(kinds) :], kinds, strict=True):
        _draw_lines(ax, main[(main["mixtures"] == kind) & (main["W"] == width)], "L")
        ax.set_title(f"{kind}, W = {width}")
    _scale_em_axes(layout.axes)
    layout.label_axes("hidden width W (two panels on the left), EM steps L (two on the right)", "largest difference")
    layout.add_legend(Legend(_em_handles(main, plain), 4, 2))
    layout.add_footer(_em_footer(measurements))
    return layout.figure


def _draw_lines(ax: Axes, rows: pd.DataFrame, axis: str, plain: bool = False) -> None:
    dimensions, counts = sorted(rows["d"].unique()), sorted(rows["K"].unique())
    for (d, K), cell in rows.sort_values(axis).groupby(["d", "K"]):
        look = _look(dimensions.index(d), counts.index(K))
        if plain:
            look |= {"color": NEUTRAL, "linewidth": 0.7, "marker": "", "gid": "plain"}
        ax.plot(cell[axis], cell["largest"], zorder=2 if plain else 3, **look)


def _look(dimension: int, count: int) -> dict:
    marker = {"marker": SERIES_MARKERS[dimension % len(SERIES_MARKERS)], "markersize": 3.4}
    return {"color": SERIES[count % len(SERIES)], "linestyle": LINES[dimension % len(LINES)], **marker, **FILLED}


def _draw_guides(ax: Axes, widths: list[int]) -> None:
    """Draw the level to reach and a line that falls as W^-2."""
    ax.axhline(LEVEL, color=INK, linewidth=0.6, linestyle=(0, (1, 1.5)), zorder=1, gid="level")
    low, high = widths[0], widths[-1]
    ax.plot([low, high], [2e-7, 2e-7 * (low / high) ** 2], color=INK, linewidth=0.8, zorder=1, gid="slope")
    ax.annotate("$W^{-2}$", (high, 2e-7 * (low / high) ** 2), xytext=(0, 7), textcoords="offset points", ha="right")


def _scale_em_axes(axes: list[Axes]) -> None:
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="", ylabel="")
        ticks = sorted({float(x) for line in ax.lines if line.get_gid() is None for x in line.get_xdata()})
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(plain_numbers())
        ax.set_ylim(bottom=FLOOR)
        ax.grid()


def _em_handles(main: pd.DataFrame, plain: pd.DataFrame) -> list[Line2D]:
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


def _em_footer(measurements: pd.DataFrame) -> list[str]:
    row, slope = measurements.iloc[0], fitted_slope(measurements)
    tasks = f"largest of {row['n_tasks']} tasks a cell · N = {row['N']} · seed {row['seed']}"
    parts = [] if math.isnan(slope) else [f"fitted slope in W from 1024 on {slope:.2f}"]
    exact = measurements[measurements["exact"]]
    if len(exact):
        parts.append(f"with exact scalar maps the difference is at most {exact['largest'].max():.0e}")
    return [tasks, " · ".join(parts).replace("-", "−")]


def caption_theorem_em(settings: dict) -> str:
    """Return one or two sentences on what is shown."""
    return (
        "Theorem 1 as a program: the largest difference of any mean's coordinate or weight between a transformer of "
        "2 L blocks with constructed weights and L steps of EM from the same start, against the hidden width W and "
        "against L. One network serves every d and K; overlapping mixtures have means three standard deviations apart. "
        "Cells where both have converged to rounding lie below the axis."
    )


# --- theorem-power -------------------------------------------------------------------------------------------------

ROUNDING = 2.2e-16


@reads(summary=POWER_COLUMNS)
def draw_theorem_power(measurements: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the error of one block against d, with and without the offset, and the recovery of a component."""
    layout = grid_layout(2, 2, PANEL_HEIGHT, legend_rows=2, footer_rows=2, share_x=False)
    left, right = layout.axes
    _draw_iteration(left, measurements[measurements["measure"] == "iteration"])
    _draw_recovery(right, measurements[measurements["measure"] == "recovery"])
    for ax in layout.axes:
        ax.set_yscale("log")
        ax.grid()
    layout.label_axes("dimension d (left), power iterations = blocks (right)", "error")
    recovered = measurements[measurements["measure"] == "recovery"]
    layout.add_legend(Legend(_power_handles(sorted(recovered["d"].unique())), 4, 2))
    layout.add_footer(_power_footer(measurements))
    return layout.figure


def _draw_iteration(ax: Axes, rows: pd.DataFrame) -> None:
    for method, look in _iteration_looks().items():
        cell = rows[rows["method"] == method].sort_values("d")
        ax.plot(cell["d"], cell["largest"].clip(lower=ROUNDING), **look)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(sorted(rows["d"].unique())))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(plain_numbers())
    ax.set_title("one block against $T(I,v,v)$, largest difference")


def _iteration_looks() -> dict[str, dict]:
    return {
        "network": {"color": INK, "marker": "o", **FILLED},
        "network without offset": {"color": VERMILION, "marker": "X", "linestyle": (0, (4, 1.5)), **FILLED},
    }


def _draw_recovery(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw classical iterations as lines, the network's as markers on them."""
    for color, (_, cell) in zip(SERIES, rows.groupby("d"), strict=False):
        for method, look in _recovery_looks(color).items():
            run = cell[cell["method"] == method].sort_values("iteration")
            ax.plot(run["iteration"].astype(int), run["median"].clip(lower=ROUNDING), **look)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title("distance to the component found, median")


def _recovery_looks(color: str) -> dict[str, dict]:
    marks = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": color}
    return {"classical": {"color": color}, "network": {"linestyle": "", **marks}}


def _power_handles(dimensions: list[int]) -> list[Line2D]:
    labels = ("one block", "without offset and extra token")
    looks = _iteration_looks().values()
    handles = [Line2D([], [], label=label, **look) for label, look in zip(labels, looks, strict=True)]
    handles += [Line2D([], [], color=color, label=f"d = {d}") for color, d in zip(SERIES, dimensions, strict=False)]
    handles.append(Line2D([], [], color=NEUTRAL, label="classical iterations"))
    return [*handles, Line2D([], [], label="network's blocks", **_recovery_looks(NEUTRAL)["network"])]


def _power_footer(measurements: pd.DataFrame) -> list[str]:
    row = measurements.iloc[0]
    largest = measurements.groupby("measure")["largest"].max()
    parts = [f"{row['n_tasks']} random tensors a point · seed {row['seed']}"]
    if "decomposition" in largest:
        parts.append(f"all components after deflation: error at most {largest['decomposition']:.0e}")
    second = ""
    if "spectral" in largest:
        second = (
            "spectral estimates of mixtures with the network and with the classical iteration differ by at most "
            f"{largest['spectral']:.0e}"
        )
    return [" · ".join(parts).replace("e-", "e−"), second.replace("e-", "e−")]


def caption_theorem_power(settings: dict) -> str:
    """Return one or two sentences on what is shown."""
    return (
        "Theorem 2 as a program: a transformer with d ReLU heads and constructed weights, one block a power iteration. "
        "Left: one block against the map that it stands for on random tensors, with the offset and extra token and "
        "without them. Right: distance to a component of orthogonally decomposable tensors, by iteration."
    )


CONVERGED = 1e-12  # differences up to this are rounding


def fitted_slope(measurements: pd.DataFrame) -> float:
    """The slope of log(difference) in log W, by least squares with a level of its own for every cell.

    The difference is the median over tasks; cells where it is rounding at any width (the start is already EM's fixed
    point) are left out. NaN if fewer than two widths remain.
    """
    rows = measurements[~measurements["exact"] & (measurements["W"] >= SMALLEST_WIDTH)]
    table = rows.pivot(index=["mixtures", "d", "K", "L", "copies"], columns="W", values="median")
    table = table[(table > CONVERGED).all(axis=1)]
    if table.shape[1] < 2 or table.empty:
        return math.nan
    widths, levels = np.log(table.columns.to_numpy(dtype=float)), np.log(table.to_numpy()).mean(axis=0)
    return float(np.polyfit(widths, levels, 1)[0])
