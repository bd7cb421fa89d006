"""Kind ``claims-table``: the paper's claims, each with a verdict for every recipe, computed from the summary.

The claims are those of the abstract and main text that scores can decide (those on theorems are in `tgmm theory`).

*reproduced*: the claim holds in every required cell that the recipe can be asked for; the others are named. *not
reproduced*: in some cell it fails, with a network that is trained. *not tested*: there is no network, or it is not
clearly better than the sample mean, or it is still learning and its answer is one that more training could turn.
*undecided*: anything else. No recipe's verdict depends on another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from tgmm.columns import ORACLE, ROLES, TRANSFORMER, reads
from tgmm.figures.style import method_style
from tgmm.tables.evidence import (
    FAILS,
    HOLDS,
    LEARNING,
    MISSING,
    NOT_DECIDED,
    NOT_TESTED,
    UNDECIDED,
    Cell,
    Evidence,
    Scores,
    every,
    settle,
    write_errors,
    write_range,
    write_ratios,
)
from tgmm.tables.render import Cell as Entry
from tgmm.tables.render import WideTable
from tgmm.train.status import still_learning

PUBLISHED = "reference"  # the paper's own recipe, which every claim is asked of
ONE_START, TEN_STARTS = "em", "em-restarts"

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
TRAINED, SHORTER = 128, {32: "trained-at-32", 64: "trained-at-64"}
# The range of shifts of the means that the paper reports; required even if the task set has fewer.
PUBLISHED_SHIFTS = (0.0, 10.0)


class Candidate(NamedTuple):
    """A recipe in a role, and the method that stands for it; None where it has no network."""

    role: str
    recipe: str
    method: str | None


Criterion = Callable[[Scores, str, Candidate, str | None], Evidence]


# --- criteria: scores, role of the task set, candidate and baseline -> evidence ------------------------------------


def one_network(scores: Scores, tasks: str, candidate: Candidate, baseline: str | None) -> Evidence:
    """At each d, one and the same trained network solves the tasks of every K, of which there are at least two."""
    method, cells = candidate.method, scores.cells(tasks)
    families: dict[int, set] = {}
    for cell in cells:
        families.setdefault(cell.d, set()).update({scores.family(tasks, method, cell)} - {""})
    outcomes = {cell: scores.solved(tasks, method, cell, SOLVED) for cell in cells}
    if len({cell.K for cell in cells}) < 2:
        outcomes = dict.fromkeys(cells, MISSING)
    several = {cell for cell, outcome in outcomes.items() if outcome != MISSING and len(families[cell.d]) > 1}
    found = [scores.score(tasks, method, cell) for cell in cells]
    count = len(set().union(*families.values()))
    text = f"{count} networks for {sum(map(bool, families.values()))} values of d; {write_errors(found)}"
    return Evidence(outcomes | dict.fromkeys(several, FAILS), text)


def below_baseline(
    keep: Callable[[Cell], bool] = lambda cell: cell.K > 2,
    shifts: Iterable[float] = (),
    factor: float = 1.0,
) -> Criterion:
    """In every cell that is kept, the mean error is below ``factor`` times the baseline's."""

    def decide(scores: Scores, tasks: str, candidate: Candidate, baseline: str | None) -> Evidence:
        cells = [cell for cell in scores.cells(tasks, shifts) if keep(cell)]
        outcomes = {cell: scores.below(tasks, candidate.method, baseline, cell, factor) for cell in cells}
        return Evidence(outcomes, _ratios(scores, tasks, candidate.method, baseline, outcomes))

    return decide


def small_at_two(scores: Scores, tasks: str, candidate: Candidate, baseline: str | None) -> Evidence:
    """At K = 2 the mean error is near zero."""
    cells = [cell for cell in scores.cells(tasks) if cell.K == 2]
    outcomes = {cell: scores.solved(tasks, candidate.method, cell, NEAR_ZERO) for cell in cells}
    ours, em, spectral = (
        write_errors(scores.score(tasks, name, cell) for cell in cells) for name in (candidate.method, "em", "spectral")
    )
    return Evidence(outcomes, f"{ours} ({method_style('em').short} {em}; {method_style('spectral').short} {spectral})")


def graceful(scores: Scores, tasks: str, candidate: Candidate, baseline: str | None) -> Evidence:
    """Networks trained on fewer points come close to the one trained for those of the test, and solve the tasks.

    A baseline, if there is one, must be beaten by those networks as well.
    """
    outcomes, ratios, errors = {}, [], []
    for cell in [cell for cell in scores.cells(tasks) if cell.N == TRAINED]:
        for trained, shorter in SHORTER.items():
            method = scores.main_method(shorter, candidate.recipe)
            conditions = [scores.below(tasks, method, candidate.method, cell, GRACEFUL)]
            conditions.append(scores.solved(tasks, method, cell, SOLVED))
            conditions += [scores.below(tasks, method, baseline, cell)] if baseline else []
            outcomes[(cell, trained)] = every(*conditions)
            if MISSING not in conditions:
                ratios.append(scores.ratio(tasks, method, candidate.method, cell))
                errors.append(scores.score(tasks, method, cell))
    text = write_ratios(ratios, candidate.method or "") if ratios else "not run"
    return Evidence(outcomes, f"trained on fewer points: {text}; {write_errors(errors)}" if ratios else text)


