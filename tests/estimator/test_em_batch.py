"""EM over batches: both forms of a step, shrinkage, incomplete data, and batches against single data sets."""

import numpy as np
import pytest
import torch
from estimator_inputs import SHAPES
from scipy.stats import multivariate_normal

from tgmm.estimator.em import Direct, Mixtures, Quadratic, design, log_joint_density
from tgmm.estimator.incomplete import Incomplete, observed_log_joint
from tgmm.estimator.maximise import STRENGTHS, Limits, first_step, maximise, run_em, strengths


def make_batch(B=4, N=60, d=3, K=3, seed=0):
    """Scaled points, weights of sum one, random responsibilities and limits."""
    rng = np.random.default_rng(seed)
    points = torch.tensor(rng.normal(size=(B, N, d)) + 3 * rng.integers(0, 2, (B, N, 1)))
    weights = torch.tensor(rng.dirichlet(np.ones(N), B))
    given = torch.tensor(rng.dirichlet(np.ones(K), (B, N)))
    limits = Limits(torch.full((B, d), 1e-6, dtype=torch.float64), torch.full((B,), float(N)), shrink=True)
    return points, weights, given, limits


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", [10_000_000, 500])
def test_both_forms_of_a_step_agree(shape, chunk, monkeypatch):
    monkeypatch.setattr("tgmm.estimator.em.CHUNK", chunk)
    points, weights, given, limits = make_batch()
    quadratic, direct = Quadratic(points, weights, shape), Direct(points, weights, shape)
    mixtures = first_step(quadratic, given, limits)
    for own, other in zip(
        (mixtures.means, mixtures.covariances),
        (lambda m: (m.means, m.covariances))(first_step(direct, given, limits)),
        strict=True,
    ):
        torch.testing.assert_close(own, other)
    (first, a), (second, b) = quadratic.expect(mixtures), direct.expect(mixtures)
    torch.testing.assert_close(first, second)
    for name in ("weight", "mean", "scatter"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name))
    density = log_joint_density(points, mixtures).logsumexp(2)
    torch.testing.assert_close((density * weights).sum(1), first)


def test_the_form_follows_columns_and_floors():
    points, weights, _, limits = make_batch()
    assert isinstance(design(points, weights, "full", limits.floors), Quadratic)
    assert isinstance(design(points, weights, "full", limits.floors * 1e-6), Direct)
    assert isinstance(design(torch.zeros(1, 5, 30), weights, "full", limits.floors), Direct)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_gives_what_each_data_set_gives(shape):
    points, weights, given, limits = make_batch(B=20)
    data = design(points, weights, shape, limits.floors)
    together = run_em(data, first_step(data, given, limits), limits, 200, 1e-4)
    assert len(set(together.steps.tolist())) > 2
    for i in range(20):
        one, only = slice(i, i + 1), limits.select(slice(i, i + 1))
        alone = design(points[one], weights[one], shape, only.floors)
        fit = run_em(alone, first_step(alone, given[one], only), only, 200, 1e-4)
        assert int(fit.steps[0]) == int(together.steps[i])
        torch.testing.assert_close(fit.last()[0], together.last()[i], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(fit.mixtures.means[0], together.mixtures.means[i], rtol=1e-6, atol=1e-6)


def test_rows_of_weight_zero_do_not_count():
    points, weights, given, limits = make_batch()
    longer = torch.cat([points, torch.full((4, 9, 3), 7.0, dtype=torch.float64)], 1)
    padded = torch.cat([weights, torch.zeros(4, 9, dtype=torch.float64)], 1)
    more = torch.cat([given, given[:, :9]], 1)
    one = first_step(Quadratic(points, weights, "full"), given, limits)
    other = first_step(Quadratic(longer, padded, "full"), more, limits)
    torch.testing.assert_close(one.covariances, other.covariances)


@pytest.mark.parametrize("shape", ["full", "diag", "spherical"])
def test_shrinkage_is_strong_for_like_components_and_weak_for_unlike_ones(shape):
    rng = np.random.default_rng(0)
    N, K, d = 4000, 4, 4
    labels = rng.integers(0, K, N)
    given = torch.nn.functional.one_hot(torch.tensor(labels), K).double()[None]
    limits = Limits(torch.full((1, d), 1e-9, dtype=torch.float64), torch.tensor([float(N)]).double(), shrink=True)
    means = []
    for sizes in (np.ones(K), np.array([0.2, 1.0, 3.0, 9.0])):
        points = torch.tensor(rng.normal(size=(N, d)) * sizes[labels][:, None])[None]
        moments = Direct(points, torch.full((1, N), 1 / N).double(), shape).moments(given)
        posterior = strengths(moments, shape, limits)[0]
        assert posterior.sum() == pytest.approx(1.0)
        means.append(float(posterior @ torch.tensor(STRENGTHS).double()))
        shrunk = maximise(moments, shape, limits, posterior[None]).covariances
        plain = maximise(moments, shape, limits).covariances
        middle = shrunk.mean(1, keepdim=True)
        assert torch.all((shrunk - middle).norm() <= (plain - plain.mean(1, keepdim=True)).norm())
    assert means[0] > 4
    assert means[1] < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_incomplete_data_without_gaps_is_complete_data(shape):
    points, weights, _, limits = make_batch(B=1)
    mixtures = first_step(Direct(points, weights, shape), make_batch(B=1)[2], limits)
    (first, a), (second, b) = (
        Direct(points, weights, shape).expect(mixtures),
        Incomplete(points, weights, shape).expect(mixtures),
    )
    torch.testing.assert_close(first, second)
    for name in ("weight", "mean", "scatter"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name))


