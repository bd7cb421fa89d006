"""Kind ``claims-table``: the paper's claims, each with a verdict computed from the summary.

The claims are those of the abstract and main text that scores can decide (those on theorems are in `tgmm theory`).

A claim holds with a recipe if its criterion holds in every required cell and none is missing. "reproduced": with the
paper's own recipe, scored by the corrected evaluator. "reproduced with a changed recipe": with another, which is named.
"not reproduced": with every recipe that was tried some cell speaks against it, even if others speak for it. "not
tested at this scale": nothing speaks against it with some recipe, but cells are missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from tgmm.columns import reads
from tgmm.tables import evidence as by
from tgmm.tables.evidence import Evidence, Scores
from tgmm.tables.render import Cell, WideTable

# Recipe -> method, the paper's own first. A claim is decided by these, in this order.
PUBLISHED = "reference"
RECIPES = {PUBLISHED: "tgmm-reference", "matched": "tgmm-matched", "components": "tgmm-components"}
MAMBA2 = {"matched, Mamba2 in one direction": "tgmm-mamba2-causal", "matched, Mamba2 both ways": "tgmm-mamba2"}
# Shown beside the others, and decides nothing: part of the work is EM's.
REFINED = {"components + 20 EM steps": "tgmm-components-em20"}
ONE_START, TEN_STARTS = "em", "em-restarts"


@dataclass(frozen=True)
class Claim:
    """A claim and how it is decided.

    Attributes
    ----------
    id, text : a short name, and the claim in one sentence.
    criterion : what must hold in every required cell, in words.
    decide : (scores, method, baseline) -> Evidence.
    figure : the artefact that shows it.
    baseline : the method that the claim compares with, if any.
    strong : the stronger baseline that the same question is asked against, if there is one.
    recipes : recipe -> method, in the order in which they are tried.
    shown : recipe -> method, reported but not decisive.
    """

    id: str
    text: str
    criterion: str
    decide: by.Criterion
    figure: str
    baseline: str | None = ONE_START
    strong: str | None = TEN_STARTS
    recipes: dict[str, str] = field(default_factory=lambda: RECIPES)
    shown: dict[str, str] = field(default_factory=dict)


LARGER = "K > 2: mean error below one-start EM's"

CLAIMS = (
    Claim(
        "one-network",
        "One backbone solves tasks with different numbers of components.",
        f"at each d one network; at every K its mean error is at most {by.SOLVED:.2f}, a tenth of that of guessing the"
        " origin, and no task fails",
        by.one_network,
        "fig-effectiveness",
        baseline=None,
        strong=None,
        shown=REFINED,
    ),
    Claim(
        "local-optima",
        "TGMM mitigates EM's local optima: for K > 2 its error is below EM's at every d.",
        LARGER,
        by.below_baseline("effectiveness"),
        "fig-effectiveness",
        shown=REFINED,
    ),
    Claim(
        "small-at-two",
        "With two components TGMM's error is near zero.",
        f"K = 2: mean error at most {by.NEAR_ZERO:g} and no task fails",
        by.small_at_two,
        "fig-effectiveness",
        baseline=None,
        strong=None,
        shown=REFINED,
    ),
    Claim(
        "like-spectral",
        "Where the spectral method applies (K ≤ d), TGMM is comparable to it.",
        f"K ≤ d: mean error less than {by.COMPARABLE:g} times the spectral method's",
        by.comparable,
        "fig-effectiveness",
        baseline="spectral",
        shown=REFINED,
    ),
    Claim(
        "beyond-spectral",
        "With more components than dimensions (K > d), where the spectral method does not apply, TGMM works.",
        "K > d: mean error below one-start EM's",
        by.below_baseline("effectiveness", lambda cell: cell.d < cell.K),
        "fig-effectiveness",
        shown=REFINED,
    ),
    Claim(
        "sample-size-shift",
        "Trained on fewer points than it is tested on, TGMM degrades gracefully.",
        f"trained at N0 = {by.SHORTER[0]} and {by.SHORTER[1]}, tested at N = {by.TRAINED}: mean error less than"
        f" {by.GRACEFUL:g} times that of the network trained at N0 = {by.TRAINED}, and at most {by.SOLVED:.2f}",
        by.graceful,
        "fig-sample-size-shift",
        baseline=None,
    ),
    Claim(
        "mean-shift",
        "When the means are perturbed, TGMM stays better than EM for K > 2.",
        f"{LARGER} for every σ_p from {by.PUBLISHED_SHIFTS[0]:g} to {by.PUBLISHED_SHIFTS[1]:g}",
        by.below_baseline("mean_shift", shifts=by.PUBLISHED_SHIFTS),
        "fig-mean-shift",
        shown=REFINED,
    ),
    Claim(
        "mamba2-works",
        "A Mamba2 backbone works as well: for K > 2 its error is below EM's.",
        LARGER,
        by.below_baseline("backbone"),
        "fig-backbone",
        recipes=MAMBA2,
    ),
    Claim(
        "mamba2-worse",
        "A Mamba2 backbone is worse than the transformer.",
        "mean error above that of the transformer under the recipe 'matched', at every K",
        by.above_partner,
        "fig-backbone",
        baseline=RECIPES["matched"],
        strong=None,
        recipes=MAMBA2,
    ),
    Claim(
        "anisotropic-works",
        "On anisotropic tasks TGMM works as on isotropic ones.",
        f"mean error at most {by.SOLVED:.2f}, and its ratio to the floor (EM from the truth) at most"
        f" {by.COMPARABLE:g} times that ratio on isotropic tasks",
        by.as_isotropic,
        "fig-anisotropic",
        baseline=None,
        strong=None,
    ),
    Claim(
        "anisotropic-better",
        "On anisotropic tasks TGMM is better than EM for K > 2.",
        LARGER,
        by.below_baseline("anisotropic"),
        "fig-anisotropic",
        shown=REFINED,
    ),
)


# --- verdicts --------------------------------------------------------------------------------------------------------


REPRODUCED, CHANGED = "reproduced", "reproduced with a changed recipe"
NOT_REPRODUCED, NOT_TESTED = "not reproduced", "not tested at this scale"
CLAIM_COLUMNS = ["claim", "text", "verdict", "recipe", "cells_hold", "cells", "criterion", "numbers"]
CLAIM_COLUMNS += ["reference_evaluator", "strong_baseline", "figure"]
UNTESTED, NO_BASELINE = "not tested", "not a comparison with EM"
# Column of the CSV -> head and width in cm; the widths add up to a page of A4.
WIDE = {
    "text": ("claim", 2.5),
    "verdict": ("verdict", 1.9),
    "criterion": ("criterion", 2.6),
    "numbers": ("numbers", 3.4),
    "reference_evaluator": ("under the reference evaluator", 1.9),
    "strong_baseline": ("against ten-start EM", 1.7),
    "figure": ("figure", 1.6),
}
NOTES = [
    "A claim is reproduced if its criterion holds in every required cell with the paper's own recipe ('reference'),"
    " scored by the corrected evaluator; reproduced with a changed recipe if it does with 'matched' or 'components';"
    " not reproduced if with every recipe tried some cell speaks against it; not tested at this scale if cells that it"
    " requires have no scores and no other speaks against it.",
    "Cells and numbers are those of the recipe named in the verdict: the first that holds, or else the nearest to it.",
    "Under the reference evaluator (permutation inverted): the same criterion on the error as the reference code"
    " computes it. Against ten-start EM: the same criterion with EM's best of ten k-means++ starts in place of the"
    " baseline, or, after training on fewer points, as a baseline to be beaten besides.",
]


@reads(written=CLAIM_COLUMNS)
def claims_rows(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a claim."""
    corrected, reference = (Scores(summary, settings, metric) for metric in ("l2_error", "l2_error_reference"))
    return pd.DataFrame([judge(claim, corrected, reference) for claim in CLAIMS], columns=CLAIM_COLUMNS)


