"""The losses that look at the points: the likelihood, and EM steps taken from the estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm

from tgmm.errors import UserError
from tgmm.losses import EARLY_WEIGHT, em_steps, loss_terms, training_loss
from tgmm.methods.em import run_em_steps
from tgmm.mixture import Mixture
from tgmm.models.estimate import LogEstimate, component_mask
from tgmm.models.network import build_network
from tgmm.models.settings import NetworkSettings
from tgmm.tasks.stream import TaskBatch, TaskStream

MASKED = -1e9


def tasks(covariance: str = "isotropic", size: int = 7, dimension: int = 3, seed: int = 1) -> TaskBatch:
    sizes = {"dimension": dimension, "n_components": (2, 3, 4, 5), "n_points": 60}
    batch = TaskStream(seed, size, covariance=covariance, **sizes).batch(0)
    return TaskBatch(batch.mixture.to(torch.float64), batch.points.double(), batch.n_components)


def near_the_truth(batch: TaskBatch, noise: float = 1.0, seed: int = 0) -> LogEstimate:
    """Estimates with something in their padding, as a network's have."""
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(batch.mixture.means.shape, dtype=torch.float64, generator=generator) for _ in range(2)]
    unused = component_mask(batch.n_components, batch.mixture.n_components)
    logits = draws[0][..., 0].masked_fill(unused, MASKED)
    scales = None if batch.mixture.standard_deviations is None else (0.5 * draws[1]).exp()
    return LogEstimate(logits.log_softmax(1), batch.mixture.means + noise * draws[1], scales)


def used(estimate: LogEstimate, task: int, count: int) -> Mixture:
    """One task's estimate without its padding."""
    return estimate.map(lambda tensor: tensor[task : task + 1]).mixture(count)


# --- unrolled EM ---


@given(seed=st.integers(0, 1000), dimension=st.integers(2, 5), steps=st.integers(1, 4))
def test_unrolled_steps_are_those_of_em(seed, dimension, steps):
    batch = tasks(dimension=dimension, seed=seed)
    start = near_the_truth(batch, seed=seed)
    found = em_steps(start, batch.points, batch.n_components, steps)
    for task, count in enumerate(batch.n_components.tolist()):
        expected = run_em_steps(used(start, task, count), batch.points[task : task + 1], steps)
        mixture = used(found, task, count)
        # One step of either leaves a component of hardly any point in its own way.
        kept = (expected.weights * batch.points.shape[1] > 1e-2)[0]
        torch.testing.assert_close(mixture.weights, expected.weights, rtol=0, atol=1e-4)
        torch.testing.assert_close(mixture.means[0, kept], expected.means[0, kept], rtol=0, atol=1e-2)
        if kept.all() and expected.weights.min() * batch.points.shape[1] > 1:
            torch.testing.assert_close(mixture.means, expected.means, rtol=0, atol=1e-4)


def test_padding_stays_unused_and_the_weights_sum_to_one():
    batch = tasks()
    found = em_steps(near_the_truth(batch), batch.points, batch.n_components, 2)
    unused = component_mask(batch.n_components, 5)
    assert (found.log_weights.exp()[unused] == 0).all()
    torch.testing.assert_close(found.log_weights.exp().sum(1), torch.ones(7).double(), rtol=0, atol=1e-6)
    assert found.means.isfinite().all()


def test_no_step_leaves_the_estimate():
    batch = tasks()
    start = near_the_truth(batch)
    assert em_steps(start, batch.points, batch.n_components, 0) is start


def test_a_step_does_not_lower_the_likelihood():
    batch = tasks()
    estimate = near_the_truth(batch, 2.0)
    before = torch.full((7,), torch.inf).double()
    for _ in range(5):
        now = loss_terms(estimate, batch.mixture, batch.n_components, "likelihood", batch.points).likelihood
        assert (now <= before + 1e-6).all()
        before, estimate = now, em_steps(estimate, batch.points, batch.n_components, 1)


@pytest.mark.parametrize("kind", ["matched", "sorted", "likelihood", "both"])
@pytest.mark.parametrize("unrolled", [0, 1, 3])
def test_gradients_are_finite_and_reach_what_is_used(kind, unrolled):
    batch = tasks()
    start = near_the_truth(batch)
    leaves = [start.log_weights.clone().requires_grad_(), start.means.clone().requires_grad_()]
    loss, _ = training_loss([LogEstimate(*leaves)], batch, kind, unrolled)
    loss.backward()
    kept = ~component_mask(batch.n_components, 5)
    for leaf in leaves:
        assert leaf.grad.isfinite().all()
        moved = leaf.grad.ne(0) if leaf.ndim == 2 else leaf.grad.ne(0).any(-1)
        assert moved[kept].all()
    assert (leaves[1].grad[~kept] == 0).all()


@pytest.mark.parametrize("far", [1e2, 1e4])
def test_an_estimate_that_no_point_is_near_has_finite_gradients(far):
    batch = tasks()
    start = near_the_truth(batch)
    means = start.means.clone()
    means[:, 0] = far
    means.requires_grad_()
    loss, _ = training_loss([LogEstimate(start.log_weights, means)], batch, "both", 2)
    loss.backward()
    assert loss.isfinite()
    assert means.grad.isfinite().all()


