"""The table of the sorted loss's floor: what is measured is what is shown."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from tgmm.tables import measurements
from tgmm.tables.render import to_latex, to_markdown
from tgmm.theory.sorted_floor import APPROACHES, FEW_SAMPLES, measure_sorted_floor


@pytest.fixture
def make_rows():
    """A measurement with made-up numbers, both approaches in every cell."""

    def make(n_points=(128,)):
        rows = []
        for d, K, N, approach in itertools.product((2, 8), (2, 3), n_points, APPROACHES):
            mean = 0.1 * d + K + (approach == "known labels") * 0.5
            row = dict.fromkeys(measurements.SORTED_FLOOR_COLUMNS, 0.25)
            row |= {"d": d, "K": K, "N": N, "n_tasks": 64, "seed": 2505, "approach": approach}
            row |= {"mean": mean, "median": mean / 2, "low": mean - 0.1, "high": mean + 0.1}
            row |= {"oracle_mean": 0.02, "oracle_median": 0.019, "effective_samples": 612.4}
            rows.append(row | {"few_samples": 0.0 if d == 8 else 0.0625})
        return pd.DataFrame(rows)

    return make


def lines_of(rows):
    text = to_markdown(measurements.sorted_floor_table(measurements.sorted_floor_rows(rows, {}), {}))
    return [line for line in text.splitlines() if line.startswith("|")], text


def test_every_cell_has_both_approaches_the_oracle_and_the_ratio(make_rows):
    lines, text = lines_of(make_rows())
    assert lines[0] == "| d | K | known labels | importance sampling | EM from the truth | ratio |"
    assert len(lines) == 2 + 4
    assert lines[2] == (
        "| 2 | 2 | 2.70 / 1.35<br>[2.60, 2.80] | 2.20 / 1.10<br>[2.10, 2.30]<br>612 samples, 6.2 % of tasks "
        f"below {FEW_SAMPLES} | .0200 / .0190 | 110 |"
    )
    assert "612 samples |" in lines[5]
    assert "N=128 · 64 tasks a cell · seed 2505" in text


def test_several_numbers_of_points_are_a_column(make_rows):
    lines, text = lines_of(make_rows((32, 128)))
    assert lines[0].startswith("| d | K | N |")
    assert [line.split("|")[3].strip() for line in lines[2:4]] == ["32", "128"]
    assert "N=" not in text


def test_an_approach_that_is_missing_leaves_a_gap(make_rows):
    rows = make_rows()
    lines, _ = lines_of(rows[rows["approach"] == "known labels"])
    assert lines[2].endswith("| – | .0200 / .0190 | – |")


def test_latex_is_well_formed(make_rows):
    text = to_latex(measurements.sorted_floor_table(make_rows(), {"caption": "Floor."}))
    assert r"\caption{Floor.}" in text
    assert text.count("{") == text.count("}")
    assert text.isascii()


def test_the_measurement_has_the_columns_of_the_table():
    measured = measure_sorted_floor((2,), (2,), (16,), n_tasks=2)
    assert list(measured.columns) == list(measurements.SORTED_FLOOR_COLUMNS)
    lines, text = lines_of(measured)
    assert len(lines) == 2 + 1
    assert "–" not in text
