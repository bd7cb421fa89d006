"""Panels that show one metric: every method's means, intervals and medians side by side over a categorical axis.

The values of the horizontal axis stand at equal distances, and the methods side by side around each, so that no
interval hides another. Where a method has no value, a marker stands in a band labelled "n/a" on top of the panel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from tgmm.figures import style
from tgmm.figures.data import FAILED, GAP, OK, UNDEFINED, failure_reasons
from tgmm.figures.layout import label_log_axis, plain_numbers
from tgmm.figures.style import FILLED, NEUTRAL, OPEN, HorizontalAxis, MethodStyle, MetricText, is_level, method_style

DODGE_WIDTH = 0.4  # of the distance between two values of the axis, over which the methods spread
LEVEL_WIDTH = 0.56  # of that distance, which the level of a bound spans
MARKER, SMALLEST = 4.0 / 72, 0.75  # a marker in inches, and the least that it shrinks to
MEDIAN_INCHES, MEDIAN_SPACE = 0.05, 0.3  # length of a median's line, and the least distance of two values for it
CHARACTER = 0.066  # inches of a tick label's character
SHADE = "#f6f1df"
LINEAR_THRESHOLD = 1e-2
MARGIN, SMALLEST_SPAN = 0.06, 1e-6  # share of the values' span left free below and above, and the least span
BAND_INCHES, TALL = 0.153, 1.7
NA_INCHES = 0.23  # from a panel's edge to the end of the band's label, and half a marker


@dataclass(frozen=True)
class Spacing:
    """Inches between two values of a panel's axis and between two methods at one value."""

    level: float
    method: float

    @property
    def marker(self) -> float:
        """By how much markers and lines shrink so that neighbours stay apart; 1 where there is enough space."""
        return min(1.0, max(SMALLEST, math.sqrt(self.method / MARKER)))

    @property
    def medians(self) -> bool:
        """Whether there is space for a short line at the median."""
        return self.level >= MEDIAN_SPACE


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Attributes
    ----------
    rows : one for each method and value of the axis, with ``status``, ``method``, ``mean``, ``low``, ``high``,
        ``median``, ``n_failed`` and the axis' column.
    axis : the horizontal axis.
    title : above the panel.
    """

    rows: pd.DataFrame
    axis: HorizontalAxis
    title: str = ""

    @property
    def levels(self) -> list:
        """The axis' values from left to right."""
        return self.axis.levels(self.rows)

    def positions(self, rows: pd.DataFrame) -> list[int]:
        """Return where the rows' values stand on the axis, counted from 0."""
        levels = self.levels
        return [levels.index(value) for value in rows[self.axis.column]]

    def spacing(self, width: float, methods: list[str]) -> Spacing:
        """Return how closely the markers stand where the panel is so many inches wide."""
        level = width / len(self.levels)
        shown = sum(not is_level(name) for name in methods)
        return Spacing(level, DODGE_WIDTH * level / max(1, shown - 1))


def dodge(method: str, methods: list[str]) -> float:
    """Return how far from its tick a method stands; a bound, drawn as a level, stays on it."""
    shown = [name for name in methods if not is_level(name)]
    if is_level(method) or len(shown) < 2:
        return 0.0
    return DODGE_WIDTH * (shown.index(method) / (len(shown) - 1) - 0.5)


