"""What stands in one panel, and how much room its marks have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from tgmm.figures.cells import is_oracle
from tgmm.figures.horizontal_axis import HorizontalAxis

SPREAD = 0.64
MARKER, SMALLEST = 4.0 / 72, 0.6
MEDIAN_ROOM = 0.3


@dataclass(frozen=True)
class PanelContent:
    """The cells of a panel, their axis and the panel's title.

    Attributes
    ----------
    cells : a row for each method and level, with ``status``, ``method``, ``mean``, ``low``, ``high``, ``median``,
        ``n_failed`` and the axis' column.
    """

    cells: pd.DataFrame
    axis: HorizontalAxis
    title: str = ""

    @property
    def levels(self) -> list:
        """The axis' values from left to right."""
        return self.axis.levels(self.cells)

    def positions(self, rows: pd.DataFrame) -> list[int]:
        """Where the rows' levels stand on the axis, counted from 0."""
        levels = self.levels
        return [levels.index(value) for value in rows[self.axis.column]]


@dataclass(frozen=True)
class Room:
    """Inches between two levels of a panel and between two methods of a level."""

    level: float
    method: float

    @property
    def marker(self) -> float:
        """By how much markers and lines shrink so that neighbours stay apart; 1 where there is room."""
        return min(1.0, max(SMALLEST, math.sqrt(self.method / MARKER)))

    @property
    def medians(self) -> bool:
        """Whether there is room for a short line at the median."""
        return self.level >= MEDIAN_ROOM


def room(panel_width: float, content: PanelContent, methods: list[str]) -> Room:
    """How closely the marks stand in a panel that is so many inches wide."""
    level = panel_width / len(content.levels)
    shown = sum(not is_oracle(name) for name in methods)
    return Room(level, SPREAD * level / max(1, shown - 1))


def dodge(method: str, methods: list[str]) -> float:
    """How far from its tick a method stands; the oracle, drawn as a level, stays on it."""
    shown = [name for name in methods if not is_oracle(name)]
    if is_oracle(method) or len(shown) < 2:
        return 0.0
    return SPREAD * (shown.index(method) / (len(shown) - 1) - 0.5)
