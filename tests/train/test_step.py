"""A training step: what it sums up, what it notices, and on a GPU that a recorded one is the same step."""

from __future__ import annotations

import copy
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_training import STEPS, assert_same, run, settings

from tgmm.losses import training_loss
from tgmm.train.settings import TrainingSettings
from tgmm.train.step import SUMS, RecordedStep, TrainingStep
from tgmm.train.trainer import Trainer

NETWORK = {"kind": "components", "width": 16, "blocks": 2, "heads": 2}
KINDS = {
    "matched": {}, "both": {"loss": "both"}, "sorted": {"loss": "sorted"},
    "anisotropic": {"covariance": "anisotropic", "loss": "both"}, "axes": {"network": {**NETWORK, "axes": 3}},
    "options": {"network": {**NETWORK, "fourier": 2, "axes": 3, "moments": True}},
}  # fmt: skip


def toy(**changes) -> TrainingSettings:
    return settings(**{"network": NETWORK, **changes})


def trainer(device: str = "cpu", **changes) -> Trainer:
    return Trainer(toy(**changes), Path("unused"), device)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_those_of_the_losses_before_each_step(kind):
    ours = trainer(**KINDS[kind])
    expected = torch.zeros(len(SUMS), dtype=torch.float64)
    for number in range(3):
        batch = ours.stream.batch(number)
        with torch.no_grad():
            estimates = copy.deepcopy(ours.network)(batch.points, batch.n_components)
            _, last = training_loss(estimates, batch, ours.settings.loss)
        expected += torch.stack([torch.tensor(1.0), last.total.mean(), last.means.mean(), last.weights.mean()])
        ours.take_step()
    torch.testing.assert_close(ours.step.sums, expected, rtol=1e-4, atol=1e-4)
    assert ours.step.bad == TrainingStep.NEVER


def test_the_first_bad_step_is_remembered():
    ours = trainer()
    for number in range(5):
        batch = ours.stream.batch(number)
        if number == 2:
            batch.points[0, 0, 0] = torch.nan
        ours.step.take(number, 1e-3, batch)
        assert ours.step.bad == (TrainingStep.NEVER if number < 2 else 2)


def test_a_gradient_that_is_not_finite_is_noticed_where_the_loss_is():
    ours = trainer()
    ours.network.seeds.register_hook(lambda gradient: gradient * torch.inf)
    ours.step.take(7, 1e-3, ours.stream.batch(0))
    assert ours.step.sums.isfinite().all()
    assert ours.step.bad == 7


def test_a_part_of_a_batch_has_its_own_axes():
    """Two halves, their gradients averaged, give the gradient of the whole."""
    ours = trainer(network={**NETWORK, "axes": 3})
    batch = ours.stream.batch(0)
    gradients = []
    for part in (slice(0, 8), slice(0, 4), slice(4, 8)):
        ours.optimizer.zero()
        some = batch[part]
        training_loss(ours.network(some.points, some.n_components, axes=some.axes), some, "matched")[0].backward()
        gradients.append(ours.optimizer.gradient.clone())
    torch.testing.assert_close((gradients[1] + gradients[2]) / 2, gradients[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["matched", "both", "anisotropic"])
def test_bfloat16_is_close_to_float32(tmp_path, kind):
    histories = []
    for precision in ("float32", "bfloat16"):
        changes = {"network": NETWORK, "training__precision": precision, **KINDS[kind]}
        trained, reason = run(tmp_path / precision, **changes)
        assert reason.kind == "finished"
        assert all(value.dtype == torch.float32 for value in trained.network.parameters())
        histories.append(pd.DataFrame(trained.record.history))
    for name in ("loss", "validation_l2_error"):
        full, half = (history[name].dropna().to_numpy() for history in histories)
        assert half == pytest.approx(full, rel=0.1)
        assert (half != full).any()


def test_bfloat16_resumes_exactly(tmp_path):
    changes = {"network": NETWORK, "training__precision": "bfloat16"}
    whole, _ = run(tmp_path / "whole", **changes)
    run(tmp_path / "parts", 5, **changes)
    assert_same(run(tmp_path / "parts", **changes)[0], whole)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_every_schedule_resumes_exactly(tmp_path, schedule):
    changes = {"network": NETWORK, "training__schedule": schedule}
    whole, _ = run(tmp_path / "whole", **changes)
    run(tmp_path / "parts", 4, **changes)
    assert_same(run(tmp_path / "parts", **changes)[0], whole)


def test_a_trainer_on_a_cpu_records_nothing():
    assert type(trainer().step) is TrainingStep


# --- on a GPU ---


def losses(step: TrainingStep, ours: Trainer, steps: int) -> list[float]:
    found = []
    for number in range(steps):
        before = step.sums.clone()
        step.take(number, ours.settings.training.rate(number), ours.stream.batch(number))
        found.append((step.sums - before)[1].item())
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_step_is_the_same_step(kind, precision):
    changes = {**KINDS[kind], "training__tasks": 8 * 40, "longest": 8, "training__precision": precision}
    ours, other = trainer("cuda", **changes), trainer("cuda", **changes)
    assert type(ours.step) is RecordedStep
    plain = TrainingStep(other.settings, other.network, other.optimizer)
    recorded, expected = losses(ours.step, ours, 20), losses(plain, other, 20)
    assert len(ours.step.seen) > 3  # numbers of points
    assert len(ours.step.graphs) > 1
    assert recorded == pytest.approx(expected, rel=1e-4 if precision == "float32" else 2e-2)
    assert ours.step.bad.item() == TrainingStep.NEVER


@pytest.mark.gpu
def test_a_recorded_step_notices_what_is_not_finite():
    ours = trainer("cuda", longest=2, training__tasks=8 * 40)
    for number in range(12):
        batch = ours.stream.batch(number)
        if number == 9:
            batch.points[0, 0, 0] = torch.nan
        ours.step.take(number, 1e-3, batch)
    assert ours.step.graphs
    assert ours.step.bad.item() == 9


@pytest.mark.gpu
def test_no_step_waits_for_the_gpu():
    ours = trainer("cuda", longest=2, training__tasks=8 * 40)
    batches = [ours.stream.batch(number) for number in range(20)]
    for number, batch in enumerate(batches):  # sets up libraries and records
        ours.step.take(number, 1e-3, batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number, batch in enumerate(batches):
            ours.step.take(number, 1e-3, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def run_on_gpu(folder: Path, monkeypatch, stop_after: int | None = None, **changes) -> Trainer:
    monkeypatch.setattr("toy_training.DEVICE", torch.device("cuda"))
    return run(folder, stop_after, **changes)[0]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resuming_on_a_gpu_is_exact(tmp_path, monkeypatch, precision):
    changes = {
        "network": NETWORK, "longest": 4, "training__precision": precision,
        "training__tasks": 8 * 2 * STEPS,
    }  # fmt: skip
    whole = run_on_gpu(tmp_path / "whole", monkeypatch, **changes)
    for stop in (5, 9):
        run_on_gpu(tmp_path / "parts", monkeypatch, stop, **changes)
    assert_same(run_on_gpu(tmp_path / "parts", monkeypatch, **changes), whole)


@pytest.mark.gpu
def test_bfloat16_on_a_gpu_is_close_to_float32(tmp_path, monkeypatch):
    full, half = (
        pd.DataFrame(run_on_gpu(tmp_path / name, monkeypatch, network=NETWORK, training__precision=name).record.history)
        for name in ("float32", "bfloat16")
    )
    assert half.loss.to_numpy() == pytest.approx(full.loss.to_numpy(), rel=0.1)
