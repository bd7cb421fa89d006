"""The posterior of a mixture's parameters given the points' labels, under the prior that the tasks are drawn from.

Given labels, weights and means are independent. A mean's posterior is the normal distribution around its cluster's
mean with precision n, cut off at the edges of [-5, 5]^d. The weights' posterior is the prior density times
prod_k w_k^(n_k); Dirichlet(n + 8) comes so close to it that the ratio of the two serves as an importance weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgmm.tasks.sampler import COSINE_LIMIT, MEAN_RANGE, WEIGHT_RANGE, largest_cosine

PSEUDO_COUNT = 8.0  # Dirichlet(8, ..., 8) has about the variances of the prior's weights
EMPTY_PRECISION = 1e-3  # of a component without points: as good as uniform on [-5, 5]


@dataclass(frozen=True)
class LabelPosterior:
    """Posteriors for J labellings of each of B tasks.

    Attributes
    ----------
    counts : Tensor (B, J, K), points of every component.
    centres : Tensor (B, J, K, d), their means; zero for components without points.
    """

    counts: Tensor
    centres: Tensor

    @property
    def precisions(self) -> Tensor:
        """Of the means, before they are cut off at the edges, (B, J, K)."""
        return self.counts.clamp_min(EMPTY_PRECISION)

    def expected_means(self) -> Tensor:
        """Posterior means of the components' means, (B, J, K, d)."""
        lower, upper = self._edges()
        densities = torch.exp(-0.5 * lower.square()) - torch.exp(-0.5 * upper.square())
        shift = densities / (math.sqrt(2.0 * math.pi) * self._inside() * self._roots())
        return self._mirror(self.centres.abs() + shift)

    def draw_means(self, generator: np.random.Generator, draws: int) -> Tensor:
        """Independent means, (B, J, M, K, d)."""
        lower, inside, roots = (part[:, :, None] for part in (self._edges()[0], self._inside(), self._roots()))
        counts, dimension = self.counts.shape, self.centres.shape[-1]
        uniform = torch.from_numpy(generator.random((*counts[:2], draws, counts[2], dimension)))
        quantiles = torch.special.ndtri(_normal_cdf(lower) + inside * uniform)
        drawn = self.centres[:, :, None].abs() + quantiles / roots
        return self._mirror(drawn.clamp(-MEAN_RANGE, MEAN_RANGE))

    def draw_weights(self, generator: np.random.Generator, draws: int) -> Tensor:
        """Independent weights from Dirichlet(n + 8), (B, J, M, K)."""
        shape = (self.counts + PSEUDO_COUNT)[:, :, None].expand(-1, -1, draws, -1)
        gamma = torch.from_numpy(generator.standard_gamma(shape.numpy()))
        return gamma / gamma.sum(-1, keepdim=True)

    def coefficients(self) -> Tensor:
        """Coefficients (B, J, K, d + 3) of (mean, |mean|^2, log weight, 1) in a component's log density.

        The sum over components is the log density of weights and means, but for terms common to all labellings.
        """
        precisions, dimension = self.precisions, self.centres.shape[-1]
        constant = 0.5 * dimension * precisions.log() - 0.5 * precisions * self.centres.square().sum(-1)
        constant = constant - self._inside().log().sum(-1) - torch.lgamma(self.counts + PSEUDO_COUNT)
        others = torch.stack([-0.5 * precisions, self.counts + PSEUDO_COUNT - 1.0, constant], dim=-1)
        return torch.cat([precisions[..., None] * self.centres, others], dim=-1)

    # The edges are those of the mirrored problem with centres >= 0, which keeps small tails exact.

    def _roots(self) -> Tensor:
        return self.precisions.sqrt()[..., None]

    def _edges(self) -> tuple[Tensor, Tensor]:
        """The edges of the box in standard deviations from the centre, each (B, J, K, d)."""
        centres = self.centres.abs()
        return (-MEAN_RANGE - centres) * self._roots(), (MEAN_RANGE - centres) * self._roots()

    def _inside(self) -> Tensor:
        """The normal distribution's probability of the box, for every coordinate."""
        lower, upper = self._edges()
        return _normal_cdf(upper) - _normal_cdf(lower)

    def _mirror(self, values: Tensor) -> Tensor:
        """Values (B, J, ..., K, d) of the mirrored problem, turned back."""
        centres = self.centres if values.ndim == self.centres.ndim else self.centres[:, :, None]
        return torch.where(centres < 0, -values, values)


def posterior_of_labels(points: Tensor, memberships: Tensor) -> LabelPosterior:
    """The posteriors for labellings of the points.

    Parameters
    ----------
    points : Tensor (B, N, d).
    memberships : Tensor (B, J, K, N) of zeros and ones, one for a point's component.
    """
    counts = memberships.sum(-1)
    sums = (memberships.flatten(1, 2) @ points).unflatten(1, counts.shape[1:])
    return LabelPosterior(counts, sums / counts.clamp_min(1.0)[..., None])


def _normal_cdf(argument: Tensor) -> Tensor:
    """Exact in the lower tail, where torch.special.ndtr is 1 + erf and loses its digits."""
    return 0.5 * torch.erfc(-math.sqrt(0.5) * argument)


def log_weight_prior(weights: Tensor) -> Tensor:
    """Log density, in w_1 ... w_(K-1), of independent U[0.2, 0.8] divided by their sum; (..., K) -> (...).

    The integral over the sum r of r^(K-1) / 0.6^K, where every r w_k must lie between 0.2 and 0.8; -inf if none does.
    """
    low, high = WEIGHT_RANGE
    count = weights.shape[-1]
    largest_sum, smallest_sum = high / weights.amax(-1), low / weights.amin(-1)
    integral = (largest_sum**count - smallest_sum**count) / count
    return integral.clamp_min(0.0).log() - count * math.log(high - low)


def log_prior(weights: Tensor, means: Tensor) -> Tensor:
    """Log prior density of weights (..., K) and means (..., K, d) in the box, but for a constant; (...).

    It is -inf where two means have a cosine similarity of 0.8 or more.
    """
    return log_weight_prior(weights).masked_fill(largest_cosine(means) >= COSINE_LIMIT, -torch.inf)


def log_dirichlet(weights: Tensor) -> Tensor:
    """Log density of Dirichlet(8, ..., 8), the prior that weights are drawn under, but for a constant; (...)."""
    return (PSEUDO_COUNT - 1.0) * weights.log().sum(-1)
