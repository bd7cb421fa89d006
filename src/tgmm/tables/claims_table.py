"""Kind ``claims-table``: the paper's claims, each with a verdict computed from the summary.

A claim holds with a recipe if its criterion holds in every required cell and none is missing. "reproduced": with the
paper's own recipe, scored by the corrected evaluator. "reproduced with a changed recipe": with another, which is named.
"not reproduced": with every recipe that was tried some cell speaks against it, even if others speak for it. "not
tested at this scale": nothing speaks against it with some recipe, but cells are missing.
"""

from __future__ import annotations

import pandas as pd

from tgmm.tables.claims import CLAIMS, PUBLISHED, Claim
from tgmm.tables.claims_scores import Evidence, Scores
from tgmm.tables.render import Cell, WideTable

REPRODUCED, CHANGED = "reproduced", "reproduced with a changed recipe"
NOT_REPRODUCED, NOT_TESTED = "not reproduced", "not tested at this scale"
CSV_COLUMNS = ["claim", "text", "verdict", "recipe", "cells_hold", "cells", "criterion", "numbers"]
CSV_COLUMNS += ["reference_evaluator", "strong_baseline", "figure"]
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


def long_table(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a claim."""
    corrected, reference = (Scores(summary, settings, metric) for metric in ("l2_error", "l2_error_reference"))
    return pd.DataFrame([judge(claim, corrected, reference) for claim in CLAIMS], columns=CSV_COLUMNS)


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


def wide_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each claim."""
    body = []
    for row in rows.to_dict("records"):
        entries = row | {"verdict": _verdict_in_words(row)}
        body.append(([row["text"]], [Cell(entries[column], best=column == "verdict") for column in list(WIDE)[1:]]))
    heads = [head for head, _ in WIDE.values()]
    columns = tuple(rf">{{\raggedright\arraybackslash}}p{{{width}cm}}" for _, width in WIDE.values())
    text = settings.get("caption") or caption(settings)
    return WideTable(heads[:1], heads[1:], body, text, NOTES, columns=columns, long=True)


def _verdict_in_words(row: dict) -> str:
    """Such as "not reproduced (components: 9 of 12 cells)"."""
    cells = f" ({row['recipe']}: {row['cells_hold']} of {row['cells']} cells)" if row["recipe"] else ""
    return row["verdict"] + cells


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    scale = f" at the scale '{settings['scale']}'" if "scale" in settings else ""
    return f"The paper's claims and what this study finds{scale}; every verdict is computed from the scores."
