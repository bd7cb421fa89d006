"""What Snakemake runs, and runs again: with a stand-in for `tgmm`, so that only the workflow itself is at work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from workflow_project import ROOT, Project, read_job_table

from tgmm.study import load_study

FIGURES_AND_AFTER = {"draw_figure", "write_table", "paper", "all"}


def expected_jobs(scale: str) -> dict[str, int]:
    """Jobs of a whole run, from the study."""
    study = load_study(ROOT / "config.yaml", scale)
    networks = [pair for pair in study.scores if study.config["methods"][pair[1]]["kind"] == "tgmm"]
    return {
        "sample_tasks": len(study.tasksets),
        "train_family": len(study.families),
        "score_network": len(networks),
        "score_baseline": len(study.scores) - len(networks),
        "summarise_scores": 1,
        "measure_theorem": len(study.measurements),
        "recipe_study": len(study.recipe_studies),
        "merge_recipe_study": 1,
        "probe_family": len(set(study.probed("probes")) - set(study.probed("probe-picture"))),
        "probe_family_with_picture": len(study.probed("probe-picture")),
        "draw_figure": len(study.figures),
        "write_table": len(study.tables),
        "paper": 1,
        "all": 1,
    }


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_a_dry_run_plans_the_whole_study(project, scale):
    assert project.planned("--config", f"scale={scale}", "allow_cpu_training=true") == expected_jobs(scale)


def test_a_run_makes_everything_and_a_second_has_nothing_to_do(finished):
    assert read_job_table(finished.output) == expected_jobs("laptop")
    study = load_study(ROOT / "config.yaml")
    for name in study.figures:
        assert (finished.folder / f"results/laptop/figures/{name}.png").is_file()
    assert (finished.folder / "paper/build/paper.pdf").is_file()
    assert "Nothing to be done" in finished.snakemake("-n").stdout


def test_progress_reaches_the_terminal_and_the_log_and_threads_reach_the_command(finished):
    line = "train isotropic-d8-n128-components started with 1 threads"
    assert line in finished.output
    assert line in (finished.folder / "logs/laptop/models/isotropic-d8-n128-components.log").read_text()
    log = finished.folder / "logs/laptop/scores/effectiveness-d8/em.log"
    assert "started with 1 threads" in log.read_text()


def test_commands_get_the_settings_of_the_study(finished):
    study = load_study(ROOT / "config.yaml")
    text = (finished.folder / "results/laptop/models/isotropic-d8-n128-components/config.json").read_text()
    assert json.loads(text[text.index("{") :]) == study.train_settings("isotropic-d8-n128-components")


def test_cosmetic_edits_rerun_nothing(rerun):
    rerun.replace("config.yaml", "seed: 2505", "# The seed.\nseed:   2505")
    rerun.replace("config.yaml", "device: auto", "device: cpu")
    rerun.replace("src/tgmm/train/loop.py", "from __future__", "# A remark.\nfrom __future__")
    with (rerun.folder / "src/tgmm/figures/style.py").open("a") as file:
        file.write("\n\n# The end.\n")
    for path in rerun.folder.glob("results/laptop/tasks/*"):
        path.touch()
    assert rerun.planned() == {}


def test_a_budget_reruns_only_what_depends_on_it(rerun):
    study = load_study(ROOT / "config.yaml")
    tasks = study.config["training"]["matched"]["tasks"]
    jobs = rerun.planned("--config", f"training={{matched: {{tasks: {tasks + 32}}}}}")
    matched = [name for name in study.families if name.endswith("-matched")]
    assert jobs["train_family"] == len(matched)
    families = [study.family_of(method, taskset) for taskset, method in study.scores]
    assert jobs["score_network"] == len([family for family in families if family in matched])
    assert "score_baseline" not in jobs
    assert "sample_tasks" not in jobs


def test_an_artefact_reruns_alone(rerun):
    rerun.replace("config.yaml", "metric: accuracy", "metric: mean_error")
    assert rerun.planned() == {"draw_figure": 1, "paper": 1, "all": 1}


def test_a_change_of_the_recipe_reruns_the_recipe_study(rerun):
    rerun.replace("config.yaml", "unrolled: 2", "unrolled: 3")
    study = load_study(ROOT / "config.yaml")
    jobs = rerun.planned()
    assert jobs == {"recipe_study": len(study.recipe_studies), "merge_recipe_study": 1, "draw_figure": 1,
                    "write_table": 1, "paper": 1, "all": 1}  # fmt: skip


def test_a_seed_more_trains_only_that_seed(rerun):
    jobs = rerun.planned("--config", "recipe_study={seeds: [1, 2, 3, 4]}")
    assert jobs["recipe_study"] == len(load_study(ROOT / "config.yaml").config["recipe_study"]["d"])


def test_a_method_reruns_its_scores(rerun):
    rerun.replace("config.yaml", "start: k-means++, starts: 10", "start: k-means++, starts: 20")
    jobs = rerun.planned()
    scores = load_study(ROOT / "config.yaml").scores
    assert jobs["score_baseline"] == sum(method in ("em-restarts", "em-restarts-standardised") for _, method in scores)
    assert set(jobs) == {"score_baseline", "summarise_scores", *FIGURES_AND_AFTER}


def test_code_reruns_what_it_shapes(rerun):
    with (rerun.folder / "src/tgmm/methods/spectral.py").open("a") as file:
        file.write("\n\nNEW = 1\n")
    jobs = rerun.planned()
    assert set(jobs) == {"score_baseline", "summarise_scores", *FIGURES_AND_AFTER}
    assert jobs["score_baseline"] == len(load_study(ROOT / "config.yaml").tasksets)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config", "scal=smoke"], "config.yaml: unknown config key 'scal'; did you mean 'scale'?"),
        (
            ["--config", "tasksets={effectiveness: {K: 0}}"],
            "config.yaml: 'tasksets.effectiveness.K' must be at least 1",
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


def test_a_failing_command_fails_the_run(project):
    result = project.snakemake("-q", "all", "--", "tasks", STAND_IN_FAILS="sample-tasks")
    assert result.returncode != 0
    assert "tgmm: it failed" in result.stdout + result.stderr


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
