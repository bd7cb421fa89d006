"""Batched Gaussian mixtures with diagonal covariances: the parameters and their densities.

Shapes throughout the package: ``B`` tasks, ``K`` components, ``N`` points, ``d`` dimensions. Arrays over
components and points are laid out (B, K, N), which keeps the points contiguous for every reduction over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Mixture:
    """Parameters of ``B`` mixtures, p(x) = sum_k weights_k N(x; means_k, diag(standard_deviations_k^2)).

    Attributes
    ----------
    weights : Tensor (B, K), non-negative, rows sum to one. A weight of zero marks an unused component.
    means : Tensor (B, K, d).
    standard_deviations : Tensor (B, K, d), or None for unit covariances (the isotropic tasks of the paper).
    """

    weights: Tensor
    means: Tensor
    standard_deviations: Tensor | None = None

    @property
    def n_tasks(self) -> int:
        return self.means.shape[0]

    @property
    def n_components(self) -> int:
        return self.means.shape[1]

    @property
    def dimension(self) -> int:
        return self.means.shape[2]

    def map(self, function) -> Mixture:
        """The mixture with ``function`` applied to every tensor."""
        scales = self.standard_deviations
        return Mixture(function(self.weights), function(self.means), None if scales is None else function(scales))

    def to(self, *args, **kwargs) -> Mixture:
        """As ``Tensor.to``, for every tensor."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def __getitem__(self, tasks) -> Mixture:
        """The tasks selected by an index, slice or mask along the batch axis."""
        return self.map(lambda tensor: tensor[tasks])

    def permute_components(self, order: Tensor) -> Mixture:
        """The mixture whose k-th component is this one's ``order[:, k]``-th.

        Parameters
        ----------
        order : Tensor (B, K) of int64, a permutation in every row.
        """
        wide = order[:, :, None].expand(-1, -1, self.dimension)
        scales = self.standard_deviations
        return replace(
            self,
            weights=self.weights.gather(1, order),
            means=self.means.gather(1, wide),
            standard_deviations=None if scales is None else scales.gather(1, wide),
        )


def concatenate(mixtures: list[Mixture]) -> Mixture:
    """The tasks of several mixtures of equal K and d, one after the other."""
    scales = [mixture.standard_deviations for mixture in mixtures]
    return Mixture(
        torch.cat([mixture.weights for mixture in mixtures]),
        torch.cat([mixture.means for mixture in mixtures]),
        None if scales[0] is None else torch.cat(scales),
    )


def rescaled(mixture: Mixture, factor: Tensor | float, offset: Tensor | float) -> Mixture:
    """The mixture of factor x + offset where x follows ``mixture``.

    Parameters
    ----------
    factor : positive, a number or a Tensor (B,); unit covariances become explicit scales unless it is the number one.
    offset : a number or a Tensor (B, d).
    """
    shift = offset[:, None] if isinstance(offset, Tensor) else offset
    if isinstance(factor, float) and factor == 1.0:
        return replace(mixture, means=mixture.means + shift)
    wide = torch.as_tensor(factor, dtype=mixture.means.dtype, device=mixture.means.device).reshape(-1, 1, 1)
    scales = torch.ones_like(mixture.means) if mixture.standard_deviations is None else mixture.standard_deviations
    return Mixture(mixture.weights, wide * mixture.means + shift, wide * scales)


def component_log_densities(mixture: Mixture, points: Tensor) -> Tensor:
    """log N(x_n; mean_k, covariance_k) for every component and point, through matrix products only.

    Parameters
    ----------
    points : Tensor (B, N, d).

    Returns
    -------
    Tensor (B, K, N).
    """
    if mixture.standard_deviations is None:
        squared_norms = points.square().sum(-1)[:, None, :]
        mean_norms = mixture.means.square().sum(-1)[:, :, None]
        mahalanobis = squared_norms + mean_norms - 2.0 * mixture.means @ points.mT
        log_determinant = 0.0
    else:
        precisions = mixture.standard_deviations.pow(-2)
        scaled_means = mixture.means * precisions
        mahalanobis = (
            precisions @ points.square().mT
            - 2.0 * scaled_means @ points.mT
            + (scaled_means * mixture.means).sum(-1)[:, :, None]
        )
        log_determinant = 2.0 * mixture.standard_deviations.log().sum(-1)[:, :, None]
    return -0.5 * (mahalanobis + log_determinant + mixture.dimension * LOG_2PI)


def log_joint(mixture: Mixture, points: Tensor) -> Tensor:
    """log(weight_k) + log N(x_n; ...), a Tensor (B, K, N); -inf for components of weight zero."""
    return mixture.weights.log()[:, :, None] + component_log_densities(mixture, points)


def log_density(mixture: Mixture, points: Tensor) -> Tensor:
    """log p(x_n) of every point, a Tensor (B, N): the log-sum-exp runs over the *components*."""
    return log_joint(mixture, points).logsumexp(1)


def responsibilities(mixture: Mixture, points: Tensor) -> Tensor:
    """Posterior probabilities of the components, a Tensor (B, K, N) whose columns sum to one."""
    return log_joint(mixture, points).softmax(1)


def map_labels(mixture: Mixture, points: Tensor) -> Tensor:
    """The most probable component of every point, an int64 Tensor (B, N)."""
    return log_joint(mixture, points).argmax(1)
