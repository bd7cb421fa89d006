"""What may run along a horizontal axis: the dimension, the number of points, or the value of a shift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from tgmm.errors import unknown_name
from tgmm.figures.shift_text import shift_text


@dataclass(frozen=True)
class HorizontalAxis:
    """A column of the summary as an axis.

    Attributes
    ----------
    column, label : the column and the axis label.
    write : how a value is written at its tick.
    descending : whether the largest value stands on the left.
    unshifted : the value at which the tasks are those of the training distribution, None if there is none.
    """

    column: str
    label: str
    write: Callable[[float], str] = "{:g}".format
    descending: bool = False
    unshifted: float | None = None

    def levels(self, cells: pd.DataFrame) -> list:
        """The column's values from left to right."""
        return sorted(cells[self.column].unique(), reverse=self.descending)


DIMENSION = HorizontalAxis("d", "dimension d")
POINTS = HorizontalAxis("N", "number of points N")
AXES = ("d", "N", "shift_value")


def axis_of(column: str, cells: pd.DataFrame) -> HorizontalAxis:
    """The axis for a column of ``AXES``; that of a shift is the one of the cells' kind of shift."""
    if column not in AXES:
        raise unknown_name("axis", column, AXES)
    return {"d": DIMENSION, "N": POINTS}.get(column) or shift_axis(cells["shift"].iloc[0])


def shift_axis(kind: str) -> HorizontalAxis:
    """The axis of a kind of shift, from the mildest value to the strongest, or ascending where it has two sides."""
    text = shift_text(kind)
    return HorizontalAxis("shift_value", text.label, text.write, text.descending, text.unshifted)
