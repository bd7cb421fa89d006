"""What an artefact shows of a summary, how it is averaged over K, and its footnotes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_scores import method_scores
from tgmm.aggregate import summarise
from tgmm.errors import UserError
from tgmm.figures.data import (
    FAILED,
    GAP,
    NOTE_LENGTH,
    OK,
    UNDEFINED,
    average_over_components,
    fill,
    mark_undefined,
    provenance,
    select_summary,
)

SHIFTS = [
    {"kind": "wrong-k", "values": [-1, 0, 1]},
    {"kind": "student-t", "values": [3, 10, math.inf]},
    {"kind": "scale", "values": [0.5, 1]},
]
SETTINGS = {"id": "fig-x", "taskset": "robustness", "metric": "l2_error", "methods": ["em", "em-oracle"]}
ALL = ("d", "K", "N", "shift", "shift_value")


@pytest.fixture(scope="module")
def summary() -> pd.DataFrame:
    parts = [
        method_scores(
            name, dimensions=(2, 8), components=(3, 4), tasks=4, taskset="robustness", points=(64, 128), shifts=SHIFTS
        )
        for name in ("em", "em-oracle")
    ]
    return summarise(pd.concat(parts, ignore_index=True), resamples=20)


def test_only_the_declared_part_of_the_task_set_is_shown(summary):
    declared = {"dimensions": [8], "n_components": [3], "n_points": [64], "shifts": SHIFTS[:1]}
    cells = select_summary(summary, SETTINGS | declared, free=ALL)
    assert len(cells) == 2 * 3
    assert cells[["d", "K", "N", "shift"]].drop_duplicates().to_numpy().tolist() == [[8, 3, 64, "wrong-k"]]
    assert (cells["status"] == OK).all()


@pytest.mark.parametrize(("wanted", "expected"), [(8, [8]), ([8], [8]), ([8, 2, 9], [2, 8])])
def test_a_key_picks_dimensions(summary, wanted, expected):
    one = {"N": 64, "shift": "scale", "shift_value": 1}
    cells = select_summary(summary, SETTINGS | one | {"d": wanted})
    assert sorted(cells["d"].unique()) == expected
    assert set(cells["N"]) == {64}
    assert set(cells["shift_value"]) == {1.0}


def test_conditions_come_in_the_task_sets_order(summary):
    cells = select_summary(summary, SETTINGS | {"shifts": SHIFTS}, free=ALL)
    pairs = list(dict.fromkeys(zip(cells["shift"], cells["shift_value"], strict=True)))
    assert pairs == [(shift["kind"], float(value)) for shift in SHIFTS for value in shift["values"]]
    seen = select_summary(summary, SETTINGS, free=ALL)
    assert sorted(seen["shift"].unique()) == list(dict.fromkeys(seen["shift"]))


def test_a_kind_of_shift_keeps_its_values_alone(summary):
    cells = select_summary(summary, SETTINGS | {"shifts": SHIFTS, "shift": "student-t"}, free=ALL)
    assert list(dict.fromkeys(cells["shift_value"])) == [3.0, 10.0, math.inf]
    rows = summary[(summary["shift"] == "student-t") & (summary["metric"] == "l2_error")]
    assert len(cells) == len(rows)
    infinite = rows[np.isinf(rows["shift_value"])].set_index(["method", "d", "K", "N"])["mean"]
    found = cells[np.isinf(cells["shift_value"])].set_index(["method", "d", "K", "N"])["mean"]
    pd.testing.assert_series_equal(found.sort_index(), infinite.sort_index())


@pytest.mark.parametrize(
    ("settings", "free", "message"),
    [
        ({}, ("d", "K", "N", "shift_value"), "'fig-x' needs 'shift' to be one of scale, student-t, wrong-k"),
        ({"shift": "student"}, ALL, "unknown kind of shift 'student'; did you mean 'student-t'"),
        ({"shift": "scale"}, ("d", "K", "N"), "needs 'shift_value' to be one of 0.5, 1.0"),
        ({"shift": "scale"}, ("d", "K", "shift_value"), "needs 'N' to be one of 64, 128"),
        ({"shift": "scale", "N": 64}, ("K", "shift_value"), "needs 'd' to be one of 2, 8"),
        ({"shift": "scale", "d": [32]}, ALL, "needs 'd' to be one of 2, 8"),
        ({"methods": ["spectral"]}, ALL, "no scores of the methods spectral on task set 'robustness'"),
        ({"dimensions": [32]}, ALL, "no scores of the methods em, em-oracle"),
        ({"taskset": "robust"}, ALL, "did you mean 'robustness'"),
        ({"metric": "l2-error"}, ALL, "did you mean 'l2_error'"),
    ],
)
def test_what_is_not_there_is_refused(summary, settings, free, message):
    with pytest.raises(UserError, match=message):
        select_summary(summary, SETTINGS | settings, free=free)


def test_missing_methods_and_dimensions_are_gaps(summary):
    settings = SETTINGS | {"methods": ["em", "tgmm-x"], "dimensions": [8, 32], "n_points": [128], "shift": "scale"}
    cells = select_summary(summary, settings, free=ALL)
    assert set(cells.loc[(cells["method"] == "tgmm-x") | (cells["d"] == 32), "status"]) == {GAP}
    assert set(cells.loc[(cells["method"] == "em") & (cells["d"] == 8), "status"]) == {OK}
    assert "N = 128 ·" in provenance(cells)


def test_a_mean_that_is_no_number_is_told_apart(summary):
    odd = summary.copy()
    odd.loc[odd["method"] == "em", "mean"] = [math.nan, math.inf] * (sum(odd["method"] == "em") // 2)
    cells = mark_undefined(select_summary(odd, SETTINGS, free=ALL))
    assert set(cells.loc[cells["method"] == "em", "status"]) == {UNDEFINED}
    assert set(cells.loc[cells["method"] == "em-oracle", "status"]) == {OK}


def rows_over_components(means, half_widths, status=OK) -> pd.DataFrame:
    means, half_widths = np.array(means, float), np.array(half_widths, float)
    return pd.DataFrame(
        {"method": "em", "K": np.arange(len(means)) + 2, "mean": means, "median": means / 2, "low": means - half_widths,
         "high": means + 2 * half_widths, "n_failed": 0, "failure_reason": "", "status": status}
    )  # fmt: skip


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 5)), min_size=1, max_size=5), st.randoms())
def test_average_adds_half_widths_in_quadrature(pairs, random):
    """As the standard deviation of an average of independent quantities, and whatever the order of the cells."""
    means, widths = zip(*pairs, strict=True)
    cells = rows_over_components(means, widths)
    row = average_over_components(cells, ["method"]).iloc[0]
    width = math.hypot(*(half / len(means) for half in widths))
    assert row["mean"] == pytest.approx(math.fsum(means) / len(means))
    assert row["median"] == pytest.approx(row["mean"] / 2)
    assert row["mean"] - row["low"] == pytest.approx(width, abs=1e-9)
    assert row["high"] - row["mean"] == pytest.approx(2 * width, abs=1e-9)
    order = list(range(len(means)))
    random.shuffle(order)
    again = average_over_components(cells.iloc[order], ["method"]).iloc[0]
    assert again["low"] == pytest.approx(row["low"])


@pytest.mark.parametrize("status", [FAILED, GAP, UNDEFINED])
def test_average_has_no_value_where_a_cell_has_none(status):
    cells = rows_over_components([1.0, 2.0], [0.1, 0.1])
    cells.loc[1, ["status", "mean", "failure_reason"]] = [status, math.nan, "lost"]
    row = average_over_components(cells, ["method"]).iloc[0]
    assert row["status"] == status
    assert math.isnan(row["mean"])
    assert row["failure_reason"] == ("lost" if status == FAILED else "")


@given(st.lists(st.text("ab ", min_size=1, max_size=300).filter(str.strip), min_size=1, max_size=6))
def test_notes_fill_lines_and_lose_no_word(notes):
    lines = fill(notes)
    longest = max(len(word) for note in notes for word in note.split())
    assert all(len(line) <= max(NOTE_LENGTH, longest) for line in lines)
    assert " ".join(lines).replace("·", " ").split() == " ".join(notes).split()
