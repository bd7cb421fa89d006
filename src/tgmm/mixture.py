"""Batched Gaussian mixtures with diagonal covariances: parameters, densities, and estimates with log-weights.

Shapes throughout the package: ``B`` tasks, ``K`` components, ``N`` points, ``d`` dimensions. Arrays over
components and points are laid out (B, K, N), which keeps the points contiguous for every reduction over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)
Parameters = TypeVar("Parameters", bound="ComponentParameters")


class ComponentParameters:
    """What dataclasses of tensors over tasks and components (B, K, ...) have in common; a field may be None."""

    def map(self, function) -> Self:
        """The same with ``function`` applied to every tensor."""
        return type(self)(*(None if tensor is None else function(tensor) for tensor in self.tensors()))

    def tensors(self) -> list[Tensor | None]:
        """The tensors in the order of the fields."""
        return [getattr(self, field.name) for field in fields(self)]

    def to(self, *args, **kwargs) -> Self:
        """As ``Tensor.to``, for every tensor."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def __getitem__(self, tasks) -> Self:
        """The tasks selected by an index, slice or mask along the batch axis."""
        return self.map(lambda tensor: tensor[tasks])

    def permute_components(self, order: Tensor) -> Self:
        """The same with its ``order[:, k]``-th component as the k-th.

        Parameters
        ----------
        order : Tensor (B, K) of int64, a permutation in every row.
        """
        return self.map(
            lambda tensor: tensor.gather(1, order if tensor.ndim == 2 else order[:, :, None].expand_as(tensor))
        )


@dataclass(frozen=True)
class Mixture(ComponentParameters):
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


def concatenate(parts: list[Parameters]) -> Parameters:
    """The tasks of several mixtures (or network outputs) of equal K and d, one after the other."""
    tensors = zip(*(part.tensors() for part in parts), strict=True)
    return type(parts[0])(*(None if several[0] is None else torch.cat(several) for several in tensors))


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


@dataclass(frozen=True)
class LogEstimate(ComponentParameters):
    """Estimated parameters, K padded to the network's largest.

    Attributes
    ----------
    log_weights : Tensor (B, K), log-probabilities; very negative at padding.
    means : Tensor (B, K, d).
    standard_deviations : Tensor (B, K, d), or None for unit covariances.

    Several estimates of the same tasks may be stacked along a first axis; :meth:`split` takes them apart.
    """

    log_weights: Tensor
    means: Tensor
    standard_deviations: Tensor | None = None

    def split(self) -> list[LogEstimate]:
        """The estimates that are stacked in this one."""
        return [self.map(lambda tensor, position=position: tensor[position]) for position in range(len(self.means))]

    def mixture(self, n_components: int | None = None) -> Mixture:
        """The estimate as a mixture; with its first K components only, for a batch that shares one K."""
        kept = slice(None, n_components)
        scales = self.standard_deviations
        return Mixture(
            self.log_weights[:, kept].exp(), self.means[:, kept], None if scales is None else scales[:, kept]
        )


def component_mask(n_components: Tensor, largest: int) -> Tensor:
    """Bool tensor (B, largest), True at the components beyond each task's K."""
    return torch.arange(largest, device=n_components.device) >= n_components[:, None]
