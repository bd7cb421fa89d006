"""By what the paper's claims are decided: one function a criterion, and its thresholds.

A criterion takes the scores, a network's method and a baseline, and returns its evidence: for each required cell
whether the claim holds there (None where a score that it needs is missing), and the numbers behind it. "A below B"
compares means over tasks; as a mean over fewer tasks is no fair win, A must not fail on a larger share of them either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from tgmm.figures.style import method_style
from tgmm.tables.claims_scores import Cell, Evidence, Score, Scores
from tgmm.tables.numbers import write_number

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
ORACLE = "em-oracle"

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
