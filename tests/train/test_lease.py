"""The lease of a work folder: between nodes whose locks do not see each other, one trainer at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tgmm.errors import UserError
from tgmm.train import lease
from tgmm.train.lease import LEASE_FILE, exclusive, is_held

HOLD = """
import os, sys
from pathlib import Path
from tgmm.files import FileLock
from tgmm.train import lease

lease.POLL_SECONDS, lease.RENEW_SECONDS, lease.LAPSE_SECONDS = 0.05, 0.2, 2.0
os.environ["SLURMD_NODENAME"] = sys.argv[2]
FileLock.acquire = lambda *_, **__: (_ for _ in ()).throw(OSError("no locks here"))  # as on some shared file systems
with lease.exclusive(Path(sys.argv[1]), lambda line: print(line, flush=True)):
    print("at work", flush=True)
    sys.stdin.readline()
print("ended", flush=True)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease, "LAPSE_SECONDS", 2.0)


def trainer(folder: Path, node: str) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(folder), node]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def end(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.communicate("\n", timeout=30)


def test_a_trainer_on_another_node_waits_until_the_first_has_ended(tmp_path):
    first = trainer(tmp_path, "n1")
    assert line(first) == "at work"
    second = trainer(tmp_path, "n2")
    assert f"another trainer (process {first.pid} on n1) is at work" in line(second)
    time.sleep(3.0)  # longer than a lease lasts without renewal
    assert first.poll() is None
    end(first)
    assert line(second) == "at work"
    end(second)
    assert not (tmp_path / LEASE_FILE).exists()


def test_the_lease_of_a_node_that_is_gone_lapses(tmp_path):
    first = trainer(tmp_path, "n1")
    assert line(first) == "at work"
    first.send_signal(signal.SIGKILL)
    first.wait()
    started = time.monotonic()
    second = trainer(tmp_path, "n2")
    assert "waiting for it" in line(second)
    assert line(second) == "at work"
    assert time.monotonic() - started > 2.0
    end(second)


@pytest.mark.slow
def test_of_two_that_wait_for_a_lapsed_lease_one_gets_it(tmp_path):
    write_lease(tmp_path, node="gone")
    both = [trainer(tmp_path, "n1"), trainer(tmp_path, "n2")]
    time.sleep(6.0)
    holder = json.loads((tmp_path / LEASE_FILE).read_text())["node"]
    first, second = both if holder == "n1" else reversed(both)
    assert [line(first) for _ in range(2)][1] == "at work"
    end(first)
    assert [line(second) for _ in range(2)][1] == "at work"
    end(second)


def test_a_trainer_whose_folder_was_taken_over_is_told_to_stop(tmp_path):
    first = trainer(tmp_path, "n1")
    assert line(first) == "at work"
    write_lease(tmp_path, node="n2")
    assert "taken over by process 1 on n2" in line(first)
    assert first.wait(timeout=30) == -signal.SIGTERM
    assert json.loads((tmp_path / LEASE_FILE).read_text())["node"] == "n2"


def test_what_a_killed_trainer_of_this_machine_left_costs_no_wait(tmp_path):
    write_lease(tmp_path, node=lease.node_name())
    started, lines = time.monotonic(), []
    with exclusive(tmp_path, lines.append):
        assert time.monotonic() - started < 1.0
    assert lines == []


def test_whoever_waits_for_another_node_can_be_stopped(tmp_path):
    write_lease(tmp_path, node="elsewhere")
    with pytest.raises(UserError, match="told to stop while waiting"), exclusive(tmp_path, print, request=True):
        pass


def test_a_folder_is_held_while_another_node_renews_its_lease(tmp_path):
    assert not is_held(tmp_path)
    write_lease(tmp_path, node="elsewhere")
    assert is_held(tmp_path)
    time.sleep(2.1)
    assert not is_held(tmp_path)
    with exclusive(tmp_path, lambda _: None):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"'])
def test_a_damaged_lease_counts_for_nothing(tmp_path, content):
    (tmp_path / LEASE_FILE).write_text(content)
    with exclusive(tmp_path):
        assert json.loads((tmp_path / LEASE_FILE).read_text())["node"] == lease.node_name()


def write_lease(folder: Path, node: str) -> None:
    (folder / LEASE_FILE).write_text(json.dumps({"node": node, "process": 1, "id": "other", "count": 5}))
