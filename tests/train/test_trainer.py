"""Training: exact resume however it was stopped, settings that are checked, states that survive damage."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_training import CPU, RECIPES, STEPS, TIMES, VALUES, assert_same, assert_same_release, outcome, run, settings

from tgmm.errors import UserError
from tgmm.metrics import l2_error
from tgmm.models.checkpoint import load_checkpoint
from tgmm.train import lease
from tgmm.train.family import state_folder, train_family
from tgmm.train.lease import exclusive
from tgmm.train.progress import deferred_signals
from tgmm.train.settings import TrainingSettings
from tgmm.train.trainer import Trainer, ValidationSet


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*"))


# --- exact resume ---


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path, recipe):
    network = {"width": 8, "blocks": 1, "heads": 2, **RECIPES[recipe]}
    first, second, third = (
        run(tmp_path / str(number), network=network, recipe=recipe, seed=seed, training__tasks=24)[0]
        for number, seed in enumerate((5, 5, 6))
    )
    assert_same(first, second)
    assert not torch.equal(*(next(iter(outcome(trainer)[0].values())) for trainer in (first, third)))


@pytest.mark.parametrize("stops", [(1,), (5,), (4, 4), (3, 1, 2), (STEPS - 1,)], ids=str)
def test_an_interrupted_and_resumed_training_equals_an_uninterrupted_one(tmp_path, monkeypatch, stops):
    monkeypatch.setattr("tgmm.train.trainer.HISTORY_ROWS", 4)  # a row every three steps: sums cross the interruptions
    whole, reason = run(tmp_path / "whole")
    assert reason.kind == "finished"
    for stop in stops:
        trainer, reason = run(tmp_path / "parts", stop)
        assert (reason.kind, reason.signal) == ("interrupted", signal.SIGTERM)
    assert trainer.record.step == sum(stops)
    lines: list[str] = []
    resumed, reason = run(tmp_path / "parts", lines=lines)
    assert reason.kind == "finished"
    assert lines == [f"resuming at step {sum(stops)} of {STEPS}"]
    assert_same(resumed, whole)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resumes_exactly(tmp_path, recipe):
    changes = {"network": {"width": 8, "blocks": 2, "heads": 2, **RECIPES[recipe]}, "training__tasks": 40,
               "covariance": "anisotropic", "loss": "sorted" if recipe == "reference" else "matched"}  # fmt: skip
    whole, _ = run(tmp_path / "whole", **changes)
    run(tmp_path / "parts", 2, **changes)
    assert_same(run(tmp_path / "parts", **changes)[0], whole)


def test_a_stop_at_the_last_step_is_a_finish(tmp_path):
    trainer, reason = run(tmp_path, STEPS)
    assert reason.kind == "finished"
    assert trainer.record.step == STEPS


def test_time_spent_adds_up_over_interruptions(tmp_path):
    first, _ = run(tmp_path, 4)
    second, _ = run(tmp_path)
    for name in TIMES:
        assert 0 < getattr(first.record, name) < getattr(second.record, name)
        column = [row[name] for row in second.record.history]
        assert column == sorted(column)
    assert second.record.processor_seconds < 1.5 * second.record.seconds + 0.1  # one thread


def test_only_two_states_are_kept(tmp_path):
    for _ in range(4):
        run(tmp_path, 2)
    assert [path.name[:15] for path in states(tmp_path)] == ["state-000000006", "state-000000008"]


# --- damage ---


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_newest_state_is_passed_over_with_a_warning(tmp_path, damage):
    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "parts", 3)
    run(tmp_path / "parts", 3)
    newest = states(tmp_path / "parts")[-1]
    content = newest.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    newest.write_bytes({"flipped": flipped, "truncated": content[:middle], "empty": b""}[damage])
    lines: list[str] = []
    resumed, _ = run(tmp_path / "parts", lines=lines)
    assert "damaged" in lines[0]
    assert newest.name in lines[0]
    assert lines[1] == f"resuming at step 3 of {STEPS}"
    assert_same(resumed, whole)


def test_with_no_sound_state_training_starts_again(tmp_path):
    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "parts", 3)
    for path in states(tmp_path / "parts"):
        path.write_bytes(b"no state")
    (tmp_path / "parts" / "state-foreign.safetensors").write_bytes(b"not ours")
    lines: list[str] = []
    assert_same(run(tmp_path / "parts", lines=lines)[0], whole)
    assert not any(line.startswith("resuming") for line in lines)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_diverging_training_is_refused_with_step_and_rate_and_keeps_its_state(tmp_path, recipe):
    changes = {"network": {"width": 8, "blocks": 1, "heads": 2, **RECIPES[recipe]}, "training__learning_rate": 1e30}
    run(tmp_path, 1, **changes)
    kept = {path: path.read_bytes() for path in states(tmp_path)}
    assert kept
    message = r"toy: the loss or its gradient is not finite at step \d+ \(learning rate .*e\+\d+\)"
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path, **changes)
    assert str(tmp_path) in str(error.value)
    assert {path: path.read_bytes() for path in states(tmp_path)} == kept


def test_a_network_spoilt_by_its_last_step_is_not_released(tmp_path):
    with pytest.raises(UserError, match=r"toy: .*learning rate"):
        train_family(settings(training__tasks=8, training__learning_rate=1e30), tmp_path / "o", tmp_path / "w", CPU)
    assert not (tmp_path / "o" / "config.json").exists()


# --- a whole family ---


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A toy family, trained without a pause."""
    folder = tmp_path_factory.mktemp("released")
    assert train_family(settings(), folder / "out", folder / "work", CPU).kind == "finished"
    return folder


