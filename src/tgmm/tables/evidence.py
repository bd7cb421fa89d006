"""What the paper's claims are decided from: errors of networks and their ratios to other methods, with intervals.

"A below B" is decided by an interval of the ratio of the two mean errors on the same tasks: a cell *holds* where the
whole interval lies below the bound, *fails* where all of it lies above, and is *undecided* otherwise. More training
makes an error smaller, so a network that is still learning proves nothing by an error that is too large: such a cell is
*not tested*, as is one whose network is not clearly better than the sample mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from tgmm.columns import SAMPLE_MEAN, TASKSET_ROLES, over, over_seeds
from tgmm.errors import UserError
from tgmm.figures.style import method_style
from tgmm.tables.render import write_number

KINDS_OF_SHIFT = {"mean_shift": "mean"}
AXES = ["d", "K", "N", "shift_value"]
COLUMNS = [*AXES, "method", "family", "metric", "mean", "low", "high", "n_tasks", "n_failed", "failure_share"]

# Outcomes of a cell. MISSING: nothing to ask; the three others of that line: nothing to conclude from the answer.
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
MISSING, UNTRAINED, LEARNING = "not run", "not clearly better than the sample mean", "still learning"
UNCOMPARED = "not compared with the sample mean"
NOT_DECIDED = (UNCOMPARED, UNTRAINED, LEARNING)
# Of several conditions on one cell, the first of these that occurs decides.
WORST_FIRST = (MISSING, UNCOMPARED, UNTRAINED, FAILS, LEARNING, UNDECIDED, HOLDS)
REPRODUCED, NOT_REPRODUCED, NOT_TESTED = "reproduced", "not reproduced", "not tested"
# A network is "clearly better" than the sample mean at half its error. That of a network that minimises the sorted loss
# is at most 0.42 of it, that of a short training under the same loss 0.85 to 0.94.
CLEARLY_BETTER = 0.5


class Cell(NamedTuple):
    """Dimension, number of components, number of points, size of the shift."""

    d: int
    K: int
    N: int
    shift_value: float


@dataclass(frozen=True)
class Interval:
    """A number and the ends of its 95 % interval, NaN where it has none."""

    value: float
    low: float
    high: float

    def below(self, bound: float) -> str:
        """Whether the number lies below a bound."""
        return HOLDS if self.high < bound else FAILS if self.low >= bound else UNDECIDED

    def over(self, other: Interval) -> Interval:
        """The ratio to an independent number: distances on the logarithmic scale add in quadrature (Zou & Donner 2008,
        "Construction of confidence limits about effect measures")."""
        numbers = (self.value, self.low, self.high, other.value, other.low, other.high)
        if not all(0 < number < math.inf for number in numbers):
            return Interval(math.nan, math.nan, math.nan)
        value, low, high, theirs, their_low, their_high = map(math.log, numbers)
        ratio = value - theirs
        return Interval(
            math.exp(ratio),
            math.exp(ratio - math.hypot(value - low, their_high - theirs)),
            math.exp(ratio + math.hypot(high - value, theirs - their_low)),
        )


@dataclass(frozen=True)
class Score:
    """A method's mean error in a cell, over all trainings of its recipe, its share of failed tasks and its family.

    The mean is infinite where every task failed: no estimate is worse than any.
    """

    mean: Interval
    failure_share: float
    family: str


@dataclass(frozen=True)
class Evidence:
    """For each required cell, or tuple that begins with one, its outcome; and the numbers in words."""

    outcomes: dict
    numbers: str

    def count(self, *outcomes: str) -> int:
        """Number of cells with one of these outcomes."""
        return sum(outcome in outcomes for outcome in self.outcomes.values())

    @property
    def asked_cells(self) -> list[Cell]:
        """The cells that the recipe can be asked for."""
        return _cells(key for key, outcome in self.outcomes.items() if outcome != MISSING)

    @property
    def asked(self) -> int:
        """How many these are."""
        return len(self.outcomes) - self.count(MISSING)

    @property
    def verdict(self) -> str:
        """One of the four verdicts."""
        if self.asked == 0:
            return NOT_TESTED
        if self.count(FAILS):
            return NOT_REPRODUCED
        if self.count(*NOT_DECIDED):
            return NOT_TESTED
        return UNDECIDED if self.count(UNDECIDED) else REPRODUCED

    @property
    def reason(self) -> str:
        """Why nothing was tested; empty for the other verdicts."""
        if self.verdict != NOT_TESTED:
            return ""
        found = [outcome for outcome in NOT_DECIDED if self.count(outcome)]
        return " and ".join(found) or (
            "no network of this recipe was scored" if self.outcomes else "no tasks were scored"
        )

    @property
    def share(self) -> str:
        """Such as "14 of 16 cells hold, 2 undecided"."""
        counts = {"fail": (FAILS,), "undecided": (UNDECIDED,), "not tested": NOT_DECIDED}
        parts = [f"{number} {name}" for name, which in counts.items() if (number := self.count(*which))]
        return ", ".join([f"{self.count(HOLDS)} of {self.asked} cells hold", *parts])

    @property
    def missing(self) -> str:
        """The cells that the recipe cannot be asked for, in words; empty if there are none."""
        cells, asked = (set(group) for group in (_cells(self.outcomes), self.asked_cells))
        lost = cells - asked
        whole = sorted({cell.d for cell in lost} - {cell.d for cell in asked})
        parts = [f"d = {', '.join(map(str, whole))}"] if whole else []
        for d in sorted({cell.d for cell in lost} - set(whole)):
            counts = sorted({cell.K for cell in lost if cell.d == d})
            parts.append(f"d = {d} (K = {', '.join(map(str, counts))})")
        return "; ".join(parts)

    @property
    def grid(self) -> str:
        """The values of d and K of the required cells, and the range of the shift if there is one."""
        values = {axis: sorted({getattr(cell, axis) for cell in _cells(self.outcomes)}) for axis in AXES}
        text = "; ".join(f"{axis} = {', '.join(map(str, values[axis]))}" for axis in ("d", "K"))
        low, high = values["shift_value"][0], values["shift_value"][-1]
        return text if low == high else f"{text}; shift {low:g} to {high:g}"


def _cells(keys: Iterable) -> list[Cell]:
    return [key if isinstance(key, Cell) else key[0] for key in keys]


def every(*outcomes: str) -> str:
    """The outcome of a cell on which several conditions stand."""
    return next(name for name in WORST_FIRST if name in outcomes)


def settle(outcome: str, ours_learns: bool, theirs_learn: bool = False) -> str:
    """The outcome of "our error is below theirs", unless further training of a network that still learns could turn it.

    More training makes an error smaller: ours may yet come to hold, and theirs to break what holds.
    """
    turns = (ours_learns and outcome != HOLDS) or (theirs_learn and outcome != FAILS)
    return LEARNING if turns else outcome


# --- look-ups ------------------------------------------------------------------------------------------------------


class Scores:
    """The summary by role of the task set, method and cell, for one metric.

    Parameters
    ----------
    summary : the summary of the scores, with comparisons.
    settings : the artefact's: ``recipes`` (role of the network -> recipe -> its methods, one a training seed, the main
        one first); optionally ``tasksets`` (role -> task set) and ``required_d`` (role -> dimensions that are required;
        by default all of the task set).
    learning : family -> whether it was still learning when its training ended.
    metric : the error, such as "l2_error".
    """

    def __init__(self, summary: pd.DataFrame, settings: dict, learning: Mapping[str, bool], metric: str = "l2_error"):
        self.metric, self.recipes, self._of_family = metric, settings["recipes"], learning
        self.trainings = {names[0]: names for named in self.recipes.values() for names in named.values() if names}
        names = TASKSET_ROLES | settings.get("tasksets", {})
        if "backbone" not in settings.get("tasksets", {}):
            names["backbone"] = names["effectiveness"]
        dimensions = settings.get("required_d", {})
        wanted = summary["metric"].str.startswith((f"{metric} ", f"{metric},")) | summary["metric"].isin(
            [metric, over("l2_error", SAMPLE_MEAN)]
        )
        summary = summary[wanted]
        self._levels, self._rows = {}, {}
        for role, name in names.items():
            kind = KINDS_OF_SHIFT.get(role, "none")
            rows = summary.loc[(summary["taskset"] == name) & (summary["shift"] == kind), COLUMNS]
            self._levels[role] = {axis: set(rows[axis].tolist()) for axis in AXES}
            if dimensions.get(role) and len(rows):
                self._levels[role]["d"] = set(dimensions[role])
            self._rows[role] = _index(rows)

    def cells(self, role: str, shifts: Iterable[float] = ()) -> list[Cell]:
        """The cells that a role requires: all combinations of the d, K, N and shifts that its task set has for any
        method, and of the ``shifts`` that the claim itself names. None if the summary lacks the task set."""
        levels = self._levels[role]
        values = levels | {"shift_value": levels["shift_value"].union(shifts) if levels["d"] else set()}
        return [Cell(*key) for key in itertools.product(*(sorted(values[axis]) for axis in AXES))]

    def main_method(self, role: str, recipe: str) -> str | None:
        """The method that stands for a recipe in a role; None if there is none."""
        methods = self.recipes.get(role, {}).get(recipe)
        return methods[0] if methods else None

    def score(self, role: str, method: str | None, cell: Cell) -> Score | None:
        """A method's score; None if there is none."""
        row = self._rows[role].get((method, self.metric, *cell))
        if row is None:
            return None
        pooled = self._rows[role].get((method, over_seeds(self.metric), *cell), row)
        mean = Interval(math.inf, math.inf, math.inf) if row["n_failed"] == row["n_tasks"] else _interval(pooled)
        return None if math.isnan(mean.value) else Score(mean, row["failure_share"], row["family"])

    def ratio(self, role: str, method: str, baseline: str, cell: Cell) -> Interval:
        """The ratio of two methods' means on the same tasks; both must have a score there."""
        if method == baseline:
            return Interval(1.0, 1.0, 1.0)
        row = self._rows[role].get((method, over(self.metric, baseline), *cell))
        if row is None:
            raise UserError(
                f"the summary has no comparison of '{method}' with '{baseline}' at d={cell.d}, K={cell.K}: aggregate"
                " the scores with the recipes of the claims table"
            )
        return _interval(row)

    def below(self, role: str, ours: str | None, theirs: str | None, cell: Cell, factor: float = 1.0) -> str:
        """The outcome of "our mean error is below ``factor`` times theirs, and we fail on no larger share of tasks"."""
        if state := self._not_comparable(role, (ours, theirs), cell):
            return state
        return settle(self._compare(role, ours, theirs, cell, factor), *self._learning(role, (ours, theirs), cell))

    def above(self, role: str, ours: str | None, theirs: str | None, cell: Cell) -> str:
        """The outcome of "our mean error is above theirs, and they fail on no larger share of tasks"."""
        if state := self._not_comparable(role, (ours, theirs), cell):
            return state
        mine, other = self.score(role, ours, cell), self.score(role, theirs, cell)
        turned = {HOLDS: FAILS, FAILS: HOLDS, UNDECIDED: UNDECIDED}[self._compare(role, ours, theirs, cell, 1.0)]
        outcome = FAILS if other.failure_share > mine.failure_share else turned
        return settle(outcome, *self._learning(role, (theirs, ours), cell))

    def solved(self, role: str, method: str | None, cell: Cell, threshold: float) -> str:
        """The outcome of "the mean error is below a threshold and no task failed"."""
        if state := self._not_comparable(role, (method,), cell):
            return state
        score = self.score(role, method, cell)
        outcome = FAILS if score.failure_share else score.mean.below(threshold)
        return settle(outcome, *self._learning(role, (method,), cell))

    def _compare(self, role: str, ours: str, theirs: str, cell: Cell, factor: float) -> str:
        mine, other = self.score(role, ours, cell), self.score(role, theirs, cell)
        if mine.failure_share > other.failure_share or math.isinf(mine.mean.value):
            return FAILS
        return HOLDS if math.isinf(other.mean.value) else self.ratio(role, ours, theirs, cell).below(factor)

    # --- the state of a network ---

    def _not_comparable(self, role: str, methods: tuple, cell: Cell) -> str:
        """Why methods cannot be asked for a cell; empty if they can."""
        if None in [self.score(role, name, cell) for name in methods]:
            return MISSING
        return next(filter(None, (self.untrained(role, name, cell) for name in methods)), "")

    def _learning(self, role: str, methods: tuple, cell: Cell) -> list[bool]:
        return [self.learning(role, name, cell) for name in methods]

    def untrained(self, role: str, method: str, cell: Cell) -> str:
        """Why a network cannot be asked; empty if it is clearly better than the sample mean on unshifted tasks here.

        The ratio of its error to that of the sample mean, at this d and N, is averaged over K; the average's interval
        must lie below ``CLEARLY_BETTER``.
        """
        if not self.family(role, method, cell):
            return ""
        ratios = []
        for K in sorted(self._levels[role]["K"]):
            at = (method, over("l2_error", SAMPLE_MEAN), cell.d, K, cell.N, 0.0)
            if at in self._rows[role]:
                ratios.append(_interval(self._rows[role][at]))
        if not ratios:
            return UNCOMPARED
        widths = [ratio.high - ratio.value for ratio in ratios]
        high = np.mean([ratio.value for ratio in ratios]) + math.hypot(*widths) / len(widths)
        return "" if high < CLEARLY_BETTER else UNTRAINED

    def learning(self, role: str, method: str, cell: Cell) -> bool:
        """Whether one of a recipe's networks was still learning when its training ended."""
        families = {self.family(role, name, cell) for name in self.trainings.get(method, [method])} - {""}
        for family in families - self._of_family.keys():
            raise UserError(f"no training history was given for family '{family}' (--history {family}=history.csv)")
        return any(self._of_family[family] for family in families)

    def family(self, role: str, method: str, cell: Cell) -> str:
        """The trained family behind a method in a cell; empty for a method that is not trained or has no score."""
        row = self._rows[role].get((method, self.metric, *cell))
        return row["family"] if row else ""


