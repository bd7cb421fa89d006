"""Kind ``metric-grid``: several metrics at once, a row of panels for each, a column for each K."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.cells import mark_undefined, provenance, select_cells
from tgmm.figures.footnotes import common_note, fill, mark_notes
from tgmm.figures.frame import Frame, make_frame, method_legend, panel_width
from tgmm.figures.horizontal_axis import AXES, HorizontalAxis, axis_of
from tgmm.figures.metric_text import metric_text
from tgmm.figures.panel_content import PanelContent
from tgmm.figures.panel_group import PanelGroup

HEIGHTS = {1: 1.7, 2: 1.5, 3: 1.4, 4: 1.3, 5: 1.2}
SMALLEST_HEIGHT = 1.1
LEFT, GAP_ACROSS, GAP_DOWN = 0.86, 0.12, 0.17
AXIS_NAMES = {"d": "the dimension d", "N": "the number of points N", "shift_value": "the size of the shift"}


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """Every metric against the axis, every method side by side; a row's panels share its vertical axis."""
    metrics, column = _metrics(settings), settings["axis"]
    tables = [
        mark_undefined(select_cells(summary, settings | {"metric": metric}, free=(column, "K"))) for metric in metrics
    ]
    cells = pd.concat(tables, ignore_index=True)
    axis, methods, counts = axis_of(column, cells), list(dict.fromkeys(cells["method"])), sorted(cells["K"].unique())
    width = panel_width(len(counts), LEFT, GAP_ACROSS)
    groups = [
        PanelGroup(_contents(table, axis, titled=not row), methods, metric_text(metric), width)
        for row, (metric, table) in enumerate(zip(metrics, tables, strict=True))
    ]
    lines = fill([*mark_notes(groups), *common_note(cells, axis), provenance(cells)])
    legend = method_legend(methods)
    frame = make_frame(
        len(metrics) * len(counts), len(counts), HEIGHTS.get(len(metrics), SMALLEST_HEIGHT), legend_rows=legend.rows,
        footer_rows=len(lines), share_y="row", left=LEFT, gap_across=GAP_ACROSS, gap_down=GAP_DOWN,
    )  # fmt: skip
    for row, group in enumerate(groups):
        panels = frame.panels[row * len(counts) : (row + 1) * len(counts)]
        group.draw(panels)
        _label_row(frame, panels[0], group.text.narrow)
    frame.label_axes(axis.label, "")
    frame.add_legend(legend.handles, legend.columns)
    frame.add_footer(lines)
    return frame.figure


def _metrics(settings: dict) -> list[str]:
    metrics = settings["metrics"]
    if not isinstance(metrics, list | tuple) or not metrics:
        raise UserError(f"artefact '{settings.get('id', '')}': 'metrics' must be a list of metrics, not {metrics!r}")
    if settings["axis"] not in AXES:
        raise UserError(
            f"artefact '{settings.get('id', '')}': 'axis' must be one of {', '.join(AXES)}, not {settings['axis']!r}"
        )
    return list(dict.fromkeys(metrics))


def _contents(cells: pd.DataFrame, axis: HorizontalAxis, *, titled: bool) -> list[PanelContent]:
    groups = cells.groupby("K", sort=True)
    return [PanelContent(part, axis, f"K = {count}" if titled else "") for count, part in groups]


def _label_row(frame: Frame, panel, label: str) -> None:
    """The metric's name, upright beside its row."""
    box = panel.get_position()
    frame.figure.text(
        0.06 / style.WIDTH, (box.y0 + box.y1) / 2, label, rotation=90, ha="left", va="center", ma="center",
        fontsize=style.SMALL,
    )  # fmt: skip


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    names = [metric_text(metric).name for metric in settings["metrics"]]
    listed = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    along = AXIS_NAMES.get(settings["axis"], settings["axis"])
    return (
        f"{listed[0].upper()}{listed[1:]} against {along}, a column for each number of components K, on the task set "
        f"'{settings['taskset']}': mean over tasks with a 95 % bootstrap interval."
    )
