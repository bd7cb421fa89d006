"""The stream of training tasks: their distribution, and that a batch is its number's and nothing else's."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics.pairwise import cosine_similarity

from tgmm.metrics import mean_log_likelihood
from tgmm.models.settings import ComponentsNetwork
from tgmm.tasks import stream as module
from tgmm.tasks.sampler import sample_component_counts, sample_length, sample_mixtures
from tgmm.tasks.shifts import Shift, ShiftValues
from tgmm.tasks.stream import TaskBatch, TaskStream
from tgmm.tasks.taskset import sample_shifted_mixtures

SEED = 20250511
COVARIANCES = ("isotropic", "anisotropic")


def stream(seed: int = SEED, size: int = 8, **changes: Any) -> TaskStream:
    values = {"dimension": 2, "covariance": "isotropic", "n_components": (2, 3, 4, 5), "n_points": 32, **changes}
    return TaskStream(seed, size, **values)


def tensors(batch: TaskBatch) -> list[torch.Tensor]:
    return [tensor for tensor in batch.tensors() if tensor is not None]


def assert_same(first: TaskBatch, second: TaskBatch) -> None:
    pairs = list(zip(tensors(first), tensors(second), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)


# --- a batch is a function of its number ---


@given(
    seed=st.integers(0, 2**63 - 1), size=st.integers(1, 9), covariance=st.sampled_from(COVARIANCES),
    numbers=st.lists(st.integers(0, 90), min_size=1, max_size=3),
)  # fmt: skip
@settings(max_examples=15)
def test_a_batch_does_not_depend_on_where_one_starts_or_what_was_drawn_before(seed, size, covariance, numbers):
    """A training that is resumed at any step sees the tasks that it would have seen."""
    changes = {"covariance": covariance, "dimension": 8, "n_points": 6}
    used = stream(seed, size, **changes)
    for number in numbers:
        assert_same(used.batch(number), stream(seed, size, **changes).batch(number))


def test_batches_in_order_are_drawn_in_few_draws(monkeypatch):
    drawn = []
    plain = TaskStream._draw
    monkeypatch.setattr(TaskStream, "_draw", lambda self, chunk: drawn.append(chunk) or plain(self, chunk))
    running = stream()
    for number in range(2 * running.steps + 1):
        running.batch(number)
    assert drawn == [0, 1, 2]
    assert running.steps > 1


def test_a_task_is_that_of_its_index():
    """Parameters, K and N are those of the counter-based sampler, so they are the same on every machine."""
    running = stream(size=6, covariance="anisotropic")
    for number in (0, 1, running.steps - 1, running.steps, 50):
        batch, index = running.batch(number), torch.arange(6 * number, 6 * number + 6)
        counts = sample_component_counts(SEED, index, (2, 3, 4, 5))
        assert torch.equal(batch.n_components, counts)
        assert batch.points.shape == (6, sample_length(SEED, number, 32), 2)
        assert batch.points.dtype == torch.float32
        mixture = sample_mixtures(SEED, index, counts, 2, "anisotropic").to(torch.float32)
        width = mixture.n_components
        assert torch.equal(batch.mixture.weights[:, :width], mixture.weights)
        assert torch.equal(batch.mixture.means[:, :width], mixture.means)
        assert torch.equal(batch.mixture.standard_deviations[:, :width][mixture.weights > 0],
                           mixture.standard_deviations[mixture.weights > 0])  # fmt: skip


def test_no_two_batches_share_noise():
    """Neither within a draw nor from one draw to the next."""
    running = stream(size=4, n_points=16)
    noise = []
    for number in range(2 * running.steps + 2):
        batch = running.batch(number)
        nearest = torch.cdist(batch.points, batch.mixture.means).argmin(-1)
        noise.append((batch.points - batch.mixture.means.gather(1, nearest[..., None].expand(-1, -1, 2))).flatten())
    values = torch.cat(noise)
    assert len(values.unique()) > 0.999 * len(values)
    starts = torch.stack([part[:50] for part in noise])
    correlations = torch.corrcoef(starts) - torch.eye(len(starts))
    assert correlations.abs().max() < 0.75  # of 50 independent pairs


def test_other_seeds_give_other_tasks():
    first, second = stream(1).batch(0), stream(2).batch(0)
    assert not torch.equal(first.mixture.means, second.mixture.means)


def test_a_slice_of_a_batch_is_its_tasks():
    batch = stream(covariance="anisotropic", axes=lambda points, hidden: points[:, :2]).batch(3)
    halves = batch[:4], batch[4:]
    assert [len(half.points) for half in halves] == [4, 4]
    for whole, *parts in zip(tensors(batch), *map(tensors, halves), strict=True):
        assert torch.equal(whole, torch.cat(parts))


# --- padding ---


@given(
    size=st.integers(1, 7), choices=st.sets(st.integers(1, 6), min_size=1, max_size=4).map(sorted).map(tuple),
    covariance=st.sampled_from(COVARIANCES), number=st.integers(0, 40), at_once=st.sampled_from([1, 500, 1 << 18]),
)  # fmt: skip
def test_every_batch_is_padded_to_the_largest_size(size, choices, covariance, number, at_once):
    with patch.dict(module.NUMBERS_AT_ONCE, cpu=at_once):
        running = stream(size=size, n_components=choices, covariance=covariance, dimension=8, n_points=6)
    batch = running.batch(number)
    assert batch.mixture.n_components == max(choices)
    used = torch.arange(max(choices)) < batch.n_components[:, None]
    assert torch.equal(batch.mixture.weights > 0, used)
    torch.testing.assert_close(batch.mixture.weights.sum(1), torch.ones(size))
    assert (batch.mixture.means[~used] == 0).all()
    assert set(batch.n_components.tolist()) <= set(choices)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_batches_are_drawn_together_until_every_size_is_among_them(monkeypatch, size):
    monkeypatch.setitem(module.NUMBERS_AT_ONCE, "cpu", 1)
    running = stream(size=size, dimension=8, n_points=6)
    assert all(running.batch(number).mixture.n_components == 5 for number in range(60))


def test_a_batch_beyond_the_memory_of_a_draw_is_drawn_alone(monkeypatch):
    monkeypatch.setitem(module.NUMBERS_AT_ONCE, "cpu", 100)
    running = stream(size=8)
    assert running.steps == 1
    assert running.batch(5).mixture.n_components == 5


# --- the distribution ---


@pytest.mark.parametrize("choices", [(2, 3, 4, 5), (3,), (2, 5, 7)])
def test_every_size_is_seen_equally_often_in_every_place_of_a_batch(choices):
    running = stream(size=6, n_components=choices, n_points=4, dimension=8)
    counts = torch.stack([running.batch(number).n_components for number in range(200)])
    found = torch.stack([(counts == choice).sum() for choice in choices])
    assert (found - 1200 / len(choices)).abs().max() <= 1
    if len(choices) > 1:
        for place in counts.T.numpy():
            assert stats.chisquare([(place == choice).sum() for choice in choices]).pvalue > 1e-4


@pytest.mark.parametrize("longest", [9, 32])
def test_lengths_are_uniform_from_half_to_the_longest(longest):
    running = stream(size=1, n_points=longest, n_components=(2,), dimension=8)
    lengths = [running.batch(number).points.shape[1] for number in range(1500)]
    shortest = (longest + 1) // 2
    assert (min(lengths), max(lengths)) == (shortest, longest)
    assert stats.chisquare(np.bincount(lengths)[shortest:]).pvalue > 1e-3


@pytest.mark.parametrize("dimension", [2, 8])
def test_means_pass_the_cosine_filter_and_the_other_bounds(dimension):
    running = stream(dimension=dimension)
    for number in range(20):
        batch = running.batch(number)
        assert batch.mixture.means.abs().max() <= 5.0
        for means, count in zip(batch.mixture.means.numpy(), batch.n_components.tolist(), strict=True):
            cosines = cosine_similarity(means[:count])
            assert max(cosines[i, k] for i, k in combinations(range(count), 2)) < 0.8 + 1e-6
        weights = batch.mixture.weights[batch.mixture.weights > 0]
        assert weights.min() > 0.2 / (0.2 + 4 * 0.8) - 1e-6


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_points_have_the_moments_of_their_mixture(covariance):
    """First and second moments and third central ones of every task, in units of their standard errors."""
    batch = stream(size=40, n_points=8000, dimension=3, covariance=covariance).batch(0)
    mixture, points = batch.mixture.to(torch.float64), batch.points.double()
    deviations = torch.ones_like(mixture.means) if covariance == "isotropic" else mixture.standard_deviations
    weights = mixture.weights[..., None]
    mean = (weights * mixture.means).sum(1)
    apart = mixture.means - mean[:, None]
    # Of the coordinates' products and cubes about the mixture's mean.
    second = torch.einsum("bk,bki,bkj->bij", mixture.weights, apart, apart)
    second = second + torch.diag_embed((weights * deviations.square()).sum(1))
    third = (weights * (apart**3 + 3 * apart * deviations.square())).sum(1)
    centred = points - mean[:, None]
    samples = {
        "mean": (centred, torch.zeros_like(mean)),
        "second": ((centred[..., :, None] * centred[..., None, :]).flatten(2), second.flatten(1)),
        "third": (centred**3, third),
    }
    for name, (values, expected) in samples.items():
        scores = (values.mean(1) - expected) / (values.std(1) / values.shape[1] ** 0.5)
        assert scores.abs().max() < 5, name
        assert 0.7 < scores.square().mean() < 1.4, name


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_noise_of_a_point_is_normal_and_its_component_drawn_with_the_weights(covariance):
    batch = stream(size=4, n_points=6000, dimension=32, n_components=(3,), covariance=covariance).batch(0)
    for task, (weights, means) in enumerate(zip(batch.mixture.weights, batch.mixture.means, strict=True)):
        isotropic = covariance == "isotropic"
        scales = torch.ones_like(means) if isotropic else batch.mixture.standard_deviations[task]
        gaps = [(means[i] - means[k]).norm() / scales.max() for i, k in combinations(range(3), 2)]
        assert min(gaps) > 5  # in so many dimensions the nearest mean is a point's own
        apart = (batch.points[task, :, None] - means) / scales
        labels = apart.square().sum(-1).argmin(1)
        expected = weights.double() / weights.double().sum()
        assert stats.chisquare(labels.bincount(minlength=3), len(labels) * expected).pvalue > 1e-4
        noise = apart[torch.arange(len(labels)), labels]
        assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-4


# --- shifted tasks ---


CONTAMINATED = (
    ShiftValues(kind="none", values=(0,)), ShiftValues(kind="student-t", values=(3,)),
    ShiftValues(kind="outliers", values=(0.2,)), ShiftValues(kind="wrong-k", values=(-1, 1)),
)  # fmt: skip


def test_every_kind_of_shift_and_each_of_its_values_comes_equally_often():
    running, steps = stream(shifts=CONTAMINATED), 1600
    found = Counter((shift.kind, shift.value) for shift in map(running._shift, range(steps)))
    shares = {("none", 0): 1 / 4, ("student-t", 3): 1 / 4, ("outliers", 0.2): 1 / 4, ("wrong-k", -1): 1 / 8,
              ("wrong-k", 1): 1 / 8}  # fmt: skip
    assert found.keys() == shares.keys()
    assert stats.chisquare([found[key] for key in shares], [steps * share for share in shares.values()]).pvalue > 1e-3


@pytest.mark.parametrize("shifts", [(), (ShiftValues(kind="none", values=(0,)),)])
def test_tasks_without_a_shift_are_the_papers(shifts):
    for number in (0, 7):
        assert_same(stream(shifts=shifts).batch(number), stream().batch(number))


@given(number=st.integers(0, 60))
@settings(max_examples=4)
def test_a_shifted_batch_is_a_function_of_its_number_too(number):
    shifts = (*CONTAMINATED, ShiftValues(kind="separation", values=(0.5, 3)))
    changes = {"dimension": 8, "n_points": 6, "shifts": shifts, "fresh": True}
    used = stream(**changes)
    used.batch(2)
    batch = used.batch(number)
    assert_same(batch, stream(**changes).batch(number))
    assert batch.mixture.n_components == 5
    assert batch.points.isfinite().all()
    assert set(batch.n_components.tolist()) <= {2, 3, 4, 5}


def test_shifted_parameters_are_those_of_shifted_task_sets():
    shift = ShiftValues(kind="separation", values=(1.5,))
    running = stream(size=6, dimension=8, shifts=(shift,))
    for number in (0, 9):
        batch, index = running.batch(number), torch.arange(6 * number, 6 * number + 6)
        for task, count in enumerate(batch.n_components.tolist()):
            alone = sample_shifted_mixtures(Shift("separation", 1.5), SEED, index[task, None], count, 8, "isotropic")
            torch.testing.assert_close(batch.mixture.means[task, :count], alone.means[0].float())
            gaps = torch.pdist(batch.mixture.means[task, :count])
            torch.testing.assert_close(gaps, torch.full_like(gaps, 1.5))


def test_a_network_is_asked_for_another_number_within_those_that_it_serves():
    running = stream(size=400, n_points=4, dimension=8, shifts=(ShiftValues(kind="wrong-k", values=(1,)),))
    batch = running.batch(0)
    true = (batch.mixture.weights > 0).sum(1)
    assert torch.equal(batch.n_components, (true + 1).clamp(max=5))


def test_outliers_and_heavy_tails_have_their_distributions():
    tails = stream(size=30, n_points=600, n_components=(1,), shifts=(ShiftValues(kind="student-t", values=(3,)),))
    batch = tails.batch(0)
    noise = (batch.points - batch.mixture.means).numpy() * np.sqrt(3.0)
    assert stats.kstest(noise[..., 0].ravel(), stats.t(3).cdf).pvalue > 1e-3
    assert stats.kstest(np.square(noise).mean(-1).ravel(), stats.f(2, 3).cdf).pvalue > 1e-3
    away = stream(size=30, n_points=600, n_components=(1,), shifts=(ShiftValues(kind="outliers", values=(0.2,)),))
    batch = away.batch(0)
    far = (batch.points - batch.mixture.means).norm(dim=-1) > 6  # normal noise is hardly ever so far
    area = np.mean([_far_share(mean) for mean in batch.mixture.means[:, 0].double().numpy()])
    assert far.double().mean() == pytest.approx(0.2 * area, rel=0.1)


def _far_share(mean: np.ndarray) -> float:
    """The share of the box [-10, 10]^2 that is more than six away from a mean."""
    box = np.random.default_rng(2).uniform(-10, 10, (20_000, 2))
    return (np.linalg.norm(box - mean, axis=1) > 6).mean()


def test_fresh_points_are_others_of_the_same_mixtures():
    batch = stream(size=60, n_points=400, fresh=True).batch(0)
    assert batch.fresh.shape == batch.points.shape
    assert torch.isin(batch.fresh, batch.points).double().mean() < 1e-3
    likelihoods = [mean_log_likelihood(batch.mixture, points).mean() for points in (batch.points, batch.fresh)]
    assert likelihoods[0] == pytest.approx(likelihoods[1].item(), abs=0.02)


# --- axes ---


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("dimension", [3, 6, 80])
def test_axes_are_those_that_the_network_gives_for_the_points_alone(covariance, dimension):
    network = ComponentsNetwork(
        dimension=dimension, n_components=(2, 3), covariance=covariance, width=8, heads=2, axes=5
    ).build()
    running = stream(size=5, dimension=dimension, n_components=(2, 3), covariance=covariance, axes=network.axes)
    for number in range(4):
        batch = running.batch(number)
        alone = network.axes(batch.points)
        assert batch.axes.shape == alone.shape == (5, dimension, network.data_axes.dimension)
        # The directions that the means span; those among noise alone depend on the rounding.
        likeness = (batch.axes[..., -2:] * alone[..., -2:]).sum(1) if covariance == "isotropic" else None
        assert torch.equal(batch.axes, alone) if likeness is None else (likeness > 0.999).all()
        with torch.no_grad():
            first, second = (network(batch.points, batch.n_components, axes=axes)[-1] for axes in (batch.axes, None))
        if dimension <= 6:
            torch.testing.assert_close(first.means, second.means, rtol=1e-3, atol=1e-3)


def test_without_axes_there_are_none():
    assert stream().batch(0).axes is None
    network = ComponentsNetwork(dimension=2, width=8, heads=2, axes=0).build()
    assert stream(axes=network.axes).batch(0).axes is None


@pytest.mark.gpu
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_cuda_draws_other_points_of_the_same_mixtures(covariance):
    here, there = (stream(covariance=covariance, n_points=2000, device=device) for device in ("cpu", "cuda"))
    for number in (0, 5):
        one, other = here.batch(number), there.batch(number)
        assert other.points.is_cuda
        assert one.points.shape == other.points.shape
        assert torch.equal(one.mixture.means, other.mixture.means.cpu())
        assert torch.equal(one.n_components, other.n_components.cpu())
        assert (one.points.mean(1) - other.points.cpu().mean(1)).abs().max() < 1.0
    assert_same(there.batch(0), stream(covariance=covariance, n_points=2000, device="cuda").batch(0))
