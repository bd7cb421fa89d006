"""Several families in one process: each ends as on its own, and none depends on what becomes of another."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tgmm.train import side_by_side
from tgmm.train.family import state_folder, train_family
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.side_by_side import Outcome, train_side_by_side
from tgmm.train.status import is_held
from toy_training import CPU, RECIPES, STEPS, assert_same_release, settings

FAMILIES = {
    name: settings(
        family=name, recipe=recipe, network={"width": 8, "blocks": 1, "heads": 2, **RECIPES[recipe]},
        training__tasks=8 * steps, training__learning_rate=rate,
    )
    for name, recipe, steps, rate in (
        ("first", "components", STEPS, 5e-3), ("second", "matched", 5, 2e-3), ("third", "components", 8, 1e-3),
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The families, each trained on its own."""
    folder = tmp_path_factory.mktemp("alone")
    for name, values in FAMILIES.items():
        assert train_family(values, folder / name, folder / "work", CPU).kind == "finished"
    return folder


def train(folder: Path, families: dict[str, TrainingSettings] | None = None, **options) -> dict[str, Outcome]:
    values = list((families or FAMILIES).values())
    return train_side_by_side(values, lambda family: folder / family, folder / "work", CPU, **options)


def kinds(outcomes: dict[str, Outcome]) -> dict[str, str]:
    return {family: outcome.kind for family, outcome in outcomes.items()}


def on_step(monkeypatch, function: Callable[[str], None]) -> list[str]:
    """Call a function with the family of every step; the families of the steps so far."""
    seen: list[str] = []

    def step(self, done, loss):
        seen.append(self.family)
        function(self.family)

    monkeypatch.setattr(TrainingProgress, "step", step)
    return seen


@pytest.mark.parametrize("together", [1, 2, 4])
def test_each_ends_with_the_bits_that_it_has_on_its_own(alone, tmp_path, together):
    outcomes = train(tmp_path, together=together)
    assert kinds(outcomes) == dict.fromkeys(FAMILIES, "finished")
    for name, outcome in outcomes.items():
        assert_same_release(tmp_path / name, alone / name)
        assert outcome.record.step == FAMILIES[name].training.steps


def test_families_begin_in_their_order_and_take_turns_so_many_at_a_time(tmp_path, monkeypatch):
    seen = on_step(monkeypatch, lambda family: None)
    train(tmp_path, together=2)
    assert seen[:8] == ["first", "second"] * 4
    ends = {family: len(seen) - 1 - seen[::-1].index(family) for family in FAMILIES}
    assert ends["second"] < seen.index("third") < ends["first"]
    both = [family for family in seen[seen.index("third") :] if family != "second"]
    assert both[:10] == ["third", "first"] * 5 or both[1:11] == ["third", "first"] * 5
    assert {family: seen.count(family) for family in FAMILIES} == {"first": STEPS, "second": 5, "third": 8}


def test_one_at_a_time_is_one_after_the_other(tmp_path, monkeypatch):
    seen = on_step(monkeypatch, lambda family: None)
    assert list(train(tmp_path, together=1)) == list(FAMILIES)
    assert [family for family, _ in itertools.groupby(seen)] == list(FAMILIES)


def test_a_family_is_locked_while_it_trains_and_no_longer(tmp_path, monkeypatch):
    def held(name: str) -> bool:
        return is_held(state_folder(FAMILIES[name], tmp_path / "work") / "lock")

    locks = []
    on_step(monkeypatch, lambda family: locks.append((family, [name for name in FAMILIES if held(name)])))
    train(tmp_path, together=1)
    assert locks
    assert all(names == [family] for family, names in locks)
    assert not any(map(held, FAMILIES))


@pytest.mark.parametrize("place", range(3))
def test_a_family_that_diverges_stops_no_other(alone, tmp_path, place):
    names = list(FAMILIES)
    names.insert(place, "wild")
    wild = settings(family="wild", training__learning_rate=1e30)
    outcomes = train(tmp_path, {name: FAMILIES.get(name, wild) for name in names}, together=2)
    assert kinds(outcomes) == {name: "failed" if name == "wild" else "finished" for name in names}
    assert "wild: the loss or its gradient is not finite at step" in outcomes["wild"].message
    assert not (tmp_path / "wild").exists()
    assert not is_held(state_folder(wild, tmp_path / "work") / "lock")
    for name in FAMILIES:
        assert_same_release(tmp_path / name, alone / name)


