"""The Cramér-Rao bound against closed forms and automatic derivatives."""

from __future__ import annotations

import pytest
import torch

from tgmm.mixture import Mixture, log_density
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.theory.fisher import cramer_rao, measure_fisher, score_vectors


def test_scores_are_the_derivatives_of_the_log_density():
    index = torch.arange(1)
    truth = sample_mixtures(3, index, 3, 2)
    points = sample_points(truth, 3, index, 5)[0].double()
    means, weights = truth.means.clone().requires_grad_(), truth.weights[:, :-1].clone().requires_grad_()
    mixture = Mixture(torch.cat([weights, 1 - weights.sum(1, keepdim=True)], 1), means)
    densities = log_density(mixture, points)[0]
    found = score_vectors(truth, points)[0]
    for n in range(5):
        of_means, of_weights = torch.autograd.grad(densities[n], [means, weights], retain_graph=True)
        torch.testing.assert_close(found[n], torch.cat([of_means.flatten(), of_weights.flatten()]))


def test_far_apart_the_bound_is_that_of_known_labels():
    weights = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    means = torch.tensor([[[0.0, 0.0], [50.0, 0.0]]], dtype=torch.float64)
    bound = cramer_rao(Mixture(weights, means), 100, seed=1, index=torch.arange(1), draws=40_000)
    known = (1 / (100 * weights)).mean()  # a mean of N w points of unit variance, averaged over components
    assert bound.item() == pytest.approx(known.item(), rel=0.02)


def test_overlap_costs_information():
    index = torch.arange(4)
    truth = sample_mixtures(3, index, 2, 2)
    closer = Mixture(truth.weights, truth.means * 0.3)
    wide, near = (cramer_rao(mixture, 128, seed=3, index=index, draws=4000) for mixture in (truth, closer))
    assert (near > wide).all()


@pytest.mark.slow
def test_the_bound_of_the_test_tasks_at_eight_dimensions():
    """Computed elsewhere by other code: .0171 for K = 2 and .0259 for K = 3 at d = 8 and N = 128."""
    table = measure_fisher((8,), (2, 3), n_tasks=48).set_index("K")
    assert table.loc[2, "mean"] == pytest.approx(0.0171, rel=0.05)
    assert table.loc[3, "mean"] == pytest.approx(0.0259, rel=0.05)
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()
