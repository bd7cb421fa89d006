"""The task sampler, clause by clause of the paper's description, and its independence of batches."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics.pairwise import cosine_similarity

from tgmm.counter_random import random_uniform
from tgmm.errors import UserError
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import largest_cosine, sample_component_counts, sample_length, sample_mixtures, sample_points

SEED = 20250511
SIZES = st.sampled_from([2, 3, 4, 5])
DIMENSIONS = st.sampled_from([2, 3, 8])
SEEDS = st.integers(0, 2**63 - 1)


def bitwise_equal(first: Mixture, second: Mixture) -> bool:
    pairs = [(first.weights, second.weights), (first.means, second.means)]
    if first.standard_deviations is not None:
        pairs.append((first.standard_deviations, second.standard_deviations))
    return all(torch.equal(one, other) for one, other in pairs)


@given(seed=SEEDS, n_components=SIZES, dimension=DIMENSIONS)
def test_every_task_obeys_the_papers_bounds(seed, n_components, dimension):
    mixture = sample_mixtures(seed, torch.arange(20), n_components, dimension)
    assert mixture.means.shape == (20, n_components, dimension)
    assert mixture.standard_deviations is None
    assert mixture.means.abs().max() <= 5.0
    for means in mixture.means.numpy():
        cosines = cosine_similarity(means)[np.triu_indices(n_components, 1)]
        assert cosines.max() < 0.8 + 1e-12
    weights = mixture.weights
    assert (weights.diff(dim=1) >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-15)
    ratios = weights[:, :, None] / weights[:, None]
    assert ratios.min() >= 0.25
    assert ratios.max() <= 4.0


def test_opposite_means_are_allowed():
    means = sample_mixtures(SEED, torch.arange(500), 2, 2).means.numpy()
    cosines = [cosine_similarity(pair)[0, 1] for pair in means]
    assert min(cosines) < -0.99
    assert largest_cosine(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])).item() == pytest.approx(-1.0)


def test_largest_cosine_is_sklearns():
    means = torch.randn(7, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for task in means:
        matrix = cosine_similarity(task.numpy())
        expected = max(matrix[i, k] for i, k in combinations(range(4), 2))
        assert largest_cosine(task).item() == pytest.approx(expected, abs=1e-12)


def test_the_cosine_limit_rejects_almost_all_draws_at_five_means_in_the_plane_yet_every_task_is_made():
    draws = np.random.default_rng(0).uniform(-5, 5, (20_000, 5, 2))
    unit = draws / np.linalg.norm(draws, axis=-1, keepdims=True)
    largest = (unit @ unit.transpose(0, 2, 1) - 9 * np.eye(5)).max((1, 2))
    assert 0.04 < (largest < 0.8).mean() < 0.06
    mixture = sample_mixtures(SEED, torch.arange(400), 5, 2)
    assert mixture.n_tasks == 400
    assert mixture.means.isfinite().all()
    assert (mixture.means.norm(dim=-1) > 0).all()


def test_accepted_means_are_distributed_as_by_plain_rejection():
    draws = np.random.default_rng(1).uniform(-5, 5, (60_000, 4, 2))
    unit = draws / np.linalg.norm(draws, axis=-1, keepdims=True)
    accepted = draws[(unit @ unit.transpose(0, 2, 1) - 9 * np.eye(4)).max((1, 2)) < 0.8]
    means = sample_mixtures(SEED, torch.arange(4000), 4, 2).means.numpy()
    for statistic in (lambda m: m[:, 0, 0], lambda m: np.linalg.norm(m, axis=-1)[:, 1], lambda m: m[:, 2].sum(-1)):
        assert stats.ks_2samp(statistic(accepted), statistic(means)).pvalue > 1e-3


def test_the_accepted_means_are_the_first_acceptable_attempt():
    index = torch.arange(30)
    means = sample_mixtures(SEED, index, 5, 2).means
    waiting = set(range(30))
    for attempt in range(400):
        candidates = (10 * random_uniform(SEED, 0, index, 10, attempt) - 5).unflatten(-1, (5, 2))
        for task in [task for task in waiting if largest_cosine(candidates[task]) < 0.8]:
            torch.testing.assert_close(means[task], candidates[task], rtol=0, atol=1e-14)
            waiting.remove(task)
    assert not waiting


@pytest.mark.parametrize("n_components", [2, 5])
def test_weights_are_sorted_normalised_uniform_draws(n_components):
    weights = sample_mixtures(SEED, torch.arange(4000), n_components, 8).weights.numpy()
    raw = np.sort(np.random.default_rng(2).uniform(0.2, 0.8, (4000, n_components)))
    expected = raw / raw.sum(1, keepdims=True)
    for component in range(n_components):
        assert stats.ks_2samp(weights[:, component], expected[:, component]).pvalue > 1e-3


def test_anisotropic_standard_deviations_are_the_softplus_of_a_second_draw():
    mixture = sample_mixtures(SEED, torch.arange(2000), 2, 8, "anisotropic")
    scales = mixture.standard_deviations
    assert scales.min() >= 2 * np.log1p(np.exp(-1))
    assert scales.max() <= 2 * np.log1p(np.exp(1))
    assert scales.min() < 0.64
    assert scales.max() > 2.61
    raw = (10 * random_uniform(SEED, 2, torch.arange(2000), 16) - 5).unflatten(-1, (2, 8))
    accepted = largest_cosine(raw) < 0.8  # at once, by nearly all
    assert accepted.float().mean() > 0.9
    expected = 2 * np.log1p(np.exp(raw[accepted].numpy() / 5))
    np.testing.assert_allclose(scales[accepted].numpy(), expected, rtol=2e-15)
    drawn = 5 * np.log(np.expm1(scales.numpy() / 2))
    assert stats.kstest(drawn[:, 0, 0], "uniform", (-5, 10)).pvalue > 1e-3
    assert abs(np.corrcoef(drawn.ravel(), mixture.means.numpy().ravel())[0, 1]) < 0.03
    assert bitwise_equal(Mixture(mixture.weights, mixture.means), sample_mixtures(SEED, torch.arange(2000), 2, 8))


@pytest.mark.parametrize("longest", [32, 64, 128])
def test_training_lengths_are_uniform_from_half_to_the_longest(longest):
    drawn = [sample_length(SEED, batch, longest) for batch in range(1200)]
    assert min(drawn) == longest // 2
    assert max(drawn) == longest
    counts = np.bincount(drawn, minlength=longest + 1)[longest // 2 :]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("choices", [(2, 3, 4, 5), (3,), (2, 5, 7)])
def test_every_component_count_appears_equally_often(choices):
    counts = sample_component_counts(SEED, torch.arange(300 * len(choices)), choices)
    runs = counts.unflatten(0, (300, len(choices)))
    assert torch.equal(runs.sort(1).values, torch.tensor(choices).expand(300, -1))
    if len(choices) > 1:
        assert stats.chisquare(np.unique(runs[:, 0], return_counts=True)[1]).pvalue > 1e-3


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
@given(seed=SEEDS, n_components=SIZES, dimension=DIMENSIONS, order=st.permutations(range(9)), cut=st.integers(1, 8))
def test_a_task_does_not_depend_on_its_batch(covariance, seed, n_components, dimension, order, cut):
    index = torch.arange(9) + 3
    mixture = sample_mixtures(seed, index, n_components, dimension, covariance)
    points, labels = sample_points(mixture, seed, index, 6)
    order = torch.tensor(order)
    for part in (order[:cut], order[cut:]):
        alone = sample_mixtures(seed, index[part], n_components, dimension, covariance)
        assert bitwise_equal(alone, mixture[part])
        points_alone, labels_alone = sample_points(alone, seed, index[part], 6)
        assert torch.equal(points_alone, points[part])
        assert torch.equal(labels_alone, labels[part])


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_a_padded_batch_of_mixed_sizes_equals_the_draws_of_each_size(covariance):
    index = torch.arange(40)
    counts = torch.tensor([2, 5, 3, 4]).repeat(10)
    padded = sample_mixtures(SEED, index, counts, 2, covariance)
    points, labels = sample_points(padded, SEED, index, 30)
    assert (labels < counts[:, None]).all()
    for count in (2, 3, 4, 5):
        chosen = counts == count
        alone = sample_mixtures(SEED, index[chosen], count, 2, covariance)
        kept = padded[chosen].map(lambda tensor, count=count: tensor[:, :count])
        assert bitwise_equal(kept, alone)
        assert (padded.weights[chosen, count:] == 0).all()
        assert (padded.means[chosen, count:] == 0).all()
        points_alone, labels_alone = sample_points(alone, SEED, index[chosen], 30)
        assert torch.equal(points_alone, points[chosen])
        assert torch.equal(labels_alone, labels[chosen])


@given(seed=SEEDS, short=st.integers(1, 40), more=st.integers(0, 40))
def test_the_first_points_do_not_depend_on_the_number_of_points(seed, short, more):
    index = torch.arange(3)
    mixture = sample_mixtures(seed, index, 3, 3)
    few, many = (sample_points(mixture, seed, index, count) for count in (short, short + more))
    assert few[0].dtype == torch.float32
    assert torch.equal(few[0], many[0][:, :short])
    assert torch.equal(few[1], many[1][:, :short])


def test_heldout_points_are_fresh_points_of_the_same_mixture():
    index = torch.arange(50)
    mixture = sample_mixtures(SEED, index, 2, 4)
    seen, fresh = (sample_points(mixture, SEED, index, 400, heldout=heldout) for heldout in (False, True))
    rows = torch.cat([seen[0], fresh[0]], 1).flatten(0, 1)
    assert len(rows.unique(dim=0)) == len(rows)
    noise = [points - mixture.means[torch.arange(50)[:, None], labels].float() for points, labels in (seen, fresh)]
    correlation = np.corrcoef(noise[0].numpy().ravel(), noise[1].numpy().ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(noise[0].numel())
    assert stats.ks_2samp(*(part.numpy().ravel() for part in noise)).pvalue > 1e-3


def test_labels_are_drawn_with_the_weights():
    index = torch.arange(4)
    mixture = sample_mixtures(SEED, index, 4, 2)
    _, labels = sample_points(mixture, SEED, index, 20_000)
    for weights, drawn in zip(mixture.weights.numpy(), labels.numpy(), strict=True):
        assert stats.chisquare(np.bincount(drawn, minlength=4), 20_000 * weights).pvalue > 1e-3


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_points_of_a_component_have_its_mean_and_covariance(covariance):
    index = torch.arange(1)
    mixture = sample_mixtures(SEED, index, 3, 3, covariance)
    points, labels = (drawn[0].numpy() for drawn in sample_points(mixture, SEED, index, 60_000))
    for component in range(3):
        own = points[labels == component].astype(float)
        scales = mixture.standard_deviations[0, component].numpy() if covariance == "anisotropic" else np.ones(3)
        standardised = (own - mixture.means[0, component].numpy()) / scales
        error = 5 / np.sqrt(len(own))
        assert np.abs(standardised.mean(0)).max() < error
        assert np.abs(np.cov(standardised.T) - np.eye(3)).max() < 2 * error
        assert stats.kstest(standardised.ravel(), "norm").pvalue > 1e-3


def test_impossible_tasks_are_refused():
    index = torch.arange(2)
    with pytest.raises(UserError, match="isotropic, anisotropic"):
        sample_mixtures(SEED, index, 2, 2, "isotropc")
    for n_components, dimension in ((0, 2), (2, 0)):
        with pytest.raises(UserError, match="at least 1"):
            sample_mixtures(SEED, index, n_components, dimension)


@pytest.mark.gpu
@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_cuda_gives_the_same_bits(covariance):
    index = torch.arange(200)
    counts = sample_component_counts(SEED, index, (2, 3, 4, 5))
    here = sample_mixtures(SEED, index, counts, 2, covariance)
    there = sample_mixtures(SEED, index.cuda(), counts.cuda(), 2, covariance)
    assert bitwise_equal(here, there.to("cpu"))
    points_here, points_there = sample_points(here, SEED, index, 128), sample_points(there, SEED, index.cuda(), 128)
    for one, other in zip(points_here, points_there, strict=True):
        assert torch.equal(one, other.cpu())
