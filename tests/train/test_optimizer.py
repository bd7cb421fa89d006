"""All parameters as one vector: the steps of torch's own AdamW on the separate parameters."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tgmm.models.settings import NETWORK_KINDS
from tgmm.train.settings import Budget
from tgmm.train.step import ALIGNMENT, BETAS, Optimizer

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