def above_transformer(scores: Scores, tasks: str, candidate: Candidate, baseline: str | None) -> Evidence:
    """In every cell the mean error is above that of the transformer under the same recipe."""
    partner = scores.main_method(TRANSFORMER, candidate.recipe)
    outcomes = {cell: scores.above(tasks, candidate.method, partner, cell) for cell in scores.cells(tasks)}
    return Evidence(outcomes, _ratios(scores, tasks, candidate.method, partner, outcomes))


def as_isotropic(scores: Scores, tasks: str, candidate: Candidate, baseline: str | None) -> Evidence:
    """Anisotropic tasks are solved, and the error is as near to its floor as on isotropic tasks, within a factor.

    Errors themselves cannot be compared, for anisotropic noise is stronger; ratios to EM started from the truth can.
    """
    there, method = "effectiveness", candidate.method
    outcomes, ratios = {}, []
    for cell in scores.cells(tasks):
        needed = [scores.score(where, name, cell) for where in (tasks, there) for name in (method, ORACLE)]
        if None in needed:
            outcomes[cell] = MISSING
            continue
        ratio = scores.ratio(tasks, method, ORACLE, cell).over(scores.ratio(there, method, ORACLE, cell))
        learning = [scores.learning(where, method, cell) for where in (tasks, there)]
        close = scores.untrained(there, method, cell) or settle(ratio.below(COMPARABLE), *learning)
        outcomes[cell] = every(scores.solved(tasks, method, cell, SOLVED), close)
        ratios.append(ratio.value)
    head = f"ratio to the floor, over that on isotropic tasks: {write_range(ratios, 'no cell with both')}"
    return Evidence(outcomes, f"{head}; {write_errors(scores.score(tasks, method, cell) for cell in outcomes)}")


def _ratios(scores: Scores, role: str, method: str | None, baseline: str | None, outcomes: dict) -> str:
    """The range of ratios in the cells that were asked, and in how many the baseline gives no estimate."""
    asked = [cell for cell, outcome in outcomes.items() if outcome != MISSING]
    if not asked:
        return "not run"
    lost = [cell for cell in asked if scores.score(role, baseline, cell).failure_share == 1]
    text = write_ratios((scores.ratio(role, method, baseline, cell) for cell in asked if cell not in lost), baseline)
    return text + (f", which gives no estimate in {len(lost)} cells" if lost else "")


