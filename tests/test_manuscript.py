"""The paper is set from the results, shows their numbers, and says which result is missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from synthetic_scores import METHODS, probe_table, write_model, write_scores, write_theory
from tgmm.aggregate import aggregate
from tgmm.errors import UserError
from tgmm.figures.draw import draw_figure
from tgmm.manuscript import build_paper, in_numerical_order, required_files
from tgmm.tables.registry import write_table

SOURCE = Path(__file__).parents[1] / "paper"
FAMILIES = ["isotropic-d8-n128-components", "isotropic-d32-n128-components"]
TWINS = ["fig-effectiveness-accuracy", "fig-effectiveness-log-likelihood"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with the manuscript's source and all that it needs."""
    root = tmp_path_factory.mktemp("study")
    shutil.copytree(SOURCE, root / "paper", ignore=shutil.ignore_patterns("build"))
    results = root / "results" / "smoke"
    files = write_scores(results / "scores", dimensions=(2, 8), components=(2, 3), tasks=16, scale="smoke")
    aggregate(files, results / "summary.parquet", results / "summary.json", resamples=50)
    histories = {name: write_model(results / "models" / name, name) / "history.csv" for name in FAMILIES}
    common = {"taskset": "effectiveness", "methods": list(METHODS), "scale": "smoke"}
    settings = common | {"kind": "metric-against-dimension", "metric": "l2_error"}
    drawn, _ = draw_figure(settings, results / "summary.parquet", results / "figures/fig-effectiveness")
    for name in TWINS:
        shutil.copy(drawn, results / f"figures/{name}.pdf")
    curves = {"kind": "training-curves", "families": FAMILIES, "scale": "smoke"}
    draw_figure(curves, results / "summary.parquet", results / "figures/fig-training", histories)
    table = common | {"kind": "score-table", "metric": "l2_error"}
    write_table(table, results / "summary.parquet", results / "tables/tab-effectiveness")
    theory = write_theory(results / "theory")
    for name in ("em", "power"):
        settings = {"kind": f"theorem-{name}", "scale": "smoke"}
        draw_figure(settings, theory / f"{name}.csv", results / f"figures/fig-theorem-{name}")
    (results / "probes").mkdir()
    probed = [probe_table(dimension) for dimension in (2, 8)]
    for rows in probed:
        rows.to_csv(results / f"probes/{rows.family.iloc[0]}.csv", index=False)
    settings = {"kind": "probes", "families": [rows.family.iloc[0] for rows in probed], "scale": "smoke"}
    sources = {name: results / f"probes/{name}.csv" for name in settings["families"]}
    drawn, _ = draw_figure(settings, next(iter(sources.values())), results / "figures/fig-probes", sources)
    shutil.copy(drawn, results / "figures/fig-probe-picture.pdf")
    write_table({"kind": "theorem-sizes-table"}, theory / "sizes.csv", results / "tables/tab-theorem-sizes")
    return root


@pytest.fixture(scope="module")
def paper(root) -> Path:
    return build_paper("smoke", root / "paper.pdf", root=root)


def words(pdf: Path) -> str:
    """The text of a PDF on one line."""
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True).stdout
    else:
        text = "\n".join(page.extract_text() for page in pytest.importorskip("pypdf").PdfReader(pdf).pages)
    return re.sub(r"\s+", " ", text)


def written(value: float) -> str:
    """Three significant digits, as the manuscript writes numbers."""
    digits = 0 if value >= 100 else len(f"{value:.2e}".split("e")[0]) - 2 - int(f"{value:.2e}".split("e")[1])
    return f"{value:.{digits}f}"


def test_paper_is_a_pdf(paper):
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.stat().st_size > 50_000


def test_numbers_of_the_text_are_those_of_the_results(root, paper):
    text = words(paper)
    numbers = json.loads((root / "results/smoke/summary.json").read_text())["effectiveness"]["d8"]
    for method in ("em", "em-restarts", "em-oracle", "tgmm-components", "tgmm-matched"):
        assert written(numbers[method]["l2_error_mean"]) in text
    table = pd.read_csv(root / "results/smoke/tables/tab-effectiveness.csv")
    for value in table.loc[table.status == "ok", ["mean", "median"]].to_numpy().ravel():
        assert written(value) in text
    assert "scale smoke (16 test tasks a cell)" in text
    assert "References" in text


def test_comparisons_follow_the_numbers(root, tmp_path):
    """With the two methods' numbers exchanged, the sentence says the opposite."""
    other = tmp_path / "study"
    shutil.copytree(root, other)
    path = other / "results/smoke/summary.json"
    numbers = json.loads(path.read_text())
    cell = numbers["effectiveness"]["d8"]
    before = words(build_paper("smoke", tmp_path / "before.pdf", root=other))
    cell["em"], cell["tgmm-components"] = cell["tgmm-components"], cell["em"]
    path.write_text(json.dumps(numbers))
    after = words(build_paper("smoke", tmp_path / "after.pdf", root=other))
    sentence = re.compile(r"times (lower|higher) than one-start EM")
    assert "lower" in sentence.findall(before)
    assert sentence.findall(before) != sentence.findall(after)
    assert "higher" in sentence.findall(after)


def test_same_results_give_the_same_bytes(root, paper, tmp_path):
    assert build_paper("smoke", tmp_path / "again.pdf", root=root).read_bytes() == paper.read_bytes()


def test_missing_artefact_is_named(root, tmp_path):
    figure = root / "results/smoke/figures/fig-training.pdf"
    figure.rename(tmp_path / "away.pdf")
    try:
        with pytest.raises(UserError, match=r"missing: results/smoke/figures/fig-training\.pdf, which the paper needs"):
            build_paper("smoke", tmp_path / "none.pdf", root=root)
    finally:
        (tmp_path / "away.pdf").rename(figure)
    with pytest.raises(UserError, match=r"missing: results/laptop/summary\.json \(and 9 more\)"):
        build_paper("laptop", tmp_path / "none.pdf", root=root)
    assert not (tmp_path / "none.pdf").exists()


def test_required_files_are_those_that_the_source_calls_for(root):
    names = {path.name for path in required_files(root, "smoke")}
    assert {"summary.json", "tab-effectiveness.csv", "fig-training.pdf", "fig-effectiveness.pdf"} <= names


def test_typst_errors_are_one_line(root, tmp_path):
    broken = tmp_path / "study"
    shutil.copytree(root, broken)
    (broken / "paper/sections/task.typ").write_text("#nonsense-function()")
    with pytest.raises(UserError, match=r"paper/main\.typ: .*nonsense") as caught:
        build_paper("smoke", tmp_path / "none.pdf", root=broken)
    assert "\n" not in str(caught.value)


def test_families_come_in_order_of_dimension():
    names = ["a-d128-n1", "a-d8-n1", "a-d32-n1"]
    assert sorted(names, key=in_numerical_order) == ["a-d8-n1", "a-d32-n1", "a-d128-n1"]


def test_theorems_are_shown_with_their_measurements(paper):
    text = words(paper)
    assert "The theorems as programs" in text
    assert "at 𝑊 = 512" in text or "at W = 512" in text
