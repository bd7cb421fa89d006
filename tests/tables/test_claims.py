"""Verdicts on invented summaries in which it is known which claims hold, fail, are undecided or cannot be tested."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_scores import method_scores
from tgmm.aggregate import summarise
from tgmm.artefacts import write_table
from tgmm.columns import BASELINES, SUMMARY_COLUMNS, over
from tgmm.errors import UserError
from tgmm.tables.claims import CLAIM_COLUMNS, CLAIMS, PUBLISHED, claims_rows
from tgmm.tables.evidence import (
    FAILS,
    HOLDS,
    LEARNING,
    MISSING,
    NOT_REPRODUCED,
    NOT_TESTED,
    REPRODUCED,
    UNCOMPARED,
    UNDECIDED,
    UNTRAINED,
    Evidence,
    Interval,
    every,
    settle,
)

# Task set -> (d, K, N, kind of shift, values of the shift).
GRIDS = {
    "effectiveness": ((2, 8), (2, 3, 4), (128,), "none", (0.0,)),
    "sample-size": ((8,), (2, 3, 4), (64, 128), "none", (0.0,)),
    "mean-shift": ((8,), (2, 3), (128,), "mean", tuple(map(float, range(11)))),
    "anisotropic": ((2, 8), (2, 3, 4), (128,), "none", (0.0,)),
}
RECIPES = {
    "transformer": {name: [f"tgmm-{name}"] for name in ("reference", "matched", "components")},
    "without-axes": {"components": ["tgmm-components-no-axes"]},
    "mamba2": {name: [f"tgmm-{name}-mamba2"] for name in ("reference", "matched")},
    "mamba2-both-ways": {"matched": ["tgmm-mamba2"]},
    **{f"trained-at-{n}": {x: [f"tgmm-{x}-n{n}"] for x in ("reference", "matched", "components")} for n in (32, 64)},
    "em-steps": {"components": ["tgmm-components-em20"]},
}
SETTINGS = {"recipes": RECIPES, "marks": {"components": "sees eight principal axes"}}
NETWORKS = [names[0] for named in RECIPES.values() for names in named.values()]
TASKSETS = {
    "sample-size-shift": "sample-size",
    "mean-shift": "mean-shift",
    "anisotropic-works": "anisotropic",
    "anisotropic-better": "anisotropic",
}
# Claim -> number of required cells, counted by hand from the grids.
CELLS = {
    "one-network": 6, "local-optima": 4, "small-at-two": 2, "like-spectral": 4, "beyond-spectral": 2,
    "sample-size-shift": 6, "mean-shift": 11, "mamba2-works": 4, "mamba2-worse": 6, "anisotropic-works": 6,
    "anisotropic-better": 4,
}  # fmt: skip
# Mean errors at K = 2 and K > 2 with which every claim holds under every recipe.
ERRORS = {"em": (0.02, 1.0), "em-restarts": (0.02, 0.03), "em-oracle": (0.02, 0.03), "spectral": (0.03, 0.05)}
ERRORS |= {"sample-mean": (6.0, 6.0)} | dict.fromkeys(NETWORKS, (0.03, 0.06))
ERRORS |= {name: (0.05, 0.09) for name in NETWORKS if name.endswith("mamba2")}
ERRORS |= {name: (0.04, 0.07) for name in NETWORKS if re.search(r"-n\d+$", name)}
FLAT = pd.DataFrame({"tasks": [100, 200, 300], "validation_l2_error": [1.0, 0.5, 0.5]})
STEEP = FLAT.assign(validation_l2_error=[1.0, 0.5, 0.4])
Error = Callable[[str, dict], float | None]


def family_of(method: str, cell: dict) -> str:
    return f"{cell['covariance']}-d{cell['d']}-{method}" if method.startswith("tgmm") else ""


HISTORIES = {
    family_of(method, {"covariance": covariance, "d": d}): FLAT
    for method in NETWORKS
    for covariance in ("isotropic", "anisotropic")
    for d in (2, 8)
}


def known_error(method: str, cell: dict) -> float | None:
    """The mean error of a method in a cell; infinite where it fails on every task, None where it was not run."""
    if method == "spectral" and cell["d"] < cell["K"]:
        return math.inf
    return ERRORS[method][cell["K"] > 2]


def make_summary(error: Error = known_error, width: float = 0.1, tasksets: tuple = tuple(GRIDS)) -> pd.DataFrame:
    """A summary with the errors that a function gives and intervals of such a relative half-width."""
    rows = []
    for taskset in tasksets:
        dimensions, counts, points, shift, values = GRIDS[taskset]
        covariance = "anisotropic" if taskset == "anisotropic" else "isotropic"
        for d, K, N, value in itertools.product(dimensions, counts, points, values):
            cell = {"scale": "laptop", "taskset": taskset, "covariance": covariance, "d": d, "K": K, "N": N}
            cell |= {"shift": shift, "shift_value": value, "recipe": "", "seed": 1, "n_tasks": 256}
            errors = {method: found for method in ERRORS if (found := error(method, cell)) is not None}
            for method in errors:
                label = cell | {"method": method, "family": family_of(method, cell), "failure_reason": ""}
                rows += [
                    row for name in ("l2_error", "l2_error_reference") for row in _rows(label, name, errors, width)
                ]
    return pd.DataFrame(rows).reindex(columns=SUMMARY_COLUMNS)


def _rows(label: dict, metric: str, errors: dict, width: float) -> list[dict]:
    method = label["method"]
    rows = [label | {"metric": metric} | _statistics(errors[method], width)]
    if method in NETWORKS:
        rivals = [*BASELINES, *(names[0] for names in RECIPES["transformer"].values())]
        for other in [name for name in rivals if name in errors and name != method]:
            rows.append(label | {"metric": over(metric, other)} | _statistics(errors[method] / errors[other], width))
    return rows


def _statistics(mean: float, width: float) -> dict:
    failed = math.isinf(mean)
    value = math.nan if failed else mean
    interval = {"mean": value, "low": (1 - width) * value, "high": (1 + width) * value}
    return interval | {"n_failed": 256 * failed, "failure_share": float(failed)}


def changed(change: Callable[[str, dict, float], float | None]) -> Error:
    """The known errors with a change where they are finite: (method, cell, error) -> error."""

    def error(method: str, cell: dict) -> float | None:
        found = known_error(method, cell)
        return change(method, cell, found)

    return error


WORLD = make_summary()


def verdicts(summary: pd.DataFrame, histories: dict | None = None, **options) -> pd.DataFrame:
    """Rows by claim and recipe."""
    return claims_rows(summary, SETTINGS | options, histories or HISTORIES).set_index(["claim", "recipe"])


def asked_of(claim: str) -> list[str]:
    """The recipes that a claim is asked of, as the table names them."""
    if claim.startswith("mamba2"):
        return ["reference, Mamba2", "matched, Mamba2", "matched, Mamba2 in both directions"]
    more = ["components, then EM steps"] if claim != "sample-size-shift" else []
    more += ["components without axes"] if claim == "like-spectral" else []
    return ["reference", "matched", "components", *more]


def networks_of(claim: str, recipe: str) -> list[str]:
    """The networks whose error decides a claim under a recipe."""
    plain = recipe.split(",")[0].removesuffix(" without axes")
    if claim.startswith("mamba2"):
        return ["tgmm-mamba2"] if "both" in recipe else [f"tgmm-{plain}-mamba2"]
    if claim == "sample-size-shift":
        return [f"tgmm-{plain}-n{n}" for n in (32, 64)]
    ending = "-no-axes" if "axes" in recipe else "-em20" if "EM" in recipe else ""
    return [f"tgmm-{plain}{ending}"]


def against(claim: str) -> float:
    """The factor by which an error speaks against a claim: smaller where the network is said to be worse."""
    return 0.1 if claim == "mamba2-worse" else 30.0


# The error is at the bound itself, so that no interval decides: claim -> (cell, error) -> error.
AT_THE_BOUND = {
    "one-network": lambda cell, error: 25 / 30,
    "small-at-two": lambda cell, error: 0.1,
    "like-spectral": lambda cell, error: 2 * ERRORS["spectral"][cell["K"] > 2],
    "sample-size-shift": lambda cell, error: 2 * ERRORS["tgmm-matched"][cell["K"] > 2],
    "mamba2-worse": lambda cell, error: ERRORS["tgmm-matched"][cell["K"] > 2],
    "anisotropic-works": lambda cell, error: 2 * error,
}


def at_the_bound(claim: str) -> Callable[[dict, float], float]:
    return AT_THE_BOUND.get(claim, lambda cell, error: ERRORS["em"][cell["K"] > 2])


def world_where(claim: str, change: Callable[[dict, float], float | None], everywhere: bool = False) -> pd.DataFrame:
    """What a claim needs of the summary, the errors that decide it changed for all recipes: (cell, error) -> error."""
    own = {name for recipe in asked_of(claim) for name in networks_of(claim, recipe)}
    taskset = TASKSETS.get(claim, "effectiveness")

    def error(name: str, cell: dict, found: float) -> float | None:
        return change(cell, found) if name in own and (everywhere or cell["taskset"] == taskset) else found

    return make_summary(changed(error), tasksets=tuple(dict.fromkeys(["effectiveness", taskset])))


def rows_of(claim: str, summary: pd.DataFrame, histories: dict | None = None) -> pd.DataFrame:
    """The rows of one claim; no other is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tgmm.tables.claims.CLAIMS", [one for one in CLAIMS if one.id == claim])
        rows = verdicts(summary, histories).loc[claim]
    assert sorted(rows.index) == sorted(asked_of(claim))
    return rows