# --- the claims ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A claim and how it is decided.

    Attributes
    ----------
    id, text : a short name, and the claim in one sentence.
    criterion : what must hold in every required cell, in words.
    decide : what decides it.
    figure : the artefact that shows it.
    tasks : role of the task set.
    baseline : the method that the claim compares with, if any.
    strong : the stronger baseline that the same question is asked against, if there is one.
    roles : the roles in which recipes are asked; the first is the one that the paper's own recipe is asked in.
    """

    id: str
    text: str
    criterion: str
    decide: Criterion
    figure: str
    tasks: str = "effectiveness"
    baseline: str | None = ONE_START
    strong: str | None = TEN_STARTS
    roles: tuple[str, ...] = (TRANSFORMER, "em-steps")


LARGER = "K > 2: mean error below one-start EM's"
MAMBA2 = ("mamba2", "mamba2-both-ways")

CLAIMS = (
    Claim(
        "one-network",
        "One backbone solves tasks with different numbers of components.",
        f"at each d one network; at every K its mean error is below {SOLVED:.2f}, a tenth of that of guessing the"
        " origin, and no task fails",
        one_network,
        "fig-effectiveness",
        baseline=None,
        strong=None,
    ),
    Claim(
        "local-optima",
        "TGMM mitigates EM's local optima: for K > 2 its error is below EM's at every d.",
        LARGER,
        below_baseline(),
        "fig-effectiveness",
    ),
    Claim(
        "small-at-two",
        "With two components TGMM's error is near zero.",
        f"K = 2: mean error below {NEAR_ZERO:g} and no task fails",
        small_at_two,
        "fig-effectiveness",
        baseline=None,
        strong=None,
    ),
    Claim(
        "like-spectral",
        "Where the spectral method applies (K ≤ d), TGMM is comparable to it.",
        f"K ≤ d: mean error less than {COMPARABLE:g} times the spectral method's",
        below_baseline(lambda cell: cell.d >= cell.K, factor=COMPARABLE),
        "fig-effectiveness",
        baseline="spectral",
        roles=(TRANSFORMER, "without-axes", "em-steps"),
    ),
    Claim(
        "beyond-spectral",
        "With more components than dimensions (K > d), where the spectral method does not apply, TGMM works.",
        "K > d: mean error below one-start EM's",
        below_baseline(lambda cell: cell.d < cell.K),
        "fig-effectiveness",
    ),
    Claim(
        "sample-size-shift",
        "Trained on fewer points than it is tested on, TGMM degrades gracefully.",
        f"trained at N0 = {' and '.join(map(str, SHORTER))}, tested at N = {TRAINED}: mean error less than"
        f" {GRACEFUL:g} times that of the network trained at N0 = {TRAINED}, and below {SOLVED:.2f}",
        graceful,
        "fig-sample-size-shift",
        "sample_size",
        baseline=None,
        roles=(TRANSFORMER,),
    ),
    Claim(
        "mean-shift",
        "When the means are perturbed, TGMM stays better than EM for K > 2.",
        f"{LARGER} for every σ_p from {PUBLISHED_SHIFTS[0]:g} to {PUBLISHED_SHIFTS[1]:g}",
        below_baseline(shifts=PUBLISHED_SHIFTS),
        "fig-mean-shift",
        "mean_shift",
    ),
    Claim(
        "mamba2-works",
        "A Mamba2 backbone works as well: for K > 2 its error is below EM's.",
        LARGER,
        below_baseline(),
        "fig-backbone",
        "backbone",
        roles=MAMBA2,
    ),
    Claim(
        "mamba2-worse",
        "A Mamba2 backbone is worse than the transformer.",
        "mean error above that of the transformer under the same recipe, at every K",
        above_transformer,
        "fig-backbone",
        "backbone",
        baseline=None,
        strong=None,
        roles=MAMBA2,
    ),
    Claim(
        "anisotropic-works",
        "On anisotropic tasks TGMM works as on isotropic ones.",
        f"mean error below {SOLVED:.2f}, and its ratio to the floor (EM from the truth) less than {COMPARABLE:g} times"
        " that ratio on isotropic tasks",
        as_isotropic,
        "fig-anisotropic",
        "anisotropic",
        baseline=None,
        strong=None,
    ),
    Claim(
        "anisotropic-better",
        "On anisotropic tasks TGMM is better than EM for K > 2.",
        LARGER,
        below_baseline(),
        "fig-anisotropic",
        "anisotropic",
    ),
)


# --- rows ----------------------------------------------------------------------------------------------------------

CLAIM_COLUMNS = ["claim", "text", "recipe", "mark", "still_learning", "verdict", "reason"]
CLAIM_COLUMNS += ["cells_hold", "cells_fail", "cells_undecided", "cells_not_tested", "cells_missing", "cells"]
CLAIM_COLUMNS += ["missing", "criterion", "numbers", "reference_evaluator", "strong_baseline", "figure"]
NO_BASELINE = "not a comparison with EM"
HISTORY_COLUMNS = ("tasks", "validation_l2_error")


@reads(tables=HISTORY_COLUMNS, written=CLAIM_COLUMNS)
def claims_rows(summary: pd.DataFrame, settings: dict, histories: Mapping | None = None) -> pd.DataFrame:
    """One row a claim and recipe.

    Parameters
    ----------
    summary : the summary of the scores, with comparisons of the networks.
    settings : as for :class:`Scores`; optionally ``marks``, recipe -> what is built into its network.
    histories : family -> record of its training, for every family that stands for a recipe.
    """
    learning = {family: still_learning(table) for family, table in (histories or {}).items()}
    corrected, reference = (
        Scores(summary, settings, learning, metric) for metric in ("l2_error", "l2_error_reference")
    )
    rows = [
        judge(claim, candidate, corrected, reference, settings.get("marks", {}))
        for claim in CLAIMS
        for candidate in candidates(claim, corrected)
    ]
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


def candidates(claim: Claim, scores: Scores) -> list[Candidate]:
    """The recipes that a claim is asked of, the paper's own first, whether or not it has a network."""
    first = claim.roles[0]
    named = [(first, PUBLISHED), *((role, recipe) for role in claim.roles for recipe in scores.recipes.get(role, {}))]
    return [Candidate(role, recipe, scores.main_method(role, recipe)) for role, recipe in dict.fromkeys(named)]


