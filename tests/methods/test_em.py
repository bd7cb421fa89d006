"""EM against scikit-learn from the same starts, its properties, and its behaviour at the edges."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from tgmm import metrics
from tgmm.errors import UserError
from tgmm.methods import em
from tgmm.methods.em import EMSettings, estimate_em, fit_em, run_em, run_em_steps, start_mixtures
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points

COVARIANCES = ("isotropic", "anisotropic")


class UnitVarianceMixture(GaussianMixture):
    """scikit-learn's EM with the variances held at one."""

    def _m_step(self, X, log_resp, **kwargs):
        super()._m_step(X, log_resp, **kwargs)
        self.covariances_ = np.ones_like(self.covariances_)
        self.precisions_cholesky_ = np.ones_like(self.precisions_cholesky_)


def tasks(n_tasks, n_components, dimension, covariance="isotropic", n_points=60, seed=1):
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, n_components, dimension, covariance)
    return index, truth, sample_points(truth, seed, index, n_points)[0].double()


def starts_of(points, n_components, covariance="isotropic", starts=1, seed=2, start="k-means++"):
    index = torch.arange(len(points))
    return start_mixtures(
        start, points, n_components, seed=seed, index=index, starts=starts, covariance=covariance
    )  # fmt: skip


def sklearn_steps(points, start, task, steps, covariance):
    """The parameters after ``steps`` EM steps of scikit-learn on one task."""
    isotropic = covariance == "isotropic"
    kind, options = (UnitVarianceMixture, {"covariance_type": "spherical"}) if isotropic else (GaussianMixture, {})
    precisions = np.ones(start.n_components if isotropic else start.means.shape[1:])
    options = {"covariance_type": "diag"} | options
    model = kind(
        start.n_components, tol=0.0, reg_covar=0.0, max_iter=steps, weights_init=start.weights[task].numpy(),
        means_init=start.means[task].numpy(), precisions_init=precisions, **options,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(points[task].numpy())


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize(("dimension", "n_components"), [(2, 3), (8, 5), (32, 4)])
def test_steps_equal_scikit_learns(covariance, dimension, n_components):
    _, _, points = tasks(6, n_components, dimension, covariance, n_points=100)
    start = starts_of(points, n_components, covariance)
    result = run_em(points, start, tolerance=-np.inf, max_iterations=15, variance_floor=1e-12)
    assert (result.iterations == 15).all()
    for task in range(6):
        model = sklearn_steps(points, start, task, 15, covariance)
        assert np.allclose(result.mixture.weights[task], model.weights_, rtol=0, atol=1e-6)
        assert np.allclose(result.mixture.means[task], model.means_, rtol=0, atol=1e-6)
        if covariance == "anisotropic":
            variances = result.mixture.standard_deviations[task].square()
            assert np.allclose(variances, model.covariances_, rtol=0, atol=1e-6)
        assert np.isclose(result.log_likelihood[task], model.score(points[task].numpy()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_likelihood_is_that_of_the_parameters(covariance):
    _, _, points = tasks(5, 3, 4, covariance)
    runs = run_em(points, starts_of(points, 3, covariance, starts=2), tolerance=1e-5, max_iterations=50)
    expected = metrics.mean_log_likelihood(runs.mixture, points.repeat_interleave(2, 0))
    assert torch.allclose(runs.log_likelihood, expected, rtol=0, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), dimension=st.integers(1, 6), n_components=st.integers(1, 5),
    covariance=st.sampled_from(COVARIANCES), start=st.sampled_from(["normal", "k-means++"]),
)  # fmt: skip
def test_likelihood_never_decreases(seed, dimension, n_components, covariance, start):
    points = 2.0 * torch.randn(3, 25, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mixture = starts_of(points, n_components, covariance, seed=seed, start=start)
    before = -torch.inf
    for _ in range(8):
        runs = run_em(points, mixture, tolerance=0.0, max_iterations=0)
        assert (runs.log_likelihood >= before - 1e-10).all()
        assert torch.allclose(runs.mixture.weights.sum(1), torch.ones(3, dtype=torch.float64))
        before, mixture = runs.log_likelihood, run_em_steps(mixture, points, 1)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_order_of_points_and_components_and_origin_do_not_matter(covariance):
    _, _, points = tasks(4, 4, 3, covariance)
    start = starts_of(points, 4, covariance)
    plain = run_em_steps(start, points, 10)
    shuffled = run_em_steps(start, points[:, torch.randperm(points.shape[1])], 10)
    assert torch.allclose(plain.means, shuffled.means, atol=1e-9)
    order = torch.tensor([2, 0, 3, 1]).expand(4, -1)
    reordered = run_em_steps(start.permute_components(order), points, 10)
    assert torch.allclose(plain.permute_components(order).means, reordered.means, atol=1e-9)
    moved = run_em_steps(Mixture(start.weights, start.means + 1e5, start.standard_deviations), points + 1e5, 10)
    assert torch.allclose(plain.means, moved.means - 1e5, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), covariance=st.sampled_from(COVARIANCES), start=st.sampled_from(["normal", "k-means++"]))
def test_a_task_does_not_depend_on_its_batch(data, covariance, start):
    index, _, points = tasks(12, 3, 2, covariance, n_points=40)
    options = EMSettings(start=start, starts=3, covariance=covariance, max_iterations=60)
    everything = estimate_em(points, 3, options, seed=5, index=index)
    part = torch.tensor(data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=12)))
    alone = estimate_em(points[part], 3, options, seed=5, index=index[part])
    assert torch.allclose(everything.mixture.means[part], alone.mixture.means, atol=1e-7)
    assert torch.equal(everything.iterations[part], alone.iterations)


