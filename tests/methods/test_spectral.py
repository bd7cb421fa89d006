"""The spectral method on exact population moments, on samples, and where it does not apply."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tgmm import metrics
from tgmm.errors import UserError
from tgmm.methods.spectral import estimate_spectral, from_moments, tensor_power_method
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points


def population_moments(truth: Mixture):
    """E[x], E[x x'] and W -> E[(W'x)^(x3)], the last from the full d x d x d tensor, written out index by index."""
    weights, means = truth.weights, truth.means
    first = torch.einsum("bk,bki->bi", weights, means)
    identity = torch.eye(truth.dimension, dtype=torch.float64)
    second = torch.einsum("bk,bki,bkj->bij", weights, means, means) + identity
    third = torch.einsum("bk,bki,bkj,bkl->bijl", weights, means, means, means)
    for pattern in ("bi,jl->bijl", "bj,il->bijl", "bl,ij->bijl"):
        third = third + torch.einsum(pattern, first, identity)
    return first, second, lambda w: torch.einsum("bijl,bip,bjq,blr->bpqr", third, w, w, w)


def tasks(n_tasks, n_components, dimension, n_points, seed=1):
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, n_components, dimension)
    return index, truth, sample_points(truth, seed, index, n_points)[0].double()


@settings(max_examples=25, deadline=None)
@given(dimension=st.integers(1, 12), n_components=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_population_moments_give_the_parameters(dimension, n_components, seed):
    assume(n_components <= dimension)
    truth = sample_mixtures(seed, torch.arange(3), n_components, dimension)
    assume(torch.linalg.svdvals(truth.means).amin() > 0.3)
    weights, means, codes = from_moments(*population_moments(truth), n_components, seed, torch.arange(3))
    assert not codes.any()
    matched = metrics.match(Mixture(weights, means), truth)
    assert torch.allclose(matched.means, truth.means, atol=1e-6)
    assert torch.allclose(matched.weights, truth.weights, atol=1e-6)


@pytest.mark.parametrize("size", [2, 4, 7])
def test_power_method_recovers_orthogonal_components(size):
    generator = torch.Generator().manual_seed(size)
    directions = torch.linalg.qr(torch.randn(5, size, size, generator=generator, dtype=torch.float64)).Q.mT
    values = 1.0 + 2.0 * torch.rand(5, size, generator=generator, dtype=torch.float64)
    tensor = torch.einsum("bk,bki,bkj,bkl->bijl", values, directions, directions, directions)
    found, vectors = tensor_power_method(tensor, 3, torch.arange(5))
    assert torch.allclose(found.sort(1).values, values.sort(1).values, atol=1e-9)
    rebuilt = torch.einsum("bk,bki,bkj,bkl->bijl", found, vectors, vectors, vectors)
    assert torch.allclose(rebuilt, tensor, atol=1e-9)


def test_samples_approach_the_parameters():
    medians = []
    for n_points in (200, 20_000):
        index, truth, points = tasks(12, 3, 6, n_points)
        result = estimate_spectral(points, 3, seed=1, index=index)
        medians.append(metrics.l2_error(result.mixture, truth).median())
    assert medians[1] < 5e-4
    assert medians[1] < medians[0] / 30


def test_error_on_the_papers_tasks():
    """Measured on 1280 tasks at d=32, K=4, N=128: mean 0.039, a tenth above EM from the truth."""
    index, truth, points = tasks(100, 4, 32, 128)
    result = estimate_spectral(points, 4, seed=1, index=index)
    assert not result.failures
    assert 0.036 < metrics.l2_error(result.mixture, truth).mean() < 0.042


def test_too_many_components_are_refused_for_every_task():
    index, _, points = tasks(3, 5, 2, 50)
    result = estimate_spectral(points, 5, seed=1, index=index)
    assert result.failed().all()
    assert all(reason.startswith("K=5 exceeds d=2: ") for reason in result.failures.values())
    assert torch.isnan(result.mixture.means).all()
    assert result.mixture.means.shape == (3, 5, 2)


def test_failures_have_reasons_and_leave_the_other_tasks_alone():
    index, _, points = tasks(5, 3, 4, 128)
    clean = estimate_spectral(points, 3, seed=1, index=index)
    assert not clean.failures
    points[1, 7, 2] = torch.nan
    points[2] = 0.1 * points[2] / points[2].norm(dim=-1, keepdim=True)  # less spread than the noise alone
    points[4, :, 0] = torch.inf
    result = estimate_spectral(points, 3, seed=1, index=index)
    assert result.failures == {
        1: "the points are not all finite",
        2: "the second moment less the noise has no 3 positive eigenvalues",
        4: "the points are not all finite",
    }
    assert torch.isnan(result.mixture.weights[[1, 2, 4]]).all()
    assert torch.allclose(result.mixture.means[[0, 3]], clean.mixture.means[[0, 3]])


@settings(max_examples=15, deadline=None)
@given(kind=st.sampled_from(["zero", "constant", "line", "tiny", "huge", "single"]), seed=st.integers(0, 1000))
def test_degenerate_points_never_pass_as_estimates(kind, seed):
    """Whatever the points: an estimate is finite, and what is not finite is a failure."""
    noise = torch.randn(4, 20, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = {
        "zero": 0.0 * noise, "constant": 0.0 * noise + 7.0, "line": noise[..., :1] * 9.0 * torch.ones(4),
        "tiny": 1e-200 * noise, "huge": 1e120 * noise, "single": 5.0 * noise[:, :1],
    }[kind]  # fmt: skip
    result = estimate_spectral(points, 3, seed=1, index=torch.arange(4))
    finite = torch.isfinite(result.mixture.means).all(2).all(1) & torch.isfinite(result.mixture.weights).all(1)
    assert torch.equal(finite, ~result.failed())
    assert all(result.failures.values())


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_task_does_not_depend_on_its_batch_or_the_order_of_its_points(data):
    index, _, points = tasks(8, 3, 5, 64)
    everything = estimate_spectral(points, 3, seed=5, index=index)
    part = torch.tensor(data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=8)))
    order = torch.tensor(data.draw(st.permutations(range(64))))
    alone = estimate_spectral(points[part][:, order], 3, seed=5, index=index[part])
    assert torch.allclose(everything.mixture.means[part], alone.mixture.means, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": torch.zeros(4, 0, 3)}, "points must have shape"),
        ({"n_components": 0}, "K must be at least 1"),
        ({"index": torch.arange(3)}, "3 task indices for 4 tasks"),
    ],
)
def test_mistakes_are_named(change, message):
    index, _, points = tasks(4, 2, 3, 20)
    arguments = {"points": points, "n_components": 2, "index": index} | change
    with pytest.raises(UserError, match=message):
        estimate_spectral(**arguments, seed=1)
