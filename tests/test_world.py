"""Two processes that train one family: what one would have trained, and the same bits however they were stopped."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from tgmm.errors import UserError
from tgmm.train import world
from tgmm.train.family import train_family
from tgmm.train.interrupt import InterruptRequest
from tgmm.train.loop import STATE_IS_OLD, Trainer
from tgmm.train.step import SUMS
from tgmm.train.validation import ValidationSet
from tgmm.train.world import World, joined_world
from toy_training import CPU, STEPS, TIMES, Quiet, assert_same_release, edited, settings

WIDTH = 8
CHANGES = {"network": {"kind": "components", "width": WIDTH, "blocks": 2, "heads": 2, "axes": 3}}
TOGETHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
DRIVER = """
import os, sys, time
from pathlib import Path
import torch
from tgmm.cli import main
from tgmm.train.progress import TrainingProgress

def step(self, done, loss):
    if self.visible:
        print("step", flush=True)
    time.sleep(float(pause))

folder, pause, apart, settings = sys.argv[1:]
torch.set_num_threads(1)
TrainingProgress.step = step
if apart == "apart":  # a folder of its own for whatever the second process writes
    folder = os.path.join(folder, os.environ["RANK"])
sys.argv = ["tgmm", "train", "toy", "--out", f"{folder}/out", "--work", f"{folder}/work", "--device", "cpu",
            "--settings", settings]
main()
"""


def start(folder: Path, values: dict, pause: float = 0.0, apart: bool = False) -> subprocess.Popen:
    """Two processes that train a family."""
    folder.mkdir(parents=True, exist_ok=True)
    driver = folder / "driver.py"
    driver.write_text(DRIVER)
    options = [str(folder), str(pause), "apart" if apart else "shared", json.dumps(values)]
    return subprocess.Popen(
        [sys.executable, *TOGETHER, str(driver), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status and what was printed; processes that do not end are told to."""
    try:
        out, err = process.communicate(timeout=90)
    finally:
        process.terminate()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[Path, str]:
    """A family trained by two processes, and what they print."""
    folder = tmp_path_factory.mktemp("together")
    status, out, err = finish(start(folder, edited(**CHANGES), apart=True))
    assert status == 0, err
    return folder, out


def test_two_processes_train_what_one_does(together, tmp_path):
    folder, _ = together
    train_family(settings(**CHANGES), tmp_path / "out", tmp_path / "work", CPU)
    ours, alone = (load_file(path / "out" / "model.safetensors") for path in (folder / "0", tmp_path))
    for name, tensor in ours.items():
        # A bias that all keys share does not change a softmax: rounding is all of its gradient.
        first = WIDTH if name.endswith("key_value.bias") else 0
        torch.testing.assert_close(tensor[first:], alone[name][first:], rtol=0, atol=1e-5, msg=name)
    found, expected = (
        pd.read_csv(path / "out" / "history.csv").drop(columns=TIMES) for path in (folder / "0", tmp_path)
    )
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
    record = json.loads((folder / "0" / "out" / "config.json").read_text())["record"]
    assert (record["processes"], record["steps"], record["tasks_seen"]) == (2, STEPS, 8 * STEPS)


def test_only_the_first_process_writes_and_reports(together):
    folder, out = together
    assert sorted(path.name for path in folder.iterdir()) == ["0", "driver.py"]
    assert out.count("step\n") == STEPS


def test_a_batch_that_cannot_be_shared_is_refused_in_one_line(tmp_path):
    status, _, err = finish(start(tmp_path, edited(training__batch=7)))
    assert status
    assert not (tmp_path / "out").exists()
    lines = [line for line in err.splitlines() if line.startswith("tgmm: ")]
    assert lines == ["tgmm: training.batch = 7 cannot be shared by 2 processes; it must be a multiple of 2"]


def test_what_a_state_holds_of_unfinished_rows_is_of_all_processes(tmp_path, monkeypatch):
    """Each process has summed up losses of its own; the one that saves would otherwise write down its own alone."""
    shares = []

    class Half(World):
        def average(self, tensor):
            if len(tensor) == len(SUMS):
                shares.append(tensor.clone())
                tensor.copy_(torch.arange(len(SUMS)))

    trainer = Trainer(settings(), tmp_path, CPU, Half())
    trainer._take_step()
    trainer._save()
    assert trainer.record.running == [0.0, 1.0, 2.0, 3.0]
    assert torch.equal(trainer.step.sums, shares[0])


