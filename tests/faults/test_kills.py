"""SIGKILL at random moments of a real run: the same command goes on, with the results of an undisturbed run."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from workflow_project import ROOT, Project, copy_project

KILLS = 30
SEED = 2505
PER_RUN = 4  # kills in the time of an undisturbed run, so that they fall into every stage on any machine
PATIENCE = 900  # seconds for a command, on a machine that does other work too
SNAKEMAKE = ("snakemake", "--cores", "2", "--resources", "gpu=1")
COMMANDS = {"snakemake": (SNAKEMAKE, ("snakemake", "job", "group")), "dvc": (("dvc", "repro"), ("dvc", "job", "group"))}
ARTEFACTS = ("fig-effectiveness", "tab-effectiveness", "fig-training", "fig-probes", "fig-probe-picture")
ARTEFACTS += ("fig-theorem-em",)
FAMILIES = ["isotropic-d2-n128-components", "isotropic-d2-n128-reference"]
SCALE = "smoke"

pytestmark = pytest.mark.slow


def small_study(folder: Path) -> Project:
    """The project with every stage of the study and few jobs in each, under git and DVC."""
    project = copy_project(folder)
    (folder / "bin/tgmm").unlink()  # the real command takes the place of the stand-in
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["scale"] = SCALE
    config["trained"] = FAMILIES
    config["tasksets"] = {"effectiveness": config["tasksets"]["effectiveness"] | {"d": [2]}}
    config["artefacts"] = {name: config["artefacts"][name] for name in ARTEFACTS}
    for figure in ("fig-probes", "fig-training"):
        config["artefacts"][figure]["families"] = FAMILIES[:1]
    config["methods"].pop("bayes")  # takes minutes
    for name in ("fig-effectiveness", "tab-effectiveness"):
        methods = config["artefacts"][name]["methods"]
        config["artefacts"][name]["methods"] = [method for method in methods if method != "bayes"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.rmtree(folder / "paper/sections")
    (folder / "paper/sections").mkdir()
    figure = f'#image("/results/{SCALE}/figures/fig-effectiveness.png")\n'
    (folder / "paper/main.typ").write_text('#include "sections/results.typ"\n', encoding="utf-8")
    (folder / "paper/sections/results.typ").write_text(figure, encoding="utf-8")
    (folder / "paper/verdicts.typ").write_text("", encoding="utf-8")  # asks for tables of the whole study
    (folder / ".dvc").mkdir()
    shutil.copy2(ROOT / ".dvc/config", folder / ".dvc/config")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return project


def fingerprints(project: Project) -> dict[str, str]:
    """A hash of everything that is the same in every run: what measures time is left out.

    So is what a killed command was writing, under a temporary name that no other program reads.
    """
    results = project.folder / "results" / SCALE
    found = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.name.startswith("."):
            continue
        if path.suffix == ".safetensors":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".parquet":
            table = pd.read_parquet(path).drop(columns="seconds", errors="ignore")
            table = table[table["metric"] != "seconds"] if "metric" in table else table
            found[name] = hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
        elif path.is_file():
            found[name] = "there"
    return found


def start(project: Project, command: tuple[str, ...]) -> subprocess.Popen:
    """Start a command in a process group of its own; its output is appended to `output.log`."""
    with (project.folder / "output.log").open("a") as log:
        return subprocess.Popen(
            command, cwd=project.folder, env=project.environment, stdout=log, stderr=log, start_new_session=True
        )


def kill(process: subprocess.Popen, target: str) -> bool:
    """Send SIGKILL to the command itself, to one of its jobs or to its process group; False where there is no job."""
    if target == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif target == "job":
        with suppress(psutil.NoSuchProcess):  # it has just ended
            for child in psutil.Process(process.pid).children(recursive=True):
                if any(word.endswith("/tgmm") for word in child.cmdline()[:2]):
                    child.kill()
                    return True
        return False
    else:
        process.kill()
    return True


def run_with_kills(project: Project, command: str, most: int, mean: float, rng: random.Random) -> list[str]:
    """Run a command to its end, started again after every kill.

    Parameters
    ----------
    most : kills at most; then the command is left alone.
    mean : seconds from the start of a command to its kill, exponentially distributed.

    Returns
    -------
    What was killed, and when.
    """
    words, targets = COMMANDS[command]
    seen: list[str] = []
    while True:
        process = start(project, words)
        killed = False
        delay = rng.expovariate(1 / mean) if len(seen) < most else None
        try:
            process.wait(delay or PATIENCE)
        except subprocess.TimeoutExpired:
            assert delay, f"{seen}: the command did not end"
            target = rng.choice(targets)
            while not killed and process.poll() is None:  # between two jobs there is none to kill
                killed = kill(process, target)
                time.sleep(0.1)
            seen += [f"{target} while {doing(project)}"] if killed else []
            # A killed command has ended; one whose job was killed ends by itself.
            process.wait(PATIENCE)
        if process.returncode == 0:
            return seen
        output = (project.folder / "output.log").read_text()
        # Behind a killed `dvc repro` its Snakemake lives on and keeps its lock until it is done.
        assert killed or "lock" in output[-3000:], f"{seen}\n{output[-3000:]}"
        time.sleep(2)


def doing(project: Project) -> str:
    """The last job that Snakemake has announced."""
    jobs = re.findall(r"^Job \d+: (.*)$", (project.folder / "output.log").read_text(), re.MULTILINE)
    return jobs[-1] if jobs else "nothing had started"


def stop_left_overs(project: Project) -> None:
    """End what killed commands left behind in the project's folder."""
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(project.folder) and process.pid != os.getpid():
            process.kill()


def test_results_after_random_kills_are_those_of_an_undisturbed_run(tmp_path):
    undisturbed = small_study(tmp_path / "undisturbed")
    started = time.monotonic()
    run_with_kills(undisturbed, "snakemake", 0, 1.0, random.Random())
    mean = (time.monotonic() - started) / PER_RUN
    expected = fingerprints(undisturbed)
    assert {name.split("/")[0] for name in expected} > {"tasks", "models", "scores", "figures", "theory", "probes"}
    rng = random.Random(SEED)
    kills = 0
    for run in itertools.count():
        project = small_study(tmp_path / f"run-{run}")
        try:
            seen = run_with_kills(project, list(COMMANDS)[run % 2], KILLS - kills, mean, rng)
        finally:
            stop_left_overs(project)
        kills += len(seen)
        print(f"run {run}, {kills} kills: {seen}", flush=True)
        assert fingerprints(project) == expected, seen
        if kills >= KILLS:
            break
