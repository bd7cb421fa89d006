"""Training losses of a network's estimates.

``matched`` is the squared error of the means (and scales) plus the cross-entropy of the weights, each component
compared with the true one that the best permutation gives it. ``sorted`` compares in the order of the true weights, as
the authors' code does: it must guess from counts which component is the k-th lightest, so its minimiser stays far from
the truth (a floor that more training does not remove). ``likelihood`` is the negative log-likelihood of the points,
which needs no truth, and ``both`` the sum of the first and the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.errors import refuse_unknown
from tgmm.metrics import best_permutation, pairwise_errors
from tgmm.mixture import LogEstimate, Mixture, component_log_densities, component_mask, concatenate
from tgmm.models.settings import LOSSES
from tgmm.tasks.stream import TaskBatch

EARLY_WEIGHT = 0.3
IMPOSSIBLE = 1e9
FITTING = ("likelihood", "both")  # the losses that look at the points


@dataclass(frozen=True)
class LossTerms:
    """The terms of an estimate's loss, each a Tensor (B,) with gradients; a term that a loss lacks is zero."""

    means: Tensor
    weights: Tensor
    scales: Tensor
    likelihood: Tensor

    @property
    def total(self) -> Tensor:
        return self.means + self.weights + self.scales + self.likelihood

    def rows(self, part: slice) -> LossTerms:
        """The terms of some of the tasks."""
        return LossTerms(self.means[part], self.weights[part], self.scales[part], self.likelihood[part])


def training_loss(estimates: list[LogEstimate], batch: TaskBatch, kind: str) -> tuple[Tensor, LossTerms]:
    """Loss of a network's estimates: the last block's counts one, the earlier ones 0.3 each.

    Parameters
    ----------
    estimates : one for every block; estimates and truth are padded to the same K.
    kind : one of ``tgmm.models.settings.LOSSES``.

    Returns
    -------
    The loss, a scalar Tensor with gradients, and the LossTerms of the last estimate.
    """
    tasks = len(batch.points)
    # Estimates in bfloat16 are too coarse to compare with, and do not multiply with points in float32.
    estimates = [estimate.map(lambda tensor: tensor.to(batch.points.dtype)) for estimate in estimates]
    shares = [EARLY_WEIGHT] * (len(estimates) - 1) + [1.0]
    copies = len(estimates)
    terms = loss_terms(
        concatenate(estimates), batch.mixture.map(lambda tensor: _repeated(tensor, copies)),
        _repeated(batch.n_components, copies), kind, _repeated(batch.points, copies) if kind in FITTING else None,
    )  # fmt: skip
    means = terms.total.unflatten(0, (-1, tasks)).mean(1)
    return sum(share * mean for share, mean in zip(shares, means, strict=True)), terms.rows(slice(-tasks, None))


def loss_terms(
    estimate: LogEstimate, truth: Mixture, n_components: Tensor, kind: str, points: Tensor | None = None
) -> LossTerms:
    """The loss of one estimate of every task.

    Parameters
    ----------
    estimate : K padded to that of the truth.
    truth : padded with components of weight zero.
    n_components : Tensor (B,) of int64.
    kind : one of ``tgmm.models.settings.LOSSES``.
    points : Tensor (B, N, d), for the kinds that fit them.

    Returns
    -------
    LossTerms : (1/K) sum_k |mean_k - truth_k|^2 / d, -sum_k truth_k log weight_k, the standard deviations' squared
        error as the means' (zero for isotropic tasks), and -(1/N) sum_n log p(x_n) / d.
    """
    refuse_unknown("loss", kind, LOSSES)
    unused = component_mask(n_components, truth.n_components)
    zero = torch.zeros(len(estimate.means), dtype=estimate.means.dtype, device=estimate.means.device)
    likelihood = _negative_log_likelihood(estimate, points) if kind in FITTING else zero
    if kind == "likelihood":
        return LossTerms(zero, zero, zero, likelihood)
    if kind != "sorted":
        estimate = estimate.permute_components(component_order(estimate, truth, unused))
    cross_entropy = -(truth.weights * estimate.log_weights.masked_fill(unused, 0.0)).sum(1)
    scales = zero
    if truth.standard_deviations is not None and estimate.standard_deviations is not None:
        scales = _squared_error(estimate.standard_deviations, truth.standard_deviations, unused, n_components)
    means = _squared_error(estimate.means, truth.means, unused, n_components)
    return LossTerms(means, cross_entropy, scales, likelihood)


def component_order(estimate: LogEstimate, truth: Mixture, unused: Tensor) -> Tensor:
    """The matching permutation of padded estimates, int64 (B, K): padding is matched with padding only."""
    cost = pairwise_errors(estimate.mixture(), truth).detach()
    cost = cost.masked_fill(unused[:, :, None] & unused[:, None, :], 0.0)
    return best_permutation(cost.masked_fill(unused[:, :, None] ^ unused[:, None, :], IMPOSSIBLE))


def _repeated(tensor: Tensor, times: int) -> Tensor:
    return tensor.repeat(times, *[1] * (tensor.dim() - 1))


def _log_joint(estimate: LogEstimate, points: Tensor) -> Tensor:
    """log(weight_k) + log N(x_n; ...), (B, K, N), finite at padding too, where a gradient would otherwise be NaN."""
    return estimate.log_weights[:, :, None] + component_log_densities(estimate.mixture(), points)


def _negative_log_likelihood(estimate: LogEstimate, points: Tensor) -> Tensor:
    """Of an average point and divided by d, (B,)."""
    return -_log_joint(estimate, points).logsumexp(1).mean(1) / points.shape[-1]


def _squared_error(estimate: Tensor, truth: Tensor, unused: Tensor, n_components: Tensor) -> Tensor:
    squared = (estimate - truth).square().mean(-1).masked_fill(unused, 0.0)
    return squared.sum(1) / n_components
