"""Departures of test tasks from the tasks that networks are trained on, one value of one kind at a time.

Every kind leaves the rest of a task as it is: the tasks of a cell share their random numbers with the same tasks at any
other value, so that what changes along a shift is the shift alone. Nothing here needs tensors, so that a study is
checked quickly; :mod:`tgmm.tasks.taskset` draws the shifted tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tgmm.errors import UserError, unknown_name
from tgmm.settings import Settings, several
from tgmm.tasks.feasible import MOST_COMPONENTS

SHIFTS = ("none", "mean", "smallest-weight", "location", "scale", "student-t", "outliers", "wrong-k")
FILTERS = ("before", "after")
FARTHEST = 1e15  # of shifts in location, scale and means: points are float32, and their squares must not overflow
MOST_DEGREES = 1000  # of freedom: so many normal numbers are drawn for a point


@dataclass(frozen=True)
class Shift:
    """One value of one kind of shift.

    Attributes
    ----------
    kind :
        "none";
        "mean": normal noise of standard deviation ``value`` is added to the accepted means (the paper's sigma_p);
        "smallest-weight": the lightest component gets the weight ``value``, the others share the rest in proportion;
        "location": the data are delivered with ``value`` added to every coordinate;
        "scale": the data are delivered multiplied by ``value``, as in another unit of measurement;
        "student-t": the noise is multivariate Student t with ``value`` degrees of freedom and unit covariance;
        "outliers": each point is replaced, with probability ``value``, by one that is uniform on [-10, 10]^d;
        "wrong-k": methods are asked for K + ``value`` components.
    value : see ``kind``.
    filter : for "mean": the cosine filter is applied "before" the perturbation (the paper) or before and "after" it
        (the authors' newest code, which so changes the distribution that it tests on).
    """

    kind: str = "none"
    value: float = 0.0
    filter: str = "before"

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise unknown_name("filter", self.filter, FILTERS)
        refuse_value(self.kind, self.value)

    @property
    def name(self) -> str:
        """Part of a cell's name, empty where nothing is shifted."""
        return "" if self.kind == "none" else f"-{self.kind}{self.value:+g}"

    @property
    def moves_parameters(self) -> bool:
        """Whether the true parameters differ from those of the unshifted tasks, and not the points alone."""
        return self.kind in ("mean", "smallest-weight")

    @property
    def extra_components(self) -> int:
        """How many components too many a method is asked for."""
        return int(self.value) if self.kind == "wrong-k" else 0

    @property
    def units(self) -> tuple[float, float]:
        """(factor, offset): data are delivered as factor x + offset."""
        return (self.value if self.kind == "scale" else 1.0, self.value if self.kind == "location" else 0.0)


class ShiftValues(Settings):
    """Values of one kind of shift."""

    kind: Literal[SHIFTS] = Field(
        description="What is shifted: the means by normal noise, the smallest weight, the units of the data (location, "
        "scale), the tails of the noise, outliers, or the K that methods are asked for."
    )
    values: several(int | Annotated[float, Field(allow_inf_nan=True)]) = Field(
        description="Standard deviation of the noise; the weight; what is added or multiplied; degrees of freedom "
        "(.inf is normal); share of the points; components too many."
    )
    filter: Literal[FILTERS] = Field(
        "before",
        description="For mean: the cosine filter is applied before the noise (the paper), or again after it (the "
        "authors' newest code).",
    )


def refuse_value(kind: str, value: float) -> None:
    """Raise a `UserError` unless the kind of shift is known and the value makes sense for it."""
    if kind not in SHIFTS:
        raise unknown_name("kind of shift", kind, SHIFTS)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise UserError(f"shift '{kind}': {value!r} is not a number")
    whole = math.isfinite(value) and value == int(value)
    allowed = {
        "mean": (0 <= value <= FARTHEST, f"at least 0 and at most {FARTHEST:g}"),
        "smallest-weight": (0 < value < 0.5, "between 0 and 0.5"),
        "location": (abs(value) <= FARTHEST, f"from -{FARTHEST:g} to {FARTHEST:g}"),
        "scale": (1 / FARTHEST <= value <= FARTHEST, f"positive and finite, from {1 / FARTHEST:g} to {FARTHEST:g}"),
        "student-t": (
            value == math.inf or (whole and 2 < value <= MOST_DEGREES),
            f"a whole number above 2 and at most {MOST_DEGREES}, or .inf",
        ),
        "outliers": (0 <= value < 1, "at least 0 and below 1"),
        "wrong-k": (whole and abs(value) <= MOST_COMPONENTS, f"a whole number of at most {MOST_COMPONENTS}"),
    }
    holds, wanted = allowed.get(kind, (True, ""))
    if not holds:
        raise UserError(f"shift '{kind}': values must be {wanted}, not {value:g}")
