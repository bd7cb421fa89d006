"""The workflow on a real Slurm of two nodes: what is cancelled or lost resumes, and the numbers are a local run's.

Needs root and Debian's packages slurm-wlm and munge; `make test-slurm` says what is missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cluster import Cluster, missing

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=f"no Slurm to start here: {', '.join(missing())}"),
]
FAMILIES = ("isotropic-d2-n128-components", "isotropic-d8-n128-components")
SCORES = tuple(f"results/smoke/scores/effectiveness-d{d}/tgmm-components.parquet" for d in (2, 8))
TASKS = 6_000  # of a training: long enough to be met at work


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = Cluster(tmp_path_factory.mktemp("slurm", numbered=False) / "cluster")
    yield started
    started.stop()


def study(folder: Path) -> Path:
    """A part of the smoke scale: two families, trained for longer."""
    folder.mkdir()
    for name in ("Snakefile", "config.yaml", "workflow", "profiles", "src", "paper"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    config, scale = folder / "config.yaml", folder / "workflow/scales/smoke.yaml"
    text = config.read_text().replace("scale: laptop", "scale: smoke").replace("device: auto", "device: cpu")
    config.write_text(f"{text}\ntrained: [{', '.join(FAMILIES)}]\n")
    budget = "components:\n    {tasks: 128"
    assert budget in scale.read_text()
    scale.write_text(scale.read_text().replace(budget, budget.replace("128", str(TASKS))))
    return folder


def environment(folder: Path, base: dict[str, str]) -> dict[str, str]:
    tools = str(Path(sys.executable).parent)
    return base | {"PATH": f"{tools}:{base['PATH']}", "PYTHONPATH": str(folder / "src")}


def numbers(folder: Path) -> list[str]:
    """Hashes of the weights, and of the scores but for the time that they took."""
    weights = [folder / f"results/smoke/models/{family}/model.safetensors" for family in FAMILIES]
    scores = [pd.read_parquet(folder / name).drop(columns="seconds").to_csv().encode() for name in SCORES]
    return [hashlib.sha256(content).hexdigest() for content in [*(path.read_bytes() for path in weights), *scores]]


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> list[str]:
    """The numbers of a run on this machine alone."""
    folder = study(tmp_path_factory.mktemp("local") / "study")
    command = ["snakemake", "--cores", "2", "--resources", "gpu=1", "--quiet", "all", "--", *SCORES]
    subprocess.run(command, cwd=folder, env=environment(folder, dict(os.environ)), check=True, timeout=1200)
    return numbers(folder)


def start(cluster: Cluster, folder: Path) -> subprocess.Popen:
    options = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5"]
    with (folder / "run.log").open("w") as log:
        return subprocess.Popen(
            ["snakemake", *options, "--", *SCORES],
            cwd=folder, env=environment(folder, cluster.environment), stdout=log, stderr=log,
            preexec_fn=heed_interrupts,
        )  # fmt: skip


def heed_interrupts() -> None:
    """What a shell starts in the background, these tests perhaps, ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def at_work(cluster: Cluster, folder: Path) -> dict[str, str]:
    """Node -> job of the trainings, once both take steps."""
    jobs = {node: job for job, (node, rule) in cluster.running().items() if "train_family" in rule}
    logs = [path.read_text() for path in folder.glob("logs/smoke/models/*.log")]
    return jobs if len(jobs) == 2 and sum("tasks/s" in text for text in logs) == 2 else {}


def test_a_cancelled_training_and_a_lost_node_change_no_number(cluster, local, tmp_path):
    folder = study(tmp_path / "study")
    run = start(cluster, folder)
    try:
        cluster.wait(lambda: at_work(cluster, folder), "two trainings run at once on two nodes", 180)
        jobs = at_work(cluster, folder)
        assert set(jobs) == {"n1", "n2"}
        cluster.ask("scancel", jobs["n1"])
        cluster.kill_node("n2")
        cluster.wait(lambda: cluster.states()["n2"].startswith("down"), "Slurm knows that the node is gone")
        cluster.start_node("n2")
        assert run.wait(timeout=900) == 0, (folder / "run.log").read_text()
    finally:
        run.kill()
    log = (folder / "run.log").read_text()
    assert "no accounting answers, so job states come from squeue" in log
    resumed = [path for path in folder.glob("logs/smoke/models/*.log") if "resuming at step" in path.read_text()]
    assert resumed
    assert numbers(folder) == local
    again = subprocess.run(
        ["snakemake", "--workflow-profile", "profiles/slurm", "-n", "--", *SCORES],
        cwd=folder, env=environment(folder, cluster.environment), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Nothing to be done" in again.stdout + again.stderr


def test_an_interrupt_takes_back_what_is_queued(cluster, tmp_path):
    """SIGTERM would wait for the jobs; SIGINT cancels them, those that only wait too."""
    folder = study(tmp_path / "study")
    run = start(cluster, folder)
    cluster.wait(lambda: at_work(cluster, folder), "two trainings run at once on two nodes", 180)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=120) != 0
    cluster.wait(lambda: not cluster.running(), "no job is left", 60)
    assert list(folder.glob("work/*/*/state-*.safetensors"))
