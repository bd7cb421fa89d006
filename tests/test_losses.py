"""Training losses against scipy's assignment and closed forms."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import pad

from tgmm.errors import UserError
from tgmm.losses import EARLY_WEIGHT, loss_terms, training_loss
from tgmm.mixture import LogEstimate, Mixture
from tgmm.models.settings import LOSSES
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.tasks.stream import TaskBatch

COUNTS = torch.tensor([2, 5, 3, 4, 5, 2, 3])


def padded_truth(covariance: str = "isotropic", dimension: int = 3) -> Mixture:
    return sample_mixtures(17, torch.arange(len(COUNTS)), COUNTS, dimension, covariance)


def random_estimate(truth: Mixture, counts: torch.Tensor, seed: int = 0) -> LogEstimate:
    """Noise everywhere, in the padding too, as a network's estimate has; log-weights are normalised."""
    generator = torch.Generator().manual_seed(seed)
    logits, means, scales = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in (truth.weights.shape, truth.means.shape, truth.means.shape)
    )
    unused = torch.arange(truth.n_components) >= counts[:, None]
    log_weights = logits.masked_fill(unused, -1e9).log_softmax(1)
    return LogEstimate(log_weights, 4 * means, None if truth.standard_deviations is None else scales.exp())


def perfect_estimate(truth: Mixture) -> LogEstimate:
    return LogEstimate(truth.weights.log().clamp_min(-1e9), truth.means, truth.standard_deviations)


def scipy_terms(estimate: LogEstimate, truth: Mixture, counts: torch.Tensor, matched: bool) -> np.ndarray:
    """The three terms of every task, (3, B), on the unpadded components."""
    rows = []
    for task, count in enumerate(counts.tolist()):
        log_pi, mu = estimate.log_weights[task, :count].numpy(), estimate.means[task, :count].numpy()
        true_pi, true_mu = truth.weights[task, :count].numpy(), truth.means[task, :count].numpy()
        order = np.arange(count)
        if matched:
            cost = ((true_mu[:, None] - mu[None]) ** 2).mean(-1) + (true_pi[:, None] - np.exp(log_pi)[None]) ** 2
            order = linear_sum_assignment(cost)[1]
        scale = 0.0
        if truth.standard_deviations is not None:
            scales, true_scales = estimate.standard_deviations[task, :count], truth.standard_deviations[task, :count]
            scale = ((scales.numpy()[order] - true_scales.numpy()) ** 2).mean()
        rows.append((((mu[order] - true_mu) ** 2).mean(), -(true_pi * log_pi[order]).sum(), scale))
    return np.array(rows).T