def learning(claim: str, *, against_it: bool) -> dict:
    """Histories in which those networks still learn whose smaller error would speak for a claim, or against it."""
    own = {name for recipe in asked_of(claim) for name in networks_of(claim, recipe)}
    partners = {f"tgmm-{recipe}" for recipe in ("reference", "matched")}
    learns = partners if claim == "mamba2-worse" and not against_it else own
    return {family: STEEP if any(family.endswith(f"-{x}") for x in learns) else FLAT for family in HISTORIES}


EVERY = pytest.mark.parametrize("claim", CELLS)


# --- the four verdicts ---------------------------------------------------------------------------------------------


def test_the_claims_are_those_counted_here():
    assert [claim.id for claim in CLAIMS] == list(CELLS)
    assert {claim.figure.removeprefix("fig-") for claim in CLAIMS} == {
        "effectiveness", "sample-size-shift", "mean-shift", "backbone", "anisotropic",
    }  # fmt: skip


def test_everything_is_reproduced_and_the_papers_own_recipe_comes_first():
    table = claims_rows(WORLD, SETTINGS, HISTORIES)
    for claim, rows in table.groupby("claim"):
        assert sorted(rows["recipe"]) == sorted(asked_of(claim))
        assert rows["recipe"].iloc[0].startswith(PUBLISHED)
        assert set(rows["verdict"]) == {REPRODUCED}
        assert set(rows["reason"]) == set(rows["missing"]) == {""}
        assert set(rows["cells_hold"]) == set(rows["cells"]) == {CELLS[claim]}


