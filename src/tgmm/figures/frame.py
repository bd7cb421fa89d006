"""The frame that all figures share: panels in a grid measured in inches, a legend below, a footer with provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from tgmm.figures import style
from tgmm.figures.palette import NEUTRAL, MethodStyle, method_style

LEFT, RIGHT, TOP = 0.52, 0.08, 0.24
GAP_ACROSS, GAP_DOWN = 0.2, 0.34
AXIS_ROOM, LEGEND_ROW, FOOTER_ROW = 0.42, 0.135, 0.14
HANDLE_LENGTH, HANDLE_PAD, COLUMN_SPACE = 2.7, 0.5, 1.1  # in units of the legend's font size


@dataclass
class Frame:
    """A figure, its panels in reading order and what stands below them."""

    figure: Figure
    panels: list[Axes]
    below: float
    left: float = LEFT

    def label_axes(self, horizontal: str, vertical: str) -> None:
        """One label for all horizontal axes, one for all vertical ones; an empty one is left out."""
        height = self.figure.get_size_inches()[1]
        middle_x = (self.left + style.WIDTH - RIGHT) / 2 / style.WIDTH
        middle_y = (self.below + height - TOP) / 2 / height
        if horizontal:
            self.figure.text(middle_x, (self.below - 0.3) / height, horizontal, ha="center", va="center")
        if vertical:
            self.figure.text(0.1 / style.WIDTH, middle_y, vertical, ha="center", va="center", rotation=90, ma="center")

    def add_legend(self, handles: list[Line2D], columns: int) -> None:
        """The legend, centred below the panels' axis label; handles in the order of columns."""
        top = (self.below - AXIS_ROOM - 0.02) / self.figure.get_size_inches()[1]
        self.figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=columns, handlelength=HANDLE_LENGTH,
            columnspacing=COLUMN_SPACE, labelspacing=0.35, borderpad=0.0, borderaxespad=0.0, handletextpad=HANDLE_PAD,
        )  # fmt: skip

    def add_footer(self, lines: list[str]) -> None:
        """Small lines at the foot of the figure."""
        height = self.figure.get_size_inches()[1]
        for number, line in enumerate(reversed(lines)):
            y = (0.04 + number * FOOTER_ROW) / height
            self.figure.text(0.5, y, line, ha="center", va="bottom", fontsize=style.SMALL, color=NEUTRAL)


def panel_width(columns: int, left: float = LEFT, gap: float = GAP_ACROSS, right: float = RIGHT) -> float:
    """Inches that each of so many panels side by side has."""
    return (style.WIDTH - left - right - (columns - 1) * gap) / columns


def make_frame(
    n_panels: int, columns: int, panel_height: float, *, legend_rows: int, footer_rows: int,
    share_x: bool | str = True, share_y: bool | str = True, left: float = LEFT, right: float = RIGHT,
    gap_across: float = GAP_ACROSS, gap_down: float = GAP_DOWN,
) -> Frame:  # fmt: skip
    """Panels of equal size on a figure as wide as a page; its height follows from what has to fit.

    Parameters
    ----------
    n_panels, columns : number of panels and how many stand side by side.
    panel_height : inches.
    legend_rows, footer_rows : lines of text below the panels.
    share_x, share_y : which panels share an axis: all (True), none (False), or "row".
    left, right, gap_across, gap_down : inches beside the panels and between them.
    """
    rows = -(-n_panels // columns)
    below = AXIS_ROOM + legend_rows * LEGEND_ROW + footer_rows * FOOTER_ROW + 0.1
    height = TOP + rows * panel_height + (rows - 1) * gap_down + below
    figure = Figure(figsize=(style.WIDTH, height))
    axes = figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False)
    width = panel_width(columns, left, gap_across, right)
    figure.subplots_adjust(
        left=left / style.WIDTH, right=1 - right / style.WIDTH, top=1 - TOP / height, bottom=below / height,
        wspace=gap_across / width, hspace=gap_down / panel_height,
    )  # fmt: skip
    panels = list(axes.flat)
    for unused in panels[n_panels:]:
        unused.set_visible(False)
    return Frame(figure, panels[:n_panels], below, left)


def legend_handle(look: MethodStyle) -> Line2D:
    """A legend entry in the method's style."""
    marker = {"marker": look.marker or None, "markersize": look.size, "markeredgecolor": "white"}
    line = {"color": look.color, "linestyle": look.line, "label": look.label}
    return Line2D([], [], markeredgewidth=0.4, **marker, **line)


@dataclass(frozen=True)
class Legend:
    """Handles in the order in which a legend of so many columns and rows takes them."""

    handles: list[Line2D]
    columns: int
    rows: int


def method_legend(methods: list[str]) -> Legend:
    """A legend of the methods that reads row by row, in as many columns, up to four, as the page has room for."""
    return legend_of([legend_handle(method_style(method)) for method in methods])


def legend_of(handles: list[Line2D], most: int = 4) -> Legend:
    """A legend that reads row by row, in as many columns as the page has room for."""
    columns = next(n for n in range(min(most, len(handles)), 0, -1) if n == 1 or _width(handles, n) <= style.WIDTH)
    return Legend(in_columns(handles, columns), columns, math.ceil(len(handles) / columns))


def in_columns(handles: list[Line2D], columns: int) -> list[Line2D]:
    """Handles reordered so that a legend filled column by column reads row by row."""
    rows = math.ceil(len(handles) / columns)
    return [handles[row * columns + column] for column in range(columns) for row in range(rows)
               if row * columns + column < len(handles)]  # fmt: skip


def _width(handles: list[Line2D], columns: int) -> float:
    """Inches that a legend in so many columns takes."""
    widest = [max(_text_width(handle.get_label()) for handle in handles[start::columns]) for start in range(columns)]
    spaces = columns * (HANDLE_LENGTH + HANDLE_PAD) + (columns - 1) * COLUMN_SPACE
    return sum(widest) + spaces * style.SMALL / 72


def _text_width(text: str) -> float:
    return TextPath((0, 0), text, size=style.SMALL).get_extents().width / 72