def test_a_family_that_cannot_be_written_stops_no_other_and_loses_no_training(alone, tmp_path):
    (tmp_path / "second").write_text("a file in the way")
    outcomes = train(tmp_path)
    assert kinds(outcomes) == {"first": "finished", "second": "failed", "third": "finished"}
    assert "second/history.csv: cannot be written" in outcomes["second"].message
    (tmp_path / "second").unlink()
    assert kinds(train(tmp_path)) == dict.fromkeys(FAMILIES, "finished")
    for name in FAMILIES:
        assert_same_release(tmp_path / name, alone / name)


def test_a_work_folder_that_cannot_be_written_is_a_failure_of_its_family(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "first").write_text("a file in the way")
    outcomes = train(tmp_path)
    assert kinds(outcomes) == {"first": "failed", "second": "finished", "third": "finished"}
    assert "cannot be written" in outcomes["first"].message
    assert outcomes["first"].record is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("after", [1, 4, 7])
def test_a_signal_leaves_states_that_end_with_the_same_bits(alone, tmp_path, monkeypatch, capsys, after, number):
    left = itertools.count(after, -1)
    on_step(monkeypatch, lambda family: os.kill(os.getpid(), number) if next(left) == 1 else None)
    before = signal.getsignal(number)
    outcomes = train(tmp_path, together=2)
    assert signal.getsignal(number) is before
    assert kinds(outcomes) == dict.fromkeys(FAMILIES, "interrupted")
    assert {outcome.signal for outcome in outcomes.values()} == {number}
    assert outcomes["third"].record is None
    assert not any((tmp_path / name).exists() for name in FAMILIES)
    steps = [outcomes[name].record.step for name in ("first", "second")]
    assert min(steps) >= 1
    assert after <= sum(steps) <= after + 4  # each looks again before long
    monkeypatch.undo()
    assert kinds(train(tmp_path, together=2)) == dict.fromkeys(FAMILIES, "finished")
    said = capsys.readouterr().out
    assert all(f"{name}: resuming at step {step} of" in said for name, step in zip(FAMILIES, steps, strict=False))
    assert "third: resuming" not in said
    for name in FAMILIES:
        assert_same_release(tmp_path / name, alone / name)


def test_the_end_of_the_time_leaves_states_that_end_with_the_same_bits(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "time", SimpleNamespace(monotonic=lambda: 0.0))  # so that every family begins
    for sitting in range(1, STEPS + 1):
        outcomes = train(tmp_path, max_minutes=1e-9)
        for name, values in FAMILIES.items():
            steps = min(sitting, values.training.steps)
            assert outcomes[name].record.step == steps
            assert outcomes[name].kind == ("finished" if steps == values.training.steps else "budget")
            assert (tmp_path / name).exists() == (outcomes[name].kind == "finished")
    for name in FAMILIES:
        assert_same_release(tmp_path / name, alone / name)


def test_without_any_time_nothing_begins(tmp_path):
    outcomes = train(tmp_path, max_minutes=0.0)
    assert outcomes == dict.fromkeys(FAMILIES, Outcome("budget"))
    assert not any(tmp_path.iterdir())


def test_no_families_are_no_work(tmp_path):
    assert train_side_by_side([], lambda family: tmp_path, tmp_path, CPU) == {}


@pytest.mark.gpu
def test_families_on_a_gpu_are_close_to_those_on_their_own(tmp_path):
    import torch

    cuda = torch.device("cuda")
    values = list(FAMILIES.values())
    outcomes = train_side_by_side(values, lambda family: tmp_path / family, tmp_path / "work", cuda)
    for name, settings_ in FAMILIES.items():
        assert outcomes[name].kind == "finished"
        train_family(settings_, tmp_path / "alone" / name, tmp_path / "apart", cuda)
        assert_same_release(tmp_path / name, tmp_path / "alone" / name)
