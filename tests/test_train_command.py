"""`tgmm train` as a process: leases of several devices, several processes together, signals and exit codes.

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

import pandas as pd
import pytest
import torch

from tgmm.models.checkpoint import load_checkpoint
from tgmm.train.family import train_family
from tgmm.train.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[1]
STEPS, BATCH = 40, 8
FAKE = """
import os, sys
from tgmm import cli, devices

devices.count_gpus = lambda: {gpus}
devices.visible_gpus = devices.count_gpus
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


def test_trainings_run_at_once_on_a_device_each_and_the_next_waits(command, tmp_path):
    shared = {"gpus": 2, "leases": tmp_path}
    first = command("first", ENDLESS, **shared)
    assert first.line() == "devices 0"
    second = command("second", ENDLESS, **shared)
    assert second.line() == "devices 1"
    pair = command("pair", ENDLESS, "--gpus", "2", **shared)
    assert pair.line() == "waiting for 2 of 2 GPU(s) to become free"
    first.wait_for_training()
    second.wait_for_training()
    for each in (first, second):
        code, printed = each.end(signal.SIGTERM)
        assert (code, printed) == (128 + signal.SIGTERM, "")
        assert "toy: stopped by SIGTERM; the same command goes on" in each.said()
    assert pair.line() == "devices 0,1"
    pair.wait_for_training()
    code, printed = pair.end(signal.SIGINT)
    assert (code, printed) == (128 + signal.SIGINT, "")
    assert "toy: stopped by SIGINT; the same command goes on" in pair.said()
    assert "Traceback" not in pair.said()
    assert len(list((tmp_path / "pair" / "work").glob("toy/*/state-*"))) == 1


def test_two_processes_go_on_from_the_state_of_one_and_end_as_it_would(command, tmp_path):
    values, out = settings(), tmp_path / "both" / "out"
    chosen, cpu = TrainingSettings.from_dict(values), torch.device("cpu")
    train_family(chosen, out, tmp_path / "both" / "work", cpu, max_minutes=0.0)
    code, printed = command("both", values, "--gpus", "2", "--device", "cpu").end()
    assert (code, printed) == (0, f"devices None\ntoy: resuming at step 1 of {STEPS}\ntoy: trained -> {out}\n")
    train_family(chosen, tmp_path / "one", tmp_path / "work", cpu)
    records = [load_checkpoint(folder).record["record"] for folder in (tmp_path / "one", out)]
    assert [record["processes"] for record in records] == [1, 2]
    # Losses and errors are compared, not weights: the gradient of a key's bias is rounding alone, which Adam magnifies.
    first_rows, second_rows = (pd.read_csv(folder / "history.csv") for folder in (tmp_path / "one", out))
    same = ["step", "tasks", "loss", "mean_loss", "weight_loss", "validation_l2_error"]
    pd.testing.assert_frame_equal(first_rows[same], second_rows[same], rtol=2e-4)


def test_what_is_wrong_in_the_processes_is_said_once_in_one_line(command):
    diverging = command("diverging", settings(rate=1e30), "--gpus", "2", "--device", "cpu")
    code, _ = diverging.end()
    assert code == 2
    lines = [line for line in diverging.said().splitlines() if not line.startswith("toy: 8/")]
    assert len(lines) == 1
    assert lines[0].startswith("tgmm: toy: ")
    assert "learning rate" in lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "cpu", "--gpus", "3"), "tgmm: training.batch = 8 cannot be shared by 3 processes"),
        (("--gpus", "2"), "tgmm: 2 GPUs are wanted and there are 0: lower --gpus"),
    ],
)
def test_a_number_of_devices_that_cannot_be_is_refused(command, options, message):
    refused = command("refused", settings(), *options)
    assert refused.end()[0] == 2
    assert refused.said().startswith(message)
    assert refused.said().count("\n") == 1


@pytest.mark.slow
def test_a_killed_process_ends_the_command_with_a_failure(command):
    running = command("killed", ENDLESS, "--gpus", "2", "--device", "cpu")
    running.wait_for_training()
    ranks = [path for path in Path("/proc").glob("[0-9]*") if is_rank_of(path, running.errors.name)]
    os.kill(int(ranks[0].name), signal.SIGKILL)
    code, _ = running.end()
    assert code not in (0, 2)
    assert "torchrun ended with exit code" in running.said()


def is_rank_of(process: Path, errors: str) -> bool:
    """Whether a process is one of those that train together and writes to a file of errors."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return words[1:4] == [b"-u", b"-m", b"tgmm.train.launch"] and os.readlink(process / "fd" / "2") == errors
    except OSError:
        return False