@pytest.mark.parametrize(
    ("wish", "kind", "number"), [(15.0, "interrupted", 15), (2.0, "interrupted", 2), (0.5, "budget", None)]
)
def test_what_one_process_is_told_all_do(tmp_path, wish, kind, number):
    class Other(World):
        def largest(self, value, device):
            return max(value, wish)

    trainer = Trainer(settings(), tmp_path, CPU, Other())
    reason = trainer.run(None, Quiet(InterruptRequest()), InterruptRequest())
    assert (reason.kind, reason.signal, trainer.record.step) == (kind, number, 1)
    assert len(list(tmp_path.glob("state-*"))) == 1


def test_all_processes_save_when_one_finds_its_state_old(tmp_path, monkeypatch):
    monkeypatch.setattr("tgmm.train.loop.STATE_SECONDS", -1.0)
    asked = []

    class Recorded(World):
        def largest(self, value, device):
            asked.append(value)
            return value

    trainer = Trainer(settings(training__validate_every=8 * STEPS), tmp_path, CPU, Recorded())
    trainer.run(ValidationSet(settings()), Quiet(InterruptRequest()), InterruptRequest())
    assert asked == [STATE_IS_OLD] * STEPS


def test_terminated_processes_leave_a_state_and_go_on_to_the_same_bits(together, tmp_path):
    process = start(tmp_path, edited(**CHANGES), pause=0.1)
    try:
        for _ in range(3):
            assert process.stdout.readline() == "step\n"
    finally:
        process.terminate()
    status, _, err = finish(process)
    assert status, err
    assert not (tmp_path / "out").exists()
    left = [path.name for path in (tmp_path / "work" / "toy").glob("*/state-*.safetensors")]
    assert len(left) == 1
    step = int(left[0].split("-")[1])
    assert 3 <= step < STEPS
    status, out, err = finish(start(tmp_path, edited(**CHANGES)))
    assert status == 0, err
    assert out.count(f"toy: resuming at step {step} of {STEPS}\n") == 1
    assert_same_release(tmp_path / "out", together[0] / "0" / "out")


# --- without other processes ---


@pytest.mark.parametrize(("size", "tasks"), [(1, 5), (2, 8), (3, 12), (4, 4)])
def test_shares_are_equal_parts_of_the_batch(size, tasks):
    parts = [list(range(tasks))[World(rank, size).share(tasks)] for rank in range(size)]
    assert list(itertools.chain(*parts)) == list(range(tasks))
    assert {len(part) for part in parts} == {tasks // size}
    assert [World(rank, size).first for rank in range(size)] == [True] + [False] * (size - 1)


def test_a_process_on_its_own_has_nothing_to_average():
    alone, tensor = World(), torch.tensor([1.0, 3.0])
    alone.average(tensor)
    alone.wait()
    alone.check(7)
    assert tensor.tolist() == [1.0, 3.0]
    assert alone.largest(2.5, CPU) == 2.5
    with joined_world(CPU) as joined:
        assert (joined.rank, joined.size) == (0, 1)
        assert not dist.is_initialized()


def test_an_average_is_the_sum_over_the_processes_divided_by_their_number(monkeypatch):
    monkeypatch.setattr(world.dist, "all_reduce", lambda tensor: tensor.add_(torch.tensor([1.0, 2.0])))
    tensor = torch.tensor([3.0, 5.0])
    World(1, 2).average(tensor)
    assert tensor.tolist() == [2.0, 3.5]


def test_the_first_of_the_processes_says_what_is_wrong():
    with pytest.raises(UserError, match=r"training\.batch = 9 cannot be shared by 4 processes"):
        World(0, 4).check(9)
    with pytest.raises(SystemExit) as end:
        World(2, 4).check(9)
    assert end.value.code == 2
    World(2, 4).check(8)


@pytest.mark.parametrize(("visible", "local_rank", "expected"), [(4, 2, 2), (1, 2, 0)])
def test_every_process_takes_its_own_card(monkeypatch, visible, local_rank, expected):
    """The one that it has leased, where it sees no other, else that of its number."""
    chosen, groups = [], []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(world.dist, "init_process_group", groups.append)
    monkeypatch.setattr(world.dist, "destroy_process_group", lambda: groups.append("ended"))
    monkeypatch.setattr(world.dist, "get_rank", lambda: 6)
    for name, value in {"WORLD_SIZE": 8, "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, str(value))
    with joined_world(torch.device("cuda")) as joined:
        assert (joined.rank, joined.size) == (6, 8)
    assert chosen == [expected]
    assert groups == ["nccl", "ended"]


def test_the_group_ends_with_a_failure(monkeypatch):
    groups = []
    monkeypatch.setattr(world.dist, "init_process_group", groups.append)
    monkeypatch.setattr(world.dist, "destroy_process_group", lambda: groups.append("ended"))
    monkeypatch.setattr(world.dist, "get_rank", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="wrong"), joined_world(CPU):
        raise UserError("wrong")
    assert groups == ["gloo", "ended"]