def _interval(row: dict) -> Interval:
    return Interval(row["mean"], row["low"], row["high"])


def _index(rows: pd.DataFrame) -> dict[tuple, dict]:
    """(method, metric, d, K, N, shift_value) -> row."""
    columns = {name: rows[name].tolist() for name in COLUMNS}
    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    index: dict[tuple, dict] = {}
    for row in records:
        if row is not index.setdefault(tuple(row[name] for name in ("method", "metric", *AXES)), row):
            raise UserError(f"the summary has several rows for method '{row['method']}' at d={row['d']}, K={row['K']}")
    return index


# --- numbers in words ----------------------------------------------------------------------------------------------


def write_ratios(ratios: Iterable[Interval], baseline: str) -> str:
    """The range of ratios to a baseline."""
    values = [ratio.value for ratio in ratios if math.isfinite(ratio.value)]
    name = method_style(baseline).short
    return f"{write_range(values, '')} times {name}" if values else f"no ratio to {name}"


def write_errors(scores: Iterable[Score | None]) -> str:
    """The smallest and the largest mean error."""
    means = [score.mean.value for score in scores if score is not None]
    return f"mean errors {write_range(means, '')}" if means else "not run"


def write_range(values: list[float], nothing: str) -> str:
    """The smallest and the largest of some numbers, or what stands for none."""
    if not values:
        return nothing
    low, high = write_number(min(values)), write_number(max(values))
    return low if low == high else f"{low} to {high}"
