"""The layout that all figures share: axes in a grid measured in inches, a legend below, footnotes, and saving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tgmm.figures import style
from tgmm.figures.style import FILLED, NEUTRAL, MethodStyle, method_style
from tgmm.files import atomic_path

FORMATS = ("pdf", "png")
TICKS_BETWEEN = ((30.0, (1, 2, 5)), (1000.0, (1, 3)))  # ratio of the limits, labels of a decade
LEFT, RIGHT, TOP = 0.52, 0.08, 0.24
GAP_ACROSS, GAP_DOWN = 0.2, 0.34
AXIS_LABEL, LEGEND_ROW, FOOTER_ROW = 0.42, 0.135, 0.14
HANDLE_LENGTH, HANDLE_PAD, COLUMN_SPACE = 2.7, 0.5, 1.1  # in units of the legend's font size


@dataclass(frozen=True)
class Legend:
    """Handles in the order in which a legend of so many columns and rows takes them."""

    handles: list[Line2D]
    columns: int
    rows: int


@dataclass
class Layout:
    """A figure, its axes in reading order, and the inches below and left of them."""

    figure: Figure
    axes: list[Axes]
    below: float
    left: float = LEFT

    @property
    def height(self) -> float:
        """The figure's height in inches."""
        return self.figure.get_size_inches()[1]

    def label_axes(self, horizontal: str, vertical: str) -> None:
        """Write one label for all horizontal axes and one for all vertical ones; leave an empty one out."""
        middle_y = (self.below + self.height - TOP) / 2 / self.height
        if horizontal:
            self.label_below(horizontal, self.below)
        if vertical:
            self.figure.text(0.1 / style.WIDTH, middle_y, vertical, ha="center", va="center", rotation=90, ma="center")

    def label_below(self, text: str, bottom: float) -> None:
        """Write the label of the horizontal axes of a row whose lower edge is so many inches up the page."""
        middle = (self.left + style.WIDTH - RIGHT) / 2 / style.WIDTH
        self.figure.text(middle, (bottom - 0.3) / self.height, text, ha="center", va="center")

    def add_legend(self, legend: Legend) -> None:
        """Draw the legend, centred below the label of the horizontal axes."""
        top = (self.below - AXIS_LABEL - 0.02) / self.height
        self.figure.legend(
            handles=legend.handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=legend.columns,
            handlelength=HANDLE_LENGTH, columnspacing=COLUMN_SPACE, labelspacing=0.35, borderpad=0.0,
            borderaxespad=0.0, handletextpad=HANDLE_PAD,
        )  # fmt: skip

    def add_footer(self, lines: list[str]) -> None:
        """Write small lines at the foot of the figure."""
        for number, line in enumerate(reversed(lines)):
            y = (0.04 + number * FOOTER_ROW) / self.height
            self.figure.text(0.5, y, line, ha="center", va="bottom", fontsize=style.SMALL, color=NEUTRAL)


def axes_width(columns: int, left: float = LEFT, gap: float = GAP_ACROSS, right: float = RIGHT) -> float:
    """Return the inches that each of so many axes side by side has."""
    return (style.WIDTH - left - right - (columns - 1) * gap) / columns


def grid_layout(
    n_axes: int, columns: int, axes_height: float, *, legend_rows: int, footer_rows: int,
    share_x: bool | str = True, share_y: bool | str = True, left: float = LEFT, right: float = RIGHT,
    gap_across: float = GAP_ACROSS, gap_down: float = GAP_DOWN,
) -> Layout:  # fmt: skip
    """Lay out axes of equal size on a figure as wide as a page; its height follows from what has to fit.

    Parameters
    ----------
    n_axes, columns : number of axes and how many stand side by side.
    axes_height : inches.
    legend_rows, footer_rows : lines of text below the axes.
    share_x, share_y : which axes share limits and ticks: all (True), none (False), or "row".
    left, right, gap_across, gap_down : inches beside the axes and between them.
    """
    rows = -(-n_axes // columns)
    below = _below(legend_rows, footer_rows)
    height = TOP + rows * axes_height + (rows - 1) * gap_down + below
    figure = Figure(figsize=(style.WIDTH, height))
    axes = figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False)
    width = axes_width(columns, left, gap_across, right)
    figure.subplots_adjust(
        left=left / style.WIDTH, right=1 - right / style.WIDTH, top=1 - TOP / height, bottom=below / height,
        wspace=gap_across / width, hspace=gap_down / axes_height,
    )  # fmt: skip
    flat = list(axes.flat)
    for unused in flat[n_axes:]:
        unused.set_visible(False)
    return Layout(figure, flat[:n_axes], below, left)