def test_small_pools_and_chunks_change_nothing(monkeypatch):
    index, _, points = tasks(30, 3, 4)
    options = EMSettings("k-means++", starts=4)
    expected = estimate_em(points, 3, options, seed=1, index=index)
    monkeypatch.setitem(em.POOL_ELEMENTS, "cpu", 1)
    monkeypatch.setitem(em.CHUNK_ELEMENTS, "cpu", 7 * 60 * 8)
    actual = estimate_em(points, 3, options, seed=1, index=index)
    assert torch.allclose(expected.mixture.means, actual.mixture.means, atol=1e-9)
    assert torch.equal(expected.iterations, actual.iterations)


def test_keeps_the_start_of_largest_likelihood():
    _, _, points = tasks(20, 4, 2)
    start = starts_of(points, 4, starts=6)
    runs = run_em(points, start, tolerance=1e-6, max_iterations=200)
    scores = runs.log_likelihood.view(20, 6)
    result = fit_em(points, start, tolerance=1e-6, max_iterations=200)
    assert torch.allclose(metrics.mean_log_likelihood(result.mixture, points), scores.amax(1), rtol=0, atol=1e-7)
    assert (scores.amax(1) - scores.amin(1) > 0.01).sum() > 5, "the starts do differ"
    assert torch.equal(result.iterations, runs.iterations.view(20, 6).sum(1))


def test_ends_where_the_tolerance_says():
    _, _, points = tasks(5, 3, 2)
    start = starts_of(points, 3)
    runs = run_em(points, start, tolerance=1e-4, max_iterations=500)
    for task, steps in enumerate(runs.iterations.tolist()):
        one = points[task : task + 1]
        paths = [
            run_em(one, start[task : task + 1], tolerance=-np.inf, max_iterations=count).log_likelihood
            for count in range(steps - 2, steps + 1)
        ]
        assert paths[1] - paths[0] >= 1e-4 > paths[2] - paths[1]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_dead_components_stay_where_they_are(covariance):
    _, _, points = tasks(3, 2, 3, covariance)
    two = starts_of(points, 2, covariance)
    third = torch.full((3, 1, 3), 7.0, dtype=torch.float64)
    scales = None if two.standard_deviations is None else torch.cat([two.standard_deviations, third], 1)
    weights = torch.cat([two.weights, torch.zeros(3, 1, dtype=torch.float64)], 1)
    three = run_em_steps(Mixture(weights, torch.cat([two.means, third], 1), scales), points, 12)
    expected = run_em_steps(two, points, 12)
    assert torch.allclose(three.means[:, :2], expected.means, atol=1e-9)
    assert torch.allclose(three.means[:, 2:], third)
    assert (three.weights[:, 2] == 0).all()
    far = Mixture(two.weights, torch.cat([two.means[:, :1], torch.full_like(third, 1e4)], 1), two.standard_deviations)
    assert torch.isfinite(run_em_steps(far, points, 12).means).all()


