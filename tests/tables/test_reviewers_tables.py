"""Tables that answer the reviewers: when training has paid for itself, and depth beside EM steps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from synthetic_scores import history, method_scores, probe_table
from tgmm.aggregate import summarise
from tgmm.answers import depth, payoff
from tgmm.tables.depth import BLOCKS, ORACLE, STEPS, TRAINED, depth_rows, depth_table
from tgmm.tables.payoff import EQUAL, PAYS, SLOWER, WORSE, paid_after, payoff_rows, payoff_table
from tgmm.tables.render import to_latex, to_markdown

FAMILY = "isotropic-d8-n128-components"
METHODS = ["em-restarts", "tgmm-components", "tgmm-components-em20"]
SETTINGS = {"id": "tab-payoff", "kind": "payoff-table", "taskset": "effectiveness", "metric": "l2_error",
            "methods": METHODS, "dimensions": [8], "n_components": [2, 3], "scale": "laptop"}  # fmt: skip


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    """Scores at d = 8 in which ten-start EM takes 9 ms a task, and the network 4 ms."""
    parts = [method_scores(method, dimensions=(8,), components=(2, 3), tasks=64) for method in METHODS]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(seconds=table["method"].map({"em-restarts": 9e-3}).fillna(4e-3))


def paid(scores: pd.DataFrame, errors: dict[str, float]) -> pd.DataFrame:
    """Rows of the table where methods have errors around given means."""
    wave = 1 + 0.1 * ((scores["task_id"] % 5) - 2)
    scores = scores.assign(l2_error=scores["method"].map(errors) * wave)
    return payoff_rows(summarise(scores, resamples=200), SETTINGS, {FAMILY: history(FAMILY)})


def test_the_break_even_is_training_by_what_a_task_saves(scores):
    rows = paid(scores, {"em-restarts": 0.05, "tgmm-components": 0.2, "tgmm-components-em20": 0.05})
    own = rows.set_index("method")
    spent = history(FAMILY).sort_values("tasks").iloc[-1]
    assert own["training_seconds"].unique() == pytest.approx(spent["processor_seconds"])
    assert own["tasks_seen"].unique() == spent["tasks"]
    assert own["outcome"].to_dict() == {"tgmm-components": WORSE, "tgmm-components-em20": PAYS}
    assert own.loc["tgmm-components-em20", "tasks_until_paid"] == pytest.approx(spent["processor_seconds"] / 5e-3)
    assert pd.isna(own.loc["tgmm-components", "tasks_until_paid"])
    assert (rows["rival"] == "em-restarts").all()
    text = to_markdown(payoff_table(rows, SETTINGS)) + to_latex(payoff_table(rows, SETTINGS))
    assert f"{spent['processor_seconds'] / 5e-3:,.0f} tasks" in text
    assert "never: larger error" in text


def test_a_network_that_failed_on_a_cell_is_left_out(scores):
    broken = scores.assign(failed=(scores["method"] == "tgmm-components") & (scores["K"] == 3))
    broken.loc[broken["failed"], "failure_reason"] = "singular"
    rows = paid(broken, dict.fromkeys(METHODS, 0.05))
    assert rows["method"].tolist() == ["tgmm-components-em20"]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"error": 1.0, "low": 0.9, "seconds": 1.0}, PAYS),
        ({"error": 1.2, "low": 1.0, "seconds": 1.0}, EQUAL),
        ({"error": 1.3, "low": 1.2, "seconds": 1.0}, WORSE),
        ({"error": 1.0, "low": 0.9, "seconds": 2.0}, SLOWER),
        ({"error": 1.3, "low": 1.2, "seconds": 3.0}, WORSE),
    ],
)
def test_outcomes(row, outcome):
    found = paid_after(row | {"rival_seconds": 2.0, "rival_high": 1.1, "training_seconds": 60.0})
    assert found["outcome"] == outcome
    assert (found["tasks_until_paid"] == 60.0) == (outcome == PAYS)


def test_the_answer_names_every_outcome(scores):
    rows = paid(scores, {"em-restarts": 0.05, "tgmm-components": 0.2, "tgmm-components-em20": 0.05})
    told = payoff(rows, Path())
    assert "TGMM components never (larger error)" in told
    assert f"after {rows['tasks_until_paid'].max():,.0f} tasks" in told


@pytest.fixture(scope="module")
def depths() -> pd.DataFrame:
    shallow = history("isotropic-d8-n128-components-w100-b50").assign(blocks=2)
    return depth_rows(probe_table(8), {"families": [FAMILY]}, {"isotropic-d8-n128-components-w100-b50": shallow})


def test_errors_by_depth_are_averages_over_k_of_the_probes(depths):
    measured = probe_table(8).query("quantity == 'l2_error'")
    for approach, variant in ((BLOCKS, "network"), (STEPS, "em"), (ORACLE, "oracle")):
        expected = measured[measured["variant"] == variant].groupby("layer")["mean"].mean()
        found = depths[depths["approach"] == approach].set_index("depth")["mean"]
        pd.testing.assert_series_equal(found, expected, check_names=False, check_index_type=False)
    (trained,) = depths[depths["approach"] == TRAINED].to_dict("records")
    assert trained["depth"] == 2
    last = history("isotropic-d8-n128-components-w100-b50").dropna(subset="validation_l2_error").sort_values("tasks")
    assert trained["mean"] == last["validation_l2_error"].iloc[-1]


def test_the_table_of_depths_shows_the_first_and_the_last(depths):
    table = depth_table(depths, {"families": [FAMILY]})
    assert table.heads == [BLOCKS, STEPS, TRAINED]
    shown = [int(labels[0]) for labels, _ in table.body]
    assert shown[:4] == [1, 2, 3, 4]
    assert shown[-1] == depths.loc[depths["approach"] == STEPS, "depth"].max()
    assert len(shown) <= 9


@pytest.mark.parametrize(("median", "lesson"), [(0.02, False), (0.04, True)])
def test_the_lesson_is_drawn_where_the_numbers_say_so(median, lesson):
    rows = [
        {"approach": approach, "depth": depth_, "mean": mean, "median": middle, "d": 8}
        for approach, depth_, mean, middle in (
            (BLOCKS, 1, 0.7, 0.5), (BLOCKS, 4, 0.05, median), (STEPS, 1, 0.7, 0.5), (STEPS, 4, 0.2, 0.03),
        )
    ]  # fmt: skip
    told = depth(pd.DataFrame(rows), Path())
    assert "3 more blocks take the mean error at d = 8 to .0500 and 3 EM steps to .200" in told
    assert ("blocks leave the bad starts" in told) == lesson
