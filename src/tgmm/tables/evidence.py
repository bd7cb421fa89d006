"""What the paper's claims are decided from: mean errors in a summary, and one criterion a claim.

A criterion takes the scores, a network's method and a baseline, and returns its evidence: for each required cell
whether the claim holds there (None where a score that it needs is missing), and the numbers behind it. "A below B"
compares means over tasks; as a mean over fewer tasks is no fair win, A must not fail on a larger share of them either.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from tgmm.columns import ORACLE
from tgmm.errors import UserError, unknown_name
from tgmm.figures.style import method_style
from tgmm.tables.render import write_number

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


# --- thresholds ------------------------------------------------------------------------------------------------------

# A coordinate of a mean is uniform on [-5, 5], so an estimate that puts every mean at the origin has an error of 25/3.
# Below a tenth of that, nine tenths of the means' variance are explained.
SOLVED = 0.1 * 25 / 3
# "Near zero" at K = 2: about five times the floor (0.02), hardly more than a hundredth of the origin's error.
NEAR_ZERO = 0.1
# "Comparable": at most twice the error, that is 1.4 times the distance.
COMPARABLE = 2.0
# "Graceful": four times the points divide the floor by four; a network that cannot use them at all would have about
# four times the error of one trained for them. Half of that, on the logarithmic scale.
GRACEFUL = 2.0
TRAINED, SHORTER = 128, (32, 64)
# The range of shifts of the means that the paper reports; required even if the task set has fewer.
PUBLISHED_SHIFTS = (0.0, 10.0)

Criterion = Callable[[Scores, str, str | None], Evidence]


def below(ours: Score | None, theirs: Score | None, factor: float = 1.0) -> bool | None:
    """Whether our mean is below ``factor`` times theirs and we do not fail on more tasks; None if one is missing."""
    if ours is None or theirs is None:
        return None
    return ours.mean < factor * theirs.mean and ours.failure_share <= theirs.failure_share


def solved(score: Score | None, threshold: float = SOLVED) -> bool | None:
    """Whether the mean is at most the threshold and no task failed; None without a score."""
    return None if score is None else score.mean <= threshold and score.failure_share == 0


def every(*answers: bool | None) -> bool | None:
    """False if one is False, else None if one is missing, else True."""
    return False if False in answers else None if None in answers else True


# --- the criteria --------------------------------------------------------------------------------------------------


def one_network(scores: Scores, method: str, baseline: str | None) -> Evidence:
    """At each d, one and the same trained network solves the tasks of every K, of which there are at least two."""
    cells = scores.cells("effectiveness")
    found = {cell: scores.score("effectiveness", method, cell) for cell in cells}
    families: dict[int, set] = {}
    for cell, score in found.items():
        families.setdefault(cell.d, set()).update({score.family} if score else ())
    several = len({cell.K for cell in cells}) > 1
    outcomes = {
        cell: None if score is None or not several else solved(score) and len(families[cell.d]) == 1
        for cell, score in found.items()
    }
    networks = len(set().union(*families.values()))
    return Evidence(outcomes, f"{networks} networks for {len(families)} values of d; {write_range(found.values())}")


def below_baseline(
    role: str, keep: Callable[[Cell], bool] = lambda cell: cell.K > 2, shifts: Iterable[float] = ()
) -> Criterion:
    """In every cell of a role's task set that is kept, the mean error is below the baseline's."""

    def decide(scores: Scores, method: str, baseline: str | None) -> Evidence:
        cells = [cell for cell in scores.cells(role, shifts) if keep(cell)]
        pairs = scores.pairs(role, method, baseline, cells)
        return Evidence({cell: below(*pair) for cell, pair in pairs.items()}, write_ratios(pairs.values(), baseline))

    return decide


def small_at_two(scores: Scores, method: str, baseline: str | None) -> Evidence:
    """At K = 2 the mean error is near zero."""
    cells = [cell for cell in scores.cells("effectiveness") if cell.K == 2]
    found = {cell: scores.score("effectiveness", method, cell) for cell in cells}
    others = [
        f"{method_style(other).short} {write_range(scores.score('effectiveness', other, cell) for cell in cells)}"
        for other in ("em", "spectral")
    ]
    outcomes = {cell: solved(score, NEAR_ZERO) for cell, score in found.items()}
    return Evidence(outcomes, f"{write_range(found.values())} ({'; '.join(others)})")


def comparable(scores: Scores, method: str, baseline: str | None) -> Evidence:
    """Where K <= d the mean error is less than ``COMPARABLE`` times the baseline's."""
    cells = [cell for cell in scores.cells("effectiveness") if cell.d >= cell.K]
    pairs = scores.pairs("effectiveness", method, baseline, cells)
    outcomes = {cell: below(*pair, COMPARABLE) for cell, pair in pairs.items()}
    return Evidence(outcomes, write_ratios(pairs.values(), baseline))