def stacked_layout(
    heights: list[float], gaps: list[float], columns: int, *, legend_rows: int, footer_rows: int,
    top: float = TOP, left: float = LEFT, right: float = RIGHT, gap_across: float = GAP_ACROSS,
) -> Layout:  # fmt: skip
    """Lay out rows of axes of different heights, every axes with limits and ticks of its own.

    ``heights`` of rows from the top and ``gaps`` below each but the last are in inches, the rest as for
    :func:`grid_layout`.
    """
    below = _below(legend_rows, footer_rows)
    height = top + sum(heights) + sum(gaps) + below
    figure = Figure(figsize=(style.WIDTH, height))
    width = axes_width(columns, left, gap_across, right)
    axes, bottom = [], height - top
    for size, gap in zip(heights, [*gaps, 0.0], strict=True):
        bottom -= size
        for column in range(columns):
            start = left + column * (width + gap_across)
            box = (start / style.WIDTH, bottom / height, width / style.WIDTH, size / height)
            axes.append(figure.add_axes(box))
        bottom -= gap
    return Layout(figure, axes, below, left)


def _below(legend_rows: int, footer_rows: int) -> float:
    return AXIS_LABEL + legend_rows * LEGEND_ROW + footer_rows * FOOTER_ROW + 0.1


# --- legends -------------------------------------------------------------------------------------------------------


def legend_handle(look: MethodStyle) -> Line2D:
    """Return a legend entry in the method's look."""
    marker = {"marker": look.marker or None, "markersize": look.size}
    return Line2D([], [], color=look.color, linestyle=look.line, label=look.label, **marker, **FILLED)


def method_legend(methods: list[str]) -> Legend:
    """Return a legend of the methods that reads row by row, in as many columns, up to four, as the page holds."""
    return legend_of([legend_handle(method_style(method)) for method in methods])


def legend_of(handles: list[Line2D], most: int = 4) -> Legend:
    """Return a legend that reads row by row, in as many columns as the page has space for."""
    columns = next(n for n in range(min(most, len(handles)), 0, -1) if n == 1 or _width(handles, n) <= style.WIDTH)
    return Legend(in_columns(handles, columns), columns, math.ceil(len(handles) / columns))


def in_columns(handles: list[Line2D], columns: int) -> list[Line2D]:
    """Return the handles reordered so that a legend filled column by column reads row by row."""
    rows = math.ceil(len(handles) / columns)
    return [handles[row * columns + column] for column in range(columns) for row in range(rows)
               if row * columns + column < len(handles)]  # fmt: skip


def _width(handles: list[Line2D], columns: int) -> float:
    """Return the inches that a legend in so many columns takes."""
    widest = [max(_text_width(handle.get_label()) for handle in handles[start::columns]) for start in range(columns)]
    spaces = columns * (HANDLE_LENGTH + HANDLE_PAD) + (columns - 1) * COLUMN_SPACE
    return sum(widest) + spaces * style.SMALL / 72


def _text_width(text: str) -> float:
    return TextPath((0, 0), text, size=style.SMALL).get_extents().width / 72


# --- tick labels and saving ----------------------------------------------------------------------------------------


def label_log_axis(axis: Axis, ratio: float) -> None:
    """Write plain numbers at powers of ten, and between them as far as the ratio of the limits leaves space."""
    between = next((subs for most, subs in TICKS_BETWEEN if ratio < most), (1,))
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(plain_numbers())
    axis.set_minor_formatter(NullFormatter())


def plain_numbers() -> FuncFormatter:
    """Return a formatter that writes ticks without powers of ten: 0.01, 1, 100."""
    return FuncFormatter(lambda value, _: f"{value:g}")


def save_figure(figure: Figure, stem: str | Path, *, title: str, caption: str) -> list[Path]:
    """Write ``stem.pdf`` and ``stem.png`` and return their paths; title and caption go into the files' metadata.

    No date and no program version is stored, so that a redrawn figure differs only if its data or its code does. The
    picture has the 256 colours that suit it best, which look the same and take a third of the bytes.
    """
    metadata = {
        "pdf": {"Title": title, "Subject": caption, "Creator": None, "Producer": None, "CreationDate": None},
        "png": {"Title": title, "Description": caption, "Software": None},
    }
    paths = []
    for suffix in FORMATS:
        path = Path(f"{stem}.{suffix}")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata[suffix])
            if suffix == "png":
                _reduce_colours(temporary, metadata[suffix])
        paths.append(path)
    return paths


def _reduce_colours(path: Path, metadata: dict[str, str | None]) -> None:
    """Write a picture again with a palette of its own."""
    from PIL import Image, PngImagePlugin  # comes with matplotlib

    with Image.open(path) as picture:
        resolution = picture.info["dpi"]
        few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    texts = PngImagePlugin.PngInfo()
    for name, text in metadata.items():
        if text:
            texts.add_itxt(name, text) if not text.isascii() else texts.add_text(name, text)
    few.save(path, "PNG", optimize=True, dpi=resolution, pnginfo=texts)