@pytest.mark.parametrize("kind", ["matched", "sorted"])
@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("seed", range(5))
def test_terms_of_mixed_padded_sizes_equal_scipys(kind, covariance, seed):
    truth = padded_truth(covariance)
    estimate = random_estimate(truth, COUNTS, seed)
    terms = loss_terms(estimate, truth, COUNTS, kind)
    expected = scipy_terms(estimate, truth, COUNTS, kind == "matched")
    for ours, theirs in zip((terms.means, terms.weights, terms.scales), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    np.testing.assert_allclose(terms.total, expected.sum(0), rtol=1e-10)
    assert (terms.likelihood == 0).all()


def test_single_precision_matches_as_double_does():
    truth = padded_truth()
    estimate = random_estimate(truth, COUNTS)
    single = LogEstimate(*(value.float() for value in (estimate.log_weights, estimate.means)))
    terms = loss_terms(single, truth.to(torch.float32), COUNTS, "matched")
    expected = scipy_terms(estimate, truth, COUNTS, True)
    np.testing.assert_allclose(terms.means, expected[0], rtol=1e-5)
    np.testing.assert_allclose(terms.weights, expected[1], rtol=1e-5)


@given(orders=st.tuples(*(st.permutations(range(count)) for count in COUNTS.tolist())))
def test_a_relabelled_perfect_estimate_has_no_squared_error_and_the_weights_entropy(orders):
    truth = padded_truth("anisotropic")
    full = torch.tensor([[*order, *range(len(order), 5)] for order in orders])
    estimate = perfect_estimate(truth).permute_components(full)
    terms = loss_terms(estimate, truth, COUNTS, "matched")
    entropy = torch.special.entr(truth.weights).sum(1)
    assert (terms.means == 0.0).all()
    assert (terms.scales == 0.0).all()
    torch.testing.assert_close(terms.weights, entropy, rtol=1e-12, atol=0)
    weights = loss_terms(random_estimate(truth, COUNTS), truth, COUNTS, "matched").weights
    assert (weights > entropy).all()


def test_the_sorted_loss_punishes_a_relabelled_perfect_estimate():
    truth = padded_truth()
    flipped = perfect_estimate(truth).permute_components(torch.tensor([[1, 0, 2, 3, 4]] * len(COUNTS)))
    assert (loss_terms(flipped, truth, COUNTS, "matched").means == 0).all()
    assert (loss_terms(flipped, truth, COUNTS, "sorted").means > 0.5).all()
    assert (loss_terms(perfect_estimate(truth), truth, COUNTS, "sorted").means == 0).all()


def test_the_matched_squared_error_is_never_above_the_sorted_one():
    truth = padded_truth()
    for seed in range(10):
        estimate = replace(random_estimate(truth, COUNTS, seed), log_weights=perfect_estimate(truth).log_weights)
        # With nearly equal weights the match is decided by the means alone.
        flat = replace(truth, weights=torch.full_like(truth.weights, 0.2))
        estimate = replace(estimate, log_weights=flat.weights.log())
        matched, in_order = (loss_terms(estimate, flat, COUNTS, kind).means for kind in ("matched", "sorted"))
        assert (matched <= in_order).all()


@pytest.mark.parametrize("kind", ["matched", "sorted"])
def test_gradients_reach_every_used_component_and_no_padding(kind):
    truth = padded_truth("anisotropic")
    estimate = random_estimate(truth, COUNTS)
    leaves = [getattr(estimate, field.name).clone().requires_grad_() for field in fields(estimate)]
    loss_terms(LogEstimate(*leaves), truth, COUNTS, kind).total.mean().backward()
    used = torch.arange(5) < COUNTS[:, None]
    for leaf in leaves:
        assert torch.isfinite(leaf.grad).all()
        moved = leaf.grad.ne(0) if leaf.ndim == 2 else leaf.grad.ne(0).any(-1)
        assert torch.equal(moved, used)


@pytest.mark.parametrize("extra", [-1, 1])
@pytest.mark.parametrize("seed", range(3))
def test_an_estimate_of_another_number_of_components_is_matched_as_scipys_rectangular_assignment(extra, seed):
    counts = torch.tensor([2, 4, 3, 4, 3, 2, 3])
    truth = sample_mixtures(17, torch.arange(len(counts)), counts, 3)
    truth = Mixture(pad(truth.weights, (0, 1)), pad(truth.means, (0, 0, 0, 1)))  # room for one more
    estimate = random_estimate(truth, counts + extra, seed)
    terms = loss_terms(estimate, truth, counts + extra, "matched")
    for task, count in enumerate(counts.tolist()):
        asked = count + extra
        means, true = estimate.means[task, :asked].numpy(), truth.means[task, :count].numpy()
        log_weights, weights = estimate.log_weights[task, :asked].numpy(), truth.weights[task, :count].numpy()
        cost = ((means[:, None] - true) ** 2).mean(-1) + (np.exp(log_weights)[:, None] - weights) ** 2
        rows, columns = linear_sum_assignment(cost)
        assert len(rows) == min(asked, count)
        np.testing.assert_allclose(terms.means[task], ((means[rows] - true[columns]) ** 2).mean(), rtol=1e-10)
        np.testing.assert_allclose(terms.weights[task], -(weights[columns] * log_weights[rows]).sum(), rtol=1e-10)


def test_the_cross_entropy_counts_as_much_as_it_is_told_to():
    truth = padded_truth()
    estimate = random_estimate(truth, COUNTS)
    plain, heavy = (loss_terms(estimate, truth, COUNTS, "matched", None, factor) for factor in (1.0, 10.0))
    assert torch.equal(heavy.means, plain.means)
    torch.testing.assert_close(heavy.weights, 10 * plain.weights)
    torch.testing.assert_close(heavy.total, plain.means + 10 * plain.weights)


def test_the_held_out_likelihood_is_that_of_the_fresh_points():
    truth = padded_truth().to(torch.float32)
    estimate = perfect_estimate(truth)
    points, fresh = (sample_points(padded_truth(), seed, torch.arange(7), 30)[0] for seed in (1, 2))
    batch = TaskBatch(truth, points, COUNTS, fresh=fresh)
    held_out = training_loss([estimate], batch, "likelihood-heldout")[0]
    within = training_loss([estimate], replace(batch, points=fresh), "likelihood")[0]
    assert held_out == within
    assert held_out != training_loss([estimate], batch, "likelihood")[0]
    with pytest.raises(UserError, match="fresh points"):
        training_loss([estimate], replace(batch, fresh=None), "likelihood-heldout")


def test_what_stands_in_the_padding_does_not_matter():
    truth = padded_truth()
    estimate = random_estimate(truth, COUNTS)
    unused = torch.arange(5) >= COUNTS[:, None]
    other = replace(estimate, means=estimate.means.masked_fill(unused[..., None], 1e3))
    for kind in ("matched", "sorted"):
        assert torch.equal(
            loss_terms(other, truth, COUNTS, kind).total, loss_terms(estimate, truth, COUNTS, kind).total
        )


def test_the_sorted_loss_has_a_floor_where_components_cannot_be_told_apart():
    # Equal weights: whichever order the estimate takes, the order of the truth is a coin's toss.
    means = torch.tensor([[[3.0, 0.0], [-3.0, 0.0]], [[-3.0, 0.0], [3.0, 0.0]]])
    truth = Mixture(torch.full((2, 2), 0.5), means)
    counts = torch.tensor([2, 2])
    for first in ([3.0, 0.0], [-3.0, 0.0], [0.0, 0.0]):
        guess = torch.tensor([[first, [-first[0], 0.0]]]).expand(2, -1, -1)
        assert loss_terms(LogEstimate(truth.weights.log(), guess, None), truth, counts, "sorted").means.mean() >= 4.5
    guess = means[:1].expand(2, -1, -1)
    assert (loss_terms(LogEstimate(truth.weights.log(), guess, None), truth, counts, "matched").means == 0).all()


def batch_of(truth: Mixture, n_points: int = 9) -> TaskBatch:
    points = 4 * torch.randn(len(COUNTS), n_points, truth.dimension, generator=torch.Generator().manual_seed(2))
    fresh = 4 * torch.randn(points.shape, generator=torch.Generator().manual_seed(3))
    return TaskBatch(truth, points.double(), COUNTS, fresh=fresh.double())


@pytest.mark.parametrize("kind", LOSSES)
def test_earlier_estimates_count_less(kind):
    truth = padded_truth()
    batch = batch_of(truth)
    estimates = [random_estimate(truth, COUNTS, seed) for seed in range(3)]
    loss, last = training_loss(estimates, batch, kind)
    points = batch.fresh if kind == "likelihood-heldout" else batch.points
    terms = [loss_terms(estimate, truth, COUNTS, kind, points) for estimate in estimates]
    totals = [part.total.mean().item() for part in terms]
    assert loss.item() == pytest.approx(totals[2] + EARLY_WEIGHT * (totals[0] + totals[1]))
    for field in fields(last):
        torch.testing.assert_close(getattr(last, field.name), getattr(terms[2], field.name))
    assert training_loss(estimates[2:], batch, kind)[0].item() == pytest.approx(totals[2])


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_of_tasks_is_the_mean_of_the_losses_of_its_parts(kind):
    truth = padded_truth("anisotropic")
    batch, estimate = batch_of(truth), random_estimate(truth, COUNTS)
    whole = training_loss([estimate], batch, kind)[0].item()
    parts = [
        training_loss([estimate.map(lambda tensor, rows=rows: tensor[rows])], batch[rows], kind)[0].item()
        for rows in (slice(task, task + 1) for task in range(len(COUNTS)))
    ]
    assert whole == pytest.approx(np.mean(parts))


@given(order=st.permutations(range(len(COUNTS))), kind=st.sampled_from(LOSSES))
def test_a_tasks_loss_does_not_depend_on_its_batch(order, kind):
    truth = padded_truth("anisotropic")
    points, estimate, order = batch_of(truth).points, random_estimate(truth, COUNTS), torch.tensor(order)
    plain = loss_terms(estimate, truth, COUNTS, kind, points).total
    moved = estimate.map(lambda tensor: tensor[order])
    torch.testing.assert_close(loss_terms(moved, truth[order], COUNTS[order], kind, points[order]).total, plain[order])


def test_an_unknown_loss_is_refused_with_the_valid_ones():
    truth = padded_truth()
    with pytest.raises(UserError, match=r"did you mean 'matched'.*matched, sorted"):
        loss_terms(random_estimate(truth, COUNTS), truth, COUNTS, "machted")
