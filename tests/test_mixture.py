"""Densities of the mixtures against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from tgmm.mixture import (
    Mixture,
    component_log_densities,
    concatenate,
    log_density,
    log_joint,
    map_labels,
    responsibilities,
)


def standard_points(n_tasks: int, n_points: int, dimension: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return 4.0 * torch.randn(n_tasks, n_points, dimension, dtype=torch.float64, generator=generator)


def sklearn_mixture(mixture: Mixture, task: int) -> GaussianMixture:
    model = GaussianMixture(mixture.n_components, covariance_type="diag")
    model.weights_, model.means_ = mixture.weights[task].numpy(), mixture.means[task].numpy()
    scales = mixture.standard_deviations
    deviations = np.ones_like(model.means_) if scales is None else scales[task].numpy()
    model.covariances_, model.precisions_cholesky_ = deviations**2, 1.0 / deviations
    return model


@pytest.mark.parametrize("scales", [False, True], ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("dimension", [1, 2, 8, 128])
def test_component_densities_agree_with_scipy(make_mixture, dimension, scales):
    mixture, points = make_mixture(2, 3, dimension, scales=scales), standard_points(2, 5, dimension)
    ours = component_log_densities(mixture, points)
    assert ours.shape == (2, 3, 5)
    for task in range(2):
        for component in range(3):
            variances = mixture.standard_deviations[task, component] ** 2 if scales else torch.ones(dimension)
            theirs = multivariate_normal(mixture.means[task, component].numpy(), np.diag(variances.numpy()))
            expected = theirs.logpdf(points[task].numpy())
            np.testing.assert_allclose(ours[task, component].numpy(), expected, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("scales", [False, True], ids=["isotropic", "anisotropic"])
def test_density_posterior_and_labels_agree_with_sklearn(make_mixture, scales):
    mixture, points = make_mixture(4, 5, 3, scales=scales), standard_points(4, 50, 3)
    for task in range(4):
        model, data = sklearn_mixture(mixture, task), points[task].numpy()
        here = mixture[task : task + 1], points[task : task + 1]
        np.testing.assert_allclose(log_density(*here)[0].numpy(), model.score_samples(data), rtol=1e-11)
        np.testing.assert_allclose(responsibilities(*here)[0].T.numpy(), model.predict_proba(data), atol=1e-11)
        np.testing.assert_array_equal(map_labels(*here)[0].numpy(), model.predict(data))


def test_log_sum_exp_runs_over_components_not_points():
    # Two equal components at distance 2 from each other: at the midpoint each has the density phi(1).
    mixture = Mixture(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[[-1.0], [1.0]]]).double())
    expected = -0.5 - 0.5 * math.log(2 * math.pi)
    for n_points in (1, 7):
        values = log_density(mixture, torch.zeros(1, n_points, 1, dtype=torch.float64))
        assert values.shape == (1, n_points)
        torch.testing.assert_close(values, torch.full((1, n_points), expected, dtype=torch.float64))


def test_a_component_of_weight_zero_changes_nothing(make_mixture):
    mixture, points = make_mixture(3, 2, 4), standard_points(3, 20, 4)
    padding = torch.zeros(3, 1, dtype=torch.float64)
    padded = Mixture(torch.cat([mixture.weights, padding], 1), torch.cat([mixture.means, points[:, :1]], 1))
    assert torch.isneginf(log_joint(padded, points)[:, 2]).all()
    torch.testing.assert_close(log_density(padded, points), log_density(mixture, points))
    assert (responsibilities(padded, points)[:, 2] == 0).all()
    assert torch.equal(map_labels(padded, points), map_labels(mixture, points))


def test_far_points_have_finite_log_densities(make_mixture):
    values = log_density(make_mixture(1, 3, 2), torch.full((1, 1, 2), 1e4, dtype=torch.float64))
    assert torch.isfinite(values).all()
    assert (values < -1e7).all()


@pytest.mark.parametrize("scales", [False, True], ids=["isotropic", "anisotropic"])
def test_permuting_components_keeps_the_density(make_mixture, scales):
    mixture, points = make_mixture(3, 4, 2, scales=scales), standard_points(3, 10, 2)
    order = torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3], [1, 2, 3, 0]])
    permuted = mixture.permute_components(order)
    assert torch.equal(permuted.means[0, 0], mixture.means[0, 3])
    assert torch.equal(permuted.weights[2, 3], mixture.weights[2, 0])
    if scales:
        assert torch.equal(permuted.standard_deviations[0, 2], mixture.standard_deviations[0, 0])
    torch.testing.assert_close(log_density(permuted, points), log_density(mixture, points))
    back = permuted.permute_components(order.argsort(1))
    assert torch.equal(back.means, mixture.means)


@pytest.mark.parametrize("scales", [False, True], ids=["isotropic", "anisotropic"])
def test_slices_concatenate_to_the_whole(make_mixture, scales):
    mixture = make_mixture(5, 3, 2, scales=scales)
    whole = concatenate([mixture[:2], mixture[2:]])
    assert (whole.n_tasks, whole.n_components, whole.dimension) == (5, 3, 2)
    assert torch.equal(whole.weights, mixture.weights)
    assert torch.equal(whole.means, mixture.means)
    assert (whole.standard_deviations is not None) == scales
    assert whole.to(torch.float32).means.dtype == torch.float32
