"""The minimiser of the sorted loss by importance sampling from the posterior of all parameters, labels unknown.

The proposal is a mixture of the posteriors given J labellings, averaged over the relabellings of the components. The
labellings come from Markov chains (data augmentation, Tanner and Wong 1987). Most chains start at the truth, which is
itself a draw from the posterior, and so stay in it; the others start at k-means++ centres, to find further modes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tgmm.methods.initial import kmeans_plus_plus_start
from tgmm.mixture import Mixture, log_joint
from tgmm.theory.label_posterior import LabelPosterior, log_dirichlet, log_prior, posterior_of_labels
from tgmm.theory.sorted_estimate import SortedEstimate, sorted_mean

CHAINS = 32
CHAINS_ELSEWHERE = 8
SWEEPS = 10
DRAWS = 32
CHAINS_AT_ONCE, DRAWS_AT_ONCE = 4, 64  # keep the densities in a processor's cache


def importance_estimate(
    points: Tensor, truth: Mixture, generator: np.random.Generator, *, seed: int, index: Tensor, chains: int = CHAINS,
    chains_elsewhere: int = CHAINS_ELSEWHERE, sweeps: int = SWEEPS, draws: int = DRAWS,
) -> SortedEstimate:  # fmt: skip
    """The posterior mean in the order of the weights.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    truth : the mixtures that the points were drawn from, unit covariances; where the chains start.
    seed, index : what the k-means++ starts depend on: an int and an int64 Tensor (B,).
    chains, chains_elsewhere : J, and how many of them start at k-means++ centres.
    sweeps : steps of every chain; the labels drawn last make the proposal.
    draws : parameters drawn for every labelling, so that there are M = J * draws of them.
    """
    start = _chain_starts(points, truth, seed, index, chains, chains_elsewhere)
    posterior = draw_label_posteriors(points, start, sweeps, generator)
    weights = posterior.draw_weights(generator, draws).flatten(1, 2)
    means = posterior.draw_means(generator, draws).flatten(1, 2)
    log_target = log_likelihood(points, weights, means) + log_prior(weights, means)
    return sorted_mean(weights, means, log_target - log_proposal(posterior, weights, means))


def draw_label_posteriors(
    points: Tensor, start: Mixture, sweeps: int, generator: np.random.Generator
) -> LabelPosterior:
    """Run Markov chains and return the posteriors given the labels that each draws last.

    A sweep draws labels given parameters, then parameters given labels, the latter accepted by Metropolis and
    Hastings's rule for the prior's density over that of the Dirichlet weights.

    Parameters
    ----------
    points : Tensor (B, N, d).
    start : Mixture of B * J rows, row b * J + j for the j-th chain of task b.
    sweeps : how often labels are drawn, at least once.
    """
    weights, means = (part.unflatten(0, (len(points), -1)) for part in (start.weights, start.means))
    posterior = posterior_of_labels(points, draw_memberships(points, weights, means, generator))
    for _ in range(sweeps - 1):
        new_weights = posterior.draw_weights(generator, 1)[:, :, 0]
        new_means = posterior.draw_means(generator, 1)[:, :, 0]
        before = log_prior(weights, means) - log_dirichlet(weights)
        after = log_prior(new_weights, new_means) - log_dirichlet(new_weights)
        threshold = torch.from_numpy(generator.random(tuple(before.shape))).log()
        accepted = torch.isneginf(before) | (threshold < after - before)  # a start outside the support moves anywhere
        weights = torch.where(accepted[..., None], new_weights, weights)
        means = torch.where(accepted[..., None, None], new_means, means)
        posterior = posterior_of_labels(points, draw_memberships(points, weights, means, generator))
    return posterior


def draw_memberships(points: Tensor, weights: Tensor, means: Tensor, generator: np.random.Generator) -> Tensor:
    """Labels of all points (B, N, d) for parameters (B, J, K) and (B, J, K, d), as zeros and ones (B, J, K, N)."""
    joint = log_joint_of_draws(points, weights, means)
    cumulative = (joint - joint.amax(2, keepdim=True)).exp().cumsum(2)
    shape = (*weights.shape[:2], points.shape[1])
    threshold = torch.from_numpy(generator.random(shape))[:, :, None] * cumulative[:, :, -1:]
    labels = (threshold > cumulative[:, :, :-1]).sum(2, keepdim=True)
    return torch.zeros_like(joint).scatter_(2, labels, 1.0)


def log_joint_of_draws(points: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """log(w_k) + log N(x_n; mean_k, I) for draws (B, M, K) and (B, M, K, d): a Tensor (B, M, K, N)."""
    joint = log_joint(Mixture(weights.flatten(1), means.flatten(1, 2)), points)
    return joint.unflatten(1, weights.shape[1:])


def log_likelihood(points: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """Log-likelihood of all points together for draws (B, M, K) and (B, M, K, d): a Tensor (B, M)."""
    parts = []
    for block in zip(weights.split(DRAWS_AT_ONCE, dim=1), means.split(DRAWS_AT_ONCE, dim=1), strict=True):
        joint = log_joint_of_draws(points, *block)
        peak = joint.amax(2, keepdim=True)
        parts.append(joint.sub_(peak).exp_().sum(2).log_().add_(peak[:, :, 0]).sum(-1))
    return torch.cat(parts, dim=1)


def log_proposal(posterior: LabelPosterior, weights: Tensor, means: Tensor) -> Tensor:
    """Log of the sum over labellings and relabellings of the posteriors' densities, but for a constant, (B, M).

    The sum over the relabellings of a product over components is a permanent.
    """
    squares = means.square().sum(-1, keepdim=True)
    features = torch.cat([means, squares, weights.log()[..., None], torch.ones_like(squares)], dim=-1)
    features = features.transpose(1, 2).flatten(1, 2).mT
    densities = []
    for coefficients in posterior.coefficients().split(CHAINS_AT_ONCE, dim=1):
        chains, count = coefficients.shape[1:3]
        terms = coefficients.transpose(1, 2).flatten(1, 2) @ features
        terms = terms.unflatten(2, (count, -1)).unflatten(1, (count, chains))
        densities.append(log_permanent(terms.transpose(2, 3), 1))
    return torch.cat(densities, dim=1).logsumexp(1)


def log_permanent(logarithms: Tensor, axis: int = 0) -> Tensor:
    """log of sum over permutations s of prod_i a_(i, s(i)), from the logarithms of a.

    Parameters
    ----------
    logarithms : Tensor with the K rows and K columns along the axes ``axis`` and ``axis + 1``.

    Returns
    -------
    Tensor without these two axes. Built up row by row over the sets of columns used: O(2^K K) instead of O(K! K).
    """
    largest = logarithms.amax(axis + 1, keepdim=True)
    rows = [row.unbind(axis) for row in (logarithms - largest).exp_().unbind(axis)]
    totals: dict[int, Tensor] = {1 << column: entry for column, entry in enumerate(rows[0])}
    for row in rows[1:]:
        previous, totals = totals, {}
        for used, total in previous.items():
            for column, entry in enumerate(row):
                if not used >> column & 1:
                    key = used | 1 << column
                    totals[key] = torch.addcmul(totals[key], total, entry) if key in totals else total * entry
    (permanent,) = totals.values()
    return permanent.log() + largest.sum((axis, axis + 1))


def _chain_starts(points: Tensor, truth: Mixture, seed: int, index: Tensor, chains: int, elsewhere: int) -> Mixture:
    """Mixture of B * J rows: the truth ``chains - elsewhere`` times, then k-means++ centres."""
    found = kmeans_plus_plus_start(points, truth.n_components, seed, index, elsewhere)
    parts = []
    for true, others in ((truth.weights, found.weights), (truth.means, found.means)):
        repeated = true[:, None].expand(-1, chains - elsewhere, *true.shape[1:])
        parts.append(torch.cat([repeated, others.unflatten(0, (len(points), elsewhere))], dim=1).flatten(0, 1))
    return Mixture(*parts)