def judge(claim: Claim, candidate: Candidate, corrected: Scores, reference: Scores, marks: Mapping) -> dict:
    """A row: the verdict by the corrected evaluator's scores, and the same question asked otherwise."""
    evidence = claim.decide(corrected, claim.tasks, candidate, claim.baseline)
    asked = evidence.asked_cells
    learns = any(corrected.learning(claim.tasks, candidate.method, cell) for cell in asked)
    strong = claim.decide(corrected, claim.tasks, candidate, claim.strong) if claim.strong else None
    return {
        "claim": claim.id,
        "text": claim.text,
        "recipe": ROLES[candidate.role].format(candidate.recipe),
        "mark": "" if candidate.role == "without-axes" else marks.get(candidate.recipe, ""),
        "still_learning": learns,
        "verdict": evidence.verdict,
        "reason": evidence.reason,
        "cells_hold": evidence.count(HOLDS),
        "cells_fail": evidence.count(FAILS),
        "cells_undecided": evidence.count(UNDECIDED),
        "cells_not_tested": evidence.count(*NOT_DECIDED),
        "cells_missing": evidence.count(MISSING),
        "cells": len(evidence.outcomes),
        "missing": evidence.missing,
        "criterion": claim.criterion,
        "numbers": f"{evidence.numbers}. Cells: {evidence.grid}." if asked else "",
        "reference_evaluator": _answer(claim.decide(reference, claim.tasks, candidate, claim.baseline)),
        "strong_baseline": NO_BASELINE if strong is None else _answer(strong),
        "figure": claim.figure,
    }


def _answer(evidence: Evidence) -> str:
    """A verdict with its cells, such as "not reproduced (9 of 12 cells hold, 3 fail)"."""
    return f"{evidence.verdict} ({evidence.share})" if evidence.asked else NOT_TESTED


# --- the table for reading -----------------------------------------------------------------------------------------

# Column of the CSV -> head and width in cm; the widths add up to a page of A4.
WIDE = {
    "text": ("claim", 2.4),
    "recipe": ("recipe", 1.8),
    "verdict": ("verdict", 2.4),
    "missing": ("no network at", 1.3),
    "numbers": ("numbers", 2.8),
    "reference_evaluator": ("under the reference evaluator", 1.9),
    "strong_baseline": ("against ten-start EM", 1.8),
    "figure": ("figure", 1.5),
}
NOTES = [
    "A cell (one d, K, N and shift) holds where the whole 95 % interval of the ratio of the two mean errors, on the"
    " same tasks, lies below the bound, fails where it lies above, and is undecided otherwise; where a recipe was"
    " trained with several seeds, the interval is over trainings and tasks.",
    "Reproduced: every cell that the recipe has a network for holds. Not reproduced: a cell fails with a trained"
    " network. Not tested: there is no network, its error is not clearly below that of the sample mean (half of it,"
    " averaged over K, on unshifted tasks), or it is still learning (its best validation error fell by more than 5 %"
    " over the last third of its tasks) and more training could turn the answer. Undecided: anything else.",
    "'reference' is the paper's own recipe. A claim is asked of each recipe apart.",
    "Under the reference evaluator (permutation inverted): the same question about the error as the reference code"
    " computes it. Against ten-start EM: the same question with EM's best of ten k-means++ starts in place of the"
    " baseline, or, after training on fewer points, as a baseline to be beaten besides.",
]


def claims_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each claim and recipe."""
    body = []
    for row in rows.to_dict("records"):
        entries = row | {"verdict": _verdict_in_words(row), "recipe": _marked(row)}
        body.append(([row["text"]], [Entry(entries[column], best=column == "verdict") for column in list(WIDE)[1:]]))
    heads = [head for head, _ in WIDE.values()]
    columns = tuple(rf">{{\raggedright\arraybackslash}}p{{{width}cm}}" for _, width in WIDE.values())
    rules = [f"{claim}: {criterion}." for claim, criterion in _criteria(rows)]
    text = settings.get("caption") or caption_claims(settings)
    return WideTable(heads[:1], heads[1:], body, text, [*NOTES, *rules], columns=columns, long=True)


def _criteria(rows: pd.DataFrame) -> list[tuple[str, str]]:
    shown = rows.drop_duplicates("claim")
    return list(zip(shown["text"].str.rstrip("."), shown["criterion"], strict=True))


def _marked(row: dict) -> str:
    marks = [row["mark"], LEARNING if row["still_learning"] else ""]
    text = "; ".join(filter(None, marks))
    return f"{row['recipe']} ({text})" if text else row["recipe"]


def _verdict_in_words(row: dict) -> str:
    """Such as "not reproduced (9 of 12 cells hold)" or "not tested (still learning; 3 of 12 cells hold)"."""
    asked = row["cells"] - row["cells_missing"]
    cells = f"{row['cells_hold']} of {asked} cells hold" if asked else ""
    return f"{row['verdict']} ({'; '.join(filter(None, [row['reason'], cells]))})"


def caption_claims(settings: dict) -> str:
    """One sentence on what is shown."""
    scale = f" at the scale '{settings['scale']}'" if "scale" in settings else ""
    return f"The paper's claims and what this study finds{scale}; every verdict is computed from the scores."