def judge(claim: Claim, corrected: Scores, reference: Scores) -> dict:
    """A claim's row: the verdict by the corrected evaluator's scores, and the same questions asked otherwise."""
    evidence = {recipe: claim.decide(corrected, method, claim.baseline) for recipe, method in claim.recipes.items()}
    shown = {recipe: claim.decide(corrected, method, claim.baseline) for recipe, method in claim.shown.items()}
    verdict, recipe = reach_verdict(evidence)
    decisive = evidence[recipe or next(iter(evidence))]
    return {
        "claim": claim.id,
        "text": claim.text,
        "verdict": verdict,
        "recipe": recipe,
        "cells_hold": decisive.holds,
        "cells": decisive.cells,
        "criterion": claim.criterion,
        "numbers": _numbers(decisive, evidence, shown) if recipe else "",
        "reference_evaluator": _ask(claim, reference, _own_and(recipe, evidence), claim.baseline),
        "strong_baseline": _ask(claim, corrected, [recipe], claim.strong) if claim.strong else NO_BASELINE,
        "figure": claim.figure,
    }


def reach_verdict(evidence: dict[str, Evidence]) -> tuple[str, str]:
    """The verdict and the recipe that it rests on: the first that holds, or else the one that comes nearest.

    Parameters
    ----------
    evidence : recipe -> evidence, in the order in which the recipes are tried.
    """
    tried = {recipe: found for recipe, found in evidence.items() if found.tested}
    holding = [recipe for recipe, found in tried.items() if found.complete]
    if holding:
        return (REPRODUCED if holding[0] == PUBLISHED else CHANGED), holding[0]
    if not tried:
        return NOT_TESTED, ""
    undecided = {recipe: found for recipe, found in tried.items() if found.holds == found.tested}
    nearest = undecided or tried
    recipe = max(nearest, key=lambda name: (nearest[name].holds, nearest[name].tested))
    return (NOT_TESTED if undecided else NOT_REPRODUCED), recipe


