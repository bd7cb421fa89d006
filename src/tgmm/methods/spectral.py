"""Spectral estimation of mixtures with one spherical covariance, for batches of tasks.

Hsu and Kakade, "Learning mixtures of spherical Gaussians: moment methods and spectral decompositions" (ITCS 2013):
with M2 = E[x x'] - s^2 I = sum_k w_k mu_k mu_k' whitened by W (W' M2 W = I), the third moment, corrected for the
noise and seen through W, is sum_k w_k^(-1/2) v_k^(x3) with orthonormal v_k. Its components are found by the robust
tensor power method of Anandkumar et al., "Tensor decompositions for learning latent variable models" (JMLR 2014,
algorithm 1). The tensor is formed in the whitened space only: K^3 numbers, never d^3.

The method needs K linearly independent means, hence K <= d; where it does not apply or its matrices are not positive
it says so, task by task.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tgmm.counter_random import inverse_normal_cdf, random_uniform
from tgmm.errors import UserError
from tgmm.methods.base import FitResult, one_thread
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import STREAM_INITIAL

STREAM_POWER = STREAM_INITIAL + 2
RESTARTS, ITERATIONS = 32, 32  # L random starts a component and N power iterations of algorithm 1
CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}  # numbers in the largest temporaries of the tasks treated at once
REASONS = (
    "",
    "the points are not all finite",
    "the second moment less the noise has no {k} positive eigenvalues",
    "the whitened third moment has a component that is not positive",
    "the estimates are not all finite",
    "the points are too large: their moments are not all finite",
)
INFINITE, OVERFLOW = 1, 5  # positions of reasons
# Why the method cannot apply at all.
TOO_MANY = "K={k} exceeds d={d}: K means in fewer than K dimensions are linearly dependent"
UNEQUAL = "not applicable to unequal covariances: the moments need one spherical covariance common to all components"


@one_thread()
def estimate_spectral(
    points: Tensor, n_components: int, *, seed: int, index: Tensor, covariance: str = "isotropic"
) -> FitResult:
    """Moment estimates of every task, for unit covariances.

    Parameters
    ----------
    points : Tensor (B, N, d).
    n_components : K. For K > d every task is a failure, with the reason.
    seed, index : what the restarts depend on: an int and an int64 Tensor (B,) of task indices.
    covariance : of the tasks. The moments determine the means only where all components share one spherical
        covariance, so every "anisotropic" task is a failure, with the reason.

    Returns
    -------
    FitResult in float64, without scales, on the device of the points; ``iterations`` is zero.

    Raises
    ------
    UserError : for empty points, K below one, or another number of indices than of tasks.
    """
    _check(points, n_components, index)
    n_tasks, n_points, dimension = points.shape
    if covariance != "isotropic":
        return _inapplicable(points, n_components, UNEQUAL)
    if n_components > dimension:
        return _inapplicable(points, n_components, TOO_MANY.format(k=n_components, d=dimension))
    width = n_points * n_components**2 + n_points * dimension + 3 * dimension**2 + RESTARTS * n_components**2
    size = max(1, CHUNK_ELEMENTS.get(points.device.type, CHUNK_ELEMENTS["cpu"]) // width)
    index = index.to(points.device)
    parts = [
        _estimate_chunk(points[first : first + size].double(), n_components, seed, index[first : first + size])
        for first in range(0, n_tasks, size)
    ]
    return _result(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _estimate_chunk(points: Tensor, n_components: int, seed: int, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    finite = torch.isfinite(points).all(2).all(1)
    points = points.where(finite[:, None, None], 0.0)
    first = points.mean(1)
    second = points.mT @ points / points.shape[1]
    moderate = second.isfinite().all(2).all(1)
    if not moderate.all():
        points = points.where(moderate[:, None, None], 0.0)
        first, second = first.where(moderate[:, None], 0.0), second.where(moderate[:, None, None], 0.0)

    def third(whitening: Tensor) -> Tensor:
        white = points @ whitening
        pairs = (white[..., :, None] * white[..., None, :]).flatten(2)
        return (white.mT @ pairs / points.shape[1]).unflatten(2, (n_components, n_components))

    weights, means, codes = from_moments(first, second, third, n_components, seed, index)
    return weights, means, codes.where(moderate, OVERFLOW).where(finite, INFINITE)


def from_moments(
    first: Tensor, second: Tensor, third: Callable[[Tensor], Tensor], n_components: int, seed: int, index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixtures of unit covariances with the given raw moments.

    Parameters
    ----------
    first : Tensor (B, d), E[x].
    second : Tensor (B, d, d), E[x x'].
    third : function of W (B, d, K) that gives the whitened raw third moment E[(W'x)^(x3)], (B, K, K, K).
    n_components : K <= d.

    Returns
    -------
    weights (B, K), means (B, K, d) and the failures' codes (B,), positions in ``REASONS``.
    """
    identity = torch.eye(first.shape[1], dtype=first.dtype, device=first.device)
    eigenvalues, vectors = torch.linalg.eigh(second - identity)
    eigenvalues, vectors = eigenvalues[:, -n_components:], vectors[:, :, -n_components:]
    # Rounding alone makes a zero eigenvalue positive half of the time.
    definite = eigenvalues[:, 0] > 1e-12 * eigenvalues[:, -1].abs()
    eigenvalues = eigenvalues.where(definite[:, None], 1.0)
    # An eigenvector's sign is arbitrary: point each along the mean, so that the restarts mean the same everywhere.
    vectors = torch.where((first[:, None] @ vectors) < 0, -vectors, vectors)
    whitening = vectors * eigenvalues.rsqrt()[:, None]
    values, directions = tensor_power_method(third(whitening) - _noise(first, whitening), seed, index)
    positive = (values > 0).all(1)
    values = values.where(positive[:, None], 1.0)
    colour = vectors * eigenvalues.sqrt()[:, None]  # undoes the whitening: W' colour = I
    means = values[..., None] * (directions @ colour.mT)
    weights = values.pow(-2)
    weights = weights / weights.sum(1, keepdim=True)
    finite = torch.isfinite(means).all(2).all(1) & torch.isfinite(weights).all(1)
    codes = torch.where(definite, torch.where(positive, torch.where(finite, 0, 4), 3), 2)
    return weights, means, codes