@EVERY
def test_not_reproduced(claim):
    rows = rows_of(claim, world_where(claim, lambda cell, error: error * against(claim)))
    assert set(rows["verdict"]) == {NOT_REPRODUCED}
    assert (rows["cells_fail"] > 0).all()


@EVERY
def test_one_cell_that_fails_is_enough(claim):
    where = {"d": 2 if claim == "beyond-spectral" else 8, "K": 2 if claim == "small-at-two" else 3, "N": 128}
    where["shift_value"] = 7.0 if claim == "mean-shift" else 0.0

    def change(cell: dict, error: float) -> float:
        return error * against(claim) if where.items() <= cell.items() else error

    rows = rows_of(claim, world_where(claim, change))
    one = 2 if claim == "sample-size-shift" else 1  # networks trained at N = 32 and at 64
    assert set(rows["verdict"]) == {NOT_REPRODUCED}
    assert set(rows["cells_fail"]) == {one}
    assert set(rows["cells_hold"]) == {CELLS[claim] - one}


@EVERY
def test_undecided(claim):
    rows = rows_of(claim, world_where(claim, at_the_bound(claim)))
    assert set(rows["verdict"]) == {UNDECIDED}
    assert (rows["cells_undecided"] > 0).all()


@EVERY
def test_not_tested_without_a_network(claim):
    rows = rows_of(claim, world_where(claim, lambda cell, error: None))
    assert set(rows["verdict"]) == set(rows["reference_evaluator"]) == {NOT_TESTED}
    assert set(rows["reason"]) == {"no network of this recipe was scored"}
    assert set(rows["cells_missing"]) == {CELLS[claim]}
    assert rows["missing"].str.startswith("d = ").all()


