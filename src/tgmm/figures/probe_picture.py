"""Kind ``probe-picture``: one two-dimensional task, its points by responsibility and by attention, the means' ways.

Reads the picture's data that ``tgmm probe --picture`` writes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tgmm.errors import UserError
from tgmm.figures.frame import make_frame
from tgmm.figures.palette import BLUE, INK, ORANGE, PURPLE, VERMILION

COLUMNS = (
    "scale", "family", "seed", "d", "K", "N", "task_id", "l2_error", "block", "head", "part", "item", "component",
    "x", "y", "responsibility", "attention",
)  # fmt: skip
COLORS = (BLUE, ORANGE, VERMILION, PURPLE, "#009e73")
PANEL_HEIGHT = 2.9


def draw(rows: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame] | None = None) -> Figure:
    """Left: points by true responsibilities, EM's means step by step. Right: by attention, the network's by block.

    Parameters
    ----------
    rows : with ``COLUMNS``; not looked at where ``histories`` holds a table.
    """
    rows = next(iter(histories.values())) if histories else rows
    if rows["K"].iloc[0] > len(COLORS):
        raise UserError(f"the picture has colours for K up to {len(COLORS)}")
    block, head = (int(rows[name].iloc[0]) for name in ("block", "head"))
    frame = make_frame(2, 2, PANEL_HEIGHT, legend_rows=1, footer_rows=1, share_x=False)
    left, right = frame.panels
    _draw_panel(left, rows, "responsibility", "em")
    left.set_title("points: responsibilities under the truth · means: EM")
    _draw_panel(right, rows, "attention", "network")
    right.set_title(f"points: attention, block {block}, head {head + 1} · means: network")
    frame.label_axes(r"$x_1$", r"$x_2$")
    frame.add_legend(_handles(), 4)
    frame.add_footer([_footer(rows)])
    return frame.figure


def _draw_panel(panel: Axes, rows: pd.DataFrame, share: str, way: str) -> None:
    points = rows[rows["part"] == "point"]
    shares = points.pivot(index="item", columns="component", values=share).to_numpy()
    places = points[points["component"] == 0].sort_values("item")
    panel.scatter(places["x"], places["y"], c=blend(shares), s=9, linewidths=0, alpha=0.8, zorder=2, gid="points")
    for component, steps in rows[rows["part"] == way].groupby("component"):
        steps = steps.sort_values("item")
        panel.plot(steps["x"], steps["y"], color=INK, linewidth=0.9, marker="o", markersize=2.2, zorder=4, gid=way)
        first, last = steps.iloc[[0]], steps.iloc[[-1]]
        panel.plot(first["x"], first["y"], **_marks("first"), zorder=5)
        panel.plot(last["x"], last["y"], **_marks("last", COLORS[int(component)]), zorder=6)
    truth = rows[rows["part"] == "truth"]
    panel.plot(truth["x"], truth["y"], **_marks("truth"), zorder=7)
    panel.set_aspect("equal", adjustable="datalim")


def blend(shares: np.ndarray) -> np.ndarray:
    """Colours (N, 3): the components' colours mixed by each point's shares (N, K)."""
    return np.clip(shares @ np.array([to_rgb(color) for color in COLORS[: shares.shape[1]]]), 0.0, 1.0)


def _marks(name: str, color: str = "#a6a6a6") -> dict:
    looks = {
        "first": {"marker": "o", "markersize": 4.5, "markerfacecolor": "white", "markeredgecolor": INK},
        "last": {"marker": "o", "markersize": 5.5, "markerfacecolor": color, "markeredgecolor": INK},
        "truth": {"marker": "x", "markersize": 6.5, "markeredgecolor": INK, "markeredgewidth": 1.4},
    }
    return {"linestyle": "", "markeredgewidth": 0.9, **looks[name]}


def _handles() -> list[Line2D]:
    labels = {"first": "first read-out", "last": "last estimate", "truth": "true mean"}
    way = Line2D([], [], color=INK, linewidth=0.9, marker="o", markersize=2.2, label="EM step (left), block (right)")
    return [*(Line2D([], [], label=label, **_marks(name)) for name, label in labels.items()), way]


def _footer(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    steps = rows.loc[rows["part"] == "em", "item"].max()
    return (
        f"scale {row['scale']} · K = {row['K']}, N = {row['N']} · task {row['task_id']}, the one of median error "
        f"({row['l2_error']:.3f}) · {steps} EM steps · seed {row['seed']}"
    )


def caption(settings: dict) -> str:
    """What is computed, whatever comes out."""
    return (
        "One task in two dimensions, the test task whose final error is the median. Left: points coloured by their "
        "responsibilities under the true parameters, and the means of EM from the network's first read-out. Right: "
        "points coloured by their attention to the component tokens, in the head that correlates best with the "
        "responsibilities on other tasks, and the means that the network reads out after each block."
    )