def test_a_released_family_has_its_three_files_and_its_record(released):
    out = released / "out"
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "history.csv", "model.safetensors"]
    checkpoint = load_checkpoint(out)
    record = checkpoint.record["record"]
    assert checkpoint.family == "toy"
    assert TrainingSettings.from_dict(checkpoint.record["settings"]) == settings()
    assert (record["steps"], record["tasks_seen"], record["seed"]) == (STEPS, 8 * STEPS, 5)
    assert record["fingerprint"] in {path.name for path in (released / "work" / "toy").iterdir()}
    assert record["parameters"] == sum(value.numel() for value in checkpoint.network.parameters())
    assert {"torch", "python"} <= record["versions"].keys()


def test_the_history_has_losses_at_every_row_and_errors_at_validations(released):
    history = pd.read_csv(released / "out" / "history.csv")
    losses, errors = ["loss", "mean_loss", "weight_loss"], ["", "_oracle", "_k2", "_k3"]
    errors = [f"validation_l2_error{part}" for part in errors]
    cost = ["flops", "parameters", "width", "blocks"]
    assert set(history) == {"step", "tasks", *TIMES, "learning_rate", *cost, *losses, *errors}
    assert history.step.tolist() == list(range(1, STEPS + 1))
    assert (history.tasks == 8 * history.step).all()
    assert history.parameters.nunique() == history.width.nunique() == history.blocks.nunique() == 1
    assert (history.flops / history.tasks).round(3).nunique() == 1
    assert history[losses].notna().all(axis=None)
    assert (history.loss - history.mean_loss - history.weight_loss).abs().max() < 1e-4
    validations = history[history.validation_l2_error.notna()]
    assert validations.step.tolist() == [4, 8, 12]
    assert validations.validation_l2_error_oracle.nunique() == 1
    mean = (validations.validation_l2_error_k2 + validations.validation_l2_error_k3) / 2
    assert (validations.validation_l2_error - mean).abs().max() < 1e-12


def test_the_last_validation_is_the_released_networks(released):
    errors = ValidationSet(settings()).errors(load_checkpoint(released / "out").network)
    record = load_checkpoint(released / "out").record["record"]
    expected = sum(errors.values()) / 2  # of rounded weights; the record is of those before
    assert record["validation_l2_error"] == pytest.approx(expected, rel=1e-4)


def test_nothing_is_released_before_the_end_and_max_minutes_resumes_exactly(released, tmp_path):
    calls = 0
    reason = None
    while reason is None or reason.kind == "budget":
        assert not (tmp_path / "out").exists()
        reason = train_family(settings(), tmp_path / "out", tmp_path / "work", CPU, max_minutes=0.0)
        calls += 1
    assert (reason.kind, calls) == ("finished", STEPS)
    assert_same_release(tmp_path / "out", released / "out")


