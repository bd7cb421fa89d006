"""Mixtures of data with missing values: exact EM, grouped by which columns a row has.

Under the observed columns alone a component is a Gaussian again (its marginal), and given them the missing ones are
Gaussian too; a step sums their conditional means and covariances (Ghahramani & Jordan 1994, NIPS 6, 120-127).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tgmm.estimator.em import TINY, Mixtures, Moments, cholesky


class Incomplete:
    """One data set with NaN where a value is missing; as :class:`tgmm.estimator.em.Direct`.

    Parameters
    ----------
    points : Tensor (1, N, d).
    weights : Tensor (1, N), of sum one.
    shape : of the covariances.
    """

    def __init__(self, points: Tensor, weights: Tensor, shape: str):
        self.points, self.weights, self.shape = points, weights, shape
        self.patterns = list(_patterns(points[0]))

    def expect(self, mixtures: Mixtures) -> tuple[Tensor, Moments]:
        """Mean log-likelihood (1,) of what is observed, and the expected moments."""
        covariances, means = _full(mixtures), mixtures.means[0]
        K, d = means.shape
        log_joint = observed_log_joint(self.points[0], mixtures, self.patterns)
        total = log_joint.logsumexp(1)
        weighted = (log_joint - total[:, None]).exp() * self.weights[0, :, None]  # (N, K)
        first, second = means.new_zeros(K, d), means.new_zeros(K, d, d)
        for rows, seen in self.patterns:
            expected, spread = _conditional(self.points[0, rows], seen, means, covariances)
            deviation = expected - means[:, None]  # (K, n, d)
            scaled = deviation * weighted[rows].mT[..., None]
            first += scaled.sum(1)
            second += scaled.mT @ deviation + weighted[rows].sum(0)[:, None, None] * spread
        return (total * self.weights[0]).sum()[None], self._moments(weighted.sum(0), first, second, means)

    def _moments(self, weight: Tensor, first: Tensor, second: Tensor, about: Tensor) -> Moments:
        divisor = weight.clamp_min(TINY / self.points.shape[1])[:, None]
        step = first / divisor
        scatter = second / divisor[..., None] - step[..., None] * step[:, None]
        if self.shape in ("diag", "spherical"):
            scatter = scatter.diagonal(dim1=-2, dim2=-1)
            scatter = scatter.mean(-1, keepdim=True).expand_as(scatter) if self.shape == "spherical" else scatter
        return Moments(weight[None], (about + step)[None], scatter[None])

    def impute(self, mixtures: Mixtures) -> Tensor:
        """The points (1, N, d) with missing values at their expectation."""
        responsibilities = observed_log_joint(self.points[0], mixtures, self.patterns).softmax(1)
        filled = self.points[0].clone()
        for rows, seen in self.patterns:
            expected, _ = _conditional(filled[rows], seen, mixtures.means[0], _full(mixtures))
            filled[rows] = (expected * responsibilities[rows].mT[..., None]).sum(0)
        return filled[None]


def observed_log_joint(
    points: Tensor, mixtures: Mixtures, patterns: list[tuple[Tensor, Tensor]] | None = None
) -> Tensor:
    """Log weight plus log marginal density of what each row of points (N, d) has, (N, K)."""
    means, covariances = mixtures.means[0], _full(mixtures)
    log_joint = mixtures.log_weights[0].expand(len(points), -1).clone()
    for rows, seen in _patterns(points) if patterns is None else patterns:
        if not len(seen):
            continue
        factor = cholesky(covariances[:, seen[:, None], seen])
        deviation = (points[rows][:, seen] - means[:, None, seen]).mT  # (K, q, n)
        whitened = torch.linalg.solve_triangular(factor, deviation, upper=False)
        log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = log_determinant + 0.5 * len(seen) * math.log(2 * math.pi)
        log_joint[rows] -= (constant[:, None] + 0.5 * whitened.square().sum(1)).mT
    return log_joint


def _patterns(points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of each pattern, and the columns that it has."""
    patterns, which = torch.unique(~points.isnan(), dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield (which == number).nonzero()[:, 0], pattern.nonzero()[:, 0]


def _full(mixtures: Mixtures) -> Tensor:
    covariances = mixtures.each_covariance()[0]
    return covariances if covariances.ndim == 3 else torch.diag_embed(covariances)


def _conditional(points: Tensor, seen: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Expectations (K, n, d) of rows (n, d) of one pattern and their covariances (K, d, d), zero where observed."""
    K, d = means.shape
    spread = covariances.new_zeros(K, d, d)
    if len(seen) == d:
        return points.expand(K, -1, -1), spread
    hidden = torch.ones(d, dtype=torch.bool, device=points.device)
    hidden[seen] = False
    hidden = hidden.nonzero()[:, 0]
    across = covariances[:, hidden[:, None], seen]
    slopes = torch.cholesky_solve(across.mT, cholesky(covariances[:, seen[:, None], seen])).mT if len(seen) else across
    expected = means[:, None].repeat(1, len(points), 1)
    expected[:, :, seen] = points[:, seen]
    expected[:, :, hidden] += (points[:, seen] - means[:, None, seen]) @ slopes.mT
    spread[:, hidden[:, None], hidden] = covariances[:, hidden[:, None], hidden] - slopes @ across.mT
    return expected, spread
