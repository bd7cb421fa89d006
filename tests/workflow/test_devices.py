"""Devices: names, and a lease that two processes never share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tgmm import devices
from tgmm.errors import UserError

HOLD = "import sys, time; from pathlib import Path; from tgmm.devices import free_gpu\n"
HOLD += "with free_gpu(2, Path(sys.argv[1])) as index: print(index, flush=True); sys.stdin.readline()"


def test_an_unknown_device_is_named():
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        devices.resolve_device("gpu")


def test_the_cpu_is_always_there():
    assert devices.resolve_device("cpu") == "cpu"
    with devices.lease_device("cpu") as device:
        assert device == "cpu"


def test_training_claims_a_gpu_where_there_is_one_and_else_a_single_core(monkeypatch):
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    assert (devices.training_gpus(), devices.training_threads()) == (0, 1)
    monkeypatch.setattr(devices, "count_gpus", lambda: 8)
    assert (devices.training_gpus(), devices.training_threads()) == (1, devices.TRAINING_CORES_BESIDE_GPU)


def test_two_processes_get_two_gpus_and_a_killed_one_frees_its_own(tmp_path):
    holders = [hold_gpu(tmp_path), hold_gpu(tmp_path)]
    assert {index for _, index in holders} == {0, 1}
    process, freed = holders[0]
    process.kill()
    process.wait()
    third, index = hold_gpu(tmp_path)
    assert index == freed
    for process in (holders[1][0], third):
        process.communicate("\n")


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"])
def test_a_choice_made_elsewhere_is_left_alone(monkeypatch, variable):
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    monkeypatch.setattr(devices, "free_gpu", None)
    monkeypatch.setenv(variable, "")
    with devices.lease_device("auto") as device:
        assert device in ("cpu", "cuda")


def hold_gpu(folder) -> tuple[subprocess.Popen, int]:
    """A process that holds the lease of a GPU until a line comes in, and the index that it got."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())
