"""What a machine without a GPU trains, refuses to train and leaves as a gap; a stand-in for `tgmm` does the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workflow_project import ROOT, read_job_table

from tgmm import devices
from tgmm.errors import UserError
from tgmm.study import MODEL_FILES, Study, load_study, plan_training
from tgmm.study.training_plan import in_words
from tgmm.workflow_guard import LEFT_OUT, tell_jobs, told_by_workflow

TRAINED = ("isotropic-d8-n128-components", "isotropic-d8-n128-matched")
ALLOWED = "allow_cpu_training=true"
PAPER = ("--config", "scale=paper", "device=cpu")


@pytest.fixture(scope="module")
def paper() -> Study:
    return load_study(ROOT / "config.yaml", "paper")


def write_model(root: Path, study: Study, family: str, **changes: object) -> None:
    """A model's files, as far as the plan reads them."""
    folder = root / study.results / "models" / family
    folder.mkdir(parents=True)
    for name in MODEL_FILES:
        (folder / name).touch()
    settings = study.train_settings(family) | changes
    (folder / "config.json").write_text(json.dumps({"settings": settings}))


# --- the decision --------------------------------------------------------------------------------------------------


def test_a_study_of_hours_is_trained_as_it_is(tmp_path):
    study = load_study(ROOT / "config.yaml", "laptop")
    plan = plan_training(study, tmp_path, cores=1)
    assert (plan.study, plan.trainable, plan.recipe_study, plan.notice) == (study, tuple(study.families), True, "")


def test_years_of_training_are_refused_in_one_line(paper, tmp_path):
    with pytest.raises(UserError) as refused:
        plan_training(paper, tmp_path, cores=2)
    line = str(refused.value)
    assert "\n" not in line
    for words in ("'paper'", "years on the 2 core(s)", "`dvc pull`", "scale=laptop", f"--config {ALLOWED}"):
        assert words in line


def test_families_that_are_not_trained_become_gaps(paper, tmp_path):
    for family in TRAINED:
        write_model(tmp_path, paper, family)
    plan = plan_training(paper, tmp_path, cores=2)
    assert plan.trainable == ()
    assert not plan.recipe_study
    assert tuple(plan.study.families) == TRAINED
    assert f"{len(paper.families) - 2} of {len(paper.families)} families" in plan.notice
    assert "\n" not in plan.notice
    assert ("effectiveness-d8", "tgmm-components") in plan.study.scores
    assert ("effectiveness-d8", "tgmm-reference") not in plan.study.scores
    assert ("effectiveness-d2", "em") in plan.study.scores


def test_artefacts_show_the_families_that_are_there_and_name_the_others(paper):
    study = paper.without(set(paper.families) - set(TRAINED), recipe_study=False)
    curves = study.artefact_settings("fig-training")
    assert set(curves["families"]) == set(TRAINED)
    assert curves["untrained"][0] == "isotropic-d2-n128-reference"
    assert "untrained" not in paper.artefact_settings("fig-training")
    assert {"fig-backbone-scale", "fig-probe-picture"} <= set(study.left_out)
    assert not set(study.left_out) & set(study.figures + study.tables)
    assert study.artefact_settings("fig-effectiveness") == paper.artefact_settings("fig-effectiveness")
    assert study.recipe_studies == []


def test_a_model_of_other_settings_is_none_of_the_study(paper, tmp_path):
    write_model(tmp_path, paper, TRAINED[0])
    write_model(tmp_path, paper, TRAINED[1], seed=paper.config["seed"] + 1)
    assert tuple(plan_training(paper, tmp_path, cores=2).study.families) == TRAINED[:1]


def test_a_job_is_told_what_its_workflow_left_out(paper, monkeypatch):
    monkeypatch.setenv(LEFT_OUT, "something else")
    gaps = set(paper.families) - set(TRAINED)
    tell_jobs(gaps)
    assert set(told_by_workflow()) == gaps
    assert tuple(paper.without([*told_by_workflow(), "recipe-study"]).families) == TRAINED
    tell_jobs([])
    assert told_by_workflow() == []


@pytest.mark.parametrize("missing", MODEL_FILES)
def test_half_a_model_is_none(paper, tmp_path, missing):
    for family in TRAINED:
        write_model(tmp_path, paper, family)
    (tmp_path / paper.results / "models" / TRAINED[0] / missing).unlink()
    assert tuple(plan_training(paper, tmp_path, cores=2).study.families) == TRAINED[1:]


def test_what_is_there_is_never_trained_again_by_accident(paper, tmp_path):
    for family in paper.families:
        write_model(tmp_path, paper, family)
    recipes = tmp_path / paper.results / "recipes"
    recipes.mkdir()
    (recipes / "all.csv").touch()
    plan = plan_training(paper, tmp_path, cores=2)
    assert (plan.study, plan.trainable, plan.recipe_study, plan.notice) == (paper, (), False, "")


@pytest.mark.parametrize(
    ("hours", "words"), [(0.64, "0.64 hours"), (30, "30 hours"), (289, "12 days"), (2e4, "2.3 years")]
)
def test_times_are_readable(hours, words):
    assert in_words(hours) == words


@pytest.mark.parametrize(
    ("device", "gpus", "on_cpu"), [("auto", 0, True), ("auto", 1, False), ("cpu", 1, True), ("cuda", 0, False)]
)
def test_training_runs_on_the_cpu_where_it_is_told_to_or_there_is_no_gpu(monkeypatch, device, gpus, on_cpu):
    monkeypatch.setattr(devices, "count_gpus", lambda: gpus)
    assert devices.trains_on_cpu(device) == on_cpu


# --- the workflow --------------------------------------------------------------------------------------------------


def test_the_workflow_refuses_years_of_training_unless_they_are_allowed(project):
    result = project.snakemake("-n", *PAPER)
    own = ("Using workflow", "Config file")
    lines = [line for line in result.stderr.splitlines() if line and not line.startswith(own)]
    assert result.returncode == 2
    assert len(lines) == 1
    assert lines[0].startswith("scale 'paper' has no trained network here, and training takes about ")
    assert project.planned(*PAPER, ALLOWED)["train_family"] == len(load_study(ROOT / "config.yaml", "paper").families)


def test_the_workflow_draws_what_is_trained_and_trains_nothing(project, paper):
    for family in TRAINED:
        write_model(project.folder, paper, family)
    result = project.snakemake("-n", "-p", *PAPER)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("stay gaps") == 1
    jobs = read_job_table(result.stdout + result.stderr)
    kept = paper.without(set(paper.families) - set(TRAINED), recipe_study=False)
    assert "train_family" not in jobs
    assert jobs["draw_figure"] == len(kept.figures)
    assert jobs["write_table"] == len(kept.tables)
    assert jobs["score_baseline"] + jobs["score_network"] == len(kept.scores)
    assert "--left-out fig-backbone-scale" in result.stdout
    assert "--absent isotropic-d2-n128-reference" in result.stdout


def test_a_cluster_may_train(project):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    jobs = project.planned("--workflow-profile", "profiles/slurm", *PAPER)
    assert jobs["train_family"] == len(load_study(ROOT / "config.yaml", "paper").families)
