"""Figures of a metric: against the dimension, the number of points or a shift; several metrics; several shifts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tgmm.columns import reads
from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.data import (
    AVERAGE_NOTE,
    GAP,
    average_over_components,
    common_note,
    fill,
    mark_undefined,
    provenance,
    select_summary,
)
from tgmm.figures.layout import Layout, axes_width, grid_layout, method_legend
from tgmm.figures.panels import MetricPanels, Panel, marker_notes
from tgmm.figures.style import AXES, HorizontalAxis, axis_of, method_style, metric_text, shift_axis, shift_text

SEPARATION = "separation"
MEANS = "mean over tasks with a 95 % bootstrap interval"


# --- one metric against one column ---------------------------------------------------------------------------------

PANEL_HEIGHT, LOW_HEIGHT = 1.7, 1.3


@reads()
def draw_metric_against_dimension(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the metric against d, a panel for each K, every method side by side (RQ1)."""
    return _draw_metric(summary, settings, "d")


@reads()
def draw_metric_against_points(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the metric against the number of points at test, a panel for each K, every method side by side (RQ2)."""
    return _draw_metric(summary, settings, "N")


@reads()
def draw_metric_against_shift(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the metric against the size of a shift, a panel for each K, every method side by side (RQ2)."""
    return _draw_metric(summary, settings, "shift_value")


def _draw_metric(summary: pd.DataFrame, settings: dict, column: str) -> Figure:
    """Draw a panel for each K over a column; a row of panels for each d where d is not the axis and has several."""
    selection = mark_undefined(select_summary(summary, settings, free=("d", "K", column)))
    axis, text = axis_of(column, selection), metric_text(settings["metric"])
    methods, n_columns = list(dict.fromkeys(selection["method"])), selection["K"].nunique()
    panels = _panels(selection, axis)
    several_rows = len(panels) > n_columns
    across = n_columns if several_rows else min(2, n_columns)
    group = MetricPanels(panels, methods, text, axes_width(across))
    lines = fill(
        [
            *marker_notes([group]),
            *_training_points(selection, settings),
            *common_note(selection, axis),
            provenance(selection),
        ]
    )
    legend = method_legend(methods)
    height = LOW_HEIGHT if several_rows else PANEL_HEIGHT
    layout = grid_layout(len(panels), across, height, legend_rows=legend.rows, footer_rows=len(lines))
    group.draw(layout.axes)
    if column == "shift_value" and selection["shift"].iloc[0] == SEPARATION:
        _mark_limits(layout.axes, panels)
    layout.label_axes(axis.label, text.label)
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def _mark_limits(axes: list[Axes], panels: list[Panel]) -> None:
    """Mark the distance sqrt(log K) in each panel: below its order, no method can tell components apart."""
    for ax, panel in zip(axes, panels, strict=False):
        levels, K = panel.axis.levels(panel.rows), int(panel.rows["K"].iloc[0])
        place = float(np.interp(math.sqrt(math.log(K)), levels, range(len(levels))))
        ax.axvline(place, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 1)))
        ax.text(place + 0.08, 0.97, r"$\sqrt{\log K}$", transform=ax.get_xaxis_transform(), ha="left", va="top",
                fontsize=style.SMALL, color=style.NEUTRAL)  # fmt: skip


def _panels(selection: pd.DataFrame, axis: HorizontalAxis) -> list[Panel]:
    if axis.column == "d" or selection["d"].nunique() == 1:
        return [Panel(rows, axis, f"K = {count}") for count, rows in selection.groupby("K", sort=True)]
    groups = selection.groupby(["d", "K"], sort=True)
    return [Panel(rows, axis, f"d = {d}, K = {count}") for (d, count), rows in groups]


def _training_points(selection: pd.DataFrame, settings: dict) -> list[str]:
    """Return how many points the networks with scores saw in training, where the settings say so."""
    scored = set(selection.loc[selection["status"] != GAP, "method"])
    points: dict[int, list[str]] = {}
    for method, number in settings.get("trained_N", {}).items():
        if method in scored:
            points.setdefault(number, []).append(method_style(method).short)
    parts = [f"{number} ({', '.join(names)})" for number, names in sorted(points.items())]
    return [f"trained at N up to {', '.join(parts)}"] if parts else []


def caption_metric_against_dimension(settings: dict) -> str:
    """Return one sentence on what is shown."""
    return (
        f"{metric_text(settings['metric']).headline} against the dimension d, a panel for each number of components K, "
        f"on the task set '{settings['taskset']}': {MEANS}."
    )


def caption_metric_against_points(settings: dict) -> str:
    """Return two sentences on what is shown."""
    return (
        f"{metric_text(settings['metric']).headline} against the number of points N of a test task, a panel for each "
        f"number of components K, on the task set '{settings['taskset']}': {MEANS}. "
        "EM started from the truth is the floor at every N."
    )


def caption_metric_against_shift(settings: dict) -> str:
    """Return one sentence on what is shown."""
    kind = f" ({shift_text(settings['shift']).name})" if "shift" in settings else ""
    return (
        f"{metric_text(settings['metric']).headline} against the size of the shift{kind}, a panel for each number of "
        f"components K, on the task set '{settings['taskset']}': {MEANS}."
    )


