"""Random mixture-estimation tasks, as the paper draws them (section 4.1 and appendix of arXiv 2505.11918).

A task is a function of its seed and index alone: it does not depend on the batch that it is drawn in, on the order
of the batches or on the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tgmm.counter_random import inverse_normal_cdf, random_normal, random_uniform, random_words, softplus
from tgmm.errors import UserError, refuse_unknown
from tgmm.mixture import Mixture
from tgmm.tasks.shifts import COSINE_LIMIT, MEAN_RANGE, check_feasible

WEIGHT_RANGE = (0.2, 0.8)
SCALE_FACTOR = 2.0
COVARIANCES = ("isotropic", "anisotropic")
ATTEMPTS_AT_ONCE = 32
MOST_ATTEMPTS = 1 << 20  # of one task; the rarest tasks that are drawn at all are accepted once in 10,000 attempts

OUTLIER_RANGE = 10.0
OUTLIER = -1

# Streams of the counter-based generator; points to fit and held-out points have their own, with a few offsets each.
STREAM_MEANS, STREAM_WEIGHTS, STREAM_SCALES, STREAM_LENGTH, STREAM_SIZE = 0, 1, 2, 3, 4
STREAM_POINTS, STREAM_HELDOUT = 5, 7
LABELS, NOISE, TAILS, OUTLIERS, BOX = 0, 1, 16, 20, 24
STREAM_PERTURBATION, STREAM_DIRECTIONS = 9, 10
STREAM_INITIAL = 16


def sample_mixtures(
    seed: int, index: Tensor, n_components: int | Tensor, dimension: int, covariance: str = "isotropic", *,
    perturbation: float = 0.0, filter_again: bool = False, distance: float | None = None,
) -> Mixture:  # fmt: skip
    """Draw the parameters of one mixture per index, float64.

    Means are uniform on [-5, 5]^d, redrawn together while any two have a cosine similarity of 0.8 or more (opposite
    means are allowed). Weights are uniform on [0.2, 0.8], sorted ascending, normalised. Anisotropic tasks have
    standard deviations 2 softplus(m / 5) with m drawn as a set of means is.

    Parameters
    ----------
    seed : int in [0, 2^63).
    index : Tensor (B,) of int64; the device of the result is its device.
    n_components : K, for all tasks or one for each (then the result is padded with components of weight zero).
    dimension : d.
    covariance : "isotropic" (unit covariances) or "anisotropic" (diagonal).
    perturbation : standard deviation of normal noise added to the accepted means (the paper's sigma_p); the means and
        the noise of a task are the same for every value of it.
    filter_again : redraw until the perturbed means pass the cosine filter too, as the authors' code does.
    distance : redraw means until they are so far apart, in place of the cosine filter.

    Raises
    ------
    UserError : for a covariance that is neither, K or d below one, and means that are hardly ever far enough apart.
    """
    refuse_unknown("covariance", covariance, COVARIANCES)
    counts = torch.as_tensor(n_components, device=index.device).expand(index.shape)
    largest = int(counts.max())
    if dimension < 1 or int(counts.min()) < 1:
        raise UserError(f"n_components and dimension must be at least 1 (got {int(counts.min())} and {dimension})")
    check_feasible(dimension, largest, distance)
    unused = torch.arange(largest, device=index.device) >= counts[:, None]
    means = _sample_means(seed, STREAM_MEANS, index, unused, dimension, perturbation, filter_again, distance)
    scales = None
    if covariance == "anisotropic":
        raw = _sample_means(seed, STREAM_SCALES, index, unused, dimension)
        scales = SCALE_FACTOR * softplus(raw / MEAN_RANGE)
    return Mixture(_sample_weights(seed, index, unused), means.masked_fill(unused[..., None], 0.0), scales)


def _sample_weights(seed: int, index: Tensor, unused: Tensor) -> Tensor:
    low, high = WEIGHT_RANGE
    raw = low + (high - low) * random_uniform(seed, STREAM_WEIGHTS, index, unused.shape[1])
    ordered = raw.masked_fill(unused, torch.inf).sort(dim=1).values.masked_fill(unused, 0.0)
    total = sum(ordered.unbind(1))  # one addition after the other: the same bits on any device
    return ordered / total[:, None]


def _sample_means(
    seed: int, stream: int, index: Tensor, unused: Tensor, dimension: int, perturbation: float = 0.0,
    filter_again: bool = False, distance: float | None = None,
) -> Tensor:  # fmt: skip
    """The first accepted attempt of every task; attempts are numbered, so blocks of any size give the same result."""
    n_tasks, n_components = unused.shape
    means = torch.zeros(n_tasks, n_components, dimension, dtype=torch.float64, device=index.device)
    pending = torch.arange(n_tasks, device=index.device)
    first, at_once = 0, 1
    while len(pending):
        if first + at_once > MOST_ATTEMPTS:
            wanted = f"cosines below {COSINE_LIMIT}" if distance is None else f"distances of {distance:g}"
            raise UserError(
                f"d={dimension}, K={n_components}: {len(pending)} of {n_tasks} tasks found no means with pairwise "
                f"{wanted} in {first:,} attempts"
            )
        attempt = torch.arange(first, first + at_once, device=index.device)
        uniform = random_uniform(seed, stream, index[pending, None], n_components * dimension, attempt)
        candidates = MEAN_RANGE * (2.0 * uniform - 1.0)
        candidates = candidates.unflatten(-1, (n_components, dimension))
        if distance is None:
            accepted = largest_cosine(candidates, unused[pending, None]) < COSINE_LIMIT
        else:
            accepted = smallest_distance(candidates, unused[pending, None]) >= distance
        if perturbation:
            uniform = random_uniform(seed, STREAM_PERTURBATION, index[pending, None], n_components * dimension, attempt)
            noise = inverse_normal_cdf(uniform)
            candidates = candidates + perturbation * noise.unflatten(-1, (n_components, dimension))
        if filter_again:
            accepted &= largest_cosine(candidates, unused[pending, None]) < COSINE_LIMIT
        found, choice = accepted.any(1), accepted.long().argmax(1)
        means[pending[found]] = candidates[found, choice[found]]
        pending = pending[~found]
        first, at_once = first + at_once, ATTEMPTS_AT_ONCE
    return means


def simplex_means(seed: int, index: Tensor, n_components: int, dimension: int, distance: float) -> Tensor:
    """Means (B, K, d) at the corners of regular simplices about the origin, turned at random.

    Parameters
    ----------
    seed, index : as for :func:`sample_mixtures`.
    distance : of any two means.

    Raises
    ------
    UserError : for K above d + 1, for which there is no such simplex.
    """
    if n_components > dimension + 1:
        raise UserError(f"d={dimension}: a regular simplex has at most {dimension + 1} corners, not K={n_components}")
    count = n_components - 1
    raw = random_normal(seed, STREAM_DIRECTIONS, index, count * dimension).unflatten(-1, (count, dimension))
    means = torch.zeros(len(index), n_components, dimension, dtype=torch.float64, device=index.device)
    basis: list[Tensor] = []
    for number in range(count):
        direction = raw[:, number]
        for other in basis:  # Gram-Schmidt, one addition after the other: the same bits on any device
            direction = direction - sum((direction * other).unbind(1))[:, None] * other
        direction = direction / sum(direction.square().unbind(1)).sqrt()[:, None]
        basis.append(direction)
        # Helmert's coordinates: along this axis the first corners are behind the next one, and the others stay.
        step = distance / math.sqrt(2 * (number + 1) * (number + 2))
        means[:, : number + 1] -= step * direction[:, None]
        means[:, number + 1] += (number + 1) * step * direction
    return means


def largest_cosine(means: Tensor, unused: Tensor | None = None) -> Tensor:
    """The largest cosine similarity of two different means.

    Parameters
    ----------
    means : Tensor (..., K, d).
    unused : bool Tensor broadcastable to (..., K): components to leave out.

    Returns
    -------
    Tensor (...), -1 where fewer than two means are compared.
    """
    unit = means / means.norm(dim=-1, keepdim=True)
    same = torch.eye(means.shape[-2], dtype=torch.bool, device=means.device)
    skip = same if unused is None else same | unused[..., :, None] | unused[..., None, :]
    return (unit @ unit.mT).masked_fill(skip, -1.0).flatten(-2).amax(-1)


def smallest_distance(means: Tensor, unused: Tensor) -> Tensor:
    """The smallest distance of two different means (..., K, d), (...); those marked in ``unused`` are left out."""
    difference = means[..., :, None, :] - means[..., None, :, :]
    squared = sum(difference.square().unbind(-1))  # one addition after the other: the same bits on any device
    same = torch.eye(means.shape[-2], dtype=torch.bool, device=means.device)
    skip = same | unused[..., :, None] | unused[..., None, :]
    return squared.masked_fill(skip, torch.inf).flatten(-2).amin(-1).sqrt()


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


def sample_length(seed: int, batch: int, n_points: int) -> int:
    """A training batch's number of points: uniform on {N / 2, ..., N} (rounded up), N being ``n_points``."""
    shortest = (n_points + 1) // 2
    word = int(random_words(seed, STREAM_LENGTH, torch.tensor([batch]), 1))
    return shortest + (word * (n_points - shortest + 1) >> 32)


def sample_component_counts(seed: int, index: Tensor, choices: tuple[int, ...]) -> Tensor:
    """The K of every task, an int64 Tensor (B,): each choice once in every run of ``len(choices)`` indices.

    A random rotation for each run keeps K independent of a batch's layout while every K is seen equally often.
    """
    count = len(choices)
    rotation = random_words(seed, STREAM_SIZE, index // count, 1)[..., 0] % count
    return torch.tensor(choices, device=index.device)[(index + rotation) % count]