@dataclass(frozen=True)
class MetricPanels:
    """Panels of one metric with a common vertical axis.

    Attributes
    ----------
    panels : what each axes shows.
    methods : in the order in which they stand side by side.
    text : the metric's texts.
    width : of an axes, in inches.
    """

    panels: list[Panel]
    methods: list[str]
    text: MetricText
    width: float

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of all panels."""
        return pd.concat([panel.rows for panel in self.panels], ignore_index=True)

    @cached_property
    def spacings(self) -> list[Spacing]:
        """How closely the markers of each panel stand."""
        return [panel.spacing(self.width, self.methods) for panel in self.panels]

    @property
    def medians(self) -> bool:
        """Whether medians are drawn."""
        return all(spacing.medians for spacing in self.spacings)

    @property
    def has_zero(self) -> bool:
        """Whether a mean is zero, for which a logarithmic axis has no place."""
        shown = self.rows[self.rows["status"] == OK]
        return self.text.scale == "log" and bool((shown["mean"] <= 0).any())

    def draw(self, axes: list[Axes]) -> None:
        """Draw the panels into the axes, in order."""
        band = bool((self.rows["status"] != OK).any())
        scale_vertical_axis(axes[0], self.rows, self.text, medians=self.medians, band=band)
        for ax, panel, spacing in zip(axes, self.panels, self.spacings, strict=True):
            _draw_horizontal_axis(ax, panel, spacing)
            for method in self.methods:
                rows = panel.rows[(panel.rows["method"] == method) & (panel.rows["status"] == OK)]
                positions = np.array(panel.positions(rows), float) + dodge(method, self.methods)
                _draw_method(ax, method, positions, rows, spacing, self.medians)
            ax.set_title(panel.title)
        if band:
            _draw_missing(axes, self.panels, self.spacings)


def marker_notes(groups: list[MetricPanels]) -> list[str]:
    """Return what the markers of the panels mean, as far as they occur."""
    rows = pd.concat([group.rows for group in groups], ignore_index=True)
    notes = []
    if (rows["status"] == FAILED).any():
        notes.append(f"n/a ×: failed on every task ({failure_reasons(rows)})")
    if (rows["status"] == GAP).any():
        notes.append("n/a, open marker: not trained, not run at this scale, or not applicable")
    if (rows["status"] == UNDEFINED).any():
        notes.append("n/a –: no finite mean")
    if ((rows["n_failed"] > 0) & (rows["status"] == OK)).any():
        notes.append("open marker on a line: some tasks failed, mean over the others")
    if any(group.has_zero for group in groups):
        notes.append("marker on the lower edge: zero")
    if any(panel.axis.unshifted in panel.levels for group in groups for panel in group.panels):
        notes.append("shaded: unshifted")
    medians = any(group.medians for group in groups)
    return [*notes, "mean and 95 % bootstrap interval" + (", short line: median" if medians else "")]


# --- methods and horizontal axis -----------------------------------------------------------------------------------


def _draw_horizontal_axis(ax: Axes, panel: Panel, spacing: Spacing) -> None:
    """Draw ticks, a line between values that stand apart, and a shade behind the unshifted value."""
    levels = panel.levels
    labels = [panel.axis.write(level) for level in levels]
    every = max(1, int(np.ceil(CHARACTER * max(map(len, labels)) / spacing.level)))
    ax.set_xticks(range(len(levels)), [label if not n % every else "" for n, label in enumerate(labels)])
    ax.set_xlim(-0.5, len(levels) - 0.5)
    ax.grid(axis="y")
    if panel.axis.unshifted in levels:
        place = levels.index(panel.axis.unshifted)
        ax.axvspan(place - 0.5, place + 0.5, facecolor=SHADE, edgecolor="none", zorder=0, gid="unshifted")
    if spacing.medians:
        for edge in np.arange(0.5, len(levels) - 1):
            ax.axvline(edge, color="#f0f0f0", linewidth=0.8, zorder=0)
    if not (panel.rows["status"] == OK).any():
        middle = {"transform": ax.transAxes, "ha": "center", "va": "center", "fontsize": style.SMALL}
        ax.text(0.5, 0.5, "no method has a value", color=NEUTRAL, **middle)


def _draw_method(
    ax: Axes, method: str, positions: np.ndarray, rows: pd.DataFrame, spacing: Spacing, medians: bool
) -> None:
    if rows.empty:
        return
    look, size = method_style(method), spacing.marker
    means, low, high = (_raise_zeros(ax, rows[name]) for name in ("mean", "low", "high"))
    if is_level(method):
        ends = (positions - LEVEL_WIDTH / 2, positions + LEVEL_WIDTH / 2)
        line = {"linestyles": [look.line], "linewidth": 1.1, "gid": f"level {method}"}
        ax.hlines(means, *ends, color=look.color, zorder=4, **line)
        return
    line = {"linestyle": look.line, "linewidth": 0.8, "alpha": 0.75, "gid": f"curve {method}"}
    ax.plot(positions, means, color=look.color, zorder=2, **line)
    ax.vlines(positions, low, high, color=look.color, linewidth=1.3 * size, zorder=3, gid=f"interval {method}")
    if medians:
        half, heights = MEDIAN_INCHES / 2 / spacing.level, _raise_zeros(ax, rows["median"])
        dash = {"linewidth": 0.9, "zorder": 3, "gid": f"median {method}"}
        ax.hlines(heights, positions - half, positions + half, color=look.color, **dash)
    partly, zero = (rows["n_failed"] > 0).to_numpy(), (means != rows["mean"]).to_numpy()
    marker = {"linestyle": "", "marker": look.marker, "markersize": look.size * size, "zorder": 5}
    for chosen, edge, name in ((~partly, FILLED, "mean"), (partly, OPEN, "partly failed"), (zero, FILLED, "zero")):
        if chosen.any():
            thin = {"markeredgewidth": edge["markeredgewidth"] * size, "gid": f"{name} {method}"}
            ax.plot(positions[chosen], means[chosen], color=look.color, clip_on=name != "zero",
                    **edge | thin, **marker)  # fmt: skip


# --- vertical axis -------------------------------------------------------------------------------------------------


def scale_vertical_axis(
    ax: Axes, rows: pd.DataFrame, text: MetricText, *, medians: bool = True, band: bool = True
) -> None:
    """Set the scale and limits that hold means and intervals, medians where drawn, and the band for missing values."""
    values = _finite(rows, ["mean", "low", "high"], text)
    if len(values) == 0:
        ax.set_ylim(0, 1)
        ax.set_yticks([])
        return
    _set_scale(ax, text)
    limits = _limits(ax, values, band)
    middle = _finite(rows, ["median"], text)
    if medians and len(middle) and not limits[0] <= middle.min() <= middle.max() <= limits[1]:
        limits = _limits(ax, np.append(values, middle), band)
    ax.set_ylim(*limits)
    if text.scale == "log":
        label_log_axis(ax.yaxis, limits[1] / limits[0])


def _finite(rows: pd.DataFrame, columns: list[str], text: MetricText) -> np.ndarray:
    values = rows[columns].to_numpy(float)
    values = values[np.isfinite(values)]
    return values[values > 0] if text.scale == "log" else values


def _set_scale(ax: Axes, text: MetricText) -> None:
    if text.scale == "log":
        ax.set_yscale("log")
    elif text.scale == "symlog":
        ax.set_yscale("symlog", linthresh=LINEAR_THRESHOLD, linscale=0.6)
        ax.yaxis.set_major_formatter(plain_numbers())
    elif _height(ax) < TALL - 0.01:
        ax.yaxis.set_major_locator(MaxNLocator(4))


def _height(ax: Axes) -> float:
    """Return the height of the axes in inches."""
    return ax.get_position().height * ax.figure.get_size_inches()[1]


def _limits(ax: Axes, values: np.ndarray, band: bool) -> tuple[float, float]:
    """Return limits around the values, in the axis' own scale, that keep them out of the band."""
    transform = ax.yaxis.get_transform()
    low, high = transform.transform(np.array([values.min(), values.max()]))
    span = max(high - low, 0.3 if ax.get_yscale() == "log" else SMALLEST_SPAN)
    above = MARGIN if not band else (1 + MARGIN) / (1 - _band_share(ax) - MARGIN / 2) - (1 + MARGIN)
    return tuple(transform.inverted().transform(np.array([low - MARGIN * span, high + above * span])))