# --- several metrics -----------------------------------------------------------------------------------------------

GRID_HEIGHTS, SMALLEST_HEIGHT = {1: 1.7, 2: 1.5, 3: 1.4, 4: 1.3, 5: 1.2}, 1.1  # inches by the number of metrics
GRID = {"left": 0.86, "gap_across": 0.12, "gap_down": 0.17}


@reads()
def draw_metric_grid(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw a row of panels for each metric with a vertical axis of its own, a column for each K."""
    metrics, column = list(dict.fromkeys(settings["metrics"])), settings["axis"]
    selections = [
        mark_undefined(select_summary(summary, settings | {"metric": metric}, free=(column, "K"))) for metric in metrics
    ]
    selection = pd.concat(selections, ignore_index=True)
    axis, methods = axis_of(column, selection), list(dict.fromkeys(selection["method"]))
    n_columns = selection["K"].nunique()
    width = axes_width(n_columns, GRID["left"], GRID["gap_across"])
    groups = [
        MetricPanels(_grid_row(rows, axis, titled=not number), methods, metric_text(metric), width)
        for number, (metric, rows) in enumerate(zip(metrics, selections, strict=True))
    ]
    lines = fill([*marker_notes(groups), *common_note(selection, axis), provenance(selection)])
    legend = method_legend(methods)
    height = GRID_HEIGHTS.get(len(metrics), SMALLEST_HEIGHT)
    layout = grid_layout(len(metrics) * n_columns, n_columns, height, legend_rows=legend.rows, footer_rows=len(lines),
                         share_y="row", **GRID)  # fmt: skip
    for number, group in enumerate(groups):
        axes = layout.axes[number * n_columns : (number + 1) * n_columns]
        group.draw(axes)
        _label_row(layout, axes[0], group.text.narrow)
    layout.label_axes(axis.label, "")
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def _grid_row(selection: pd.DataFrame, axis: HorizontalAxis, *, titled: bool) -> list[Panel]:
    groups = selection.groupby("K", sort=True)
    return [Panel(rows, axis, f"K = {count}" if titled else "") for count, rows in groups]


def _label_row(layout: Layout, ax: Axes, label: str) -> None:
    """Write the metric's name upright beside its row."""
    box = ax.get_position()
    layout.figure.text(
        0.06 / style.WIDTH, (box.y0 + box.y1) / 2, label, rotation=90, ha="left", va="center", ma="center",
        fontsize=style.SMALL,
    )  # fmt: skip


def caption_metric_grid(settings: dict) -> str:
    """Return one sentence on what is shown."""
    names = [metric_text(metric).name for metric in settings["metrics"]]
    listed = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    along = AXES[settings["axis"]].name
    return (
        f"{listed[0].upper()}{listed[1:]} against {along}, a column for each number of components K, on the task set "
        f"'{settings['taskset']}': {MEANS}."
    )


# --- several shifts ------------------------------------------------------------------------------------------------

SHIFT_HEIGHT, SHIFT_GAP_DOWN = 1.6, 0.66


@reads()
def draw_shift_panels(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the metric's average over K against each shift's values, a panel for each kind of shift."""
    selection = mark_undefined(select_summary(summary, settings, free=("K", "shift", "shift_value")))
    selection = selection[selection["shift"] != "none"]
    if selection.empty:
        raise UserError(f"task set '{settings['taskset']}' has no shift, which artefact kind 'shift-panels' needs")
    averages = average_over_components(selection, ["method", "shift", "shift_value"])
    methods, kinds = list(dict.fromkeys(selection["method"])), list(dict.fromkeys(selection["shift"]))
    panels = [Panel(averages[averages["shift"] == kind], shift_axis(kind), shift_text(kind).name) for kind in kinds]
    across = 2 if len(kinds) in (2, 4) else min(3, len(kinds))
    group = MetricPanels(panels, methods, metric_text(settings["metric"]), axes_width(across))
    average = AVERAGE_NOTE.format(", ".join(str(count) for count in sorted(selection["K"].unique())))
    common = common_note(selection, panels[0].axis)
    lines = fill([*marker_notes([group]), average, *common, provenance(selection)])
    legend = method_legend(methods)
    layout = grid_layout(len(kinds), across, SHIFT_HEIGHT, legend_rows=legend.rows, footer_rows=len(lines),
                         share_x=False, gap_down=SHIFT_GAP_DOWN)  # fmt: skip
    group.draw(layout.axes)
    for ax, panel in zip(layout.axes, panels, strict=True):
        ax.set_xlabel(panel.axis.label, fontsize=style.SMALL, labelpad=2.0)
    layout.label_axes("", group.text.label)
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def caption_shift_panels(settings: dict) -> str:
    """Return one sentence on what is shown."""
    return (
        f"{metric_text(settings['metric']).headline}, averaged over the numbers of components K, under every kind of "
        f"shift of the task set '{settings['taskset']}': {MEANS}."
    )
