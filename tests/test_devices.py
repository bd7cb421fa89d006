"""Devices: names, and a lease that two processes never share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tgmm import devices
from tgmm.errors import UserError

HOLD = """
import sys
from pathlib import Path
from tgmm.devices import free_gpu

with free_gpu(int(sys.argv[2]), Path(sys.argv[1])) as index:
    print(index, flush=True)
    sys.stdin.readline()
"""


def test_an_unknown_device_is_named():
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        devices.resolve_device("gpu")


def test_the_cpu_is_always_there():
    assert devices.resolve_device("cpu") == "cpu"
    with devices.lease_device("cpu") as device:
        assert device == "cpu"


@pytest.mark.parametrize(("device", "here", "cluster", "claimed"), [
    ("auto", 0, False, (0, 0)), ("auto", 8, False, (1, 0)), ("auto", 0, True, (0, 1)),
    ("cpu", 8, True, (0, 0)), ("cuda", 0, False, (1, 1)),
])  # fmt: skip
def test_one_key_says_whether_training_claims_a_gpu_here_and_on_a_cluster(monkeypatch, device, here, cluster, claimed):
    monkeypatch.setattr(devices, "count_gpus", lambda: here)
    monkeypatch.setattr(devices.slurm, "has_gpus", lambda: cluster)
    assert (devices.training_gpus(device), devices.training_gpus(device, cluster=True)) == claimed


def test_as_many_processes_as_gpus_get_one_each_and_the_next_waits_for_a_killed_one(tmp_path):
    holders = [hold_gpu(tmp_path, 3) for _ in range(3)]
    assert sorted(answer(holder) for holder in holders) == ["0", "1", "2"]
    next_one = hold_gpu(tmp_path, 3)
    assert answer(next_one) == "waiting for one of 3 GPU(s) to become free"
    holders[1].kill()
    holders[1].wait()
    freed = answer(next_one)
    assert freed in ("0", "1", "2")
    release(holders[0], holders[2], next_one)


def test_leased_devices_are_the_visible_ones(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices, "count_gpus", lambda: 3)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    with devices.lease_device("auto"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        with devices.free_gpu(3, tmp_path) as other:
            assert other == 1
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"])
def test_a_choice_made_elsewhere_is_left_alone(monkeypatch, variable):
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    monkeypatch.setattr(devices, "free_gpu", None)
    monkeypatch.setenv(variable, "")
    with devices.lease_device("auto") as device:
        assert device in ("cpu", "cuda")


def hold_gpu(folder: Path, present: int) -> subprocess.Popen:
    """A process that holds one of the GPUs that there are until a line comes in, and says which."""
    command = [sys.executable, "-c", HOLD, str(folder), str(present)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen) -> str:
    """The next line that a process prints."""
    return process.stdout.readline().strip()


def release(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.communicate("\n")
