"""The frame that all figures share: panels in a grid measured in inches, a legend below, a footer with provenance."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tgmm.figures import style
from tgmm.figures.palette import NEUTRAL, MethodStyle

LEFT, RIGHT, TOP = 0.52, 0.08, 0.24
GAP_ACROSS, GAP_DOWN = 0.2, 0.34
AXIS_ROOM, LEGEND_ROW, FOOTER_ROW = 0.42, 0.135, 0.14


@dataclass
class Frame:
    """A figure, its panels in reading order and what stands below them."""

    figure: Figure
    panels: list[Axes]
    below: float

    def label_axes(self, horizontal: str, vertical: str) -> None:
        """One label for all horizontal axes, one for all vertical ones."""
        height = self.figure.get_size_inches()[1]
        middle_x = (LEFT + style.WIDTH - RIGHT) / 2 / style.WIDTH
        middle_y = (self.below + height - TOP) / 2 / height
        self.figure.text(middle_x, (self.below - 0.3) / height, horizontal, ha="center", va="center")
        self.figure.text(0.1 / style.WIDTH, middle_y, vertical, ha="center", va="center", rotation=90, ma="center")

    def add_legend(self, handles: list[Line2D], columns: int) -> None:
        """The legend, centred below the panels' axis label."""
        top = (self.below - AXIS_ROOM - 0.02) / self.figure.get_size_inches()[1]
        self.figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=columns, handlelength=2.7,
            columnspacing=1.1, labelspacing=0.35, borderpad=0.0, borderaxespad=0.0, handletextpad=0.5,
        )  # fmt: skip

    def add_footer(self, lines: list[str]) -> None:
        """Small lines at the foot of the figure."""
        height = self.figure.get_size_inches()[1]
        for number, line in enumerate(reversed(lines)):
            y = (0.04 + number * FOOTER_ROW) / height
            self.figure.text(0.5, y, line, ha="center", va="bottom", fontsize=style.SMALL, color=NEUTRAL)


def make_frame(
    n_panels: int, columns: int, panel_height: float, *, legend_rows: int, footer_rows: int, share_x: bool = True
) -> Frame:
    """Panels of equal size on a figure as wide as a page; its height follows from what has to fit.

    Parameters
    ----------
    n_panels, columns : number of panels and how many stand side by side; panels share their vertical axis.
    panel_height : inches.
    legend_rows, footer_rows : lines of text below the panels.
    """
    rows = -(-n_panels // columns)
    below = AXIS_ROOM + legend_rows * LEGEND_ROW + footer_rows * FOOTER_ROW + 0.1
    height = TOP + rows * panel_height + (rows - 1) * GAP_DOWN + below
    figure = Figure(figsize=(style.WIDTH, height))
    axes = figure.subplots(rows, columns, sharex=share_x, sharey=True, squeeze=False)
    width = (style.WIDTH - LEFT - RIGHT - (columns - 1) * GAP_ACROSS) / columns
    figure.subplots_adjust(
        left=LEFT / style.WIDTH, right=1 - RIGHT / style.WIDTH, top=1 - TOP / height, bottom=below / height,
        wspace=GAP_ACROSS / width, hspace=GAP_DOWN / panel_height,
    )  # fmt: skip
    panels = list(axes.flat)
    for unused in panels[n_panels:]:
        unused.set_visible(False)
    return Frame(figure, panels[:n_panels], below)


def legend_handle(look: MethodStyle) -> Line2D:
    """A legend entry in the method's style."""
    marker = {"marker": look.marker or None, "markersize": look.size, "markeredgecolor": "white"}
    line = {"color": look.color, "linestyle": look.line, "label": look.label}
    return Line2D([], [], markeredgewidth=0.4, **marker, **line)
