"""What the claims are decided from: look-ups of mean errors in a summary, and the evidence that a criterion returns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from tgmm.errors import UserError, unknown_name

# Roles that task sets play in the claims -> the task sets' names unless the settings say others.
TASKSETS = {
    "effectiveness": "effectiveness",
    "backbone": "effectiveness",
    "sample_size": "sample-size",
    "mean_shift": "mean-shift",
    "anisotropic": "anisotropic",
}
KINDS_OF_SHIFT = {"mean_shift": "mean"}
AXES = ["d", "K", "N", "shift_value"]
COLUMNS = [*AXES, "method", "family", "metric", "mean", "low", "high", "n_tasks", "n_failed", "failure_share"]


class Cell(NamedTuple):
    """Dimension, number of components, number of points, size of the shift."""

    d: int
    K: int
    N: int
    shift_value: float


@dataclass(frozen=True)
class Score:
    """A method's result in a cell: mean over tasks and its interval, share of failed tasks, trained network.

    The mean is infinite where every task failed: no estimate is worse than any.
    """

    mean: float
    low: float
    high: float
    failure_share: float
    family: str


@dataclass(frozen=True)
class Evidence:
    """For each required cell whether the claim holds there, None if that is not known; and the numbers in words.

    The keys of ``outcomes`` are cells, or tuples that begin with one.
    """

    outcomes: dict
    numbers: str

    @property
    def cells(self) -> int:
        """Number of required cells."""
        return len(self.outcomes)

    @property
    def holds(self) -> int:
        """Number of cells where the claim holds."""
        return sum(outcome is True for outcome in self.outcomes.values())

    @property
    def missing(self) -> int:
        """Number of cells where a score is missing."""
        return sum(outcome is None for outcome in self.outcomes.values())

    @property
    def tested(self) -> int:
        """Number of cells where the claim holds or does not."""
        return self.cells - self.missing

    @property
    def complete(self) -> bool:
        """Whether the claim holds in every required cell, of which there is at least one."""
        return 0 < self.cells == self.holds

    @property
    def answer(self) -> str:
        """One of: yes, in part, no, not tested; or yes where tested, if cells are missing and none speaks against."""
        if self.tested == 0:
            return "not tested"
        if self.holds == self.tested:
            return "yes" if self.complete else "yes where tested"
        return "in part" if self.holds else "no"

    @property
    def share(self) -> str:
        """Such as "14 of 16 cells" or "6 of 12 cells, 6 not tested"."""
        return f"{self.holds} of {self.cells} cells" + (f", {self.missing} not tested" if self.missing else "")

    @property
    def grid(self) -> str:
        """The values of d and K of the required cells, and the range of the shift if there is one."""
        cells = [key if isinstance(key, Cell) else key[0] for key in self.outcomes]
        values = {axis: sorted({getattr(cell, axis) for cell in cells}) for axis in AXES}
        text = "; ".join(f"{axis} = {', '.join(map(str, values[axis]))}" for axis in ("d", "K"))
        low, high = values["shift_value"][0], values["shift_value"][-1]
        return text if low == high else f"{text}; shift {low:g} to {high:g}"


class Scores:
    """The summary by role of the task set, method and cell, for one metric.

    Parameters
    ----------
    summary : the summary of the scores.
    settings : the artefact's: optionally ``tasksets`` (role -> task set), ``required_d`` (role -> dimensions that are
        required; by default all of the task set) and ``methods`` (all others are left out).
    metric : the error, such as "l2_error".
    """

    def __init__(self, summary: pd.DataFrame, settings: dict, metric: str = "l2_error"):
        names = TASKSETS | _roles(settings, "tasksets")
        if "backbone" not in settings.get("tasksets", {}):
            names["backbone"] = names["effectiveness"]
        dimensions = _roles(settings, "required_d")
        self._levels, self._rows = {}, {}
        for role, name in names.items():
            kind = KINDS_OF_SHIFT.get(role, "none")
            rows = summary.loc[(summary["taskset"] == name) & (summary["shift"] == kind), COLUMNS]
            self._levels[role] = {axis: set(rows[axis].tolist()) for axis in AXES}
            if dimensions.get(role) and len(rows):
                self._levels[role]["d"] = set(dimensions[role])
            shown = rows["method"].isin(settings.get("methods", rows["method"]))
            self._rows[role] = _index(rows[shown & (rows["metric"] == metric)])

    def cells(self, role: str, shifts: Iterable[float] = ()) -> list[Cell]:
        """The cells that a role requires: all combinations of the d, K, N and shifts that its task set has for any
        method, and of the ``shifts`` that the claim itself names. None if the summary lacks the task set."""
        levels = self._levels[role]
        values = levels | {"shift_value": levels["shift_value"].union(shifts)}
        return [Cell(*key) for key in itertools.product(*(sorted(values[axis]) for axis in AXES))]

    def score(self, role: str, method: str, cell: Cell) -> Score | None:
        """A method's score; None if there is none."""
        return self._rows[role].get((method, *cell))

    def pairs(self, role: str, method: str, baseline: str, cells: list[Cell]) -> dict[Cell, tuple]:
        """The scores of the method and of the baseline in every cell."""
        return {cell: (self.score(role, method, cell), self.score(role, baseline, cell)) for cell in cells}


def _roles(settings: dict, key: str) -> dict:
    """A setting that is a mapping from roles; another role is refused with the nearest one."""
    values = settings.get(key, {})
    if not isinstance(values, dict):
        raise UserError(f"'{key}' of a claims table must map {', '.join(TASKSETS)} to values, not {values!r}")
    for role in values:
        if role not in TASKSETS:
            raise unknown_name(f"key of '{key}'", role, TASKSETS)
    return values


def _index(rows: pd.DataFrame) -> dict[tuple, Score]:
    """(method, d, K, N, shift_value) -> score; a row without a mean on tasks that did not fail counts as missing."""
    repeated = rows[rows.duplicated(["method", *AXES])]
    if len(repeated):
        row = repeated.iloc[0]
        raise UserError(f"the summary has several rows for method '{row['method']}' at d={row['d']}, K={row['K']}")
    scores = {}
    for row in rows.to_dict("records"):
        mean = math.inf if row["n_failed"] == row["n_tasks"] else row["mean"]
        if not math.isnan(mean):
            score = Score(mean, row["low"], row["high"], row["failure_share"], row["family"])
            scores[(row["method"], *(row[axis] for axis in AXES))] = score
    return scores
