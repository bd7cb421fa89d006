"""Panels that show one metric and share its axis: every method's means, intervals and medians, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tgmm.figures import style
from tgmm.figures.cells import OK, is_oracle
from tgmm.figures.metric_text import MetricText
from tgmm.figures.palette import NEUTRAL, method_style
from tgmm.figures.panel_content import PanelContent, Room, dodge, room
from tgmm.figures.strip import OPEN, draw_strips
from tgmm.figures.vertical_axis import lifted, scale_axis

FILLED = {"markeredgecolor": "white", "markeredgewidth": 0.4}
CHARACTER = 0.066
SHADE = "#f6f1df"


@dataclass(frozen=True)
class PanelGroup:
    """Panels with a common vertical axis.

    Attributes
    ----------
    contents : what each panel shows.
    methods : in the order in which they stand side by side.
    text : the metric's texts.
    panel_width : inches.
    """

    contents: list[PanelContent]
    methods: list[str]
    text: MetricText
    panel_width: float

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The cells of all panels."""
        return pd.concat([content.cells for content in self.contents], ignore_index=True)

    @cached_property
    def rooms(self) -> list[Room]:
        """The room that the marks of each panel have."""
        return [room(self.panel_width, content, self.methods) for content in self.contents]

    @property
    def medians(self) -> bool:
        """Whether medians are drawn."""
        return all(space.medians for space in self.rooms)

    def draw(self, panels: list[Axes]) -> None:
        """Draw the contents into the panels, in order."""
        scale_axis(panels[0], self.cells, self.text, medians=self.medians)
        for panel, content, space in zip(panels, self.contents, self.rooms, strict=True):
            _prepare(panel, content, space)
            for method in self.methods:
                rows = content.cells[(content.cells["method"] == method) & (content.cells["status"] == OK)]
                positions = np.array(content.positions(rows), float) + dodge(method, self.methods)
                _draw_method(panel, method, positions, rows, space, self.medians)
            panel.set_title(content.title)
        draw_strips(panels, self.contents, self.methods, self.rooms)


def _prepare(panel: Axes, content: PanelContent, space: Room) -> None:
    """Ticks, a line between levels that stand apart, a shade behind the unshifted level."""
    levels = content.levels
    labels = [content.axis.write(level) for level in levels]
    every = max(1, int(np.ceil(CHARACTER * max(map(len, labels)) / space.level)))
    panel.set_xticks(range(len(levels)), [label if not n % every else "" for n, label in enumerate(labels)])
    panel.set_xlim(-0.5, len(levels) - 0.5)
    panel.grid(axis="y")
    if content.axis.unshifted in levels:
        place = levels.index(content.axis.unshifted)
        panel.axvspan(place - 0.5, place + 0.5, facecolor=SHADE, edgecolor="none", zorder=0, gid="unshifted")
    if space.medians:
        for edge in np.arange(0.5, len(levels) - 1):
            panel.axvline(edge, color="#f0f0f0", linewidth=0.8, zorder=0)
    if not (content.cells["status"] == OK).any():
        middle = {"transform": panel.transAxes, "ha": "center", "va": "center", "fontsize": style.SMALL}
        panel.text(0.5, 0.5, "no method has a value", color=NEUTRAL, **middle)


def _draw_method(
    panel: Axes, method: str, positions: np.ndarray, rows: pd.DataFrame, space: Room, medians: bool
) -> None:
    look, size = method_style(method), space.marker
    means, low, high = (lifted(panel, rows[name]) for name in ("mean", "low", "high"))
    if is_oracle(method):
        for position, mean in zip(positions, means, strict=True):
            panel.plot([position - 0.4, position + 0.4], [mean, mean], color=look.color, linestyle=look.line, zorder=4)
        return
    panel.plot(positions, means, color=look.color, linestyle=look.line, linewidth=0.8, alpha=0.75, zorder=2)
    panel.vlines(positions, low, high, color=look.color, linewidth=1.3 * size, zorder=3)
    for position, median in zip(positions, lifted(panel, rows["median"]) if medians else (), strict=False):
        panel.plot([position - 0.05, position + 0.05], [median] * 2, color=look.color, linewidth=1.0, zorder=3)
    partly = (rows["n_failed"] > 0).to_numpy()
    marker = {"linestyle": "", "marker": look.marker, "markersize": look.size * size, "zorder": 5}
    panel.plot(positions[~partly], means[~partly], color=look.color, **FILLED, **marker)
    panel.plot(positions[partly], means[partly], color=look.color, **OPEN, **marker)
    if (means != rows["mean"]).any():
        zero = (means != rows["mean"]).to_numpy()
        edge = {**marker, "clip_on": False, "gid": "zero"}
        panel.plot(positions[zero], means[zero], color=look.color, **FILLED, **edge)
