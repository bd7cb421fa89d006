"""Tables against pandas on the raw scores, and their Markdown and LaTeX."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from synthetic_scores import METHODS, method_scores, write_scores
from tgmm.aggregate import aggregate
from tgmm.artefacts import write_table
from tgmm.cli.common import load_settings
from tgmm.errors import UserError
from tgmm.tables.render import escape_latex, write_number, write_percent

SETTINGS = {
    "id": "tab-effectiveness", "kind": "score-table", "taskset": "effectiveness", "metric": "l2_error",
    "methods": list(METHODS), "scale": "laptop", "dimensions": [2, 8, 32], "n_components": [2, 3],
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with summary and table; d = 2 and 32, so that some networks are missing."""
    folder = tmp_path_factory.mktemp("tables")
    results = folder / "results" / "laptop"
    files = write_scores(results / "scores", dimensions=(2, 8, 32), components=(2, 3), tasks=32)
    aggregate(files, results / "summary.parquet", results / "summary.json", resamples=100)
    write_table(SETTINGS, results / "summary.parquet", results / "tables" / "tab-effectiveness")
    return folder


@pytest.fixture(scope="module")
def table(study) -> pd.DataFrame:
    return pd.read_csv(study / "results/laptop/tables/tab-effectiveness.csv")


def test_tables_do_not_wait_for_the_drawing_library():
    code = "import sys, tgmm.tables.scores; print(sorted({'matplotlib', 'torch'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_csv_equals_pandas_on_the_raw_scores(table):
    raw = pd.concat([method_scores(name, dimensions=(2, 8, 32), components=(2, 3), tasks=32) for name in METHODS])
    expected = raw[~raw.failed].groupby(["method", "d", "K"])["l2_error"].agg(["mean", "median"])
    found = table[table.status == "ok"].set_index(["method", "d", "K"])
    assert set(found.index) == set(expected.index)
    written = expected.map(lambda value: float(f"{value:.8g}"))  # the file has eight digits
    np.testing.assert_allclose(found.loc[expected.index, ["mean", "median"]], written, rtol=1e-9)


def test_every_method_has_a_row_in_every_cell(table):
    assert len(table) == len(METHODS) * 3 * 2
    spectral = table[(table.method == "spectral") & (table.d == 2) & (table.K == 3)].iloc[0]
    assert spectral.status == "failed"
    assert spectral.failure_share == 1.0
    assert set(table[(table.method == "tgmm-reference") & (table.d == 32)].status) == {"not run"}


def test_markdown_shows_every_cell_and_the_floor_last(study, table):
    text = (study / "results/laptop/tables/tab-effectiveness.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0].endswith("| EM from the truth |")
    assert len(lines) == 2 + 6
    assert {line.count("|") for line in lines} == {len(METHODS) + 3}
    row = table[(table.method == "em") & (table.d == 8) & (table.K == 3)].iloc[0]
    assert f"{write_number(row['mean'])} / {write_number(row['median'])}<br>" in lines[5]
    assert "fails" in lines[3]
    assert "scale laptop · 32 tasks a cell" in text
    assert "seed 2505" in text


def test_best_mean_is_bold_and_never_the_floor(study):
    lines = (study / "results/laptop/tables/tab-effectiveness.md").read_text().splitlines()
    for line in [line for line in lines if line.startswith("|")][2:]:
        assert "**" in line
        assert "**" not in line.split("|")[-2]


def test_latex_is_well_formed(study):
    text = (study / "results/laptop/tables/tab-effectiveness.tex").read_text()
    assert r"\toprule" in text
    assert r"\bottomrule" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + 2 * 6
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(METHODS) + 1}
    assert text.count("{") == text.count("}")
    assert len(re.findall(r"(?<!\\)%", text)) == 2  # the comment line and the one behind resizebox
    assert text.isascii()


def test_latex_escapes():
    assert escape_latex("5 % of a_b & <c>") == r"5 \% of a\_b \& \textless{}c\textgreater{}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0190, ".0190"), (0.44449, ".444"), (1.0561, "1.06"), (16.31, "16.3"), (312.4, "312"), (0.0, "0"),
     (-12.43, "-12.4"), (3.1e-4, "3.1e-4"), (0.9999, "1.00"), (9.999, "10.0"), (0.09999, ".100"),
     (float("nan"), ""), (float("inf"), "∞"), (-0.25, "-.250")],
)  # fmt: skip
def test_numbers(value, text):
    assert write_number(value) == text


