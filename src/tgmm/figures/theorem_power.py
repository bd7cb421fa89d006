"""Kind ``theorem-power``: the constructed transformer of Theorem 2 beside the cubic tensor power iteration.

Reads the table that ``tgmm theory measure power`` writes.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from tgmm.figures.frame import make_frame
from tgmm.figures.palette import BLUE, INK, NEUTRAL, ORANGE, PURPLE, VERMILION

COLUMNS = ("measure", "method", "d", "K", "iteration", "N", "n_tasks", "seed", "median", "largest")
COLORS = (BLUE, ORANGE, PURPLE)
ROUNDING = 2.2e-16


def draw(measurements: pd.DataFrame, settings: dict, histories: dict | None = None) -> Figure:
    """Left: error of one block against d, with and without the offset. Right: recovery of a component."""
    frame = make_frame(2, 2, 2.0, legend_rows=2, footer_rows=2, share_x=False)
    left, right = frame.panels
    _draw_iteration(left, measurements[measurements["measure"] == "iteration"])
    _draw_recovery(right, measurements[measurements["measure"] == "recovery"])
    for panel in frame.panels:
        panel.set_yscale("log")
        panel.grid()
    frame.label_axes("dimension d (left), power iterations = blocks (right)", "error")
    recovered = measurements[measurements["measure"] == "recovery"]
    frame.add_legend(_handles(sorted(recovered["d"].unique())), 4)
    frame.add_footer(_footer(measurements))
    return frame.figure


def _draw_iteration(panel: Axes, rows: pd.DataFrame) -> None:
    for method, look in _iteration_looks().items():
        cell = rows[rows["method"] == method].sort_values("d")
        panel.plot(cell["d"], cell["largest"].clip(lower=ROUNDING), **look)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(sorted(rows["d"].unique())))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_title("one block against $T(I,v,v)$, largest difference")


def _iteration_looks() -> dict[str, dict]:
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    return {
        "network": {"color": INK, "marker": "o", **edge},
        "network without offset": {"color": VERMILION, "marker": "X", "linestyle": (0, (4, 1.5)), **edge},
    }


def _draw_recovery(panel: Axes, rows: pd.DataFrame) -> None:
    """Classical iterations as lines, the network's as markers on them."""
    for color, (_, cell) in zip(COLORS, rows.groupby("d"), strict=False):
        for method, look in _recovery_looks(color).items():
            run = cell[cell["method"] == method].sort_values("iteration")
            panel.plot(run["iteration"].astype(int), run["median"].clip(lower=ROUNDING), **look)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_title("distance to the component found, median")


def _recovery_looks(color: str) -> dict[str, dict]:
    marks = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": color}
    return {"classical": {"color": color}, "network": {"linestyle": "", **marks}}


def _handles(dimensions: list[int]) -> list[Line2D]:
    labels = ("one block", "without offset and extra token")
    looks = _iteration_looks().values()
    handles = [Line2D([], [], label=label, **look) for label, look in zip(labels, looks, strict=True)]
    handles += [Line2D([], [], color=color, label=f"d = {d}") for color, d in zip(COLORS, dimensions, strict=False)]
    handles.append(Line2D([], [], color=NEUTRAL, label="classical iterations"))
    return [*handles, Line2D([], [], label="network's blocks", **_recovery_looks(NEUTRAL)["network"])]


def _footer(measurements: pd.DataFrame) -> list[str]:
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


def caption(settings: dict) -> str:
    """One or two sentences on what is shown."""
    return (
        "Theorem 2 as a program: a transformer with d ReLU heads and constructed weights, one block a power iteration. "
        "Left: one block against the map that it stands for on random tensors, with the offset and extra token and "
        "without them. Right: distance to a component of orthogonally decomposable tensors, by iteration."
    )