def _numbers(decisive: Evidence, evidence: dict[str, Evidence], shown: dict[str, Evidence]) -> str:
    """The decisive recipe's numbers, the cells required, and the share of them for every recipe tried."""
    shares = [f"{recipe} {found.share}" for recipe, found in evidence.items() if found.tested]
    aside = [f"{recipe} {found.share}" for recipe, found in shown.items() if found.tested]
    text = f"{decisive.numbers}. Cells: {decisive.grid}. By recipe: {'; '.join(shares)}."
    return text + (f" Not decisive: {'; '.join(aside)}." if aside else "")


def _own_and(recipe: str, evidence: dict[str, Evidence]) -> list[str]:
    """The paper's own recipe, if it was tried, and the one that the verdict rests on."""
    own = [PUBLISHED] if PUBLISHED in evidence and evidence[PUBLISHED].tested else []
    return list(dict.fromkeys([*own, recipe]))


def _ask(claim: Claim, scores: Scores, recipes: list[str], baseline: str | None) -> str:
    """The criterion's answer for each recipe."""
    found = {recipe: claim.decide(scores, claim.recipes[recipe], baseline) for recipe in recipes if recipe}
    return "; ".join(_answer(recipe, evidence) for recipe, evidence in found.items()) or UNTESTED


def _answer(recipe: str, evidence: Evidence) -> str:
    return f"{recipe}: {evidence.answer}" + (f" ({evidence.share})" if evidence.tested else "")


def claims_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each claim."""
    body = []
    for row in rows.to_dict("records"):
        entries = row | {"verdict": _verdict_in_words(row)}
        body.append(([row["text"]], [Cell(entries[column], best=column == "verdict") for column in list(WIDE)[1:]]))
    heads = [head for head, _ in WIDE.values()]
    columns = tuple(rf">{{\raggedright\arraybackslash}}p{{{width}cm}}" for _, width in WIDE.values())
    text = settings.get("caption") or caption_claims(settings)
    return WideTable(heads[:1], heads[1:], body, text, NOTES, columns=columns, long=True)


def _verdict_in_words(row: dict) -> str:
    """Such as "not reproduced (components: 9 of 12 cells)"."""
    cells = f" ({row['recipe']}: {row['cells_hold']} of {row['cells']} cells)" if row["recipe"] else ""
    return row["verdict"] + cells


def caption_claims(settings: dict) -> str:
    """One sentence on what is shown."""
    scale = f" at the scale '{settings['scale']}'" if "scale" in settings else ""
    return f"The paper's claims and what this study finds{scale}; every verdict is computed from the scores."
