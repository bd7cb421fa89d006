"""The estimators that the reviewers asked for, against other ways to compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.mixture import BayesianGaussianMixture
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from tgmm import metrics
from tgmm.errors import UserError
from tgmm.methods.base import TaskPoints
from tgmm.methods.em import kmeans_plus_plus_start, lookahead_start
from tgmm.methods.rivals import (
    _adam,
    estimate_gradient,
    estimate_moments,
    estimate_spectral_em,
    estimate_two_rounds,
    estimate_variational,
    gauss_quadrature,
)
from tgmm.methods.settings import MethodContext, Moments, Truth
from tgmm.methods.spectral import estimate_spectral
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points

SEED, INDEX = 11, torch.arange(24)


@pytest.fixture(scope="module")
def tasks() -> tuple[torch.Tensor, Mixture]:
    """Points (24, 128, 8) of mixtures of three components."""
    truth = sample_mixtures(SEED, INDEX, 3, 8)
    return sample_points(truth, SEED, INDEX, 128)[0].double(), truth


def mean_error(estimate: Mixture, truth: Mixture) -> float:
    return metrics.mean_error(metrics.match(estimate, truth), truth).median().item()


def log_likelihood(points: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Mean log-density of points (B, N, d), by torch's own distributions."""
    components = Independent(Normal(mixture.means, torch.ones_like(mixture.means)), 1)
    return MixtureSameFamily(Categorical(mixture.weights), components).log_prob(points.transpose(0, 1)).mean(0)


@pytest.mark.parametrize("starts", [1, 4])
def test_gradient_ascent_mostly_ends_where_the_gradient_is_zero(tasks, starts):
    points, _ = tasks
    result = estimate_gradient(points, 3, starts, seed=SEED, index=INDEX)
    means = result.mixture.means.clone().requires_grad_()
    weights = result.mixture.weights.log().requires_grad_()
    log_likelihood(points, Mixture(weights.softmax(1), means)).sum().backward()
    steepest = torch.maximum(means.grad.abs().flatten(1).amax(1), weights.grad.abs().amax(1))
    assert steepest.median() < 1e-5
    assert steepest.quantile(0.9) < 0.02  # a few still cross a plateau
    assert torch.allclose(result.mixture.weights.sum(1), torch.ones(24, dtype=torch.float64))
    assert (result.iterations == 300 * starts).all()


def test_more_starts_of_gradient_ascent_are_never_less_likely(tasks):
    points, _ = tasks
    one, many = (estimate_gradient(points, 3, starts, seed=SEED, index=INDEX).mixture for starts in (1, 4))
    assert (log_likelihood(points, many) >= log_likelihood(points, one) - 1e-9).all()


def test_the_steps_of_adam_are_those_of_torch():
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    own, moments = parameter.detach().clone(), [torch.zeros(2, dtype=torch.float64) for _ in range(2)]
    for step, gradient in enumerate(torch.tensor([[0.3, -1.0], [2.0, 0.1], [-0.5, 0.4]], dtype=torch.float64), 1):
        parameter.grad = gradient
        optimizer.step()
        own = own - 0.1 * _adam(gradient, moments, step)
        torch.testing.assert_close(own, parameter.detach())


def test_two_rounds_find_what_is_far_apart():
    truth = sample_mixtures(SEED, INDEX, 3, 32)
    points = sample_points(truth, SEED, INDEX, 256)[0].double()
    found = estimate_two_rounds(points, 3, seed=SEED, index=INDEX).mixture
    assert mean_error(found, truth) < 0.1
    again = estimate_two_rounds(points[5:9], 3, seed=SEED, index=INDEX[5:9]).mixture
    torch.testing.assert_close(again.means, found.means[5:9])


def test_variational_bayes_is_scikit_learns(tasks):
    points, _ = tasks
    result = estimate_variational(points[:2], 3, seed=SEED, index=INDEX[:2])
    model = BayesianGaussianMixture(n_components=3, covariance_type="spherical", max_iter=1000, random_state=SEED + 1)
    model.fit(points[1].numpy())
    np.testing.assert_array_equal(result.mixture.means[1], model.means_)
    np.testing.assert_array_equal(result.mixture.weights[1], model.weights_)


def test_em_from_the_spectral_estimate_is_likelier_and_fails_with_it(tasks):
    points, _ = tasks
    first = estimate_spectral(points, 3, seed=SEED, index=INDEX)
    refined = estimate_spectral_em(points, 3, seed=SEED, index=INDEX)
    assert set(refined.failures) == set(first.failures)
    sound = ~first.failed()
    weights = first.mixture.weights[sound].clamp_min(1e-6)
    start = Mixture(weights / weights.sum(1, keepdim=True), first.mixture.means[sound])
    end = refined.mixture[sound.nonzero()[:, 0]]
    assert (log_likelihood(points[sound], end) >= log_likelihood(points[sound], start)).all()
    flat = estimate_spectral_em(points[..., :2], 3, seed=SEED, index=INDEX)
    assert len(flat.failures) == 24
    assert flat.mixture.means.isnan().all()