@EVERY
def test_not_tested_where_hardly_better_than_the_sample_mean(claim):
    rows = rows_of(claim, world_where(claim, lambda cell, error: 0.7 * 6.0, everywhere=True))
    assert set(rows["verdict"]) == {NOT_TESTED}
    assert set(rows["reason"]) == {UNTRAINED}


@EVERY
def test_not_tested_where_more_training_could_turn_a_failure(claim):
    world = world_where(claim, lambda cell, error: error * against(claim))
    rows = rows_of(claim, world, learning(claim, against_it=False))
    assert set(rows["verdict"]) == {NOT_TESTED}
    assert set(rows["cells_fail"]) == {0}
    assert rows["reason"].str.contains(LEARNING).all()


@EVERY
def test_an_error_that_is_small_enough_counts_while_the_network_still_learns(claim):
    """More training makes it smaller yet; but a network said to be worse than another may still overtake it."""
    rows = rows_of(claim, world_where(claim, lambda cell, error: error), learning(claim, against_it=True))
    turns = claim in ("mamba2-worse", "anisotropic-works")  # the ratio to the floor may fall on isotropic tasks
    assert set(rows["verdict"]) == {NOT_TESTED if turns else REPRODUCED}
    assert rows["still_learning"].all() or claim == "sample-size-shift"


# --- what must not be possible -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_the_trivial_estimate_is_never_reproduced(spread):
    """Every network's error is that of the sample mean, or a little less, as after a short training."""
    world = make_summary(
        changed(lambda name, cell, error: (1 - spread) * 6.0 if name in NETWORKS else error), width=0.01
    )
    table = verdicts(world)
    assert set(table["verdict"]) == {NOT_TESTED}
    assert set(table["reason"]) == {UNTRAINED}


def test_without_the_sample_mean_nothing_is_tested():
    table = verdicts(WORLD[~WORLD["metric"].str.endswith("/ sample-mean")])
    assert set(table["verdict"]) == {NOT_TESTED}
    assert set(table["reason"]) == {UNCOMPARED}


def test_the_trivial_estimate_is_not_reproduced_beside_good_networks_either():
    for recipe in asked_of("mamba2-worse"):
        own = networks_of("mamba2-worse", recipe)
        row = verdicts(make_summary(changed(lambda name, cell, error, own=own: 6.0 if name in own else error)))
        assert row.loc[("mamba2-worse", recipe), "verdict"] == NOT_TESTED


@pytest.mark.parametrize("recipe", ["reference", "matched", "components"])
@pytest.mark.parametrize("d", [2, 8])
def test_a_perfect_network_reproduces_every_claim_that_it_is_scored_for(recipe, d):
    """Also the paper's own recipe, and also where other cells have no network."""
    others = [name for name in NETWORKS if recipe not in name]

    def change(name: str, cell: dict, error: float) -> float | None:
        if name in others:
            return None if cell["d"] != d else 1.0
        return error if name not in NETWORKS else 1e-6 if cell["d"] == d else None

    table = verdicts(make_summary(changed(change)))
    for claim in [name for name in CELLS if name != "mamba2-worse"]:
        own = f"{recipe}, Mamba2" if claim.startswith("mamba2") else recipe
        if (claim, own) not in table.index:
            continue
        row = table.loc[claim, own]
        if row["cells_missing"] < row["cells"]:
            assert row["verdict"] == REPRODUCED, claim
        else:
            assert (d == 2 and claim in ("sample-size-shift", "mean-shift")) or (d == 8 and claim == "beyond-spectral")
    assert table.loc[("local-optima", recipe), "missing"] == f"d = {10 - d}"


def test_exchanging_two_recipes_exchanges_their_verdicts():
    """Errors that give the two recipes different verdicts on every claim."""

    def change(name: str, cell: dict, error: float) -> float:
        return error * 50 if name.startswith("tgmm-matched") and "mamba2" not in name else error

    world = make_summary(changed(change))
    other = {"reference": "matched", "matched": "reference"}
    exchanged = {
        role: {
            {"reference": "matched", "matched": "reference"}.get(recipe, recipe): names
            for recipe, names in named.items()
        }
        for role, named in RECIPES.items()
    }
    table, turned = verdicts(world), verdicts(world, recipes=exchanged)
    for claim in CELLS:
        ending = ", Mamba2" if claim.startswith("mamba2") else ""
        for one, partner in other.items():
            columns = ["verdict", "cells_hold", "cells_fail", "numbers", "reference_evaluator"]
            expected, found = table.loc[claim, one + ending][columns], turned.loc[claim, partner + ending][columns]
            assert found.tolist() == expected.tolist()
    assert table.loc["local-optima"]["verdict"].nunique() > 1


