"""Kind ``real-data-fits``: well-known data sets in the plane of their two main axes, each with one fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from tgmm.columns import reads
from tgmm.estimator.picture import LEVELS, component_style
from tgmm.figures.layout import Legend, grid_layout
from tgmm.figures.style import INK, NEUTRAL, SMALL
from tgmm.real_data import COLUMNS, NETWORK, PICTURE_COLUMNS
from tgmm.tables.real_data import NAMES

ACROSS, HEIGHT = 3, 1.75
FREE = 0.1  # share of a panel that is left to the words on top


@reads(summary=COLUMNS, tables=PICTURE_COLUMNS)
def draw_real_data_fits(measured: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw a panel for each data set: points by component, ellipses of half and of 95 % of each component."""
    pictures = dict(list(tables["picture"].groupby("data", sort=False)))
    layout = grid_layout(
        len(pictures), ACROSS, HEIGHT, legend_rows=1, footer_rows=1, share_x=False, share_y=False, gap_across=0.3,
        gap_down=0.5,
    )  # fmt: skip
    for ax, (name, rows) in zip(layout.axes, pictures.items(), strict=True):
        _draw_fit(ax, rows)
        row = measured[(measured["data"] == name) & (measured["method"] == NETWORK)].iloc[0]
        ax.set_title(f"{NAMES[name]}: d = {row['d']}, K = {row['K']}")
        if pd.notna(row["rand_index"]):
            place = {"transform": ax.transAxes, "ha": "right", "va": "top", "fontsize": SMALL, "color": NEUTRAL}
            ax.text(0.99, 0.99, f"Rand index {row['rand_index']:.2f}", **place)
    layout.label_axes("first main axis", "second main axis")
    layout.add_legend(Legend(_handles(), 2, 1))
    first = measured.iloc[0]
    layout.add_footer([f"standardised columns · diagonal covariances · seed {first['seed']}"])
    return layout.figure


def _draw_fit(ax: Axes, rows: pd.DataFrame) -> None:
    points, ellipses = rows[rows["part"] == "point"], rows[rows["part"] == "ellipse"]
    for component, part in points.groupby("component"):
        color, marker = component_style(int(component))
        ax.scatter(part["x"], part["y"], color=color, marker=marker, s=5, linewidths=0, alpha=0.6, zorder=2)
    for row in ellipses.itertuples():
        values, axes = np.linalg.eigh([[row.xx, row.xy], [row.xy, row.yy]])
        angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
        long, short = np.sqrt(np.maximum(values[::-1], 0.0))
        for level in LEVELS:
            ax.add_patch(
                Ellipse((row.x, row.y), 2 * level * long, 2 * level * short, angle=angle, fill=False, linewidth=0.9,
                        edgecolor=INK, zorder=3, gid=f"ellipse {row.component}")
            )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    ax.margins(0.04)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + FREE * (high - low))


def _handles() -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=3,
            color=NEUTRAL,
            label="a row, by its component",
        ),
        Line2D([], [], color=INK, linewidth=0.9, label="50 % and 95 % of a component"),
    ]


def caption_real_data_fits(settings: dict) -> str:
    """What is shown, whatever comes out."""
    return (
        "Well-known data sets in the plane of their two main axes, fitted by the pretrained network and EM: rows by "
        "component, and ellipses that hold half and 95 % of each component, projected."
    )