def test_variances_stay_above_the_floor():
    points = torch.zeros(1, 10, 2, dtype=torch.float64)
    points[0, 5:] = 3.0
    start = Mixture(torch.full((1, 2), 0.5), points[:, [0, 9]], torch.ones(1, 2, 2))
    result = run_em_steps(start, points, 5, variance_floor=0.04)
    assert torch.allclose(result.standard_deviations, torch.tensor(0.2, dtype=torch.float64))


def test_failures_have_reasons_and_leave_the_other_tasks_alone():
    index, truth, points = tasks(4, 2, 3)
    clean = estimate_em(points, 2, EMSettings("truth"), seed=1, index=index, truth=truth)
    points[1, 3, 0], broken = torch.nan, truth.map(torch.clone)
    broken.means[2, 0, 0] = torch.inf
    result = estimate_em(points, 2, EMSettings("truth"), seed=1, index=index, truth=broken)
    assert result.failures == {1: "the points are not all finite", 2: "EM ended in non-finite parameters"}
    assert torch.isnan(result.mixture.means[[1, 2]]).all()
    assert torch.isnan(result.mixture.weights[[1, 2]]).all()
    assert torch.allclose(result.mixture.means[[0, 3]], clean.mixture.means[[0, 3]])
    assert torch.isnan(run_em_steps(truth, points, 3).means[1]).all()


def test_equal_starts_are_a_tie_for_the_first():
    """The same start with its components in another order ends in the same likelihood but for rounding."""
    _, _, points = tasks(20, 4, 2)
    start = starts_of(points, 4)
    orders = torch.stack([torch.randperm(4, generator=torch.Generator().manual_seed(seed)) for seed in range(5)])
    orders[0] = torch.arange(4)
    repeated = start[torch.arange(20).repeat_interleave(5)].permute_components(orders.repeat(20, 1))
    assert torch.allclose(fit_em(points, repeated).mixture.means, fit_em(points, start).mixture.means, atol=1e-9)


def test_a_failed_start_does_not_fail_the_task():
    _, truth, points = tasks(2, 2, 3)
    start = Mixture(truth.weights.repeat_interleave(2, 0), truth.means.repeat_interleave(2, 0))
    start.means[0] = torch.nan
    result = fit_em(points, start)
    assert not result.failures
    assert torch.isfinite(result.mixture.means).all()


def test_leaves_torchs_threads_as_they_were(monkeypatch):
    index, _, points = tasks(2, 2, 3)
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(em, "start_mixtures", lambda *_, **__: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        with pytest.raises(AttributeError):
            estimate_em(points, 2, seed=1, index=index)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_components": 61}, "K=61 components need at least as many points"),
        ({"n_components": 0}, "K >= 1"),
        ({"points": torch.zeros(4, 0, 3)}, "points must have shape"),
        ({"index": torch.arange(3)}, "3 task indices for 4 tasks"),
        ({"settings": EMSettings(start="random")}, "unknown start 'random'"),
        ({"settings": EMSettings(start="truth")}, "needs the true mixtures"),
        ({"settings": EMSettings(starts=0)}, "starts and max_iterations must be at least 1"),
        ({"settings": EMSettings(variance_floor=0.0)}, "variance_floor must be positive"),
    ],
)
def test_mistakes_are_named(change, message):
    index, _, points = tasks(4, 2, 3)
    arguments = {"points": points, "n_components": 2, "settings": EMSettings(), "index": index} | change
    with pytest.raises(UserError, match=message):
        estimate_em(**arguments, seed=1)


def test_ten_starts_reach_the_oracle():
    """The measured floor at d=8, K=3, N=128 is 0.028; one N(0, I) start gets stuck in about a sixth of the tasks."""
    index, truth, points = tasks(200, 3, 8, n_points=128)
    error = {}
    for start, starts in (("truth", 1), ("k-means++", 10), ("normal", 1)):
        result = estimate_em(points, 3, EMSettings(start, starts), seed=3, index=index, truth=truth)
        error[start] = metrics.l2_error(result.mixture, truth)
    assert 0.026 < error["truth"].mean() < 0.031
    assert (error["k-means++"] - error["truth"]).abs().quantile(0.95) < 1e-3
    assert error["normal"].mean() > 0.4 > 0.04 > error["normal"].median()
