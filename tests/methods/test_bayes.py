"""The Bayes estimate against a sum over a grid, where the posterior is small enough for one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tgmm.methods.base import TaskPoints
from tgmm.methods.bayes import LONGER, BayesSettings, estimate_bayes, least_error, nearest_order
from tgmm.methods.settings import Bayes, MethodContext
from tgmm.metrics import l2_error, match
from tgmm.mixture import Mixture

# On a line the prior's limit on cosines leaves means of opposite signs, which tell the two components apart.
POINTS = torch.tensor([[-2.4, -1.1, -1.9, 2.2, 1.4, 2.9], [-3.2, -2.7, -3.9, -3.4, 1.8, 0.9]]).double()[..., None]
TRUTH = Mixture(
    torch.tensor([[0.5, 0.5], [0.6, 0.4]]).double(), torch.tensor([[-2.0, 2.0], [-3.0, 1.5]]).double()[..., None]
)


@pytest.fixture(scope="module")
def result():
    return estimate_bayes(POINTS, 2, BayesSettings(sweeps=1200), seed=3, index=torch.arange(2), truth=TRUTH)


def posterior_means(points: np.ndarray) -> np.ndarray:
    """The negative mean, the positive one and the negative component's weight, expected under the prior's posterior."""
    negative, positive = np.linspace(-5, 0, 161)[:-1], np.linspace(0, 5, 161)[1:]
    raw = np.linspace(0.2, 0.8, 16)
    weight = (raw[:, None] / (raw[:, None] + raw)).ravel()
    left = np.exp(-0.5 * (points[:, None] - negative) ** 2)
    right = np.exp(-0.5 * (points[:, None] - positive) ** 2)
    total, sums = 0.0, np.zeros(3)
    for share in weight:
        density = np.prod(share * left[:, :, None] + (1 - share) * right[:, None, :], axis=0)
        mass = density.sum()
        total += mass
        sums += [(density.sum(1) * negative).sum(), (density.sum(0) * positive).sum(), share * mass]
    return sums / total


def test_it_is_the_posterior_mean_of_the_prior(result):
    for task, points in enumerate(POINTS[..., 0].numpy()):
        order = result.mixture.means[task, :, 0].argsort()
        means, weights = result.mixture.means[task, order, 0], result.mixture.weights[task, order]
        np.testing.assert_allclose([*means.tolist(), weights[0].item()], posterior_means(points), atol=0.12)


def test_chains_from_the_truth_and_from_em_agree(result):
    assert result.failures == {}
    assert result.iterations.tolist() == [1200, 1200]


def test_chains_that_do_not_agree_are_a_failure():
    settings = BayesSettings(sweeps=6, disagreement=1e-9)
    far = Mixture(TRUTH.weights, TRUTH.means.sign() * torch.tensor([[[0.3], [4.8]]]))
    found = estimate_bayes(POINTS, 2, settings, seed=3, index=torch.arange(2), truth=far)
    assert set(found.failures) == {0, 1}
    assert all(reason.startswith("two groups of chains disagree") for reason in found.failures.values())
    assert found.iterations.tolist() == [6 + 6 * LONGER] * 2


def test_where_chains_do_not_agree_they_run_longer(result):
    """Ten sweeps leave one group where it started, far away; the other task keeps its estimate."""
    far = Mixture(TRUTH.weights, torch.stack([TRUTH.means[0], TRUTH.means[1].sign() * torch.tensor([[0.3], [4.8]])]))
    draw = {"seed": 3, "index": torch.arange(2), "truth": far}
    found = estimate_bayes(POINTS, 2, BayesSettings(sweeps=10), **draw)
    short = estimate_bayes(POINTS, 2, BayesSettings(sweeps=10, disagreement=1e9), **draw)
    assert found.failures == {}
    assert found.iterations.tolist() == [10, 10 + 10 * LONGER]
    assert torch.equal(found.mixture.means[0], short.mixture.means[0])
    assert not torch.equal(found.mixture.means[1], short.mixture.means[1])


def test_orders_of_components_are_the_nearest_of_all(make_mixture):
    """The product that gives every permutation's error at once, against the evaluator's own matching."""
    samples, estimate = make_mixture(12, 4, 3), make_mixture(2, 4, 3)
    lined_up, _, error = nearest_order(samples, estimate, 6)
    wide = estimate.map(lambda tensor: tensor.repeat_interleave(6, 0))
    torch.testing.assert_close(lined_up.means, match(samples, wide).means)
    torch.testing.assert_close(error, l2_error(samples, wide).unflatten(0, (2, 6)).mean(1))


def test_the_estimate_lies_in_the_hull_of_the_prior(result):
    assert (result.mixture.means.abs() < 5).all()
    torch.testing.assert_close(result.mixture.weights.sum(1), torch.ones(2, dtype=torch.float64))
    assert (result.mixture.weights > 0.2).all()


def test_the_least_expected_error_is_that_of_the_matched_mean():
    """Samples of two components in either order: lined up, their mean has the least mean error of all."""
    generator = torch.Generator().manual_seed(1)
    means = torch.tensor([[-2.0], [3.0]]).double() + 0.3 * torch.randn(
        60, 2, 1, generator=generator, dtype=torch.float64
    )
    weights = torch.tensor([0.4, 0.6]).double().expand(60, 2)
    swapped = torch.arange(60) % 3 == 0
    order = torch.where(swapped[:, None], torch.tensor([1, 0]), torch.tensor([0, 1]))
    samples = Mixture(weights.gather(1, order), means.gather(1, order[..., None]))
    start = Mixture(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[[-1.0], [1.0]]]).double())
    estimate, error = least_error(samples, 60, [start])
    torch.testing.assert_close(estimate.means[0].sort(0).values, means.mean(0))
    spread = (means - means.mean(0)).square().mean()
    assert error.item() == pytest.approx(spread.item())
    for shift in (-0.1, 0.1):
        moved = Mixture(estimate.weights, estimate.means + shift).map(
            lambda tensor: tensor.expand(60, *tensor.shape[1:])
        )
        assert l2_error(samples, moved).mean() > error


@pytest.mark.parametrize(("covariance", "d", "K"), [("isotropic", 8, 3), ("isotropic", 3, 2), ("anisotropic", 2, 2)])
def test_cells_that_take_too_long_are_not_applicable(make_mixture, covariance, d, K):
    truth = make_mixture(2, K, d)
    task = TaskPoints(truth.means, K, 1, torch.arange(2), truth)
    result = Bayes(kind="bayes", sweeps=3).build(MethodContext(covariance, torch.device("cpu")))(task)
    assert set(result.failures) == {0, 1}
    assert all(reason.startswith("not applicable") for reason in result.failures.values())
