"""What Snakemake runs, and runs again: with a stand-in for `tgmm`, so that only the workflow itself is at work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from workflow_project import ROOT, Project, read_job_table

from tgmm.study import Study, load_study

FIGURES_AND_AFTER = {"draw_figure", "write_table", "paper", "fit_plane", "build_page", "all"}


SCALES = ("smoke", "paper")


def expected_jobs(scale: str) -> dict[str, int]:
    """Jobs of a whole run, from the study."""
    study = load_study(ROOT / "config.yaml", scale)
    pictured = [family for family, picture in study.probed.items() if picture]
    jobs = {
        "sample_tasks": len(study.default_tasksets),
        "train_family": len(study.default_families),
        **dict.fromkeys(score_jobs(study), 1),
        "summarise_scores": 1,
        "measure_theorem": len(study.measurements),
        "probe_family": len(study.probed) - len(pictured),
        "probe_family_with_picture": len(pictured),
        "draw_figure": len(study.names("fig-")),
        "write_table": len(study.names("tab-")),
        "paper": 1,
        "fit_plane": 1,
        "build_page": 1,
        "all": 1,
    }
    return {name: count for name, count in jobs.items() if count}


def score_jobs(study: Study, *methods: str) -> set[str]:
    """Names of the jobs that score some methods, or all."""
    return {
        f"score_{group}_on_{taskset}".replace("-", "_")
        for taskset in study.tasksets
        for group, members in study.score_groups(taskset).items()
        if not methods or set(methods) & set(members)
    }


@pytest.mark.parametrize(
    "scale", ["overnight", *(pytest.param(name, marks=pytest.mark.slow) for name in ("smoke", "paper"))]
)
def test_a_dry_run_plans_the_whole_study(project, scale):
    assert project.planned("--config", f"scale={scale}", "allow_cpu_training=true") == expected_jobs(scale)


@pytest.mark.slow
def test_the_answers_to_the_reviewers_are_a_target_of_their_own(project):
    study = load_study(ROOT / "config.yaml", "smoke")
    planned = project.planned("--config", "scale=smoke", "allow_cpu_training=true", "--", "reviewers")
    assert {name for name in planned if name.startswith("score_")}
    assert planned["draw_figure"] == len(study.names("fig-", "reviewers")) == 8
    assert planned["write_table"] == len(study.names("tab-", "reviewers")) == 10
    assert planned["answer_reviewers"] == planned["supplement"] == 1
    assert not {"paper", "build_page", "summarise_scores"} & set(planned)
    assert not set(study.names("fig-", "reviewers")) & set(study.names("fig-"))


def test_a_run_makes_everything_and_a_second_has_nothing_to_do(finished):
    assert read_job_table(finished.output) == expected_jobs("laptop")
    study = load_study(ROOT / "config.yaml")
    for name in study.names("fig-"):
        assert (finished.folder / f"results/laptop/figures/{name}.png").is_file()
    assert (finished.folder / "results/laptop/paper.pdf").is_file()
    assert "Nothing to be done" in finished.snakemake("-n").stdout


def test_progress_reaches_the_terminal_and_the_log_and_threads_reach_the_command(finished):
    line = "train isotropic-d8-n128-components started with 1 threads"
    assert line in finished.output
    assert line in (finished.folder / "logs/laptop/models/isotropic-d8-n128-components.log").read_text()
    log = finished.folder / "logs/laptop/scores/effectiveness-d8-baselines.log"
    assert "started with 1 threads" in log.read_text()


def test_commands_get_the_settings_of_the_study(finished):
    study = load_study(ROOT / "config.yaml")
    text = (finished.folder / "results/laptop/models/isotropic-d8-n128-components/config.json").read_text()
    assert json.loads(text[text.index("{") :]) == study.train_settings("isotropic-d8-n128-components")


@pytest.mark.slow
def test_cosmetic_edits_rerun_nothing(rerun):
    rerun.replace("config.yaml", "seed: 2505", "# The seed.\nseed:   2505")
    rerun.replace("config.yaml", "device: auto", "device: cpu")
    with (rerun.folder / "src/tgmm/losses.py").open("a") as file:
        file.write("\n\nA_REFACTORING = True\n")
    for path in rerun.folder.glob("results/laptop/tasks/*"):
        path.touch()
    assert rerun.planned() == {}


@pytest.mark.slow
def test_a_budget_reruns_only_what_depends_on_it(rerun):
    study = load_study(ROOT / "config.yaml")
    tasks = study.config.training["matched"].tasks
    jobs = rerun.planned("--config", f"training={{matched: {{tasks: {tasks + 32}}}}}")
    matched = [name for name, family in study.families.items() if family.recipe == "matched"]
    assert jobs["train_family"] == len(matched)
    scored = {name for name in jobs if name.startswith("score_")}
    assert scored == score_jobs(study, "tgmm-matched")
    assert len(scored) > 1
    assert all("matched" in name for name in scored)
    assert "sample_tasks" not in jobs


@pytest.mark.slow
def test_an_artefact_reruns_alone(rerun):
    rerun.replace("config.yaml", "metric: accuracy", "metric: mean_error")
    assert rerun.planned() == {"draw_figure": 1, "paper": 1, "build_page": 1, "all": 1}


@pytest.mark.slow
def test_the_ablation_is_a_target_of_its_own(finished):
    study = load_study(ROOT / "config.yaml")
    assert not any("ablation" in name for name in read_job_table(finished.output))
    jobs = finished.planned("--", "ablation")
    assert jobs == {"run_ablation": len(study.ablations), "merge_ablation": 1, "draw_figure": 1, "write_table": 1,
                    "ablation": 1}  # fmt: skip


@pytest.mark.slow
def test_one_more_change_of_the_ablation_runs_alone(rerun):
    assert rerun.snakemake("-q", "all", "--", "ablation").returncode == 0
    assert rerun.planned("--", "ablation") == {}
    first = "  changes:\n    baseline: {}\n"
    rerun.replace("config.yaml", first, first + "    narrow: {width_share: 0.5}\n")
    ablation = load_study(ROOT / "config.yaml").config.ablation
    pairs = len(ablation.d) * len(ablation.seeds)
    assert rerun.planned("--", "ablation") == {"run_ablation": pairs, "merge_ablation": 1, "draw_figure": 1,
                                               "write_table": 1, "ablation": 1}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["fig-sample-size-shift", "fig-anisotropic", "fig-backbone-scale"])
def test_a_figure_alone_asks_for_what_it_shows(project, figure):
    study = load_study(ROOT / "config.yaml")
    shown = study.artefacts[figure]
    scores = shown.scores(study)
    asked = {*getattr(shown, "families", ()), *filter(None, (study.family_of(method, file) for file, method in scores))}
    jobs = project.planned("--", f"results/laptop/figures/{figure}.png")
    assert jobs.pop("draw_figure") == 1
    assert jobs.pop("train_family") == len(asked)
    assert len(asked) < len(study.families) / 2
    assert jobs.pop("sample_tasks", 0) == len({file for file, _ in scores})
    groups = {(file, study.family_of(method, file) or "baselines") for file, method in scores}
    assert set(jobs) == {f"score_{group}_on_{file}".replace("-", "_") for file, group in groups}


def test_a_method_reruns_its_scores(rerun):
    rerun.replace("config.yaml", "em-restarts: {kind: em, start: k-means++, starts: 10}",
                  "em-restarts: {kind: em, start: k-means++, starts: 20}")  # fmt: skip
    study = load_study(ROOT / "config.yaml")
    assert set(rerun.planned()) == {*score_jobs(study, "em-restarts"), "summarise_scores", *FIGURES_AND_AFTER}


@pytest.mark.slow
def test_a_new_version_reruns_what_it_is_of(rerun):
    rerun.replace("src/tgmm/versions.py", '"scores:spectral": 1', '"scores:spectral": 2')
    study = load_study(ROOT / "config.yaml")
    assert set(rerun.planned()) == {*score_jobs(study, "spectral"), "summarise_scores", *FIGURES_AND_AFTER}


@pytest.mark.slow
def test_a_new_version_of_a_training_reruns_its_kind_alone(rerun):
    rerun.replace("src/tgmm/versions.py", '"training:gpt2": 1', '"training:gpt2": 2')
    study = load_study(ROOT / "config.yaml")
    jobs = rerun.planned()
    assert jobs["train_family"] == sum(family.recipe == "reference" for family in study.families.values())


def test_training_for_years_is_refused_before_anything_starts(project):
    result = project.snakemake("--config", "scale=paper", "device=cpu")
    assert result.returncode == 2
    line = result.stderr.splitlines()[-1]
    for words in ("scale 'paper'", "years", "`dvc pull`", "allow_cpu_training=true"):
        assert words in line
    assert not (project.folder / "commands.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config", "scal=smoke"], "config.yaml: unknown key 'scal'; did you mean 'scale'?"),
        (
            ["--config", "tasksets={effectiveness: {K: 0}}"],
            "config.yaml: 'tasksets.effectiveness.K' must be greater than or equal to 1",
        ),
    ],
)
def test_a_mistake_stops_the_run_with_one_line(project, arguments, line):
    result = project.snakemake(*arguments)
    assert result.returncode != 0
    lines = [text for text in result.stderr.splitlines() if not text.startswith(("Using workflow", "Config file"))]
    assert len(lines) == 1
    assert lines[0].startswith(line)
    assert not (project.folder / "commands.txt").exists()


def test_broken_yaml_stops_the_run_with_one_line(project):
    project.replace("config.yaml", "seed: 2505", "seed: [2505")
    result = project.snakemake()
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert "config.yaml: line" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_failing_command_fails_the_run(project):
    result = project.snakemake("-q", "all", "--", "tasks", STAND_IN_FAILS="sample-tasks")
    assert result.returncode != 0
    assert "tgmm: it failed" in result.stdout + result.stderr


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on_without_unlocking(project):
    target = "results/laptop/tasks/effectiveness-d2.safetensors"
    first = start_and_wait(project, target)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert list((project.folder / ".snakemake/locks").iterdir())
    second = project.snakemake("--", target)
    assert second.returncode == 0, second.stderr
    assert (project.folder / target).is_file()
    stop_orphans(project)


@pytest.mark.slow
def test_a_living_snakemake_keeps_its_lock(project):
    target = "results/laptop/tasks/effectiveness-d2.safetensors"
    first = start_and_wait(project, target)
    second = project.snakemake("--", target)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    stop_orphans(project)
    assert second.returncode != 0
    assert "lock" in second.stderr


def start_and_wait(project: Project, target: str) -> subprocess.Popen:
    """Start Snakemake on a command that hangs; comes back once the command runs."""
    environment = project.environment | {"STAND_IN_HANGS": "sample-tasks"}
    command = ["snakemake", "--cores", "2", "--", target]
    with (project.folder / "first.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=log, stderr=log)
    for _ in range(600):
        if (project.folder / "commands.txt").exists():
            return process
        time.sleep(0.1)
    raise AssertionError((project.folder / "first.log").read_text())


def stop_orphans(project: Project) -> None:
    """End the commands that a killed Snakemake left behind in the project's folder."""
    import psutil

    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(project.folder) and process.pid != os.getpid():
            process.kill()
