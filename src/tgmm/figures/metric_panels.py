"""A metric against one column of the summary, a panel for each K: the drawing behind several kinds of figure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from tgmm.figures.cells import FAILED, GAP, OK, failure_reasons, is_oracle, provenance, select_cells
from tgmm.figures.frame import Frame, legend_handle, make_frame
from tgmm.figures.metric_text import MetricText, metric_text
from tgmm.figures.palette import NEUTRAL, MethodStyle, method_style

PANEL_HEIGHT = 1.7
SPREAD = 0.64
STRIP_BOTTOM, STRIP_HEIGHT = 0.91, 0.09
LINEAR_THRESHOLD = 1e-2
NOTE_LENGTH = 118
FILLED = {"markeredgecolor": "white", "markeredgewidth": 0.4}
OPEN = {"markerfacecolor": "white", "markeredgewidth": 0.8}


@dataclass(frozen=True)
class HorizontalAxis:
    """The column that runs along the horizontal axis, its label, and how a value is written on it."""

    column: str
    label: str
    write: str = "{:g}"


def draw_metric_panels(summary: pd.DataFrame, settings: dict, axis: HorizontalAxis) -> Figure:
    """Mean and 95 % interval of every method, with a strip on top for the cells where a method has no value.

    The axis is categorical: the values of the column stand at equal distances, and the methods side by side around
    each, so that no interval hides another.
    """
    cells = select_cells(summary, settings, free=(axis.column, "K"))
    text = metric_text(settings["metric"])
    methods = list(dict.fromkeys(cells["method"]))
    counts = sorted(cells["K"].unique())
    notes = _notes(cells, provenance(cells))
    handles = [legend_handle(method_style(method)) for method in methods]
    columns = min(4, len(handles))
    frame = make_frame(
        len(counts), min(2, len(counts)), PANEL_HEIGHT, legend_rows=-(-len(handles) // columns), footer_rows=len(notes)
    )
    for panel, count in zip(frame.panels, counts, strict=True):
        _draw_panel(panel, cells[cells["K"] == count], methods, axis, text)
        panel.set_title(f"K = {count}")
    _scale_axis(frame, cells, text)
    _draw_strips(frame, cells, methods, axis, counts)
    frame.label_axes(axis.label, text.label)
    frame.add_legend(_in_columns(handles, columns), columns)
    frame.add_footer(notes)
    return frame.figure


def _draw_panel(panel: Axes, cells: pd.DataFrame, methods: list[str], axis: HorizontalAxis, text: MetricText) -> None:
    levels = sorted(cells[axis.column].unique())
    panel.set_xticks(range(len(levels)), [axis.write.format(level) for level in levels])
    panel.set_xlim(-0.5, len(levels) - 0.5)
    panel.grid(axis="y")
    for edge in np.arange(0.5, len(levels) - 1):
        panel.axvline(edge, color="#f0f0f0", linewidth=0.8, zorder=0)
    for method in methods:
        rows = cells[(cells["method"] == method) & np.isfinite(cells["mean"])]
        positions = [levels.index(value) for value in rows[axis.column]]
        _draw_method(panel, method, np.array(positions, float) + dodge(method, methods), rows)


def _draw_method(panel: Axes, method: str, positions: np.ndarray, rows: pd.DataFrame) -> None:
    look = method_style(method)
    if is_oracle(method):
        for position, mean in zip(positions, rows["mean"], strict=True):
            panel.plot([position - 0.4, position + 0.4], [mean, mean], color=look.color, linestyle=look.line, zorder=4)
        return
    panel.plot(positions, rows["mean"], color=look.color, linestyle=look.line, linewidth=0.8, alpha=0.75, zorder=2)
    panel.vlines(positions, rows["low"], rows["high"], color=look.color, linewidth=1.3, zorder=3)
    for position, median in zip(positions, rows["median"], strict=True):
        panel.plot([position - 0.05, position + 0.05], [median] * 2, color=look.color, linewidth=1.0, zorder=3)
    partly = (rows["n_failed"] > 0).to_numpy()
    marker = {"linestyle": "", "marker": look.marker, "markersize": look.size, "zorder": 5}
    panel.plot(positions[~partly], rows["mean"][~partly], color=look.color, **FILLED, **marker)
    panel.plot(positions[partly], rows["mean"][partly], color=look.color, **OPEN, **marker)


def dodge(method: str, methods: list[str]) -> float:
    """How far from its tick a method stands; the oracle, drawn as a level, stays on it."""
    shown = [name for name in methods if not is_oracle(name)]
    if is_oracle(method) or len(shown) < 2:
        return 0.0
    return SPREAD * (shown.index(method) / (len(shown) - 1) - 0.5)


def _scale_axis(frame: Frame, cells: pd.DataFrame, text: MetricText) -> None:
    """The vertical axis, shared by the panels, with room for the strip on top."""
    panel = frame.panels[0]
    values = cells[["mean", "low", "high"]].to_numpy(float)
    values = values[np.isfinite(values)]
    if text.scale == "log":
        panel.set_yscale("log")
        low, high = np.log10(values[values > 0].min()), np.log10(values.max())
        span = max(high - low, 0.3)
        panel.set_ylim(10 ** (low - 0.06 * span), 10 ** (high + 0.18 * span))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        return
    if text.scale == "symlog":
        panel.set_yscale("symlog", linthresh=LINEAR_THRESHOLD, linscale=0.6)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    transform = panel.yaxis.get_transform()
    low, high = transform.transform(np.array([values.min(), values.max()]))
    span = max(high - low, 1e-6)
    panel.set_ylim(*transform.inverted().transform(np.array([low - 0.06 * span, high + 0.18 * span])))


def _draw_strips(frame: Frame, cells: pd.DataFrame, methods: list[str], axis: HorizontalAxis, counts: list) -> None:
    """A strip labelled "n/a" on top of every panel, where any panel needs one."""
    if (cells["status"] == OK).all():
        return
    levels = sorted(cells[axis.column].unique())
    for panel, count in zip(frame.panels, counts, strict=True):
        panel.axhspan(
            *_strip_limits(panel), xmin=0, xmax=1, facecolor="#f2f2f2", edgecolor="none", zorder=1
        )  # fmt: skip
        across = panel.get_xaxis_transform()
        middle = STRIP_BOTTOM + STRIP_HEIGHT / 2
        panel.text(-0.47, middle, "n/a", transform=across, fontsize=7, color=NEUTRAL, va="center", zorder=2)
        missing = cells[(cells["K"] == count) & (cells["status"] != OK)]
        for row in missing.itertuples():
            position = levels.index(getattr(row, axis.column)) + dodge(row.method, methods)
            _mark_missing(panel, position, middle, method_style(row.method), row.status)


def _strip_limits(panel: Axes) -> tuple[float, float]:
    """The strip's lower and upper edge in data coordinates."""
    edges = panel.transAxes.transform([(0, STRIP_BOTTOM), (0, STRIP_BOTTOM + STRIP_HEIGHT)])
    return tuple(panel.transData.inverted().transform(edges)[:, 1])


