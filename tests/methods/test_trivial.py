"""The sample mean K times against what can be computed by hand."""

from __future__ import annotations

import pytest
import torch

from tgmm.methods.base import TaskPoints, estimate_sample_mean
from tgmm.methods.settings import MethodContext, SampleMean
from tgmm.metrics import l2_error
from tgmm.mixture import Mixture


def make_points(*tasks: list[list[float]]) -> torch.Tensor:
    return torch.tensor(tasks, dtype=torch.float32)


def test_its_error_is_that_of_its_definition():
    """Means (2, 0), (-2, 0) and (0, 4), points with mean (1, 1): distances 2, 10 and 10 in d = 2."""
    truth = Mixture(torch.tensor([[0.5, 0.3, 0.2]]).double(), torch.tensor([[[2, 0], [-2, 0], [0, 4]]]).double())
    estimate = estimate_sample_mean(make_points([[1.0, 0.0], [0.0, 2.0], [2.0, 1.0]]), 3).mixture
    expected = (2 + 10 + 10) / 2 / 3 + sum((1 / 3 - weight) ** 2 for weight in (0.5, 0.3, 0.2)) / 3
    assert l2_error(estimate, truth).item() == pytest.approx(expected)


def test_every_component_is_the_same_whatever_the_order_of_the_points(make_mixture):
    points = make_mixture(4, 50, 3).means
    result = estimate_sample_mean(points, 5)
    assert result.mixture.standard_deviations is None
    assert result.failures == {}
    torch.testing.assert_close(result.mixture.weights, torch.full((4, 5), 0.2, dtype=torch.float64))
    torch.testing.assert_close(result.mixture.means, points.mean(1, keepdim=True).expand(-1, 5, -1))
    again = estimate_sample_mean(points.flip(1), 5)
    torch.testing.assert_close(again.mixture.means, result.mixture.means)


def test_anisotropic_tasks_get_the_sample_standard_deviations():
    points = make_points([[0.0, -3.0], [2.0, 3.0]])
    scales = estimate_sample_mean(points, 2, "anisotropic").mixture.standard_deviations
    torch.testing.assert_close(scales, torch.tensor([[[1.0, 3.0], [1.0, 3.0]]]).double())


def test_points_that_are_not_finite_are_a_failure():
    points = make_points([[0.0, 1.0], [2.0, 1.0]], [[0.0, float("nan")], [2.0, 1.0]], [[float("inf"), 0.0], [0.0, 0.0]])
    assert estimate_sample_mean(points, 2).failures == dict.fromkeys((1, 2), "the points are not all finite")


def test_the_settings_build_it_for_either_covariance(make_mixture):
    truth = make_mixture(2, 3, 4, scales=True)
    task = TaskPoints(truth.means, 3, 1, torch.arange(2), truth)
    for covariance in ("isotropic", "anisotropic"):
        result = SampleMean(kind="sample-mean").build(MethodContext(covariance, torch.device("cpu")))(task)
        expected = estimate_sample_mean(truth.means, 3, covariance).mixture
        torch.testing.assert_close(result.mixture.means, expected.means)
        assert (result.mixture.standard_deviations is None) == (covariance == "isotropic")
