"""A training step: what it sums up, what it notices, and on a GPU that a recorded one is the same step."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toy_training import STEPS, assert_same, run, settings

from tgmm.losses import training_loss
from tgmm.models.settings import NETWORK_KINDS
from tgmm.train.settings import Budget, TrainingSettings
from tgmm.train.step import ALIGNMENT, BETAS, SUMS, Optimizer, RecordedStep, TrainingStep
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


# --- the optimizer -----------------------------------------------------------------------------------------------


RATES = [1e-2, 5e-3, 2e-3, 1e-3, 1e-3, 3e-3]


def network(kind: str = "components", **changes) -> nn.Module:
    torch.manual_seed(0)
    return NETWORK_KINDS[kind](**{"width": 12, "blocks": 2, "heads": 3, "dimension": 3, **changes}).build()


def budget(**changes) -> Budget:
    return Budget(**{"tasks": 100, "weight_decay": 0.1, "clip": 0.5, **changes})


def loss(built: nn.Module, step: int) -> torch.Tensor:
    """Of a network's estimates, and something that gives a gradient to the biases that a softmax cancels: rounding
    would be all of theirs, and AdamW makes steps of any gradient."""
    generator = torch.Generator().manual_seed(step)
    points = 3 * torch.randn(4, 10, 3, generator=generator)
    estimates = built(points, torch.tensor([2, 3, 4, 5]))
    total = sum(e.means.square().mean() + (e.log_weights.clamp_min(-50) + 1).square().mean() for e in estimates)
    pulls = [(value - torch.randn(value.shape, generator=generator)).square().sum() for value in built.parameters()]
    return total + 0.01 * sum(pulls)


def train(built: nn.Module, optimizer: Optimizer, rates: list[float], first: int = 0) -> list[float]:
    """Steps; the norms of the gradients before clipping."""
    norms = []
    for step, rate in enumerate(rates, first):
        optimizer.zero()
        loss(built, step).backward()
        optimizer.set_rate(rate)
        norms.append(optimizer.step().item())
    return norms


def assert_same_weights(first: nn.Module, second: nn.Module, tolerance: float) -> None:
    for (name, one), (_, other) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("kind", ["components", "set-encoder", "gpt2"])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_steps_are_those_of_adamw_on_the_separate_parameters(kind, clip):
    ours = network(kind)
    theirs = copy.deepcopy(ours)
    norms = train(ours, Optimizer(ours, budget(clip=clip)), RATES)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1.0, betas=BETAS, weight_decay=0.1)
    for step, rate in enumerate(RATES):
        reference.zero_grad()
        loss(theirs, step).backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        assert norms[step] == pytest.approx(norm.item(), rel=1e-4)
        reference.param_groups[0]["lr"] = rate
        reference.step()
    assert min(norms) > 0.5  # so that the smaller limit clips every step
    assert_same_weights(ours, theirs, 1e-6)


def test_parameters_and_gradients_are_views_of_two_vectors():
    built = network()
    optimizer = Optimizer(built, budget())
    places = []
    for vector, part in ((optimizer.value, lambda p: p.data), (optimizer.gradient, lambda p: p.grad)):
        start, end = vector.data_ptr(), vector.data_ptr() + 4 * len(vector)
        for parameter in built.parameters():
            tensor = part(parameter)
            assert start <= tensor.data_ptr() < end
            assert (tensor.data_ptr() - start) % (4 * ALIGNMENT) == 0
            places.append((tensor.data_ptr(), tensor.data_ptr() + 4 * tensor.numel()))
    assert all(one[1] <= other[0] for one, other in pairwise(sorted(places)))  # no two share a number
    loss(built, 0).backward()
    assert optimizer.gradient.norm() > 0
    joined = torch.cat([parameter.grad.flatten() for parameter in built.parameters()])
    torch.testing.assert_close(optimizer.gradient.norm(), joined.norm())
    optimizer.zero()
    assert all((parameter.grad == 0).all() for parameter in built.parameters())


def test_the_network_stays_as_it_was_until_the_first_step():
    built, plain = network(), network()
    Optimizer(built, budget())
    assert_same_weights(built, plain, 0.0)
    torch.testing.assert_close(loss(built, 0), loss(plain, 0), rtol=0, atol=0)


def test_numbers_between_the_parameters_stay_zero():
    built = network()
    optimizer = Optimizer(built, budget())
    train(built, optimizer, RATES)
    used = torch.zeros_like(optimizer.value, dtype=torch.bool)
    for parameter in built.parameters():
        first = (parameter.data_ptr() - optimizer.value.data_ptr()) // 4
        used[first : first + parameter.numel()] = True
    assert not used.all()
    assert (optimizer.value[~used] == 0).all()


@given(stop=st.integers(0, len(RATES) - 1))
def test_what_was_saved_goes_on_with_the_same_bits(stop):
    whole, first, second = network(), network(), network()
    train(whole, Optimizer(whole, budget()), RATES)
    optimizer = Optimizer(first, budget())
    train(first, optimizer, RATES[:stop])
    saved = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    weights = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    resumed = Optimizer(second, budget())
    second.load_state_dict(weights)
    resumed.load(saved)
    assert resumed.tensors().keys() == saved.keys()
    train(second, resumed, RATES[stop:], stop)
    assert_same_weights(second, whole, 0.0)


def test_a_gradient_that_is_not_finite_shows_in_the_norm():
    built = network()
    optimizer = Optimizer(built, budget())
    next(iter(built.parameters())).grad.view(-1)[0] = torch.nan
    assert not optimizer.step().isfinite()


@pytest.mark.gpu
def test_cuda_steps_are_the_cpus():
    here, there = network(), network().cuda()
    first, second = Optimizer(here, budget()), Optimizer(there, budget())
    for rate in RATES:
        gradient = torch.randn(first.gradient.shape, generator=torch.Generator().manual_seed(1))
        for optimizer in (first, second):
            optimizer.gradient.copy_(gradient)
            optimizer.set_rate(rate)
            optimizer.step()
    torch.testing.assert_close(first.value, second.value.cpu(), rtol=0, atol=1e-5)
