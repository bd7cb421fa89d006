"""Which tasks can be drawn: room for their means, and departures from the tasks that networks are trained on.

Every kind leaves the rest of a task as it is: the tasks of a cell share their random numbers with the same tasks at any
other value, so that what changes along a shift is the shift alone. Nothing here needs tensors, so that a study is
checked quickly; :mod:`tgmm.tasks.taskset` draws the shifted tasks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tgmm.errors import UserError, refuse_unknown
from tgmm.settings import Settings, several

SHIFTS = (
    "none", "mean", "smallest-weight", "separation", "spaced", "location", "scale", "student-t", "outliers", "wrong-k"
)  # fmt: skip
TRAINABLE = tuple(kind for kind in SHIFTS if kind not in ("location", "scale"))  # networks see the tasks' own units
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
        "separation": weights are equal, and the means the corners of a regular simplex about the origin, ``value``
        standard deviations apart and turned at random (K is at most d + 1);
        "spaced": means are uniform on [-5, 5]^d and at least ``value`` standard deviations apart, their cosines free
        (the paper's tasks do not exist for K > 2 in one dimension);
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
        refuse_unknown("filter", self.filter, FILTERS)
        refuse_value(self.kind, self.value)

    @property
    def name(self) -> str:
        """Part of a cell's name, empty where nothing is shifted."""
        return "" if self.kind == "none" else f"-{self.kind}{self.value:+g}"

    @property
    def moves_parameters(self) -> bool:
        """Whether the true parameters differ from those of the unshifted tasks, and not the points alone."""
        return self.kind in ("mean", "smallest-weight", "separation", "spaced")

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
        description="What is shifted: the means by normal noise, the smallest weight, the distance between the means "
        "(separation), how far apart they are at least (spaced), the units of the data (location, scale), the tails of "
        "the noise, outliers, or the K that methods are asked for."
    )
    values: several(int | Annotated[float, Field(allow_inf_nan=True)]) = Field(
        description="Standard deviation of the noise; the weight; the distance; what is added or multiplied; degrees "
        "of freedom (.inf is normal); share of the points; components too many."
    )
    filter: Literal[FILTERS] = Field(
        "before",
        description="For mean: the cosine filter is applied before the noise (the paper), or again after it (the "
        "authors' newest code).",
    )

    @property
    def shifts(self) -> list[Shift]:
        """One for each value; a `UserError` for a value that makes no sense."""
        return [Shift(self.kind, value, self.filter) for value in self.values]


def refuse_value(kind: str, value: float) -> None:
    """Raise a `UserError` unless the kind of shift is known and the value makes sense for it."""
    refuse_unknown("kind of shift", kind, SHIFTS)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise UserError(f"shift '{kind}': {value!r} is not a number")
    whole = math.isfinite(value) and value == int(value)
    allowed = {
        "mean": (0 <= value <= FARTHEST, f"at least 0 and at most {FARTHEST:g}"),
        "smallest-weight": (0 < value < 0.5, "between 0 and 0.5"),
        "separation": (0 <= value <= FARTHEST, f"at least 0 and at most {FARTHEST:g}"),
        "spaced": (0 <= value <= 2 * MEAN_RANGE, f"at least 0 and at most {2 * MEAN_RANGE:g}"),
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


# --- room for the means ------------------------------------------------------------------------------------------


MEAN_RANGE = 5.0  # means are uniform on [-5, 5]^d
COSINE_LIMIT = 0.8
LOWEST_ACCEPTANCE = 1e-4  # of the sets of means that are drawn for a task; below, drawing tasks is refused
MOST_COMPONENTS = 1000
ROOMY_DIMENSION = 32  # more dimensions leave more room, so that what fits here fits there
MOST_SETS, FEWEST_SETS = 8192, 64
NUMBERS_AT_ONCE = 1 << 21


def check_feasible(dimension: int, n_components: int, distance: float | None = None) -> None:
    """Refuse tasks whose means would have to be redrawn more than about 10,000 times.

    The `UserError` gives the estimated share of accepted sets of means. ``distance`` is that of the shift "spaced", in
    place of the limit of the cosines.
    """
    if n_components > MOST_COMPONENTS:
        raise UserError(f"K={n_components}: tasks have at most {MOST_COMPONENTS} components")
    acceptance = estimate_acceptance(min(dimension, ROOMY_DIMENSION), n_components, distance)
    if acceptance < LOWEST_ACCEPTANCE:
        seen = f"about {acceptance:.1g}" if acceptance else "practically none"
        wanted = f"all pairwise cosines below {COSINE_LIMIT}" if distance is None else f"distances of {distance:g}"
        raise UserError(
            f"d={dimension}, K={n_components}: {seen} of the random sets of K means have {wanted}, and tasks need at "
            f"least {LOWEST_ACCEPTANCE:g}; take fewer components or more dimensions"
        )


def check_room(dimension: int, n_components: int, shifts: Sequence[ShiftValues]) -> None:
    """:func:`check_feasible` for tasks under all of these shifts; without any, for the paper's."""
    if not shifts or any(shift.kind != "spaced" for shift in shifts):
        check_feasible(dimension, n_components)
    for shift in shifts:
        for value in shift.values if shift.kind == "spaced" else ():
            check_feasible(dimension, n_components, float(value))


@functools.cache
def estimate_acceptance(dimension: int, n_components: int, distance: float | None = None) -> float:
    """The probability that K means, uniform on [-5, 5]^d, have all pairwise cosines below 0.8, or such a ``distance``.

    Means are added one at a time to many sets at once, and the sets that go wrong are replaced by copies of the others
    (sequential Monte Carlo: Del Moral, Doucet and Jasra 2006): the product of the shares that go well is an unbiased
    estimate, with a relative error of a few per cent even where plain simulation would see no success. Zero where no
    set goes on. The same number comes out every time.
    """
    generator = np.random.default_rng([dimension, n_components])
    n_sets = min(MOST_SETS, max(FEWEST_SETS, NUMBERS_AT_ONCE // (n_components * dimension)))
    directions = np.zeros((n_sets, n_components, dimension))
    acceptance = 1.0
    for number in range(n_components):
        new = generator.uniform(-1.0, 1.0, (n_sets, dimension, 1))
        before = directions[:, :number]
        if distance is None:
            new /= np.linalg.norm(new, axis=1, keepdims=True)
            apart = np.flatnonzero((before @ new < COSINE_LIMIT).all((1, 2)))
        else:
            away = np.linalg.norm(before - new.swapaxes(1, 2), axis=2)
            apart = np.flatnonzero((away >= distance / MEAN_RANGE).all(1))
        if not len(apart):
            return 0.0
        directions[:, number] = new[..., 0]
        if len(apart) < n_sets:
            acceptance *= len(apart) / n_sets
            directions = directions[apart[np.arange(n_sets) * len(apart) // n_sets]]
    return acceptance