def _raise_zeros(ax: Axes, values: pd.Series) -> np.ndarray:
    """Return the values, with zeros, for which a logarithmic axis has no place, at its lower edge."""
    values = values.to_numpy(float)
    return np.where(values > 0, values, ax.get_ylim()[0]) if ax.get_yscale() == "log" else values


# --- missing values ------------------------------------------------------------------------------------------------


def _draw_missing(axes: list[Axes], panels: list[Panel], spacings: list[Spacing]) -> None:
    """Draw a band labelled "n/a" on top of every panel, with a marker for every method and value that is missing."""
    markers = [_missing(panel, spacing) for panel, spacing in zip(panels, spacings, strict=True)]
    clear = [
        0.5 + min((position for position, _ in found), default=math.inf) > NA_INCHES / spacing.level
        for found, spacing in zip(markers, spacings, strict=True)
    ]
    for ax, found, spacing in zip(axes, markers, spacings, strict=True):
        share = _band_share(ax)
        ax.axhspan(*_band_limits(ax, share), xmin=0, xmax=1, facecolor="#f2f2f2", edgecolor="none", zorder=1)
        _label_band(ax, 1 - share / 2, inside=all(clear))
        for position, row in found:
            _draw_missing_marker(ax, position, 1 - share / 2, method_style(row.method), row.status, spacing)


