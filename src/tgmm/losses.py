"""Training losses: squared error of the means (and scales) plus cross-entropy of the weights.

``matched`` compares each component with the true one that the best permutation gives it; ``sorted`` compares in the
order of the true weights, as the authors' code does. The sorted loss must guess from counts which component is the
k-th lightest, so its minimiser stays far from the truth (a floor that more training does not remove).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.errors import unknown_name
from tgmm.loss_kinds import LOSSES
from tgmm.metrics import best_permutation, pairwise_errors
from tgmm.mixture import Mixture
from tgmm.models.estimate import LogEstimate, component_mask

EARLY_WEIGHT = 0.3
IMPOSSIBLE = 1e9


@dataclass(frozen=True)
class LossTerms:
    """The terms of one estimate's loss, each averaged over the batch (scalars with gradients)."""

    means: Tensor
    weights: Tensor
    scales: Tensor

    @property
    def total(self) -> Tensor:
        return self.means + self.weights + self.scales


def component_order(estimate: LogEstimate, truth: Mixture, unused: Tensor) -> Tensor:
    """The matching permutation of padded estimates, int64 (B, K): padding is matched with padding only."""
    cost = pairwise_errors(estimate.mixture(), truth).detach()
    cost = cost.masked_fill(unused[:, :, None] & unused[:, None, :], 0.0)
    return best_permutation(cost.masked_fill(unused[:, :, None] ^ unused[:, None, :], IMPOSSIBLE))


def loss_terms(estimate: LogEstimate, truth: Mixture, n_components: Tensor, kind: str) -> LossTerms:
    """The loss of one estimate.

    Parameters
    ----------
    estimate : K padded to the largest in the batch or beyond.
    truth : padded to the same K with components of weight zero.
    n_components : Tensor (B,) of int64.
    kind : "matched" or "sorted".

    Returns
    -------
    LossTerms
        mean over tasks of (1/K) sum_k |mean_k - truth_k|^2 / d, of -sum_k truth_k log weight_k, and of the standard
        deviations' squared error (zero for isotropic tasks).
    """
    if kind not in LOSSES:
        raise unknown_name("loss", kind, LOSSES)
    unused = component_mask(n_components, truth.n_components)
    if kind == "matched":
        estimate = permute(estimate, component_order(estimate, truth, unused))
    cross_entropy = -(truth.weights * estimate.log_weights.masked_fill(unused, 0.0)).sum(1)
    scales = torch.zeros((), device=truth.means.device)
    if truth.standard_deviations is not None and estimate.standard_deviations is not None:
        scales = _squared_error(estimate.standard_deviations, truth.standard_deviations, unused, n_components)
    return LossTerms(_squared_error(estimate.means, truth.means, unused, n_components), cross_entropy.mean(), scales)


def _squared_error(estimate: Tensor, truth: Tensor, unused: Tensor, n_components: Tensor) -> Tensor:
    squared = (estimate - truth).square().mean(-1).masked_fill(unused, 0.0)
    return (squared.sum(1) / n_components).mean()


def permute(estimate: LogEstimate, order: Tensor) -> LogEstimate:
    """The estimate whose k-th component is this one's ``order[:, k]``-th."""
    wide = order[:, :, None].expand_as(estimate.means)
    scales = estimate.standard_deviations
    return LogEstimate(
        estimate.log_weights.gather(1, order),
        estimate.means.gather(1, wide),
        None if scales is None else scales.gather(1, wide),
    )


def training_loss(estimates: list[LogEstimate], truth: Mixture, n_components: Tensor, kind: str):
    """Loss of a network's estimates: the last block's counts one, the earlier ones 0.3 each.

    Returns
    -------
    loss : scalar Tensor with gradients.
    last : LossTerms of the last estimate.
    """
    terms = [loss_terms(estimate, truth, n_components, kind) for estimate in estimates]
    early = sum((term.total for term in terms[:-1]), start=torch.zeros((), device=truth.means.device))
    return terms[-1].total + EARLY_WEIGHT * early, terms[-1]