def make_incomplete(shape, N=80, d=3, seed=0):
    points, weights, given, limits = make_batch(B=1, N=N, d=d, seed=seed)
    mixtures = first_step(Direct(points, weights, shape), given, limits)
    holes = torch.rand(points.shape, generator=torch.Generator().manual_seed(seed)) < 0.3
    return points.masked_fill(holes, torch.nan), weights, limits, mixtures


@pytest.mark.parametrize("shape", SHAPES)
def test_the_density_of_a_row_with_gaps_is_that_of_what_it_has(shape):
    points, _, _, mixtures = make_incomplete(shape)
    values = observed_log_joint(points[0], mixtures)
    covariances = mixtures.each_covariance()[0]
    covariances = covariances if covariances.ndim == 3 else torch.diag_embed(covariances)
    for row, value in zip(points[0].numpy(), values.numpy(), strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        for k in range(3):
            expected = float(mixtures.log_weights[0, k])
            if len(seen):
                covariance = covariances[k].numpy()[np.ix_(seen, seen)]
                expected += multivariate_normal(mixtures.means[0, k].numpy()[seen], covariance).logpdf(row[seen])
            assert value[k] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_em_with_gaps_raises_the_likelihood_to_a_stationary_point(shape):
    points, weights, limits, mixtures = make_incomplete(shape, N=200, seed=1)
    limits = Limits(limits.floors * 1e-2, limits.rows, shrink=False)
    fit = run_em(Incomplete(points, weights, shape), mixtures, limits, 3000, 1e-11)
    path = torch.stack(fit.likelihoods)[:, 0]
    assert torch.all(torch.diff(path) > -1e-8)
    means = fit.mixtures.means.clone().requires_grad_()
    moved = Mixtures(shape, fit.mixtures.log_weights, means, fit.mixtures.covariances)
    (observed_log_joint(points[0], moved).logsumexp(1) * weights[0]).sum().backward()
    assert means.grad.abs().max() < 1e-3


def test_imputed_values_are_conditional_means():
    N, rho = 4000, 0.8
    rng = np.random.default_rng(0)
    complete = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], N)
    gaps = torch.tensor(complete)[None].clone()
    gaps[0, ::2, 1] = torch.nan
    mixtures = Mixtures(
        "full",
        torch.zeros(1, 1).double(),
        torch.zeros(1, 1, 2).double(),
        torch.tensor([[[[1.0, rho], [rho, 1.0]]]]).double(),
    )
    filled = Incomplete(gaps, torch.full((1, N), 1 / N).double(), "full").impute(mixtures)[0].numpy()
    np.testing.assert_allclose(filled[::2, 1], rho * complete[::2, 0])
    np.testing.assert_array_equal(filled[1::2], complete[1::2])