def _missing(panel: Panel, spacing: Spacing) -> list[tuple]:
    """Return where a marker stands along the axis, and the row that it is for: side by side around their tick."""
    missing = panel.rows[panel.rows["status"] != OK]
    places = pd.Series(panel.positions(missing), index=missing.index, dtype=float)
    number, count = places.groupby(places).cumcount(), places.groupby(places).transform("size")
    step = np.minimum(1.3 * MARKER * spacing.marker / spacing.level, 0.8 / count)
    return list(zip(places + step * (number - (count - 1) / 2), missing.itertuples(), strict=True))


def _band_share(ax: Axes) -> float:
    """Return the share of the height of the axes that the band takes."""
    return BAND_INCHES / _height(ax)


def _band_limits(ax: Axes, share: float) -> tuple[float, float]:
    """Return the lower and upper edge of the band in data coordinates."""
    edges = ax.transAxes.transform([(0, 1 - share), (0, 1)])
    return tuple(ax.transData.inverted().transform(edges)[:, 1])


def _label_band(ax: Axes, height: float, *, inside: bool) -> None:
    """Write the label at the band's left end, or where markers stand there, beside the first panel of a row."""
    text = {"transform": ax.get_xaxis_transform(), "fontsize": style.SMALL, "color": NEUTRAL, "va": "center"}
    if inside:
        ax.text(-0.47, height, "n/a", zorder=2, **text)
    elif ax.get_subplotspec().is_first_col():
        text["transform"] = ax.transAxes
        ax.text(-0.02, height, "n/a", ha="right", zorder=2, **text)
        _drop_tick_labels_beside_band(ax)


def _drop_tick_labels_beside_band(ax: Axes) -> None:
    write, lower = ax.yaxis.get_major_formatter(), _band_limits(ax, _band_share(ax) * 1.15)[0]
    ticks = [tick for tick in ax.get_yticks() if tick < lower]
    minor = [tick for tick in ax.get_yticks(minor=True) if tick < lower]
    limits = ax.get_ylim()
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(FixedLocator(minor))
    ax.yaxis.set_major_formatter(write)
    ax.set_ylim(*limits)


def _draw_missing_marker(
    ax: Axes, position: float, height: float, look: MethodStyle, status: str, spacing: Spacing
) -> None:
    marker = {"marker": look.marker or "_", "markersize": look.size * spacing.marker, **OPEN}
    if status == FAILED:
        marker = {"marker": "x", "markersize": 4.5 * spacing.marker, "markeredgewidth": 1.4}
    if status == UNDEFINED:
        marker = {"marker": "_", "markersize": min(4.5, max(2.5, 50 * spacing.method)), "markeredgewidth": 1.4}
    across = ax.get_xaxis_transform()
    ax.plot([position], [height], color=look.color, transform=across, gid=f"n/a {status}", zorder=6, **marker)