def test_a_finished_family_is_released_again_without_training(released, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "take_step", lambda self, rate=None: pytest.fail("trained again"))
    train_family(settings(), tmp_path / "again", released / "work", CPU)
    assert_same_release(tmp_path / "again", released / "out")


def test_an_edited_setting_never_resumes_another_ones_state(tmp_path, capsys):
    train_family(settings(), tmp_path / "out", tmp_path / "work", CPU, max_minutes=0.0)
    train_family(settings(training__learning_rate=4e-3), tmp_path / "out", tmp_path / "work", CPU, max_minutes=0.0)
    assert "resuming" not in capsys.readouterr().out
    assert len(list((tmp_path / "work" / "toy").iterdir())) == 2
    train_family(settings(), tmp_path / "out", tmp_path / "work", CPU, max_minutes=0.0)
    assert "toy: resuming at step 1" in capsys.readouterr().out


def test_an_unwritable_work_folder_is_refused_by_name(tmp_path):
    (tmp_path / "work").write_text("a file in the way")
    with pytest.raises(UserError, match=r"work/toy/\w+: cannot be written"):
        train_family(settings(), tmp_path / "out", tmp_path / "work", CPU)


def test_an_unwritable_output_loses_no_training(released, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("a file in the way")
    with pytest.raises(UserError, match=r"out/history\.csv: cannot be written"):
        train_family(settings(), tmp_path / "out", tmp_path / "work", CPU)
    (tmp_path / "out").unlink()
    monkeypatch.setattr(Trainer, "take_step", lambda self, rate=None: pytest.fail("trained again"))
    train_family(settings(), tmp_path / "out", tmp_path / "work", CPU)
    assert_same_release(tmp_path / "out", released / "out")


def test_a_full_disk_while_saving_keeps_the_states_before(tmp_path, monkeypatch):
    run(tmp_path, 3)
    kept = states(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot be written .*No space left"):
        run(tmp_path, 2)
    assert sorted(tmp_path.iterdir()) == kept


# --- signals and locks, with real processes ---

DRIVER = """
import json, sys, time
from pathlib import Path
import torch
from tgmm.train import trainer
from tgmm.train.family import train_family
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings

def step(self, done, loss):
    print("step", flush=True)
    time.sleep(0.1)

torch.set_num_threads(1)
TrainingProgress.step = step
trainer.STATE_SECONDS = float(sys.argv[3])
folder = Path(sys.argv[1])
settings = TrainingSettings.from_dict(json.loads(sys.argv[2]))
reason = train_family(settings, folder / "out", folder / "work", torch.device("cpu"))
sys.exit(128 + reason.signal if reason.signal else 0)
"""


def start_trainer(folder: Path, state_seconds: float = 60.0) -> subprocess.Popen:
    """A trainer in a process of its own, slowed down, that has taken three steps."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), json.dumps(VALUES), str(state_seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    for _ in range(3):
        assert process.stdout.readline() == "step\n"
    return process


@pytest.mark.slow
def test_a_terminated_process_saves_and_the_next_one_ends_with_the_same_bits(released, tmp_path, capsys):
    process = start_trainer(tmp_path)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "out").exists()
    assert train_family(settings(), tmp_path / "out", tmp_path / "work", CPU).kind == "finished"
    assert "toy: resuming at step" in capsys.readouterr().out
    assert_same_release(tmp_path / "out", released / "out")


@pytest.mark.slow
def test_a_trainer_ends_with_a_state_when_its_workflow_was_killed(released, tmp_path):
    """SIGKILL to Snakemake leaves its jobs running: the shell between the two gets another parent."""
    workflow = tmp_path / "snakemake"
    workflow.write_text("import subprocess, sys\nsubprocess.run(sys.argv[1], shell=True, executable='bash')\n")
    slow = DRIVER.replace("time.sleep(0.1)", "time.sleep(0.5)")
    command = shlex.join([sys.executable, "-c", slow, str(tmp_path), json.dumps(VALUES), "60"])
    process = subprocess.Popen(
        [sys.executable, str(workflow), f"echo $$; {command} > {tmp_path}/log; echo $? > {tmp_path}/rc"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    process.stdout.readline()
    wait_for(lambda: (tmp_path / "log").exists() and "step" in (tmp_path / "log").read_text())
    process.kill()
    process.wait()
    wait_for(lambda: (tmp_path / "rc").exists() and (tmp_path / "rc").read_text())
    assert (tmp_path / "rc").read_text() == f"{128 + signal.SIGHUP}\n"
    assert train_family(settings(), tmp_path / "out", tmp_path / "work", CPU).kind == "finished"
    assert_same_release(tmp_path / "out", released / "out")


def wait_for(condition) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


@pytest.mark.slow
def test_a_family_waits_for_its_other_trainer_and_goes_on_when_that_is_killed(released, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    process = start_trainer(tmp_path, state_seconds=0.0)
    threading.Timer(0.2, process.kill).start()
    assert train_family(settings(), tmp_path / "out", tmp_path / "work", CPU).kind == "finished"
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    said = capsys.readouterr().out
    assert f"another trainer (process {process.pid}) is at work on this family; waiting for it" in said
    assert "toy: resuming at step" in said
    assert_same_release(tmp_path / "out", released / "out")


def test_a_trainer_that_waits_for_another_one_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
    with (
        exclusive(state_folder(tmp_path, settings().family, settings().fingerprint())),
        pytest.raises(UserError, match="told to stop while waiting for the other trainer"),
    ):
        train_family(settings(), tmp_path / "out", tmp_path, CPU)
    assert train_family(settings(), tmp_path / "out", tmp_path, CPU).kind == "finished"


def test_a_second_trainer_enters_when_the_first_one_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    lines, entered = [], threading.Event()

    def second():
        with exclusive(tmp_path, lines.append):
            entered.set()

    with exclusive(tmp_path, lines.append):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not entered.wait(0.3)
    waiting.join(10)
    assert entered.is_set()
    assert len(lines) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_are_deferred_and_handlers_restored(number):
    before = signal.getsignal(number)
    with deferred_signals() as request:
        assert not request
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert request
        assert request.number == number
    assert signal.getsignal(number) is before


# --- what is trained ---


@pytest.mark.slow
def test_the_loss_falls_and_so_does_the_validation_error(tmp_path):
    trainer, _ = run(
        tmp_path, n_components=[2], training__tasks=120 * 32, training__batch=32, training__validate_every=10 * 32,
        network={"kind": "components", "width": 16, "blocks": 2, "heads": 2}, validation_tasks=32,
    )  # fmt: skip
    history = pd.DataFrame(trainer.record.history)
    assert history.loss.tail(10).mean() < 0.75 * history.loss.head(10).mean()
    errors = history.validation_l2_error.dropna()
    assert errors.iloc[-1] < 0.75 * errors.iloc[0]
    assert errors.iloc[-1] > history.validation_l2_error_oracle.dropna().iloc[-1]


def test_gradients_are_clipped_to_the_norm_of_the_settings():
    for clip, within in ((1e-3, 1e-3), (1e9, math.inf)):
        trainer = Trainer(settings(training__clip=clip), Path("unused"))
        trainer.take_step()
        norm = torch.stack([value.grad.norm() for value in trainer.network.parameters()]).norm().item()
        assert 0 < norm <= 1.001 * within
    assert norm > 0.1


def test_validation_tasks_are_shared_by_recipes_and_apart_from_the_training_tasks():
    first, second = ValidationSet(settings()), ValidationSet(settings(recipe="matched", family="other", loss="sorted"))
    assert first.oracle == second.oracle
    for count, cell in first.tasks.items():
        assert torch.equal(cell.points, second.tasks[count].points)
        assert cell.points.shape == (6, 12, 2)
    assert not torch.equal(first.tasks[2].truth.means, ValidationSet(settings(seed=6)).tasks[2].truth.means)
    trained = Trainer(settings(), Path("unused")).stream.batch(0).mixture.means[:, 0]
    validated = first.tasks[2].truth.means[:, 0].float()
    assert not (trained[:, None] == validated).all(-1).any()


def test_the_oracle_is_near_the_truth():
    validation = ValidationSet(settings(longest=128, validation_tasks=64))
    assert 0 < validation.oracle[2] < 0.1
    assert validation.oracle[2] < validation.oracle[3]
    assert (l2_error(validation.tasks[2].truth, validation.tasks[2].truth) == 0).all()
