"""Kind ``shift-panels``: a metric against every kind of shift of a task set, a panel for each, averaged over K."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.average import NOTE, average_over_components
from tgmm.figures.cells import mark_undefined, provenance, select_cells
from tgmm.figures.footnotes import common_note, fill, mark_notes
from tgmm.figures.frame import make_frame, method_legend, panel_width
from tgmm.figures.horizontal_axis import shift_axis
from tgmm.figures.metric_text import metric_text
from tgmm.figures.panel_content import PanelContent
from tgmm.figures.panel_group import PanelGroup
from tgmm.figures.shift_text import shift_text

PANEL_HEIGHT, GAP_DOWN = 1.6, 0.66


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """The metric's average over K against each shift's values, every method side by side."""
    cells = mark_undefined(select_cells(summary, settings, free=("K", "shift", "shift_value")))
    cells = cells[cells["shift"] != "none"]
    if cells.empty:
        raise UserError(f"task set '{settings['taskset']}' has no shift, which artefact kind 'shift-panels' needs")
    averages = average_over_components(cells, ["method", "shift", "shift_value"])
    methods, kinds = list(dict.fromkeys(cells["method"])), list(dict.fromkeys(cells["shift"]))
    contents = [
        PanelContent(averages[averages["shift"] == kind], shift_axis(kind), shift_text(kind).name) for kind in kinds
    ]
    across = 2 if len(kinds) in (2, 4) else min(3, len(kinds))
    group = PanelGroup(contents, methods, metric_text(settings["metric"]), panel_width(across))
    average = NOTE.format(", ".join(str(count) for count in sorted(cells["K"].unique())))
    source = [*common_note(cells, contents[0].axis), provenance(cells)]
    lines = fill([*mark_notes([group]), average, *source])
    legend = method_legend(methods)
    frame = make_frame(
        len(kinds), across, PANEL_HEIGHT, legend_rows=legend.rows, footer_rows=len(lines), share_x=False,
        gap_down=GAP_DOWN,
    )  # fmt: skip
    group.draw(frame.panels)
    for panel, content in zip(frame.panels, contents, strict=True):
        panel.set_xlabel(content.axis.label, fontsize=style.SMALL, labelpad=2.0)
    frame.label_axes("", group.text.label)
    frame.add_legend(legend.handles, legend.columns)
    frame.add_footer(lines)
    return frame.figure


def caption(settings: dict) -> str:
    """One or two sentences on what is shown."""
    name = metric_text(settings["metric"]).name
    return (
        f"{name[0].upper()}{name[1:]}, averaged over the numbers of components K, under every kind of shift of the "
        f"task set '{settings['taskset']}': mean over tasks with a 95 % bootstrap interval."
    )
