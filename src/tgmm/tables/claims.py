"""The claims of the paper's abstract and main text that scores can decide (those on theorems are in `tgmm theory`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tgmm.tables import claims_criteria as by

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
