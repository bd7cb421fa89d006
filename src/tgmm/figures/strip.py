"""The strip labelled "n/a" on top of panels: a mark for every method and level without a value."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from tgmm.figures import style
from tgmm.figures.cells import FAILED, OK, UNDEFINED
from tgmm.figures.palette import NEUTRAL, MethodStyle, method_style
from tgmm.figures.panel_content import PanelContent, Room, dodge
from tgmm.figures.vertical_axis import strip_share

OPEN = {"markerfacecolor": "white", "markeredgewidth": 0.8}
LABEL_INCHES = 0.23  # from a panel's edge to the end of the label, and half a mark


def draw_strips(panels: list[Axes], contents: list[PanelContent], methods: list[str], rooms: list[Room]) -> None:
    """A strip in every panel, where any panel needs one."""
    if all((content.cells["status"] == OK).all() for content in contents):
        return
    marks = [_marks(content, methods) for content in contents]
    clear = [_first(positions) > LABEL_INCHES / space.level for positions, space in zip(marks, rooms, strict=True)]
    for panel, positions, space in zip(panels, marks, rooms, strict=True):
        share = strip_share(panel)
        panel.axhspan(*_limits(panel, share), xmin=0, xmax=1, facecolor="#f2f2f2", edgecolor="none", zorder=1)
        _label(panel, 1 - share / 2, inside=all(clear))
        for position, row in positions:
            _mark(panel, position, 1 - share / 2, method_style(row.method), row.status, space)


def _marks(content: PanelContent, methods: list[str]) -> list[tuple]:
    """Where a mark stands along the axis, and the row that it is for."""
    missing = content.cells[content.cells["status"] != OK]
    levels = content.positions(missing)
    return [(level + dodge(row.method, methods), row) for level, row in zip(levels, missing.itertuples(), strict=True)]


def _first(marks: list[tuple]) -> float:
    """How far the first mark is from the panel's left edge, in levels."""
    return 0.5 + min((position for position, _ in marks), default=math.inf)


def _limits(panel: Axes, share: float) -> tuple[float, float]:
    """The strip's lower and upper edge in data coordinates."""
    edges = panel.transAxes.transform([(0, 1 - share), (0, 1)])
    return tuple(panel.transData.inverted().transform(edges)[:, 1])


def _label(panel: Axes, height: float, *, inside: bool) -> None:
    """The label at the strip's left end, or where marks stand there, beside the first panel of a row."""
    text = {"transform": panel.get_xaxis_transform(), "fontsize": style.SMALL, "color": NEUTRAL, "va": "center"}
    if inside:
        panel.text(-0.47, height, "n/a", zorder=2, **text)
    elif panel.get_subplotspec().is_first_col():
        text["transform"] = panel.transAxes
        panel.text(-0.02, height, "n/a", ha="right", zorder=2, **text)
        _hide_labels_beside(panel)


def _hide_labels_beside(panel: Axes) -> None:
    """Leave the tick labels out that would stand where the strip's label does."""
    write, lower = panel.yaxis.get_major_formatter(), _limits(panel, strip_share(panel) * 1.3)[0]
    ticks = [tick for tick in panel.get_yticks() if tick < lower]
    minor = [tick for tick in panel.get_yticks(minor=True) if tick < lower]
    limits = panel.get_ylim()
    panel.yaxis.set_major_locator(FixedLocator(ticks))
    panel.yaxis.set_minor_locator(FixedLocator(minor))
    panel.yaxis.set_major_formatter(write)
    panel.set_ylim(*limits)


def _mark(panel: Axes, position: float, height: float, look: MethodStyle, status: str, space: Room) -> None:
    mark = {"marker": look.marker or "_", "markersize": look.size * space.marker, **OPEN}
    if status == FAILED:
        mark = {"marker": "x", "markersize": 4.5 * space.marker, "markeredgewidth": 1.4}
    if status == UNDEFINED:
        mark = {"marker": "_", "markersize": min(4.5, max(2.5, 50 * space.method)), "markeredgewidth": 1.4}
    across = panel.get_xaxis_transform()
    panel.plot([position], [height], color=look.color, transform=across, gid=f"n/a {status}", zorder=6, **mark)
