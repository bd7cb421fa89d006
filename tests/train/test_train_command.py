"""`tgmm train` as a process: leases of devices, signals and exit codes.

Devices are fake: a count of GPUs that torch does not see, so that training runs on the processor under their leases.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tgmm.models.checkpoint import load_checkpoint
from tgmm.train.family import train_family
from tgmm.train.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
STEPS, BATCH = 40, 8
FAKE = """
import os, sys
from tgmm import cli, devices

devices.count_gpus = lambda: {gpus}
seen = devices.resolve_device

def resolve(device):
    print("devices", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    return seen(device)

devices.resolve_device = resolve
cli.main()
"""


def settings(tasks: int = BATCH * STEPS, rate: float = 5e-3) -> dict:
    return {
        "family": "toy", "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "longest": 12,
        "recipe": "components", "network": {"kind": "components", "width": 8, "blocks": 1, "heads": 2},
        "loss": "matched", "validation_tasks": 6, "seed": 5,
        "training": {"tasks": tasks, "batch": BATCH, "learning_rate": rate, "validate_every": 80},
    }  # fmt: skip


class Command:
    """A running `tgmm train` of the toy family, in folders of its own."""

    def __init__(self, folder: Path, values: dict, *options: str, gpus: int = 0, leases: Path | None = None):
        chosen = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")
        kept = {name: value for name, value in os.environ.items() if name not in chosen}
        kept |= {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(leases or folder), "OMP_NUM_THREADS": "1"}
        arguments = ["train", "toy", "--settings", json.dumps(values), *options]
        arguments += ["--out", str(folder / "out"), "--work", str(folder / "work")]
        folder.mkdir(exist_ok=True)
        self.errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", FAKE.format(gpus=gpus), *arguments], cwd=ROOT, env=kept, text=True,
            stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def wait_for_training(self) -> None:
        """Until it has reported a step."""
        while "tasks/s" not in self.said():
            assert self.process.poll() is None, self.said()

    def said(self) -> str:
        return Path(self.errors.name).read_text()

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Exit code and what else was printed, after a signal if one is given."""
        if number:
            self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=120)
        return self.process.returncode, printed


@pytest.fixture
def command(tmp_path) -> Iterator:
    """Starts commands; those that a failed test leaves are ended."""
    started: list[Command] = []

    def start(name: str, *arguments, **options) -> Command:
        started.append(Command(tmp_path / name, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGTERM)
        each.errors.close()


ENDLESS = settings(tasks=10**9)


@pytest.mark.slow
def test_trainings_run_at_once_on_a_device_each_and_the_next_waits(command, tmp_path):
    shared = {"gpus": 2, "leases": tmp_path}
    first = command("first", ENDLESS, **shared)
    assert first.line() == "devices 0"
    second = command("second", ENDLESS, **shared)
    assert second.line() == "devices 1"
    third = command("third", ENDLESS, **shared)
    assert third.line() == "waiting for one of 2 GPU(s) to become free"
    first.wait_for_training()
    code, printed = first.end(signal.SIGTERM)
    assert (code, printed) == (128 + signal.SIGTERM, "")
    assert "toy: stopped by SIGTERM; the same command resumes" in first.said()
    assert third.line() == "devices 0"
    third.wait_for_training()
    code, printed = third.end(signal.SIGINT)
    assert (code, printed) == (128 + signal.SIGINT, "")
    assert "toy: stopped by SIGINT; the same command resumes" in third.said()
    assert "Traceback" not in third.said()
    assert len(list((tmp_path / "third" / "work").glob("toy/*/state-*"))) == 1


@pytest.mark.slow
def test_a_stopped_training_is_finished_by_the_same_command(command, tmp_path):
    values, out = settings(), tmp_path / "one" / "out"
    train_family(TrainingSettings.from_dict(values), out, tmp_path / "one" / "work", torch.device("cpu"), 0.0)
    code, printed = command("one", values, "--device", "cpu").end()
    assert (code, printed) == (0, f"devices None\ntoy: resuming at step 1 of {STEPS}\ntoy: trained -> {out}\n")
    assert load_checkpoint(out).record["record"]["steps"] == STEPS


def test_a_diverging_training_ends_with_one_line(command):
    diverging = command("diverging", settings(rate=1e30), "--device", "cpu")
    code, _ = diverging.end()
    assert code == 2
    lines = [line for line in diverging.said().splitlines() if not line.startswith("toy: 8/")]
    assert len(lines) == 1
    assert lines[0].startswith("tgmm: toy: ")
    assert "learning rate" in lines[0]