def test_no_recipe_depends_on_another():
    alone = {role: {r: names for r, names in named.items() if r == "matched"} for role, named in RECIPES.items()}
    table, single = verdicts(WORLD), verdicts(WORLD, recipes=alone)
    for key in single.index:
        if "matched" in key[1]:
            assert single.loc[key].tolist() == table.loc[key].tolist()
    assert (single.loc[[key for key in single.index if "reference" in key[1]], "verdict"] == NOT_TESTED).all()


def test_the_order_of_rows_does_not_matter():
    pd.testing.assert_frame_equal(verdicts(WORLD.sample(frac=1, random_state=0)), verdicts(WORLD))


# --- cells ---------------------------------------------------------------------------------------------------------


def test_cells_without_a_network_are_named_and_not_held_against_a_recipe():
    world = make_summary(
        changed(
            lambda name, cell, error: None if name == "tgmm-reference" and (cell["d"], cell["K"]) == (8, 4) else error
        )
    )
    row = verdicts(world).loc["local-optima", "reference"]
    assert (row["verdict"], row["cells_hold"], row["cells_missing"]) == (REPRODUCED, 3, 1)
    assert row["missing"] == "d = 8 (K = 4)"
    row = verdicts(WORLD, required_d={"backbone": [8, 32]}).loc["mamba2-works", "matched, Mamba2"]
    assert (row["verdict"], row["missing"], row["cells"]) == (REPRODUCED, "d = 32", 4)


def test_both_ends_of_the_published_shifts_are_required():
    row = verdicts(WORLD[WORLD["shift_value"] < 10]).loc["mean-shift", "components"]
    assert (row["cells_hold"], row["cells_missing"], row["cells"]) == (10, 1, 11)
    assert "shift 0 to 10" in row["numbers"]


def test_a_recipe_with_a_failing_cell_fails_although_others_are_not_trained():
    def change(name: str, cell: dict, error: float) -> float:
        return error if name != "tgmm-matched" else 1.5 if cell["d"] == 2 else 4.0

    row = verdicts(make_summary(changed(change))).loc["local-optima", "matched"]
    assert (row["verdict"], row["cells_fail"], row["cells_not_tested"]) == (NOT_REPRODUCED, 2, 2)


def test_several_networks_are_not_one():
    world = WORLD.copy()
    here = (world["method"] == "tgmm-reference") & (world["K"] == 4) & (world["d"] == 8)
    world.loc[here, "family"] = "another"
    row = verdicts(world, HISTORIES | {"another": FLAT}).loc["one-network", "reference"]
    assert (row["verdict"], row["cells_fail"]) == (NOT_REPRODUCED, 3)
    assert verdicts(WORLD[WORLD["K"] == 3]).loc[("one-network", "matched"), "verdict"] == NOT_TESTED


def test_failed_tasks_count_against_a_network():
    world = WORLD.copy()
    here = (world["method"] == "tgmm-matched") & (world["K"] == 3) & (world["taskset"] == "effectiveness")
    world.loc[here, ["n_failed", "failure_share"]] = [3, 3 / 256]
    table = verdicts(world)
    for claim in ("local-optima", "one-network"):
        assert table.loc[claim, "matched"][["verdict", "cells_fail"]].tolist() == [NOT_REPRODUCED, 2]
    assert table.loc[("mamba2-worse", "matched, Mamba2"), "cells_fail"] == 2  # the partner fails where Mamba2 does not


def test_a_baseline_that_fails_everywhere_is_beaten_and_named():
    world = make_summary(changed(lambda name, cell, error: math.inf if name == "spectral" else error))
    row = verdicts(world).loc["like-spectral", "matched"]
    assert (row["verdict"], row["cells_hold"]) == (REPRODUCED, 4)
    assert "gives no estimate in 4 cells" in row["numbers"]


