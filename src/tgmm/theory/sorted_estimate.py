"""The minimiser of the sorted, unmatched loss: the posterior mean of the parameters in the order of their weights.

Squared errors and the cross-entropy of weights are both minimised by the posterior mean, position by position. So
where counts leave open which of two components is the lighter, both positions get a mixture of the two means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgmm.mixture import Mixture
from tgmm.theory.label_posterior import log_dirichlet, log_weight_prior, posterior_of_labels

OUTSIDE = -1e6  # log weight of draws outside the prior's support: they count only if no draw lies inside


@dataclass(frozen=True)
class SortedEstimate:
    """Posterior means in ascending order of the weights, and the effective sample size behind each, (B,).

    The effective sample size is 1 / sum_m v_m^2 of the normalised importance weights v (Kong 1992); it is zero where
    every draw lies outside the prior's support.
    """

    mixture: Mixture
    effective_samples: Tensor


def sorted_mean(weights: Tensor, means: Tensor, log_importance: Tensor) -> SortedEstimate:
    """Self-normalised average of draws, each with its components in ascending order of the weights.

    Parameters
    ----------
    weights, means : Tensors (B, M, K) and (B, M, K, d).
    log_importance : Tensor (B, M), log of target over proposal density but for a constant; -inf outside the support.
    """
    inside = ~torch.isneginf(log_importance)
    importance = log_importance.masked_fill(~inside, OUTSIDE).softmax(1)
    ordered, order = weights.sort(-1)
    means = means.gather(2, order[..., None].expand_as(means))
    average = Mixture((importance[..., None] * ordered).sum(1), (importance[..., None, None] * means).sum(1))
    return SortedEstimate(average, inside.any(1) / importance.square().sum(1))


def known_labels_estimate(
    points: Tensor, labels: Tensor, n_components: int, generator: np.random.Generator, *, draws: int = 2048
) -> SortedEstimate:
    """The minimiser for someone who sees which points belong together, but not which component is which.

    Exact but for the Monte Carlo average over the weights, and for the limit on the means' cosines, which is left out.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    labels : Tensor (B, N) of int64 in [0, K); their names carry no information.
    n_components : K.
    draws : weights drawn for every task.
    """
    memberships = torch.nn.functional.one_hot(labels, n_components).to(points.dtype).mT
    posterior = posterior_of_labels(points, memberships[:, None])
    weights = posterior.draw_weights(generator, draws)[:, 0]
    means = posterior.expected_means().expand(-1, draws, -1, -1)
    return sorted_mean(weights, means, log_weight_prior(weights) - log_dirichlet(weights))