def _noise(first: Tensor, whitening: Tensor) -> Tensor:
    """The noise's share of the whitened third moment, sum_j (E[x], e_j, e_j) in its three orders, (B, K, K, K)."""
    mean = (first[:, None] @ whitening)[:, 0]
    spread = whitening.mT @ whitening
    return (
        mean[:, :, None, None] * spread[:, None, :, :]
        + mean[:, None, :, None] * spread[:, :, None, :]
        + mean[:, None, None, :] * spread[:, :, :, None]
    )


def tensor_power_method(tensor: Tensor, seed: int, index: Tensor) -> tuple[Tensor, Tensor]:
    """Robust power iteration with deflation on symmetric tensors (Anandkumar et al. 2014, algorithm 1).

    Parameters
    ----------
    tensor : Tensor (B, K, K, K), near sum_k values_k directions_k^(x3) with orthonormal directions.
    seed, index : what the random starts depend on.

    Returns
    -------
    values : Tensor (B, K).
    directions : Tensor (B, K, K), unit rows.
    """
    size = tensor.shape[-1]
    matrix = tensor.flatten(2)
    values, directions = [], []
    for component in range(size):
        attempt = torch.arange(RESTARTS, device=index.device) + component * RESTARTS
        start = inverse_normal_cdf(random_uniform(seed, STREAM_POWER, index[:, None], size, attempt))
        candidates = _power_iterations(matrix, start.to(matrix))
        best = _cubic_form(matrix, candidates).argmax(1)[:, None, None]
        direction = candidates.gather(1, best.expand(-1, -1, size))
        direction = _power_iterations(matrix, direction)
        value = _cubic_form(matrix, direction)
        matrix = matrix - value[:, :, None] * direction.mT @ _squares(direction)
        values.append(value)
        directions.append(direction)
    return torch.cat(values, dim=1), torch.cat(directions, dim=1)


def _power_iterations(matrix: Tensor, vectors: Tensor) -> Tensor:
    """``ITERATIONS`` maps v -> T(I, v, v) / |T(I, v, v)| of the rows of (B, L, K); ``matrix`` is T as (B, K, K^2)."""
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    for _ in range(ITERATIONS):
        vectors = torch.nn.functional.normalize(_squares(vectors) @ matrix.mT, dim=-1)
    return vectors


def _cubic_form(matrix: Tensor, vectors: Tensor) -> Tensor:
    """T(v, v, v) of the rows of (B, L, K), (B, L)."""
    return (vectors * (_squares(vectors) @ matrix.mT)).sum(-1)


def _squares(vectors: Tensor) -> Tensor:
    """v v' of every row, flattened: (B, L, K^2)."""
    return (vectors[..., :, None] * vectors[..., None, :]).flatten(-2)


def _result(weights: Tensor, means: Tensor, codes: Tensor) -> FitResult:
    failed = codes > 0
    n_components = means.shape[1]
    mixture = Mixture(
        weights.masked_fill(failed[:, None], torch.nan), means.masked_fill(failed[:, None, None], torch.nan)
    )
    failures = {task: REASONS[int(codes[task])].format(k=n_components) for task in failed.nonzero()[:, 0].tolist()}
    return FitResult(mixture, torch.zeros_like(codes), failures)


def _inapplicable(points: Tensor, n_components: int, reason: str) -> FitResult:
    """Failures throughout, for one reason."""
    n_tasks, _, dimension = points.shape
    nan = torch.full((n_tasks, n_components, dimension), torch.nan, dtype=torch.float64, device=points.device)
    iterations = torch.zeros(n_tasks, dtype=torch.int64, device=points.device)
    return FitResult(Mixture(nan[..., 0].clone(), nan), iterations, dict.fromkeys(range(n_tasks), reason))


def _check(points: Tensor, n_components: int, index: Tensor) -> None:
    if points.ndim != 3 or 0 in points.shape:
        raise UserError(
            f"points must have shape (tasks, points, dimensions), none of them 0; got {tuple(points.shape)}"
        )
    if n_components < 1:
        raise UserError(f"K must be at least 1; got {n_components}")
    if len(index) != len(points):
        raise UserError(f"{len(index)} task indices for {len(points)} tasks")
