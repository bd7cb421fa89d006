"""Starting points of EM: their distribution, and what they may and may not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgmm.errors import UserError
from tgmm.methods.em import kmeans_plus_plus_start, normal_start, start_mixtures
from tgmm.mixture import Mixture


def random_points(seed: int, n_tasks: int, n_points: int, dimension: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(n_tasks, n_points, dimension, generator=generator, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**62), n_points=st.integers(1, 20), dimension=st.integers(1, 5), share=st.floats(0.01, 1.0))
def test_kmeans_centres_are_distinct_points(seed, n_points, dimension, share):
    points = random_points(seed % 1000, 3, n_points, dimension)
    n_components = max(1, int(share * n_points))
    start = kmeans_plus_plus_start(points, n_components, seed, torch.arange(3), starts=4)
    assert start.means.shape == (12, n_components, dimension)
    same = (start.means[:, :, None] == points.repeat_interleave(4, 0)[:, None]).all(-1)
    assert (same.sum(2) == 1).all(), "every centre is one of the points"
    assert (same.sum(1) <= 1).all(), "no point is a centre twice"
    assert torch.allclose(start.weights, torch.full_like(start.weights, 1.0 / n_components))


def test_kmeans_choices_have_the_right_probabilities():
    """Pairs of centres on four points of a line, against the exact distribution worked out by hand."""
    line = np.array([0.0, 1.0, 3.0, 7.0])
    n_tasks = 20_000
    points = torch.from_numpy(line)[None, :, None].expand(n_tasks, -1, -1)
    start = kmeans_plus_plus_start(points, 2, 5, torch.arange(n_tasks))
    chosen = np.searchsorted(line, start.means[..., 0].numpy())
    counts = np.zeros((4, 4))
    np.add.at(counts, (chosen[:, 0], chosen[:, 1]), 1)
    squared = (line[:, None] - line) ** 2
    expected = n_tasks * 0.25 * squared / squared.sum(1, keepdims=True)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert statistic < 31.3, "chi-square with 11 degrees of freedom, 99.9 % quantile"


def test_kmeans_survives_coinciding_points():
    points = torch.tensor([[[1e3, 0.1]] * 6, [[0.0, 0.0]] * 5 + [[2.0, 2.0]]], dtype=torch.float64)
    means = kmeans_plus_plus_start(points, 3, 1, torch.arange(2), starts=5).means
    assert torch.isfinite(means).all()
    assert (means[:5] == points[0, 0]).all()
    assert ((means[5:] == 2.0).all(-1).sum(1) >= 1).all(), "the one different point is chosen at the latest second"


def test_normal_start_is_standard_normal():
    means = normal_start(3, torch.arange(2000), 5, 4, starts=3).means
    assert means.shape == (6000, 5, 4)
    assert abs(means.mean()) < 0.01
    assert abs(means.std() - 1.0) < 0.01
    assert len(means.unique()) > 0.999 * means.numel()


@pytest.mark.parametrize("start", ["normal", "k-means++"])
def test_a_start_depends_on_seed_index_and_number_only(start):
    points, index = random_points(0, 6, 30, 3), torch.tensor([3, 2**40, 7, 0, 9, 5])

    def draw(part, starts, seed=11):
        mixture = start_mixtures(start, points[part], 4, seed=seed, index=index[part], starts=starts)
        return mixture.means.unflatten(0, (-1, starts))

    everything = draw(slice(None), 5)
    assert torch.equal(everything[2:3], draw(slice(2, 3), 5)), "not on the batch"
    assert torch.equal(everything[:, :2], draw(slice(None), 2)), "not on the number of starts"
    assert torch.equal(everything.flip(0), draw([5, 4, 3, 2, 1, 0], 5)), "not on the order of the tasks"
    assert not torch.equal(everything, draw(slice(None), 5, seed=12))
    assert len(everything.flatten(2).flatten(0, 1).unique(dim=0)) == 30, "all starts differ"


def test_scales_follow_the_covariance():
    points, index = random_points(1, 2, 9, 3), torch.arange(2)
    truth = Mixture(torch.full((2, 2), 0.5), torch.zeros(2, 2, 3), torch.full((2, 2, 3), 1.5))
    for start, scale in (("normal", 1.0), ("k-means++", 1.0), ("truth", 1.5)):
        options = {"seed": 1, "index": index, "truth": truth}
        assert start_mixtures(start, points, 2, **options).standard_deviations is None
        mixture = start_mixtures(start, points, 2, covariance="anisotropic", **options)
        assert (mixture.standard_deviations == scale).all()
        assert mixture.means.dtype == torch.float64


def test_mistakes_are_named():
    points, index = random_points(1, 2, 9, 3), torch.arange(2)
    truth = Mixture(torch.full((2, 3), 1 / 3), torch.zeros(2, 3, 3))
    with pytest.raises(UserError, match=r"unknown start 'kmeans\+\+'; did you mean 'k-means\+\+'"):
        start_mixtures("kmeans++", points, 2, seed=1, index=index)
    with pytest.raises(UserError, match="unknown covariance 'full'"):
        start_mixtures("normal", points, 2, seed=1, index=index, covariance="full")
    with pytest.raises(UserError, match="needs the true mixtures"):
        start_mixtures("truth", points, 2, seed=1, index=index)
    with pytest.raises(UserError, match=r"true means have shape \(2, 3, 3\), the tasks need \(2, 2, 3\)"):
        start_mixtures("truth", points, 2, seed=1, index=index, truth=truth)