def test_anisotropic_is_measured_from_its_own_floor():
    own = ["em-oracle", "tgmm-matched"]
    noisy = changed(lambda name, cell, error: 0.6 if cell["taskset"] == "anisotropic" and name in own else error)
    assert verdicts(make_summary(noisy)).loc[("anisotropic-works", "matched"), "verdict"] == REPRODUCED
    low = changed(
        lambda name, cell, error: 0.6 if cell["taskset"] == "anisotropic" and name == "tgmm-matched" else error
    )
    row = verdicts(make_summary(low)).loc["anisotropic-works", "matched"]
    assert (row["verdict"], row["cells_fail"]) == (NOT_REPRODUCED, 6)


def test_ten_start_em_and_the_reference_evaluator_are_asked_the_same():
    table = verdicts(WORLD)
    answer = "not reproduced (0 of 4 cells hold, 4 fail)"
    assert table.loc[("local-optima", "reference"), "strong_baseline"] == answer
    assert table.loc[("mamba2-worse", "matched, Mamba2"), "strong_baseline"] == "not a comparison with EM"
    assert table.loc[("local-optima", "reference"), "reference_evaluator"] == "reproduced (4 of 4 cells hold)"
    inflated = WORLD.copy()
    here = (inflated["metric"] == over("l2_error_reference", "em")) & (inflated["method"] == "tgmm-reference")
    inflated.loc[here, ["mean", "low", "high"]] *= 100
    row = verdicts(inflated).loc["local-optima", "reference"]
    assert (row["verdict"], row["reference_evaluator"]) == (REPRODUCED, answer)


def test_built_in_axes_are_marked():
    table = verdicts(WORLD)
    assert (table.loc[("like-spectral", "components"), "mark"], table.loc[("like-spectral", "matched"), "mark"]) == (
        "sees eight principal axes", "",
    )  # fmt: skip
    assert table.loc[("like-spectral", "components without axes"), "mark"] == ""


def test_bad_input_is_refused_in_one_line():
    without = {key: table for key, table in HISTORIES.items() if key != "isotropic-d2-tgmm-matched"}
    lacking = WORLD[WORLD["metric"] != over("l2_error", "em")]
    for call, message in [
        (lambda: verdicts(pd.concat([WORLD, WORLD.iloc[:1]])), "several rows for method 'em' at d=2, K=2"),
        (lambda: verdicts(WORLD, without), "no training history was given for family 'isotropic-d2-tgmm-matched'"),
        (lambda: verdicts(lacking), "no comparison of 'tgmm-reference' with 'em' at d=2, K=3"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_task_sets_may_have_other_names():
    renamed = WORLD.replace({"taskset": {"effectiveness": "main"}})
    assert verdicts(renamed).loc[("local-optima", "matched"), "verdict"] == NOT_TESTED
    table = verdicts(renamed, tasksets={"effectiveness": "main"})
    assert table.loc[("local-optima", "matched"), "verdict"] == REPRODUCED
    assert table.loc[("mamba2-works", "matched, Mamba2"), "verdict"] == REPRODUCED


# --- properties ----------------------------------------------------------------------------------------------------

OUTCOMES = [HOLDS, FAILS, UNDECIDED, LEARNING, UNTRAINED, UNCOMPARED, MISSING]


@given(st.lists(st.sampled_from(OUTCOMES), max_size=5))
def test_the_verdict_follows_from_the_outcomes(outcomes):
    verdict = Evidence(dict(enumerate(outcomes)), "").verdict
    asked = [outcome for outcome in outcomes if outcome != MISSING]
    assert (verdict == REPRODUCED) == (bool(asked) and set(asked) == {HOLDS})
    assert (verdict == NOT_REPRODUCED) == (FAILS in asked)
    assert verdict in (REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_TESTED)
    if not asked:
        assert verdict == NOT_TESTED


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4))
def test_a_cell_holds_only_if_every_condition_does(outcomes):
    assert (every(*outcomes) == HOLDS) == (set(outcomes) == {HOLDS})
    assert every(*outcomes) in outcomes
    assert MISSING not in outcomes or every(*outcomes) == MISSING


@given(st.sampled_from([HOLDS, FAILS, UNDECIDED]), st.booleans(), st.booleans())
def test_training_can_only_turn_what_smaller_errors_would(outcome, ours, theirs):
    found = settle(outcome, ours, theirs)
    assert found in (outcome, LEARNING)
    assert (found == LEARNING) == ((ours and outcome != HOLDS) or (theirs and outcome != FAILS))


