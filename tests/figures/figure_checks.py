"""What the tests of figures share: drawing a kind, reading its artists, and finding texts that overlap."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from synthetic_scores import trained_on
from tgmm.artefacts import NAMES
from tgmm.figures import style

SHIFTED_METHODS = (
    "em", "spectral", "tgmm-components-n32", "tgmm-components", "tgmm-components-standardised", "em-oracle",
)  # fmt: skip
SHIFTS = [
    {"kind": "student-t", "values": [3, 10, math.inf]},
    {"kind": "wrong-k", "values": [-1, 0, 1]},
    {"kind": "scale", "values": [0.5, 1, 2]},
    {"kind": "smallest-weight", "values": [0.1, 0.02]},
]
MEAN = [{"kind": "mean", "values": list(range(11))}]


def drawn(kind: str, summary: pd.DataFrame, settings: dict, tables: dict | None = None):
    """The figure of a kind, drawn in the project's style."""
    settings = {"trained_on": trained_on(settings.get("families", ()))} | settings
    with style.applied():
        return draw_of(kind)(summary, settings, tables or {})


def draw_of(kind: str):
    """The function that draws a kind of figure."""
    return getattr(import_module(NAMES[kind].module), f"draw_{kind.replace('-', '_')}")


def texts(figure) -> str:
    """All texts of the figure outside its axes."""
    return "\n".join(text.get_text() for text in figure.texts)


def titles(figure) -> list[str]:
    return [ax.get_title("left") for ax in figure.axes]


def ticks(ax) -> list[str]:
    return [label.get_text() for label in ax.get_xticklabels()]


def missing(ax) -> dict[str, int]:
    """How many markers stand in the band for missing values, by their reason."""
    ids = [str(line.get_gid()) for line in ax.lines]
    ids = [name.removeprefix("n/a ") for name in ids if name.startswith("n/a")]
    return {name: ids.count(name) for name in set(ids)}


def artist(ax, gid: str):
    """The one artist of an axes with this id, such as "curve em", "interval em" or "level em-oracle"."""
    (found,) = [one for one in (*ax.lines, *ax.collections) if one.get_gid() == gid]
    return found


def means_of(ax, method: str) -> np.ndarray:
    """The heights of the method's line, from left to right."""
    line = artist(ax, f"curve {method}")
    return np.asarray(line.get_ydata(), float)[np.argsort(line.get_xdata())]


def segments_of(ax, gid: str) -> np.ndarray:
    """The ends of an artist's segments, (n, 2, 2), from left to right."""
    return np.array(sorted(artist(ax, gid).get_segments(), key=lambda segment: segment[0][0]))


def expected(summary: pd.DataFrame, method: str, metric: str = "l2_error", **cell) -> pd.DataFrame:
    """The rows of a summary for a method, metric and cell."""
    rows = summary[(summary["method"] == method) & (summary["metric"] == metric)]
    for column, value in cell.items():
        rows = rows[rows[column] == value]
    return rows


def smallest_font(figure) -> float:
    found = figure.findobj(match=lambda artist: hasattr(artist, "get_fontsize"))
    return min(text.get_fontsize() for text in found)


def overlapping(figure) -> list[tuple[str, str]]:
    """Pairs of texts of the figure whose boxes overlap, tick labels included, and texts that leave the page."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = [text for text in figure.texts if text.get_text().strip()]
    for ax in figure.axes:
        if ax.get_visible():
            labels = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.title, ax._left_title, ax.xaxis.label]
            found += [text for text in [*labels, *ax.texts] if _shows(text, ax)]
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-1.0)) for text in found]
    boxes += [("legend", legend.get_window_extent(renderer)) for legend in figure.legends]
    page = figure.bbox
    outside = [
        (name, "page") for name, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > page.x1 or box.y1 > page.y1
    ]
    pairs = [
        (one, other)
        for number, (one, box) in enumerate(boxes)
        for other, beside in boxes[:number]
        if box.overlaps(beside)
    ]
    return outside + pairs


def _shows(text, ax) -> bool:
    if not (text.get_visible() and text.get_text().strip()):
        return False
    if text in ax.get_yticklabels():
        low, high = sorted(ax.get_ylim())
        return low <= text.get_position()[1] <= high
    if text in ax.get_xticklabels():
        low, high = sorted(ax.get_xlim())
        return low <= text.get_position()[0] <= high
    return True
