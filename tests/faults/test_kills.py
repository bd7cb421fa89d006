"""SIGKILL at random moments of a real run: the same command goes on, with the results of an undisturbed run."""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import time
from contextlib import suppress

import psutil
import pytest
from small_study import fingerprints, small_study, start
from workflow_project import Project

KILLS = 30
SEED = 2505
PER_RUN = 4  # kills in the time of an undisturbed run, so that they fall into every stage on any machine
PATIENCE = 3600  # seconds for a command, on a machine that does much other work
SNAKEMAKE = ("snakemake", "--cores", "2", "--resources", "gpu=1")
COMMANDS = {"snakemake": (SNAKEMAKE, ("snakemake", "job", "group")), "dvc": (("dvc", "repro"), ("dvc", "job", "group"))}

pytestmark = pytest.mark.slow


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