@given(*[st.floats(0.01, 10) for _ in range(2)], *[st.floats(0, 1) for _ in range(2)])
def test_an_interval_decides_for_at_most_one_side(value, bound, below, above):
    interval = Interval(value, value * (1 - below), value * (1 + above))
    outcome = interval.below(bound)
    assert (outcome == HOLDS) == (interval.high < bound)
    assert (outcome == FAILS) == (interval.low >= bound and interval.high >= bound)
    assert Interval(math.nan, math.nan, math.nan).below(bound) == UNDECIDED


def normal_interval(logarithm: float, size: float) -> Interval:
    return Interval(*(math.exp(logarithm + shift * size) for shift in (0.0, -1.96, 1.96)))


def test_the_interval_of_a_ratio_of_independent_ratios_covers_it():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        draws = [math.exp(generator.normal(mean, size)) for mean, size in ((0.4, 0.1), (-0.2, 0.2))]
        ends = [
            Interval(x, x * math.exp(-1.96 * size), x * math.exp(1.96 * size))
            for x, size in zip(draws, (0.1, 0.2), strict=True)
        ]
        ratio = ends[0].over(ends[1])
        covered.append(ratio.low < math.exp(0.6) < ratio.high)
    assert 0.92 < np.mean(covered) < 0.98


# --- from scores to files ------------------------------------------------------------------------------------------


def test_verdicts_from_scores_task_by_task():
    """The spectral method and EM as they are, networks with errors of their own: 64 tasks decide what they can."""
    methods = ["em", "em-restarts", "em-oracle", "spectral", "tgmm-components", "tgmm-matched", "tgmm-reference"]
    scores = pd.concat([method_scores(name, dimensions=(2, 8), components=(2, 3, 4)) for name in methods])
    trivial = method_scores("sample-mean", dimensions=(2, 8), components=(2, 3, 4))
    recipes = {"transformer": RECIPES["transformer"]}
    summary = summarise(pd.concat([scores, trivial]), resamples=200, recipes=recipes)
    histories = dict.fromkeys(summary["family"].unique(), FLAT)
    rows = claims_rows(summary, {"recipes": recipes}, histories).set_index(["claim", "recipe"])
    wide = scores.pivot_table(index=["d", "K"], columns="method", values="l2_error")
    for recipe in ("components", "matched", "reference"):
        above = (wide[f"tgmm-{recipe}"] >= wide["em"])[lambda table: table.index.get_level_values("K") > 2]
        found = rows.loc["local-optima", recipe]
        assert found["cells_hold"] + found["cells_fail"] + found["cells_undecided"] == 4
        assert found["cells_hold"] <= (~above).sum()
        assert found["cells_fail"] <= above.sum()
    assert rows.loc[("local-optima", "components"), "verdict"] == REPRODUCED
    assert rows.loc[("like-spectral", "reference"), "verdict"] == NOT_REPRODUCED


def test_files_for_machines_and_readers(tmp_path):
    WORLD.to_parquet(tmp_path / "summary.parquet", index=False)
    histories = {}
    for family, table in HISTORIES.items():
        histories[family] = tmp_path / f"{family}.csv"
        table.to_csv(histories[family], index=False)
    entry = SETTINGS | {"id": "tab-claims", "kind": "claims-table", "scale": "laptop"}
    write_table(entry, tmp_path / "summary.parquet", tmp_path / "tab-claims", histories)
    table = pd.read_csv(tmp_path / "tab-claims.csv", keep_default_na=False)
    assert list(table) == CLAIM_COLUMNS
    assert list(table["claim"].unique()) == list(CELLS)
    markdown = (tmp_path / "tab-claims.md").read_text()
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {9}
    assert "**reproduced (4 of 4 cells hold)**" in markdown
    assert "components (sees eight principal axes)" in markdown
    assert "at the scale 'laptop'" in markdown
    latex = (tmp_path / "tab-claims.tex").read_text()
    assert latex.isascii()
    assert latex.count("{") == latex.count("}")
    body = [line for line in latex.splitlines() if line.endswith(r"\\") and not line.startswith(r"\caption")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {7}
    assert len(body) == 2 + len(table)
    assert r"$\sigma$\_p" in latex
    assert r"(K $\leq$ d)" in latex