def test_small_shares_are_not_written_as_zero():
    assert [write_percent(share) for share in (0, 1e-4, 0.015, 0.75)] == ["0 %", "<0.1 %", "1.5 %", "75 %"]


def test_bad_settings_are_refused(study):
    summary = study / "results/laptop/summary.parquet"
    for change, message in [
        ({"metric": "l2_eror"}, "did you mean 'l2_error'"),
        ({"taskset": "effectivness"}, "did you mean 'effectiveness'"),
        ({"kind": "score-tabel"}, "did you mean 'score-table'"),
        ({"methods": ["nothing"]}, "no scores of the methods nothing"),
    ]:
        with pytest.raises(UserError, match=message):
            write_table(SETTINGS | change, summary, study / "x")
    incomplete = {key: value for key, value in SETTINGS.items() if key != "taskset"}
    with pytest.raises(UserError, match="missing key 'taskset'"):
        write_table(incomplete, summary, study / "x")
    assert not list(study.glob("x*"))


def test_settings_are_json_text_or_a_file(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"a": 1}')
    assert load_settings(None) is None
    assert load_settings(' {"a": 1}') == load_settings(str(path)) == {"a": 1}
    for bad, message in [("{a}", "not valid JSON"), ("[1]", "must be a JSON object"), ("gone.json", "cannot be read")]:
        with pytest.raises(UserError, match=message) as caught:
            load_settings(bad)
        assert "\n" not in str(caught.value)


# --- gaps --------------------------------------------------------------------------------------------------------


RECIPES = {"transformer": {"matched": ["tgmm-matched"], "components": ["tgmm-components"]}}
GAP_METHODS = ["em", "em-restarts", "tgmm-matched", "tgmm-components", "em-oracle"]


@pytest.fixture(scope="module")
def summary_path(tmp_path_factory):
    """Scores of the baselines and one network; those of the other network are not there."""
    folder = tmp_path_factory.mktemp("gaps")
    scored = [name for name in GAP_METHODS if name != "tgmm-matched"]
    files = write_scores(folder / "scores", dimensions=(2, 8), components=(2, 3), tasks=16, methods=scored)
    aggregate(files, folder / "summary.parquet", folder / "summary.json", resamples=50, recipes=RECIPES)
    return folder / "summary.parquet"


@pytest.mark.parametrize("kind", ["score-table", "full-table"])
def test_tables_say_that_a_network_is_not_trained(summary_path, tmp_path, kind):
    settings = {"id": "tab", "kind": kind, "taskset": "effectiveness", "metric": "l2_error", "methods": GAP_METHODS}
    write_table(settings | {"metrics": ["l2_error", "accuracy"]}, summary_path, tmp_path / "tab")
    rows = pd.read_csv(tmp_path / "tab.csv")
    assert set(rows.loc[rows["method"] == "tgmm-matched", "status"]) == {"not run"}
    rest = ", not applicable, or not defined." if kind == "full-table" else ", or not applicable."
    assert f"not trained, not run at this scale{rest}" in (tmp_path / "tab.md").read_text()


def test_a_claim_names_the_networks_that_are_missing(summary_path, tmp_path):
    entry = {"id": "tab-claims", "kind": "claims-table", "scale": "paper", "recipes": RECIPES}
    record = tmp_path / "history.csv"
    pd.DataFrame({"tasks": [1, 2, 3], "validation_l2_error": [1.0, 0.5, 0.5]}).to_csv(record, index=False)
    families = ["isotropic-d2-n128-components", "isotropic-d8-n128-components"]
    write_table(entry, summary_path, tmp_path / "tab", dict.fromkeys(families, record))
    claims = pd.read_csv(tmp_path / "tab.csv", keep_default_na=False).set_index(["claim", "recipe"])
    for recipe in ("reference", "matched"):
        row = claims.loc["local-optima", recipe]
        assert (row["verdict"], row["missing"]) == ("not tested", "d = 2, 8")
    assert claims.loc[("mamba2-works", "reference, Mamba2"), "verdict"] == "not tested"
    assert claims.loc[("local-optima", "components"), "missing"] == ""