def _mark_missing(panel: Axes, position: float, height: float, look: MethodStyle, status: str) -> None:
    mark = {"marker": look.marker or "_", "markersize": look.size, **OPEN}
    if status == FAILED:
        mark = {"marker": "x", "markersize": 4.5, "markeredgewidth": 1.4}
    across = panel.get_xaxis_transform()
    panel.plot([position], [height], color=look.color, transform=across, gid=f"n/a {status}", zorder=6, **mark)


def _notes(cells: pd.DataFrame, source: str) -> list[str]:
    """The footer: what the marks mean, then the provenance."""
    notes = []
    if (cells["status"] == FAILED).any():
        notes.append(f"n/a ×: failed on every task ({failure_reasons(cells)})")
    if (cells["status"] == GAP).any():
        notes.append("n/a, open marker: not trained or not run at this scale")
    if ((cells["n_failed"] > 0) & (cells["status"] == OK)).any():
        notes.append("open marker on a line: some tasks failed, mean over the others")
    notes += ["mean and 95 % bootstrap interval, short line: median", source]
    return _fill(notes)


def _fill(notes: list[str]) -> list[str]:
    """The notes in as few lines as hold them."""
    lines = [notes[0]]
    for note in notes[1:]:
        joined = f"{lines[-1]} · {note}"
        if len(joined) <= NOTE_LENGTH:
            lines[-1] = joined
        else:
            lines.append(note)
    return lines


def _in_columns(handles: list[Line2D], columns: int) -> list[Line2D]:
    """Handles reordered so that a legend filled column by column reads row by row."""
    rows = math.ceil(len(handles) / columns)
    return [handles[row * columns + column] for column in range(columns) for row in range(rows)
               if row * columns + column < len(handles)]  # fmt: skip
