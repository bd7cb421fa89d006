"""The floor of the sorted loss against quadrature, brute force, closed forms and the other approach."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from typer.testing import CliRunner

from tgmm.cli.theory import app
from tgmm.errors import UserError
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.metrics import l2_error, mean_error, weight_error
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.theory.sorted_floor import (
    LabelPosterior,
    draw_label_posteriors,
    estimate_sorted,
    importance_estimate,
    known_labels_estimate,
    log_dirichlet,
    log_permanent,
    log_prior,
    log_proposal,
    log_weight_prior,
    measure_sorted_floor,
    sorted_mean,
)


@pytest.fixture
def make_tasks():
    """Tasks of the paper: truth, points (B, N, d) of float64, labels (B, N), index (B,)."""

    def make(n_tasks, dimension, n_components, n_points=128, seed=2505):
        index = torch.arange(n_tasks)
        truth = sample_mixtures(seed, index, n_components, dimension)
        points, labels = sample_points(truth, seed, index, n_points)
        return truth, points.double(), labels, index

    return make


def generator():
    return np.random.default_rng(0)


# --- the posterior given labels ------------------------------------------------------------------------------------


def test_the_weights_prior_integrates_to_one():
    shares = (torch.arange(1200, dtype=torch.float64) + 0.5) / 1200
    pairs = torch.stack([shares, 1.0 - shares], dim=1)
    assert log_weight_prior(pairs).exp().mean() == pytest.approx(1.0, abs=1e-4)
    first, second = torch.meshgrid(shares, shares, indexing="ij")
    triples = torch.stack([first, second, 1.0 - first - second], dim=-1)[first + second < 1.0]
    assert log_weight_prior(triples).exp().sum() / 1200**2 == pytest.approx(1.0, abs=1e-3)


def test_the_weights_prior_is_that_of_the_sampler():
    sampled = sample_mixtures(3, torch.arange(20000), 3, 8).weights
    flat = torch.from_numpy(generator().dirichlet(np.ones(3), 400_000))
    importance = log_weight_prior(flat).exp()
    ordered = flat.sort(1).values
    for power in (1, 2):
        expected = (importance[:, None] * ordered**power).sum(0) / importance.sum()
        torch.testing.assert_close(sampled.pow(power).mean(0), expected, rtol=0.0, atol=3e-3)


@pytest.mark.parametrize(("count", "centre"), [(0, 0.0), (1, 7.5), (30, -6.4), (30, 4.9), (50, 0.3)])
def test_means_given_labels_are_truncated_normals(count, centre):
    counts = torch.full((1, 1, 1), count, dtype=torch.float64)
    posterior = LabelPosterior(counts, torch.full((1, 1, 1, 1), centre, dtype=torch.float64))
    scale = 1.0 / math.sqrt(max(count, 1e-3))
    exact = stats.truncnorm((-5.0 - centre) / scale, (5.0 - centre) / scale, loc=centre, scale=scale)
    assert posterior.expected_means().item() == pytest.approx(exact.mean(), abs=1e-9)
    drawn = posterior.draw_means(generator(), 4000).flatten().numpy()
    assert np.abs(drawn).max() <= 5.0
    assert stats.kstest(drawn, exact.cdf).pvalue > 1e-3


@given(st.integers(1, 5), st.integers(0, 10**6))
def test_the_permanent(size, seed):
    entries = np.random.default_rng(seed).normal(scale=3.0, size=(size, size))
    orders = itertools.permutations(range(size))
    expected = np.logaddexp.reduce([sum(entries[row, column] for row, column in enumerate(order)) for order in orders])
    assert log_permanent(torch.from_numpy(entries)).item() == pytest.approx(expected, abs=1e-10)


def test_the_proposal_sums_densities_over_labellings_and_relabellings():
    random = generator()
    counts = torch.from_numpy(random.multinomial(60, [0.2, 0.3, 0.5], (2, 3)).astype(float))
    posterior = LabelPosterior(counts, torch.from_numpy(random.uniform(-5.5, 5.5, (2, 3, 3, 2))))
    weights, means = posterior.draw_weights(random, 2).flatten(1, 2), posterior.draw_means(random, 2).flatten(1, 2)
    expected = np.zeros((2, 6))
    for task, draw, chain in np.ndindex(2, 6, 3):
        count, centre = counts[task, chain].numpy(), posterior.centres[task, chain].numpy()
        scale = 1.0 / np.sqrt(count)[:, None]
        limits = ((-5.0 - centre) / scale, (5.0 - centre) / scale)
        for order in map(list, itertools.permutations(range(3))):
            density = stats.truncnorm.pdf(means[task, draw, order].numpy(), *limits, centre, scale).prod()
            expected[task, draw] += density * stats.dirichlet.pdf(weights[task, draw, order].numpy(), count + 8.0)
    difference = log_proposal(posterior, weights, means).numpy() - np.log(expected)
    assert np.ptp(difference) < 1e-9


# --- the estimates -------------------------------------------------------------------------------------------------


def swap_by_quadrature(counts):
    """P(the first cluster is the heavier) and the expected weights, lighter first, by integrals over raw weights."""

    def integral(function):
        def integrand(second, first):
            share = first / (first + second)
            likelihood = math.exp(counts[0] * math.log(2.0 * share) + counts[1] * math.log(2.0 * (1.0 - share)))
            return function(share) * likelihood

        lower = integrate.dblquad(integrand, 0.2, 0.8, 0.2, lambda first: first, epsrel=1e-9)[0]
        upper = integrate.dblquad(integrand, 0.2, 0.8, lambda first: first, 0.8, epsrel=1e-9)[0]
        return np.array([lower, upper])

    heavier, lighter = integral(lambda share: 1.0)
    lightest = integral(lambda share: min(share, 1.0 - share)).sum() / (heavier + lighter)
    return heavier / (heavier + lighter), np.array([lightest, 1.0 - lightest])


def far_clusters(counts, half_distance=4.0):
    """Points (1, N, d) that lie exactly on two opposite centres, d = 8, and their labels."""
    labels = torch.arange(2).repeat_interleave(torch.tensor(counts))[None]
    centres = torch.full((2, 8), half_distance, dtype=torch.float64)
    centres[0] *= -1.0
    return centres[labels], labels, centres


@pytest.mark.parametrize("counts", [(64, 64), (58, 70), (70, 58), (40, 88), (8, 24)])
def test_two_known_clusters_against_quadrature_and_the_closed_form(counts):
    points, labels, centres = far_clusters(counts)
    swap, weights = swap_by_quadrature(counts)
    estimate = known_labels_estimate(points, labels, 2, generator(), draws=200_000).mixture
    np.testing.assert_allclose(estimate.weights[0], weights, atol=1e-3)
    expected = np.array([(1 - swap) * centres[0] + swap * centres[1], swap * centres[0] + (1 - swap) * centres[1]])
    np.testing.assert_allclose(estimate.means[0], expected, atol=0.03)
    # After matching, each mean is off by min(p, 1 - p) of the distance, 8 in every coordinate.
    truth = Mixture(torch.from_numpy(weights if swap < 0.5 else weights[::-1].copy())[None], centres[None])
    assert l2_error(estimate, truth).item() == pytest.approx((8.0 * min(swap, 1 - swap)) ** 2, rel=0.02, abs=1e-3)


def test_with_equal_counts_the_estimate_is_the_middle():
    points, labels, _ = far_clusters((64, 64))
    assert known_labels_estimate(points, labels, 2, generator(), draws=200_000).mixture.means.abs().max() < 0.04


def test_with_very_unequal_weights_the_floor_is_the_statistical_one(make_tasks):
    truth, _, _, index = make_tasks(64, 8, 2)
    truth = Mixture(torch.tensor([[0.2, 0.8]], dtype=torch.float64).expand(64, -1), truth.means)
    points, labels = sample_points(truth, 1, index, 128)
    points = points.double()
    oracle = estimate_em(points, 2, EMSettings(start="truth"), seed=0, index=index, truth=truth).mixture
    for approach in ("known labels", "importance sampling"):
        estimate = estimate_sorted(approach, points, labels, truth, seed=0, index=index).mixture
        assert l2_error(estimate, truth).mean() < 1.1 * l2_error(oracle, truth).mean()


@pytest.mark.slow
def test_the_names_of_labels_and_components_do_not_matter(make_tasks):
    truth, points, labels, index = make_tasks(4, 8, 3)
    order = torch.tensor([2, 0, 1])
    first = known_labels_estimate(points, labels, 3, generator(), draws=100_000).mixture
    second = known_labels_estimate(points, order[labels], 3, generator(), draws=100_000).mixture
    torch.testing.assert_close(first.means, second.means, rtol=0.0, atol=0.06)
    torch.testing.assert_close(first.weights, second.weights, rtol=0.0, atol=1e-3)
    permuted = truth.permute_components(order.expand(4, -1))
    settings = {"seed": 0, "index": index, "draws": 256}
    first = importance_estimate(points, truth, generator(), **settings).mixture
    second = importance_estimate(points, permuted, generator(), **settings).mixture
    torch.testing.assert_close(first.means, second.means, rtol=0.0, atol=0.2)
    assert (first.weights.diff(dim=1) > 0).all()


def test_the_sorted_mean_sorts_and_weighs():
    weights = torch.tensor([[[0.3, 0.7], [0.6, 0.4], [0.5, 0.5]]], dtype=torch.float64)
    means = torch.tensor([[[[1.0], [2.0]], [[3.0], [4.0]], [[9.0], [9.0]]]], dtype=torch.float64)
    estimate = sorted_mean(weights, means, torch.tensor([[0.0, math.log(3.0), -math.inf]], dtype=torch.float64))
    torch.testing.assert_close(estimate.mixture.means, torch.tensor([[[3.25], [2.75]]], dtype=torch.float64))
    torch.testing.assert_close(estimate.mixture.weights, torch.tensor([[0.375, 0.625]], dtype=torch.float64))
    assert estimate.effective_samples.item() == pytest.approx(1.6)
    outside = sorted_mean(weights, means, torch.full((1, 3), -math.inf, dtype=torch.float64))
    assert torch.isfinite(outside.mixture.means).all()
    assert outside.effective_samples.item() == 0.0


def posterior_on_a_grid(points, steps=120):
    """Sorted posterior means of two components in one dimension, by the midpoint rule on all parameters."""
    edges = np.linspace(-5.0, 5.0, steps + 1)
    grid = 0.5 * (edges[1:] + edges[:-1])
    shares = np.linspace(0.2, 0.8, 122)[1:-1]
    first, second, share = np.meshgrid(grid, grid, shares, indexing="ij")
    density = (np.minimum(0.8 / share, 0.8 / (1 - share)) ** 2 - np.maximum(0.2 / share, 0.2 / (1 - share)) ** 2) / 0.72
    density *= first * second < 0  # in one dimension, two means of the same sign have a cosine of one
    for point in points:
        density *= share * np.exp(-0.5 * (point - first) ** 2) + (1 - share) * np.exp(-0.5 * (point - second) ** 2)
    lighter = np.where(share < 0.5, first, second)
    heavier = np.where(share < 0.5, second, first)
    sums = [(density * values).sum() for values in (lighter, heavier, np.minimum(share, 1 - share))]
    return np.array(sums) / density.sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_importance_sampling_against_the_posterior_on_a_grid(make_tasks, seed):
    truth, points, _, index = make_tasks(1, 1, 2, n_points=6, seed=seed)
    estimate = importance_estimate(points, truth, generator(), seed=0, index=index, draws=1500)
    assert estimate.effective_samples.item() > 2000
    found = [*estimate.mixture.means.flatten().tolist(), estimate.mixture.weights[0, 0].item()]
    expected = posterior_on_a_grid(points.flatten().numpy())
    np.testing.assert_allclose(found[:2], expected[:2], atol=0.1)
    assert found[2] == pytest.approx(expected[2], abs=5e-3)


def test_the_chains_converge_to_the_posterior_on_a_grid(make_tasks):
    _, points, _, _ = make_tasks(1, 1, 2, n_points=6, seed=1)
    start = Mixture(torch.tensor([[0.75, 0.25]]).double(), torch.tensor([[[-4.5], [0.5]]]).double())
    random = generator()
    posterior = draw_label_posteriors(points, start[torch.zeros(3000, dtype=torch.int64)], 40, random)
    weights, means = posterior.draw_weights(random, 60)[0], posterior.draw_means(random, 60)[0]
    average = sorted_mean(weights, means, log_prior(weights, means) - log_dirichlet(weights)).mixture
    expected = posterior_on_a_grid(points.flatten().numpy())
    np.testing.assert_allclose(average.means.mean(0).flatten(), expected[:2], atol=0.15)
    assert average.weights[:, 0].mean() == pytest.approx(expected[2], abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("n_components", [2, 4])
def test_both_approaches_agree_where_components_are_far_apart(make_tasks, n_components):
    truth, points, labels, index = make_tasks(48, 8, n_components)
    settings = {"seed": 1, "index": index}
    known = estimate_sorted("known labels", points, labels, truth, **settings)
    sampled = estimate_sorted("importance sampling", points, labels, truth, **settings)
    assert sampled.effective_samples.min() > 100
    difference = (l2_error(known.mixture, truth) - l2_error(sampled.mixture, truth)).numpy()
    assert abs(difference.mean()) < 4.0 * difference.std() / math.sqrt(len(difference)) + 1e-3
    torch.testing.assert_close(known.mixture.weights, sampled.mixture.weights, rtol=0.0, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_components", "anchor", "statistical"), [(2, 0.53, 0.017), (3, 1.22, 0.026), (4, 2.03, 0.036), (5, 2.91, 0.046)]
)
def test_the_floor_is_the_one_reported_at_eight_dimensions(make_tasks, n_components, anchor, statistical):
    truth, points, labels, _ = make_tasks(1280, 8, n_components)
    estimate = known_labels_estimate(points, labels, n_components, generator(), draws=512).mixture
    error = l2_error(estimate, truth)
    # Both numbers are means over about 1280 random tasks.
    assert abs(error.mean() - anchor) < 3.0 * math.sqrt(2.0) * error.std() / math.sqrt(len(error))
    assert error.mean() > 20.0 * statistical


# --- the measurement -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    return measure_sorted_floor((2, 8), (2, 3), (32,), n_tasks=12)


def test_the_table_has_both_approaches_in_every_cell(table):
    assert len(table) == 2 * 2 * 2
    assert table.groupby(["d", "K", "N"])["approach"].agg(list).map(tuple).nunique() == 1
    assert not table.isna().any(axis=None)
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()
    np.testing.assert_allclose(table["mean"], table["mean_error"] + table["weight_error"])
    assert (table["mean"] > table["oracle_mean"]).all()
    assert table["few_samples"].between(0.0, 1.0).all()


def test_the_minimiser_beats_the_oracle_at_the_sorted_loss(table):
    assert (table["sorted_loss"] < table["oracle_sorted_loss"]).all()
    assert (table["oracle_matched_loss"] < table["sorted_loss"]).all()


def test_the_table_is_the_same_every_time_and_cells_are_independent(table):
    again = measure_sorted_floor((8,), (3,), (32,), n_tasks=12)
    cell = table[(table["d"] == 8) & (table["K"] == 3)].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, cell, rtol=1e-12)


def test_the_statistics_are_those_of_the_estimates(make_tasks, table):
    truth, points, labels, index = make_tasks(12, 8, 3, n_points=32)
    estimate = estimate_sorted("known labels", points, labels, truth, seed=2505, index=index).mixture
    matched = estimate.permute_components(torch.stack([best_order(*pair) for pair in pairs(estimate, truth)]))
    row = table[(table["d"] == 8) & (table["K"] == 3) & (table["approach"] == "known labels")].iloc[0]
    assert row["mean_error"] == pytest.approx(mean_error(matched, truth).mean().item())
    assert row["weight_error"] == pytest.approx(weight_error(matched, truth).mean().item())
    assert row["median"] == pytest.approx(np.median(l2_error(estimate, truth)))


def pairs(estimate, truth):
    return [(estimate[[task]], truth[[task]]) for task in range(truth.n_tasks)]


def best_order(estimate, truth):
    orders = [torch.tensor([order]) for order in itertools.permutations(range(truth.n_components))]
    permuted = [estimate.permute_components(order) for order in orders]
    errors = [(mean_error(mixture, truth) + weight_error(mixture, truth)).item() for mixture in permuted]
    return orders[int(np.argmin(errors))][0]


def test_the_command_writes_the_table(tmp_path):
    out = tmp_path / "sorted-floor.csv"
    result = CliRunner().invoke(
        app, ["measure", "sorted-floor", "--tasks", "2", "--points", "32", "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert len(pd.read_csv(out)) == 2 * 4 * 2


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match="n_tasks must be at least 1"):
        measure_sorted_floor(n_tasks=0)
    with pytest.raises(UserError, match="N=4 points are too few for K=5"):
        measure_sorted_floor(n_points=(4,), n_tasks=1)
    arguments = ["measure", "sorted-floor", "--points", "many", "--out", "unused.csv"]
    with pytest.raises(UserError, match="--points must be whole numbers with commas"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
