"""Points of mixtures, with the noise and the contamination that shifted task sets ask for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tgmm.counter_random import random_normal, random_uniform
from tgmm.mixture import Mixture

OUTLIER_RANGE = 10.0
OUTLIER = -1

# Streams of the counter-based generator: points to fit and held-out points have their own.
STREAM_POINTS, STREAM_HELDOUT = 5, 7
LABELS, NOISE, TAILS, OUTLIERS, BOX = 0, 1, 16, 20, 24


def sample_points(
    mixture: Mixture, seed: int, index: Tensor, n_points: int, *, heldout: bool = False,
    degrees_of_freedom: float = math.inf, outliers: float = 0.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Points of each mixture, float32, and their labels. The first N points do not depend on ``n_points``.

    Parameters
    ----------
    mixture : parameters of B tasks, float64 (so that the points are the same bits everywhere).
    seed, index : as for :func:`sample_mixtures`.
    n_points : N.
    heldout : draw from a second, disjoint stream: fresh points of the same mixtures.
    degrees_of_freedom : of multivariate Student t noise with the same covariance (an integer above 2); infinity is
        normal noise.
    outliers : probability that a point is replaced by one that is uniform on [-10, 10]^d; its label is -1.

    Returns
    -------
    points : Tensor (B, N, d) of float32.
    labels : Tensor (B, N) of int64.
    """
    stream = STREAM_HELDOUT if heldout else STREAM_POINTS
    labels = labels_from_uniform(mixture, random_uniform(seed, stream + LABELS, index, n_points))
    noise = random_normal(seed, stream + NOISE, index, n_points * mixture.dimension)
    noise = noise.unflatten(-1, (n_points, mixture.dimension))
    if math.isfinite(degrees_of_freedom):
        noise = noise * _student_factor(seed, stream + TAILS, index, n_points, int(degrees_of_freedom))[..., None]
    chosen = labels[..., None].expand(-1, -1, mixture.dimension)
    if mixture.standard_deviations is not None:
        noise = noise * mixture.standard_deviations.gather(1, chosen)
    points = mixture.means.gather(1, chosen) + noise
    if outliers:
        replaced = random_uniform(seed, stream + OUTLIERS, index, n_points) < outliers
        uniform = random_uniform(seed, stream + BOX, index, n_points * mixture.dimension)
        box = OUTLIER_RANGE * (2.0 * uniform.unflatten(-1, points.shape[1:]) - 1.0)
        points = torch.where(replaced[..., None], box, points)
        labels = labels.masked_fill(replaced, OUTLIER)
    return points.float(), labels


def labels_from_uniform(mixture: Mixture, uniform: Tensor) -> Tensor:
    """The component of every point, by inversion of the weights' cumulative sums; int64 (B, N)."""
    labels = torch.zeros_like(uniform, dtype=torch.int64)
    cumulative = torch.zeros_like(uniform[:, :1])
    for component in range(mixture.n_components - 1):
        cumulative = cumulative + mixture.weights[:, component, None]
        labels += uniform >= cumulative
    # Padding has weight zero, so a uniform number above a rounded sum of one must not reach it.
    return torch.minimum(labels, (mixture.weights > 0).sum(1, keepdim=True) - 1)


def _student_factor(seed: int, stream: int, index: Tensor, n_points: int, degrees_of_freedom: int) -> Tensor:
    """Factors (B, N), sqrt((v - 2) / chi2_v), that turn standard normal noise into Student t of unit covariance."""
    squares = random_normal(seed, stream, index, n_points * degrees_of_freedom).square()
    chi_squared = sum(squares.unflatten(-1, (n_points, degrees_of_freedom)).unbind(-1))  # the same bits everywhere
    return ((degrees_of_freedom - 2) / chi_squared).sqrt()