def graceful(scores: Scores, method: str, baseline: str | None) -> Evidence:
    """Networks trained on fewer points come close to the one trained for those of the test, and solve the tasks.

    A baseline, if there is one, must be beaten by those networks as well.
    """
    role, outcomes, pairs = "sample_size", {}, []
    for cell in [cell for cell in scores.cells(role) if cell.N == TRAINED]:
        theirs = scores.score(role, baseline, cell) if baseline else None
        for trained in SHORTER:
            ours, longest = (scores.score(role, name, cell) for name in (f"{method}-n{trained}", method))
            better = below(ours, theirs) if baseline else True
            outcomes[(cell, trained)] = every(below(ours, longest, GRACEFUL), solved(ours), better)
            pairs.append((ours, longest))
    numbers = f"{write_ratios(pairs, method)}; {write_range(ours for ours, _ in pairs)}"
    return Evidence(outcomes, f"trained on fewer points: {numbers}")


def above_partner(scores: Scores, method: str, baseline: str | None) -> Evidence:
    """In every cell the mean error is above that of the partner: another backbone under the same recipe."""
    pairs = scores.pairs("backbone", method, baseline, scores.cells("backbone"))
    outcomes = {cell: below(theirs, ours) for cell, (ours, theirs) in pairs.items()}
    return Evidence(outcomes, write_ratios(pairs.values(), baseline))


def as_isotropic(scores: Scores, method: str, baseline: str | None) -> Evidence:
    """Anisotropic tasks are solved, and the error is as near to its floor as on isotropic tasks, within a factor.

    Errors themselves cannot be compared, for anisotropic noise is stronger; ratios to EM started from the truth can.
    """
    outcomes, ratios = {}, []
    for cell in scores.cells("anisotropic"):
        ours = scores.score("anisotropic", method, cell)
        here = ratio(ours, scores.score("anisotropic", ORACLE, cell))
        there = ratio(*(scores.score("effectiveness", name, cell) for name in (method, ORACLE)))
        close = None if here is None or there is None else here <= COMPARABLE * there
        outcomes[cell] = every(solved(ours), close)
        ratios += [] if close is None else [here / there]
    head = f"ratio to the floor, over that on isotropic tasks: {_range(ratios)}" if ratios else "no cell with both"
    return Evidence(outcomes, f"{head}; {write_range(scores.score('anisotropic', method, cell) for cell in outcomes)}")


# --- numbers in words ----------------------------------------------------------------------------------------------


def ratio(ours: Score | None, theirs: Score | None) -> float | None:
    """Our mean by theirs; None if one is missing, failed everywhere or zero."""
    if ours is None or theirs is None or not math.isfinite(ours.mean) or not 0 < theirs.mean < math.inf:
        return None
    return ours.mean / theirs.mean


def write_ratios(pairs: Iterable[tuple[Score | None, Score | None]], baseline: str) -> str:
    """The range of ratios of the means, and in how many cells the two intervals do not overlap."""
    pairs = [pair for pair in pairs if None not in pair]
    ratios = [value for pair in pairs if (value := ratio(*pair)) is not None]
    apart = [ours.high < theirs.low or ours.low > theirs.high for ours, theirs in pairs]
    name = method_style(baseline).short
    text = f"{_range(ratios)} times {name}" if ratios else f"no ratio to {name}"
    failed = sum(math.isinf(theirs.mean) for _, theirs in pairs)
    lost = f", which gives no estimate in {failed} cells" if failed else ""
    return f"{text}{lost}; intervals apart in {sum(apart)} of {len(pairs)} cells"


def write_range(scores: Iterable[Score | None]) -> str:
    """The smallest and the largest mean error."""
    means = [score.mean for score in scores if score is not None]
    return f"mean errors {_range(means)}" if means else "not run"


def _range(values: list[float]) -> str:
    low, high = write_number(min(values)), write_number(max(values))
    return low if low == high else f"{low} to {high}"
