"""Training losses of a network's estimates.

``matched`` is the squared error of the means (and scales) plus the cross-entropy of the weights, each component
compared with the true one that the best permutation gives it. ``sorted`` compares in the order of the true weights, as
the authors' code does: it must guess from counts which component is the k-th lightest, so its minimiser stays far from
the truth (a floor that more training does not remove). ``likelihood`` is the negative log-likelihood of the points,
which needs no truth, ``likelihood-heldout`` that of fresh points of the same mixture, and ``both`` is the sum of
``matched`` and ``likelihood``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.errors import UserError, refuse_unknown
from tgmm.metrics import best_permutation, pairwise_errors
from tgmm.mixture import LogEstimate, Mixture, component_log_densities, component_mask, concatenate
from tgmm.models.settings import LOSSES
from tgmm.tasks.stream import TaskBatch

EARLY_WEIGHT = 0.3
IMPOSSIBLE = 1e9
FITTING = ("likelihood", "likelihood-heldout", "both")  # the losses that look at points
HELDOUT = "likelihood-heldout"


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


def training_loss(
    estimates: list[LogEstimate], batch: TaskBatch, kind: str, cross_entropy_weight: float = 1.0
) -> tuple[Tensor, LossTerms]:
    """Loss of a network's estimates: the last block's counts one, the earlier ones 0.3 each.

    Parameters
    ----------
    estimates : one for every block; estimates and truth are padded to the same K.
    kind : one of ``tgmm.models.settings.LOSSES``.
    cross_entropy_weight : factor of the weights' cross-entropy.

    Returns
    -------
    The loss, a scalar Tensor with gradients, and the LossTerms of the last estimate.
    """
    tasks = len(batch.points)
    # Estimates in bfloat16 are too coarse to compare with, and do not multiply with points in float32.
    estimates = [estimate.map(lambda tensor: tensor.to(batch.points.dtype)) for estimate in estimates]
    shares = [EARLY_WEIGHT] * (len(estimates) - 1) + [1.0]
    copies = len(estimates)
    points = batch.fresh if kind == HELDOUT else batch.points
    if kind in FITTING and points is None:
        raise UserError(f"the loss '{kind}' needs fresh points of every task")
    terms = loss_terms(
        concatenate(estimates), batch.mixture.map(lambda tensor: _repeated(tensor, copies)),
        _repeated(batch.n_components, copies), kind, _repeated(points, copies) if kind in FITTING else None,
        cross_entropy_weight,
    )  # fmt: skip
    means = terms.total.unflatten(0, (-1, tasks)).mean(1)
    return sum(share * mean for share, mean in zip(shares, means, strict=True)), terms.rows(slice(-tasks, None))


def loss_terms(
    estimate: LogEstimate, truth: Mixture, n_components: Tensor, kind: str, points: Tensor | None = None,
    cross_entropy_weight: float = 1.0,
) -> LossTerms:  # fmt: skip
    """The loss of one estimate of every task.

    An estimate may have been asked for another K than the truth has: where it has more, components beyond the truth's
    should weigh nothing and lie anywhere; where it has fewer, the true ones that are left over do not count.

    Parameters
    ----------
    estimate : K padded to that of the truth.
    truth : padded with components of weight zero.
    n_components : Tensor (B,) of int64, the estimate's.
    kind : one of ``tgmm.models.settings.LOSSES``.
    points : Tensor (B, N, d), for the kinds that fit them.
    cross_entropy_weight : factor of the weights' cross-entropy.

    Returns
    -------
    LossTerms : (1/K) sum_k |mean_k - truth_k|^2 / d, -sum_k truth_k log weight_k, the standard deviations' squared
        error as the means' (zero for isotropic tasks), and -(1/N) sum_n log p(x_n) / d.
    """
    refuse_unknown("loss", kind, LOSSES)
    unused, absent = truth.weights <= 0, component_mask(n_components, truth.n_components)
    zero = torch.zeros(len(estimate.means), dtype=estimate.means.dtype, device=estimate.means.device)
    likelihood = _negative_log_likelihood(estimate, points) if kind in FITTING else zero
    if kind in ("likelihood", HELDOUT):
        return LossTerms(zero, zero, zero, likelihood)
    if kind != "sorted":
        order = component_order(estimate, truth, absent, unused)
        estimate, absent = estimate.permute_components(order), absent.gather(1, order)
    left_out = unused | absent
    compared = (~left_out).sum(1)
    cross_entropy = -(truth.weights * estimate.log_weights.masked_fill(left_out, 0.0)).sum(1)
    scales = zero
    if truth.standard_deviations is not None and estimate.standard_deviations is not None:
        scales = _squared_error(estimate.standard_deviations, truth.standard_deviations, left_out, compared)
    means = _squared_error(estimate.means, truth.means, left_out, compared)
    return LossTerms(means, cross_entropy_weight * cross_entropy, scales, likelihood)


def component_order(estimate: LogEstimate, truth: Mixture, absent: Tensor, unused: Tensor) -> Tensor:
    """The matching permutation of padded estimates, int64 (B, K).

    ``absent`` (B, K) marks the estimate's padding and ``unused`` the truth's. Padding is matched with padding; where
    there is more of one, what is left of it may be matched with any component, at no cost.
    """
    cost = pairwise_errors(estimate.mixture(), truth).detach()
    few, many = absent[:, :, None], unused[:, None, :]  # padding of the estimate, padding of the truth
    surplus = (unused.sum(1) - absent.sum(1))[:, None, None]  # of the estimate's components
    forbidden = (few & ~many & (surplus >= 0)) | (~few & many & (surplus <= 0))
    return best_permutation(cost.masked_fill(few | many, 0.0).masked_fill(forbidden, IMPOSSIBLE))


def _repeated(tensor: Tensor, times: int) -> Tensor:
    return tensor.repeat(times, *[1] * (tensor.dim() - 1))


def _log_joint(estimate: LogEstimate, points: Tensor) -> Tensor:
    """log(weight_k) + log N(x_n; ...), (B, K, N), finite at padding too, where a gradient would otherwise be NaN."""
    return estimate.log_weights[:, :, None] + component_log_densities(estimate.mixture(), points)


def _negative_log_likelihood(estimate: LogEstimate, points: Tensor) -> Tensor:
    """Of an average point and divided by d, (B,)."""
    return -_log_joint(estimate, points).logsumexp(1).mean(1) / points.shape[-1]


def _squared_error(estimate: Tensor, truth: Tensor, left_out: Tensor, compared: Tensor) -> Tensor:
    squared = (estimate - truth).square().mean(-1).masked_fill(left_out, 0.0)
    return squared.sum(1) / compared