def test_gradients_through_a_step_are_those_of_differences():
    batch = tasks(size=4)
    start = near_the_truth(batch, 0.5)
    means = start.means.clone().requires_grad_()
    logits = start.log_weights.masked_fill(component_mask(batch.n_components, 5), 0.0).clone().requires_grad_()

    def value(means, logits):
        log_weights = logits.masked_fill(component_mask(batch.n_components, 5), MASKED).log_softmax(1)
        return training_loss([LogEstimate(log_weights, means)], batch, "both", 2)[0]

    assert torch.autograd.gradcheck(value, (means, logits), atol=1e-6)


def test_the_loss_of_where_the_steps_end_is_added_and_the_last_terms_are_the_networks_own():
    batch = tasks()
    estimates = [near_the_truth(batch, seed=seed) for seed in range(3)]
    loss, last = training_loss(estimates, batch, "matched", 2)
    ended = em_steps(estimates[-1], batch.points, batch.n_components, 2)

    def total(estimate):
        return loss_terms(estimate, batch.mixture, batch.n_components, "matched").total

    expected = EARLY_WEIGHT * (total(estimates[0]) + total(estimates[1])) + total(estimates[2]) + total(ended)
    assert loss.item() == pytest.approx(expected.mean().item())
    torch.testing.assert_close(last.total, total(estimates[2]))


def test_steps_for_estimates_with_scales_are_refused():
    batch = tasks("anisotropic")
    with pytest.raises(UserError, match=r"unrolled EM steps .*isotropic"):
        training_loss([near_the_truth(batch)], batch, "matched", 1)


# --- likelihood ---


@given(seed=st.integers(0, 1000), covariance=st.sampled_from(["isotropic", "anisotropic"]), dimension=st.integers(2, 6))
def test_the_likelihood_is_scipys(seed, covariance, dimension):
    batch = tasks(covariance, dimension=dimension, seed=seed)
    estimate = near_the_truth(batch, seed=seed)
    terms = loss_terms(estimate, batch.mixture, batch.n_components, "likelihood", batch.points)
    for task, count in enumerate(batch.n_components.tolist()):
        mixture, points = used(estimate, task, count), batch.points[task].numpy()
        scales = np.ones((count, dimension)) if covariance == "isotropic" else mixture.standard_deviations[0].numpy()
        weights, means = mixture.weights[0].numpy(), mixture.means[0].numpy()
        logs = np.log(weights)[:, None] + norm(means[:, None], scales[:, None]).logpdf(points).sum(-1)
        assert terms.likelihood[task].item() == pytest.approx(-logsumexp(logs, axis=0).mean() / dimension, rel=1e-9)
    for part in (terms.means, terms.weights, terms.scales):
        assert (part == 0).all()


def test_both_is_the_sum_of_matched_and_likelihood():
    batch = tasks("anisotropic")
    estimate = near_the_truth(batch)
    found = {
        kind: loss_terms(estimate, batch.mixture, batch.n_components, kind, batch.points)
        for kind in ("matched", "likelihood", "both")
    }
    torch.testing.assert_close(found["both"].total, found["matched"].total + found["likelihood"].total)


def test_the_likelihood_needs_no_truth_and_does_not_care_for_the_order():
    batch = tasks()
    estimate = near_the_truth(batch)
    rubbish = batch.mixture.map(lambda tensor: torch.zeros_like(tensor))
    counts, points = batch.n_components, batch.points
    plain, found = (loss_terms(estimate, some, counts, "likelihood", points).total for some in (batch.mixture, rubbish))
    torch.testing.assert_close(found, plain)
    two = counts == 2
    swapped = estimate.map(lambda tensor: tensor[two][:, [1, 0, 2, 3, 4]])
    found = loss_terms(swapped, rubbish[two], counts[two], "likelihood", points[two]).total
    torch.testing.assert_close(found, plain[two])


def test_the_truth_has_a_likelihood_that_noise_has_not():
    batch = tasks()
    unused = component_mask(batch.n_components, 5)
    truth = LogEstimate(batch.mixture.weights.clamp_min(1e-30).log().masked_fill(unused, MASKED), batch.mixture.means)
    ours, other = (
        loss_terms(estimate, batch.mixture, batch.n_components, "likelihood", batch.points).likelihood
        for estimate in (truth, near_the_truth(batch, 3.0))
    )
    assert (ours < other).all()


# --- in a network ---


@pytest.mark.parametrize("kind", ["matched", "likelihood", "both"])
@pytest.mark.parametrize(("covariance", "unrolled"), [("isotropic", 0), ("isotropic", 2), ("anisotropic", 0)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_network_is_trained_by_every_loss_in_every_precision(kind, unrolled, precision, covariance):
    torch.manual_seed(0)
    settings = NetworkSettings("components", 4, covariance=covariance, width=16, blocks=2, heads=2, axes=5)
    network = build_network(settings)
    sizes = {"dimension": 4, "n_components": (2, 3, 4, 5), "n_points": 20}
    batch = TaskStream(1, 8, covariance=covariance, **sizes).batch(0)
    losses = []
    for enabled in (False, precision == torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
            estimates = network(batch.points, batch.n_components)
        loss, last = training_loss(estimates, batch, kind, unrolled)
        losses.append(loss.item())
        assert loss.dtype == last.total.dtype == torch.float32
    loss.backward()
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
