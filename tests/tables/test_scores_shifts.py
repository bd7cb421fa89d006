"""Score tables and full tables of task sets with several sample sizes, kinds of shift and metrics."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgmm.aggregate import SUMMARY_COLUMNS
from tgmm.artefacts import write_table
from tgmm.errors import UserError
from tgmm.tables import scores
from tgmm.tables.render import Cell, WideTable, escape_latex, to_latex, to_markdown

METHODS = ("em", "spectral", "tgmm-components", "em-oracle")
METRICS = ("l2_error", "accuracy", "scale_error")
SHIFTS = [
    {"kind": "student-t", "values": [3, 10, math.inf]},
    {"kind": "outliers", "values": [0, 0.05]},
    {"kind": "wrong-k", "values": [-1, 0, 1]},
]
SCORE_COLUMNS = [
    "d", "K", "N", "shift", "shift_value", "method", "label", "short", "metric", "status", "mean", "low", "high",
    "median", "n_tasks", "n_failed", "failure_share", "failure_reason",
]  # fmt: skip


def make_summary() -> pd.DataFrame:
    """Three task sets: several N, one kind of shift, several kinds. The network is not scored at N = 32; the spectral
    method fails with outliers; errors of scales are not defined."""
    cells = [("sample-size", 8, K, N, "none", 0.0) for K in (2, 3) for N in (32, 128, 1024)]
    cells += [("mean-shift", 8, K, 128, "mean", value) for K in (2, 3) for value in (0.0, 5.0, 10.0)]
    cells += [
        ("robustness", 8, K, 128, shift["kind"], float(value))
        for shift in SHIFTS
        for value in shift["values"]
        for K in (3, 4)
    ]
    rows = []
    for number, (cell, method) in enumerate(itertools.product(cells, METHODS)):
        taskset, d, K, N, shift, value = cell
        if method == "tgmm-components" and N == 32:
            continue
        failed = method == "spectral" and shift == "outliers"
        row = {"scale": "laptop", "taskset": taskset, "covariance": "isotropic", "d": d, "K": K, "N": N}
        row |= {"shift": shift, "shift_value": value, "method": method, "family": "", "recipe": "", "seed": 7}
        row |= {"n_tasks": 64, "n_failed": 64 * failed, "failure_share": float(failed)}
        row["failure_reason"] = "no eigenvalue: at all" if failed else ""
        for place, metric in enumerate(METRICS):
            mean = math.nan if failed or metric == "scale_error" else 0.01 * (number + 1) + place
            row |= {"metric": metric, "mean": mean, "median": 0.9 * mean, "low": 0.8 * mean, "high": 1.2 * mean}
            rows.append(row | {"quantile_90": 1.1 * mean})
    return pd.DataFrame(rows)[SUMMARY_COLUMNS].sample(frac=1, random_state=0)


SUMMARY = make_summary()
SETTINGS = {"methods": list(METHODS), "metric": "l2_error", "metrics": list(METRICS), "dimensions": [8]}


def tables(kind: str, taskset: str, **options) -> tuple[pd.DataFrame, WideTable]:
    settings = SETTINGS | {"kind": kind, "id": "tab-x", "taskset": taskset} | options
    name = kind.removesuffix("-table")
    rows = getattr(scores, f"{name}_rows")(SUMMARY, settings)
    return rows, getattr(scores, f"{name}_table")(rows, settings)


def labels(wide: WideTable) -> list[tuple[str, ...]]:
    return [tuple(row) for row, _ in wide.body]


# --- score tables --------------------------------------------------------------------------------------------------


def test_rows_are_every_cell_and_every_number_is_that_of_the_summary():
    for taskset in ("sample-size", "mean-shift", "robustness"):
        rows, wide = tables("score-table", taskset)
        source = SUMMARY[(SUMMARY["taskset"] == taskset) & (SUMMARY["metric"] == "l2_error")]
        key = ["method", "d", "K", "N", "shift", "shift_value"]
        assert len(rows) == len(source[key[1:]].drop_duplicates()) * len(METHODS) == len(wide.body) * len(METHODS)
        found = rows[rows["status"] != "not run"].set_index(key).sort_index()
        expected = source.set_index(key).sort_index()
        columns = ["mean", "median", "low", "high", "failure_share"]
        np.testing.assert_array_equal(found[columns].to_numpy(), expected[columns].to_numpy())


def test_only_columns_with_several_values_head_the_rows():
    rows, wide = tables("score-table", "sample-size")
    assert wide.row_heads == ["K", "N"]
    assert labels(wide) == [("2", "32"), ("2", "128"), ("2", "1024"), ("3", "32"), ("3", "128"), ("3", "1024")]
    assert wide.body[0][1][2] == Cell("–")
    assert set(rows["d"]) == {8}
    assert "In every row d = 8." in wide.notes
    rows, wide = tables("score-table", "mean-shift")
    assert wide.row_heads == ["K", "value"]
    assert labels(wide)[:3] == [("2", "0"), ("2", "5"), ("2", "10")]
    assert "In every row d = 8, shift: perturbed means." in wide.notes
    assert set(rows["shift"]) == {"mean"}


def test_several_kinds_of_shift_stand_in_the_task_sets_order():
    rows, wide = tables("score-table", "robustness", shifts=SHIFTS)
    assert wide.row_heads == ["shift", "K", "value"]
    assert list(dict.fromkeys(rows["shift"])) == ["student-t", "outliers", "wrong-k"]
    assert labels(wide) == [
        *(("heavier tails", K, value) for K in "34" for value in ("3", "10", "∞")),
        *(("outliers", K, value) for K in "34" for value in ("0 %", "5 %")),
        *(("wrong number of components", K, value) for K in "34" for value in ("K−1", "K", "K+1")),
    ]
    failing = [cells[1].mean for row, cells in wide.body if row[0] == "outliers"]
    assert failing == ["fails"] * 4
    assert any("Spectral: no eigenvalue" in note for note in wide.notes)


def test_one_kind_of_shift_can_be_chosen():
    rows, wide = tables("score-table", "robustness", shifts=SHIFTS, shift="outliers")
    assert set(rows["shift"]) == {"outliers"}
    assert wide.row_heads == ["K", "value"]
    assert wide.caption.endswith("task set 'robustness', shift: outliers.")
    with pytest.raises(UserError, match="did you mean 'outliers'"):
        tables("score-table", "robustness", shift="outlier")


def test_a_single_cell_is_headed_by_d_and_K():
    _, wide = tables("score-table", "sample-size", N=128, n_components=[3])
    assert wide.row_heads == ["d", "K"]
    assert labels(wide) == [("8", "3")]


def test_a_metric_that_is_not_defined_is_a_dash_with_a_note():
    _, wide = tables("score-table", "sample-size", metric="scale_error")
    assert {cell.mean for _, cells in wide.body for cell in cells} == {"–"}
    assert "'–' also where the metric is not defined." in wide.notes


@pytest.mark.parametrize("taskset", ["sample-size", "mean-shift", "robustness"])
@pytest.mark.parametrize("kind", ["score-table", "full-table"])
def test_files_are_well_formed(kind, taskset, tmp_path):
    SUMMARY.to_parquet(tmp_path / "summary.parquet", index=False)
    entry = SETTINGS | {"id": "tab-x", "kind": kind, "taskset": taskset, "shifts": SHIFTS}
    write_table(entry, tmp_path / "summary.parquet", tmp_path / "tab-x")
    columns = list(pd.read_csv(tmp_path / "tab-x.csv"))
    assert [column for column in columns if column != "quantile_90"] == SCORE_COLUMNS
    assert ("quantile_90" in columns) == (kind == "full-table")
    lines = [line for line in (tmp_path / "tab-x.md").read_text().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    latex = (tmp_path / "tab-x.tex").read_text()
    assert latex.isascii()
    assert latex.count("{") == latex.count("}")
    rows = [line for line in latex.splitlines() if line.endswith(r"\\") and not line.startswith(r"\caption")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {lines[0].count("|") - 2}
    for name in ("table*", "tabular", "longtable"):
        assert latex.count(rf"\begin{{{name}}}") == latex.count(rf"\end{{{name}}}") <= 1


# --- full tables ---------------------------------------------------------------------------------------------------


def test_full_table_has_every_metric_of_every_method_and_cell():
    rows, wide = tables("full-table", "sample-size")
    assert len(rows) == 6 * len(METHODS) * len(METRICS)
    assert wide.row_heads == ["K", "N", "method"]
    assert wide.heads == ["ℓ2-error", "accuracy", "scales", "failed"]
    assert len(wide.body) == 6 * len(METHODS)
    assert wide.long
    found = rows.set_index(["K", "N", "method", "metric"]).sort_index()
    source = SUMMARY[SUMMARY["taskset"] == "sample-size"].set_index(["K", "N", "method", "metric"]).sort_index()
    for column in ("mean", "median", "quantile_90"):
        np.testing.assert_array_equal(found.loc[source.index, column], source[column])
    assert set(rows.loc[(rows["N"] == 32) & (rows["method"] == "tgmm-components"), "status"]) == {"not run"}


def test_full_table_marks_what_has_no_value():
    _, wide = tables("full-table", "robustness", shifts=SHIFTS)
    by_label = {tuple(label): [cell.mean for cell in cells] for label, cells in wide.body}
    assert by_label[("outliers", "3", "5 %", "Spectral")] == ["fails", "fails", "fails", "100 %"]
    assert by_label[("outliers", "3", "5 %", "EM")][2:] == ["–", "0 %"]
    _, wide = tables("full-table", "sample-size")
    assert [cell.mean for cell in wide.body[2][1]] == ["–"] * 4


def test_metrics_of_a_full_table_must_be_a_list_of_metrics():
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        tables("full-table", "sample-size", metrics=["l2_error", "acuracy"])
    rows, _ = tables("full-table", "sample-size", metrics=["accuracy", "accuracy"])
    assert len(rows) == 6 * len(METHODS)


# --- rendering -----------------------------------------------------------------------------------------------------

written = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)


@given(st.lists(st.tuples(written, written), min_size=1, max_size=4), st.booleans())
def test_any_text_gives_well_formed_tables(pairs, long):
    body = [([label], [Cell(text), Cell("1", interval=text)]) for label, text in pairs]
    table = WideTable(["a"], ["b", "c"], body, "A caption", ["a note"], long=long)
    latex = to_latex(table)
    plain = re.sub(r"\\[\\{}&%#_$]", "", latex)
    assert plain.count("{") == plain.count("}")
    rows = [line for line in latex.splitlines() if line.endswith(r"\\") and not line.startswith(r"\caption")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {2}
    lines = to_markdown(table).splitlines()[2:]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[: 2 + len(body)]} == {4}


def test_symbols_become_mathematics():
    assert escape_latex("K ≤ d, σ_p × ν ≥ 3") == r"K $\leq$ d, $\sigma$\_p $\times$ $\nu$ $\geq$ 3"


def test_alignment_follows_the_columns():
    table = WideTable(
        ["a"], ["b", "c"], [(["x"], [Cell("1"), Cell("2")])], "A caption", [], columns=("l", "p{2cm}", "r")
    )
    assert to_markdown(table).splitlines()[3] == "| :-- | :-- | --: |"
    assert r"\begin{tabular}{lp{2cm}r}" in to_latex(table)
