"""A metric against one column of the summary, a panel for each K: the drawing behind several kinds of figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tgmm.figures.cells import mark_undefined, provenance, select_cells
from tgmm.figures.footnotes import common_note, fill, mark_notes
from tgmm.figures.frame import make_frame, method_legend, panel_width
from tgmm.figures.horizontal_axis import HorizontalAxis, axis_of
from tgmm.figures.metric_text import metric_text
from tgmm.figures.panel_content import PanelContent
from tgmm.figures.panel_group import PanelGroup

PANEL_HEIGHT, LOW_HEIGHT = 1.7, 1.3


def draw_metric_panels(summary: pd.DataFrame, settings: dict, column: str, note=lambda cells: []) -> Figure:
    """Mean and 95 % interval of every method, with a strip on top for the cells where a method has no value.

    The axis is categorical: the values of the column stand at equal distances, and the methods side by side around
    each, so that no interval hides another. There is a panel for each K; where the dimension is not the axis and the
    task set has several, there is a row of panels for each of them.

    Parameters
    ----------
    column : what runs along the horizontal axis: "d", "N" or "shift_value".
    note : from the cells to further lines of the footer.
    """
    cells = mark_undefined(select_cells(summary, settings, free=("d", "K", column)))
    axis, text = axis_of(column, cells), metric_text(settings["metric"])
    methods, counts = list(dict.fromkeys(cells["method"])), cells["K"].nunique()
    contents = _contents(cells, axis)
    several = len(contents) > counts
    across = counts if several else min(2, counts)
    group = PanelGroup(contents, methods, text, panel_width(across))
    lines = fill([*mark_notes([group]), *note(cells), *common_note(cells, axis), provenance(cells)])
    legend = method_legend(methods)
    height = LOW_HEIGHT if several else PANEL_HEIGHT
    frame = make_frame(len(contents), across, height, legend_rows=legend.rows, footer_rows=len(lines))
    group.draw(frame.panels)
    frame.label_axes(axis.label, text.label)
    frame.add_legend(legend.handles, legend.columns)
    frame.add_footer(lines)
    return frame.figure


def _contents(cells: pd.DataFrame, axis: HorizontalAxis) -> list[PanelContent]:
    if axis.column == "d" or cells["d"].nunique() == 1:
        return [PanelContent(part, axis, f"K = {count}") for count, part in cells.groupby("K", sort=True)]
    groups = cells.groupby(["d", "K"], sort=True)
    return [PanelContent(part, axis, f"d = {d}, K = {count}") for (d, count), part in groups]