def test_lookahead_starts_are_points_and_likelier_than_those_of_kmeans(tasks):
    points, _ = tasks
    found = lookahead_start(points, 4, SEED, INDEX, 3)
    assert found.means.shape == (72, 4, 8)
    distances = torch.cdist(found.means.view(24, 12, 8), points).amin(2)
    assert (distances < 1e-5).all()
    plain = kmeans_plus_plus_start(points, 4, SEED, INDEX, 3)
    rows = points.repeat_interleave(3, 0)
    assert log_likelihood(rows, found).mean() > log_likelihood(rows, plain).mean() + 0.1


def test_the_truth_has_no_error_and_the_accuracy_that_is_to_be_had(tasks):
    points, truth = tasks
    method = Truth.read({"kind": "truth"}).build(MethodContext("isotropic", torch.device("cpu")))
    result = method(TaskPoints(points, 3, SEED, INDEX, truth))
    assert metrics.mean_error(result.mixture, truth).abs().max() == 0
    assert not result.failures


# --- moments ---


@given(
    atoms=st.lists(st.floats(-5, 5), min_size=1, max_size=12, unique=True), count=st.integers(1, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_quadrature_has_the_moments_of_its_distribution(atoms, count, seed):
    atoms = np.sort(np.round(atoms, 2))
    assume(len(atoms) == 1 or np.diff(atoms).min() > 0.05)
    mass = np.random.default_rng(seed).dirichlet(np.ones(len(atoms)))
    weights, nodes = gauss_quadrature(atoms, mass, count)
    assert len(weights) == len(nodes) == count
    assert (weights >= 0).all()
    powers = np.arange(2 * count)[:, None]
    np.testing.assert_allclose((nodes**powers) @ weights, (atoms**powers) @ mass, rtol=1e-6, atol=1e-5)


def test_a_quadrature_of_the_uniform_distribution_is_that_of_gauss_and_legendre():
    atoms = np.linspace(-1, 1, 20_001)
    nodes, weights = np.polynomial.legendre.leggauss(3)
    found = gauss_quadrature(atoms, np.full(len(atoms), 1 / len(atoms)), 3)
    np.testing.assert_allclose(found[0], weights / 2, atol=1e-3)
    np.testing.assert_allclose(found[1], nodes, atol=1e-3)


def line(count: int, n_points: int) -> tuple[torch.Tensor, Mixture]:
    """Points (24, N, 1) of mixtures on a line whose means are at least 2.5 apart."""
    truth = sample_mixtures(SEED, INDEX, count, 1, distance=2.5)
    return sample_points(truth, SEED, INDEX, n_points)[0].double(), truth


@pytest.mark.parametrize("count", [2, 3])
def test_moments_find_the_mixture_on_a_line_as_points_grow_many(count):
    errors = []
    for n_points in (500, 50_000):
        points, truth = line(count, n_points)
        estimate = estimate_moments(points, count).mixture
        torch.testing.assert_close(estimate.weights.sum(1), torch.ones(24, dtype=torch.float64))
        errors.append(mean_error(estimate, truth))
    assert errors[1] < 0.02
    assert errors[1] < 0.3 * errors[0]


def test_moments_move_with_the_points():
    points, _ = line(2, 200)
    plain, moved = (estimate_moments(points + offset, 2).mixture for offset in (0.0, 7.5))
    torch.testing.assert_close(moved.means, plain.means + 7.5, rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.weights, plain.weights, rtol=0, atol=1e-6)


def test_moments_of_hardly_any_distinct_points_are_still_a_mixture():
    points = torch.tensor([[0.0] * 10, [0.0] * 5 + [1.0] * 5], dtype=torch.float64)[..., None]
    found = estimate_moments(points, 3).mixture
    assert found.means.isfinite().all()
    torch.testing.assert_close(found.weights.sum(1), torch.ones(2, dtype=torch.float64))
    assert found.means.min() >= -1e-6
    assert found.means.max() <= 1 + 1e-6


def test_moments_are_for_one_dimension_alone(tasks):
    with pytest.raises(UserError, match="one dimension, not d=8"):
        estimate_moments(tasks[0], 3)
    assert Moments(kind="moments").applies("isotropic", 1)
    assert not Moments(kind="moments").applies("isotropic", 2)
    assert not Moments(kind="moments").applies("anisotropic", 1)
