"""Devices: names, and a lease that two processes never share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tgmm import devices
from tgmm.errors import UserError

HOLD = """
import sys
from pathlib import Path
from tgmm.devices import free_gpus

wanted, present = map(int, sys.argv[2:])
with free_gpus(wanted, present, Path(sys.argv[1])) as indices:
    print(*indices, flush=True)
    sys.stdin.readline()
"""
DETECTION = """    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])
"""
SHARE = """
import subprocess, sys, time
from pathlib import Path
from tgmm.devices import free_gpus

child = "import sys; print('on', flush=True); sys.stdin.readline()"
with free_gpus(1, 1, Path(sys.argv[1])):
    subprocess.Popen([sys.executable, "-c", child], close_fds=False)
    time.sleep(60)
"""


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
    assert (devices.training_gpus(0), devices.training_threads(0)) == (0, 1)
    assert (devices.training_gpus(9), devices.training_threads(3)) == (8, 3 * devices.TRAINING_CORES_BESIDE_GPU)


def test_as_many_processes_as_gpus_get_one_each_and_the_next_waits_for_a_killed_one(tmp_path):
    holders = [hold_gpus(tmp_path, 1, 3) for _ in range(3)]
    assert sorted(answer(holder) for holder in holders) == ["0", "1", "2"]
    next_one = hold_gpus(tmp_path, 1, 3)
    assert answer(next_one) == "waiting for one of 3 GPU(s) to become free"
    holders[1].kill()
    holders[1].wait()
    freed = answer(next_one)
    assert freed in ("0", "1", "2")
    release(holders[0], holders[2], next_one)


def test_several_gpus_are_taken_together_or_not_at_all(tmp_path):
    single = hold_gpus(tmp_path, 1, 3)
    assert answer(single) == "0"
    pair = hold_gpus(tmp_path, 2, 3)
    assert answer(pair) == "1 2"
    waiting = [hold_gpus(tmp_path, 2, 3), hold_gpus(tmp_path, 2, 3)]
    assert {answer(process) for process in waiting} == {"waiting for 2 of 3 GPU(s) to become free"}
    release(single)  # one free GPU is not enough for either, and neither keeps it
    latecomer = hold_gpus(tmp_path, 1, 3)
    assert answer(latecomer) == "0"
    release(latecomer, pair)
    first, second = served_in_turn(waiting)
    assert (first, second) == ("0 1", "0 1")


def served_in_turn(waiting: list[subprocess.Popen]) -> list[str]:
    """What two waiting processes get, the second one after the first has given it back."""
    with ThreadPoolExecutor() as pool:
        pending = {pool.submit(answer, process): process for process in waiting}
        done, rest = wait(pending, return_when=FIRST_COMPLETED)
        assert len(done) == 1
        release(*(pending[future] for future in done))
        wait(rest, timeout=30)
        release(*(pending[future] for future in rest))
        return [future.result() for future in (*done, *rest)]


def test_a_lease_is_shared_with_the_processes_that_are_to_keep_it(tmp_path):
    """One that trains on several GPUs may be killed while those that it started go on."""
    process = start(SHARE, tmp_path)
    assert answer(process) == "on"
    process.kill()
    process.wait()
    assert devices.take_gpus(1, 1, tmp_path) is None
    process.stdin.close()
    end = time.monotonic() + 30
    while (leases := devices.take_gpus(1, 1, tmp_path)) is None and time.monotonic() < end:
        time.sleep(0.05)
    assert leases is not None
    devices.close_all(leases.values())


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for present in (0, 2):
        monkeypatch.setattr(devices, "count_gpus", lambda present=present: present)
        monkeypatch.setattr(devices, "visible_gpus", lambda present=present: present)
        refused = pytest.raises(UserError, match=f"3 GPUs are wanted and there are {present}: lower --gpus")
        with refused, devices.lease_device("auto", 3):
            pass


def test_leased_devices_are_the_visible_ones(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices, "count_gpus", lambda: 3)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    with devices.lease_device("auto"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        held = devices.take_gpus(2, 3, tmp_path)
        assert list(held) == [1, 2]
        devices.close_all(held.values())
    with devices.lease_device("auto", 2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"])
def test_a_choice_made_elsewhere_is_left_alone(monkeypatch, variable):
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    monkeypatch.setattr(devices, "free_gpus", None)
    monkeypatch.setenv(variable, "")
    with devices.lease_device("auto") as device:
        assert device in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("settings", "given", "gpus"),
    [((), 3, 1), (("gpus_per_family=2",), 3, 2), (("gpus_per_family=4",), 3, 3), (("gpus_per_family=2",), 1, 1),
     (("gpus_per_family=2", "device=cpu"), 3, 0)],
)  # fmt: skip
def test_the_workflow_gives_a_family_as_many_gpus_as_the_study_says_and_there_are(project, settings, given, gpus):
    project.replace("src/tgmm/devices.py", DETECTION, "    return 3\n")
    chosen = ("--config", "scale=smoke", *settings)
    result = project.snakemake("-n", "-p", "--resources", f"gpu={given}", *chosen, "--", "train")
    assert result.returncode == 0, result.stderr
    assert set(re.findall(r"--gpus (\d+)", result.stdout)) == {str(gpus)}


def hold_gpus(folder: Path, wanted: int, present: int) -> subprocess.Popen:
    """A process that holds so many of the GPUs that there are until a line comes in, and says which."""
    return start(HOLD, folder, wanted, present)


def start(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen) -> str:
    """The next line that a process prints."""
    return process.stdout.readline().strip()


def release(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.communicate("\n")
