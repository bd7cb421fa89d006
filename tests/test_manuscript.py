"""The paper is set from the results, shows their numbers, and says which result is missing."""

from __future__ import annotations

import functools
import json
import math
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader

from synthetic_scores import ALL_METHODS, METHODS, probe_table, write_model, write_scores, write_theory
from tgmm import manuscript
from tgmm.aggregate import aggregate
from tgmm.answers import QUESTIONS
from tgmm.artefacts import write_table
from tgmm.errors import UserError
from tgmm.manuscript import SUPPLEMENT, build_paper, in_numerical_order, required_files
from tgmm.study import load_study
from tgmm.tables.measurements import SORTED_FLOOR_COLUMNS as FLOOR_COLUMNS

SOURCE = Path(__file__).parents[1] / "paper"
FAMILIES = ["isotropic-d8-n128-components", "isotropic-d32-n128-components"]
SHORT = ["tgmm-components-n32", "tgmm-components-n64"]
ROBUST = [name for name in METHODS if name not in ("tgmm-matched", "tgmm-reference")]
KINDS = {"smallest-weight": [0.1, 0.02], "student-t": [3, math.inf], "outliers": [0, 0.1], "wrong-k": [-1, 0, 1]}
KINDS |= {"location": [0, 30], "scale": [0.25, 1, 4]}
SHIFTS = [{"kind": kind, "values": values} for kind, values in KINDS.items()]
PERTURBED = [{"kind": "mean", "values": [0, 5, 10]}]
# Task set -> what its scores are made with.
TASKSETS = {
    "effectiveness": {"dimensions": (2, 8), "methods": [name for name in ALL_METHODS if "standardised" not in name]},
    "sample-size": {"points": (32, 128, 256), "methods": [*ROBUST, *SHORT]},
    "mean-shift": {"shifts": PERTURBED, "methods": [*METHODS]},
    "robustness": {"shifts": SHIFTS, "methods": [name for name in ALL_METHODS if name in ROBUST or "stand" in name]},
    "anisotropic": {"dimensions": (2, 8), "covariance": "anisotropic", "methods": ROBUST},
}
RECIPES = {
    "transformer": {name: [f"tgmm-{name}"] for name in ("reference", "matched", "components")},
    "mamba2": {"matched": ["tgmm-mamba2-causal"]},
    "trained-at-32": {"components": ["tgmm-components-n32"]},
    "trained-at-64": {"components": ["tgmm-components-n64"]},
    "em-steps": {"components": ["tgmm-components-em20"]},
}
# Table -> its task set and what its settings have besides.
TABLES = {
    "tab-effectiveness": ("effectiveness", {"methods": [*METHODS]}),
    "tab-effectiveness-full": ("effectiveness", {"metrics": ["l2_error", "l2_error_reference", "dropped_reference"]}),
    "tab-backbone": ("effectiveness", {"methods": ["em", "tgmm-matched", "tgmm-mamba2", "tgmm-mamba2-causal"]}),
    "tab-sample-size-shift": ("sample-size", {}),
    "tab-mean-shift": ("mean-shift", {"shift": "mean"}),
    "tab-shifts": ("robustness", {}),
    "tab-anisotropic": ("anisotropic", {}),
    "tab-anisotropic-full": ("anisotropic", {"metrics": ["l2_error", "scale_error"]}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with the manuscript's source and all that it needs; an empty drawing stands in for the figures."""
    root = tmp_path_factory.mktemp("study")
    shutil.copytree(SOURCE, root / "paper", ignore=shutil.ignore_patterns("build"))
    results = root / "results" / "smoke"
    files = []
    for name, options in TASKSETS.items():
        cells = {"dimensions": (8,), "components": (2, 3), "tasks": 16, "scale": "smoke"} | options
        files += write_scores(results / "scores" / name, taskset=name, **cells)
    aggregate(files, results / "summary.parquet", results / "summary.json", resamples=50, recipes=RECIPES)
    write_theory(results / "theory")
    write_floor(results / "theory/sorted-floor.csv")
    write_tables(results)
    (results / "probes").mkdir()
    for dimension in (2, 8):
        rows = probe_table(dimension)
        rows.to_csv(results / f"probes/{rows.family.iloc[0]}.csv", index=False)
    for name in FAMILIES:
        write_model(results / "models" / name, name)
    (results / "figures").mkdir()
    Figure(figsize=(1, 1)).savefig(results / "figures/fig-training.pdf", metadata={"CreationDate": None})
    for path in required_files(root, "smoke"):
        if path.suffix == ".pdf" and path.stem != "fig-training":
            shutil.copy(results / "figures/fig-training.pdf", path)
    return root


def write_tables(results: Path) -> None:
    """Every table of the manuscript."""
    for name, (taskset, more) in TABLES.items():
        kind = "full-table" if "metrics" in more else "score-table"
        settings = {"id": name, "kind": kind, "taskset": taskset, "scale": "smoke", "metric": "l2_error"}
        settings |= {"methods": TASKSETS[taskset]["methods"]} | more
        write_table(settings, results / "summary.parquet", results / "tables" / name)
    families = pd.read_parquet(results / "summary.parquet", columns=["family"])["family"].unique()
    record = results / "flat.csv"
    pd.DataFrame({"tasks": [100, 200, 300], "validation_l2_error": [1.0, 0.5, 0.5]}).to_csv(record, index=False)
    claims = {"kind": "claims-table", "scale": "smoke", "recipes": RECIPES}
    records = dict.fromkeys(families, record)
    write_table(claims, results / "summary.parquet", results / "tables/tab-claims", records)
    theory = {
        "tab-theorem-sizes": ("theorem-sizes-table", "sizes"),
        "tab-sorted-floor": ("sorted-floor-table", "sorted-floor"),
    }
    for name, (kind, source) in theory.items():
        write_table({"kind": kind}, results / f"theory/{source}.csv", results / "tables" / name)


def write_floor(path: Path) -> None:
    """Invented measurements of the sorted loss's floor."""
    cells = [
        {"d": d, "K": K, "approach": approach, "mean": 0.7 * K + 0.031 * d - 0.2 * (approach != "known labels")}
        for d in (2, 8) for K in (2, 3) for approach in ("known labels", "importance sampling")
    ]  # fmt: skip
    rows = [dict.fromkeys(FLOOR_COLUMNS, 0.25) | {"N": 128, "n_tasks": 64, "seed": 2505} | cell for cell in cells]
    pd.DataFrame(rows).assign(oracle_mean=0.02, effective_samples=612.4, few_samples=0.125).to_csv(path, index=False)


@pytest.fixture(scope="module")
def paper(root) -> Path:
    return build_paper("smoke", root / "paper.pdf", root=root)


@functools.cache
def words(pdf: Path) -> str:
    """The text of a PDF on one line."""
    return re.sub(r"\s+", " ", "\n".join(page.extract_text() for page in PdfReader(pdf).pages))


def written(value: float) -> str:
    """Three significant digits, as the manuscript writes numbers."""
    digits = 0 if value >= 100 else len(f"{value:.2e}".split("e")[0]) - 2 - int(f"{value:.2e}".split("e")[1])
    return f"{value:.{digits}f}"


def changed_study(root: Path, folder: Path) -> Path:
    """A copy of the study, to change its results."""
    return Path(shutil.copytree(root, folder / "study"))


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


@pytest.mark.slow
def test_comparisons_follow_the_numbers(root, paper, tmp_path):
    """With the two methods' numbers exchanged, the sentence says the opposite."""
    other = changed_study(root, tmp_path)
    path = other / "results/smoke/summary.json"
    numbers = json.loads(path.read_text())
    cell = numbers["effectiveness"]["d8"]
    before = words(paper)
    cell["em"], cell["tgmm-components"] = cell["tgmm-components"], cell["em"]
    path.write_text(json.dumps(numbers))
    after = words(build_paper("smoke", tmp_path / "after.pdf", root=other))
    sentence = re.compile(r"times (lower|higher) than one-start EM")
    assert "lower" in sentence.findall(before)
    assert sentence.findall(before) != sentence.findall(after)
    assert "higher" in sentence.findall(after)


def test_same_results_give_the_same_bytes(root, paper, tmp_path):
    assert build_paper("smoke", tmp_path / "again.pdf", root=root).read_bytes() == paper.read_bytes()


@pytest.mark.slow
def test_a_layout_that_does_not_settle_is_made_with_the_figures_in_place(root, tmp_path, monkeypatch):
    """Moving figures may end in an endless exchange with the citations, which Typst reports as a missing citation."""
    asked = []

    def compile_source(root, out, inputs, document):
        asked.append(inputs["floating"])
        if inputs["floating"] == "yes":
            return "citation could not be located"
        return compiled(root, out, inputs, document)

    compiled = manuscript.compile_source
    monkeypatch.setattr(manuscript, "compile_source", compile_source)
    assert build_paper("smoke", tmp_path / "paper.pdf", root=root).read_bytes().startswith(b"%PDF")
    assert asked == ["yes", "no"]
    monkeypatch.setattr(manuscript, "compile_source", lambda *_: "citation could not be located")
    with pytest.raises(UserError, match="citation could not be located"):
        build_paper("smoke", tmp_path / "none.pdf", root=root)


def test_missing_artefact_is_named(root, tmp_path):
    figure = root / "results/smoke/figures/fig-training.pdf"
    figure.rename(tmp_path / "away.pdf")
    try:
        with pytest.raises(UserError, match=r"missing: results/smoke/figures/fig-training\.pdf, which the paper needs"):
            build_paper("smoke", tmp_path / "none.pdf", root=root)
    finally:
        (tmp_path / "away.pdf").rename(figure)
    others = len(required_files(root, "laptop")) - 1
    with pytest.raises(UserError, match=rf"missing: results/laptop/summary\.json \(and {others} more\)"):
        build_paper("laptop", tmp_path / "none.pdf", root=root)
    assert not (tmp_path / "none.pdf").exists()


def test_required_files_are_those_that_the_source_calls_for(root):
    names = {path.name for path in required_files(root, "smoke")}
    assert {"summary.json", "tab-effectiveness.csv", "fig-training.pdf", "fig-effectiveness.pdf"} <= names
    assert {"tab-claims.csv", "tab-sorted-floor.csv", "em.csv", "power.csv", "fig-shifts-accuracy.pdf"} <= names
    assert all(path.is_file() for path in required_files(root, "smoke"))


def test_typst_errors_are_one_line(root, tmp_path):
    broken = changed_study(root, tmp_path)
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


# --- claims --------------------------------------------------------------------------------------------------------


def counted(claims: pd.DataFrame, theorems: int = 2) -> str:
    """What the manuscript says of the verdicts of the paper's own recipe."""
    own = claims.drop_duplicates("claim")
    counts = own.verdict.value_counts()
    kept, open_ = counts.get("reproduced", 0) + theorems, counts.get("undecided", 0)
    lost = counts.get("not reproduced", 0) + 2 - theorems
    total = len(own) + 2
    return (
        f"Of {total} claims, {kept} are reproduced with the paper’s own recipe, {lost} are not reproduced, {open_} are "
        f"undecided and {total - kept - open_ - lost} are not tested"
    )


def test_every_claim_stands_with_its_verdicts_and_figure(root, paper):
    text = words(paper)
    claims = pd.read_csv(root / "results/smoke/tables/tab-claims.csv", keep_default_na=False)
    assert counted(claims) in text
    for claim in claims.itertuples():
        assert claim.text.split()[0] in text
        assert claim.verdict in text
        assert f"{claim.cells_hold} of {claim.cells - claim.cells_missing}" in text
    assert "Theorem 1: a transformer" in text


@pytest.mark.slow
def test_verdicts_follow_the_results(root, tmp_path):
    """Other verdicts, and a theorem that fails, change what is said."""
    study = changed_study(root, tmp_path)
    path = study / "results/smoke/tables/tab-claims.csv"
    claims = pd.read_csv(path, keep_default_na=False)
    claims["verdict"] = [("reproduced", "undecided", "not reproduced")[row % 3] for row in range(len(claims))]
    claims.to_csv(path, index=False)
    theory = study / "results/smoke/theory/em.csv"
    em = pd.read_csv(theory)
    em.loc[em.W.eq(em.W.max()) & em.L.eq(em.L.max()) & ~em.exact, "largest"] = 0.5
    em.to_csv(theory, index=False)
    text = words(build_paper("smoke", tmp_path / "paper.pdf", root=study))
    assert counted(claims, theorems=1) in text
    assert counted(pd.read_csv(root / "results/smoke/tables/tab-claims.csv", keep_default_na=False)) not in text


@pytest.mark.slow
def test_a_claim_that_another_recipe_reproduces_is_named(root, tmp_path):
    study = changed_study(root, tmp_path)
    path = study / "results/smoke/tables/tab-claims.csv"
    claims = pd.read_csv(path, keep_default_na=False).assign(verdict="not reproduced")
    claims.loc[(claims.claim == "small-at-two") & (claims.recipe == "matched"), "verdict"] = "reproduced"
    claims.to_csv(path, index=False)
    text = words(build_paper("smoke", tmp_path / "paper.pdf", root=study))
    assert re.search(r"With another recipe 1 more are reproduced: near zero at \S+ = 2\.", text)


@pytest.mark.slow
def test_dependence_on_the_evaluator_and_on_the_single_start_is_read_from_the_claims(root, tmp_path):
    study = changed_study(root, tmp_path)
    path = study / "results/smoke/tables/tab-claims.csv"
    answer = "reproduced (2 of 2 cells hold)"
    claims = pd.read_csv(path, keep_default_na=False)
    claims = claims.assign(verdict="reproduced", reference_evaluator=answer, strong_baseline=answer)
    claims.to_csv(path, index=False)
    firm = words(build_paper("smoke", tmp_path / "firm.pdf", root=study))
    assert "No verdict changes when the reference evaluator scores the same estimates" in firm
    assert "these no longer hold" not in firm
    weak = (claims.claim == "local-optima") & (claims.recipe == "matched")
    claims.loc[weak, ["reference_evaluator", "strong_baseline"]] = "not reproduced (1 of 2 cells hold, 1 fail)"
    claims.to_csv(path, index=False)
    text = words(build_paper("smoke", tmp_path / "weak.pdf", root=study))
    assert re.search(r"The verdict changes under the reference evaluator for: below EM for \S+ > 2 \(matched\)\.", text)
    assert re.search(r"these no longer hold in every cell: below EM for \S+ > 2 \(matched\)\.", text)


# --- tables, shifts, gaps ------------------------------------------------------------------------------------------


def test_tables_name_their_cells_by_what_varies(root, paper):
    text = words(paper)
    for name in ("unequal weights", "heavier tails", "outliers", "moved data", "other units"):
        assert name in text
    for table in ("tab-mean-shift", "tab-shifts", "tab-sample-size-shift", "tab-anisotropic", "tab-backbone"):
        rows = pd.read_csv(root / f"results/smoke/tables/{table}.csv")
        for value in rows.loc[rows.status == "ok", "mean"]:
            assert written(value) in text


def test_floor_of_the_sorted_loss_is_that_of_the_results(root, paper):
    rows = pd.read_csv(root / "results/smoke/theory/sorted-floor.csv")
    known = rows[(rows.d == 8) & (rows.approach == "known labels")]["mean"].mean()
    assert f"the minimiser given the labels has an error of {written(known)}" in words(paper)


@pytest.mark.slow
def test_results_with_gaps_still_make_a_paper(root, tmp_path):
    """No network but the component one, no family of several sample sizes, no record of any training."""
    study = changed_study(root, tmp_path)
    results = study / "results/smoke"
    shutil.rmtree(results / "models")
    for path in (results / "tables").glob("tab-*.csv"):
        rows = pd.read_csv(path)
        if "status" in rows:
            gone = rows.method.str.startswith("tgmm") & (rows.method != "tgmm-components")
            rows.loc[gone, "status"], rows.loc[gone, ["mean", "low", "high", "median"]] = "gap", math.nan
            rows.to_csv(path, index=False)
    path = results / "summary.json"
    numbers = json.loads(path.read_text())
    for name in [name for name in numbers if name != "meta"]:
        for methods in numbers[name].values():
            for method in [method for method in methods if method.startswith("tgmm")]:
                del methods[method]
    path.write_text(json.dumps(numbers))
    text = words(build_paper("smoke", tmp_path / "paper.pdf", root=study))
    assert "lacks a score, so the comparison is not made" in text


def test_a_figure_that_a_scale_does_not_have_is_a_line_in_the_text(root, paper, tmp_path):
    """Neither it nor a family that is not trained is looked for, whatever lies there of an earlier run."""
    study = changed_study(root, tmp_path)
    results = study / "results/smoke"
    for name in ("fig-backbone-scale", "fig-probe-picture"):
        (results / f"figures/{name}.pdf").unlink()
    options = {"left_out": ["fig-backbone-scale", "fig-probe-picture"], "absent": ["isotropic-d2-n128-components"]}
    text = words(build_paper("smoke", tmp_path / "paper.pdf", root=study, **options))
    assert text.count("Not drawn: no network that this figure shows is trained at the scale smoke.") == 2
    whole = words(paper)
    assert "Not drawn" not in whole
    assert whole.count("A linear probe of the tokens") == text.count("A linear probe of the tokens") + 1


# --- the supplement ---


@pytest.fixture(scope="module")
def supplied(root, tmp_path_factory) -> Path:
    """A study with something in the place of every answer to the reviewers."""
    study = changed_study(root, tmp_path_factory.mktemp("supplement"))
    results = study / "results/smoke"
    for path in required_files(study, "smoke", document=SUPPLEMENT):
        stands_in = {".pdf": "figures/fig-effectiveness.pdf", ".csv": "tables/tab-effectiveness.csv"}
        if path.suffix in stands_in:
            shutil.copy(results / stands_in[path.suffix], path)
    told = {question: f"This answers number {place}." for place, question in enumerate(QUESTIONS)}
    (results / "tables/answers.json").write_text(json.dumps(told))
    return study


def test_the_supplement_gives_every_answer(supplied):
    pdf = build_paper("smoke", supplied / "supplement.pdf", root=supplied, document=SUPPLEMENT)
    text = words(pdf)
    assert all(f"This answers number {place}." in text for place in range(len(QUESTIONS)))
    assert "scale smoke" in text
    assert "denoised method of moments [" in text


def test_the_supplement_shows_every_figure_for_the_reviewers():
    wanted = {f"figures/{name}.pdf" for name in load_study(SOURCE.parent / "config.yaml").names("fig-", "reviewers")}
    shown = {str(path.relative_to(SOURCE.parent / "results/laptop")) for path in
             required_files(SOURCE.parent, "laptop", document=SUPPLEMENT)}  # fmt: skip
    assert wanted == {name for name in shown if name.startswith("figures/")}


def test_the_supplement_says_which_target_makes_what_is_missing(root, tmp_path):
    with pytest.raises(UserError, match=r"missing: results/smoke/tables/answers\.json .* -- reviewers"):
        build_paper("smoke", tmp_path / "none.pdf", root=root, document=SUPPLEMENT)
