"""Densities, samples and numbers of parameters of a fitted mixture, in the data's own units."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular

from tgmm.estimator.em import Mixtures
from tgmm.estimator.incomplete import observed_log_joint

ROWS = 65_536  # at a time


def precision_factors(covariances: np.ndarray, shape: str) -> np.ndarray:
    """The Cholesky factors of the precisions, as scikit-learn has them: upper triangular, or 1 / deviations."""
    if shape in ("diag", "spherical"):
        return 1 / np.sqrt(covariances)
    every = covariances if shape == "full" else covariances[None]
    eye = np.eye(every.shape[-1])
    factors = np.stack([solve_triangular(_scaled_cholesky(matrix), eye, lower=True).T for matrix in every])
    return factors if shape == "full" else factors[0]


def _scaled_cholesky(matrix: np.ndarray) -> np.ndarray:
    """The lower Cholesky factor; columns are brought to one unit first, so that units far apart do no harm."""
    unit = np.sqrt(np.diag(matrix))
    return unit[:, None] * cholesky(matrix / np.outer(unit, unit), lower=True)


def precisions(factors: np.ndarray, shape: str) -> np.ndarray:
    """The precisions from their Cholesky factors."""
    return factors**2 if shape in ("diag", "spherical") else factors @ np.swapaxes(factors, -1, -2)


def log_joint(
    X: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, factors: np.ndarray, shape: str
) -> np.ndarray:
    """Log weight plus log density of every row of X (N, d) under every component, (N, K); NaN is a missing value."""
    missing = np.isnan(X).any(1)
    out = np.empty((len(X), len(weights)))
    if not missing.all():
        complete = X if not missing.any() else X[~missing]
        out[~missing] = _complete_log_joint(complete, weights, means, factors, shape)
    if missing.any():
        unit = np.sqrt(_variances(covariances, shape, means.shape[1]).mean(0))
        out[missing] = _incomplete_log_joint(X[missing], weights, means, covariances, shape, unit)
    return out


def _complete_log_joint(X, weights, means, factors, shape: str) -> np.ndarray:
    N, d = X.shape
    out = np.empty((N, len(weights)))
    for k, mean in enumerate(means):
        factor = factors if shape == "tied" else factors[k]
        diagonal = np.diag(factor) if shape in ("full", "tied") else np.broadcast_to(factor, d)
        constant = np.log(weights[k]) + np.log(diagonal).sum() - 0.5 * d * np.log(2 * np.pi)
        for i in range(0, N, ROWS):
            whitened = whiten(X[i : i + ROWS], mean, factor, shape)
            out[i : i + ROWS, k] = constant - 0.5 * np.einsum("nd,nd->n", whitened, whitened)
    return out


def whiten(X: np.ndarray, mean: np.ndarray, factor: np.ndarray, shape: str) -> np.ndarray:
    """Rows (N, d) where a component has mean zero and covariance one; ``factor`` is that of its precision."""
    return (X - mean) @ factor if shape in ("full", "tied") else (X - mean) * factor


def _incomplete_log_joint(X, weights, means, covariances, shape: str, unit: np.ndarray) -> np.ndarray:
    """As above for rows that lack values, in columns brought to one unit."""
    origin = means.mean(0)
    unit = np.full_like(unit, np.sqrt(np.mean(unit**2))) if shape == "spherical" else unit
    squares = {"spherical": unit[0] ** 2, "diag": unit**2}.get(shape, np.outer(unit, unit))
    parts = (np.log(weights), (means - origin) / unit, covariances / squares)
    mixtures = Mixtures(shape, *(torch.from_numpy(np.ascontiguousarray(part))[None] for part in parts))
    scaled = observed_log_joint(torch.from_numpy((X - origin) / unit), mixtures).numpy()
    return scaled - (~np.isnan(X) @ np.log(unit))[:, None]


def _variances(covariances: np.ndarray, shape: str, d: int) -> np.ndarray:
    """Variances of every component (K, d), or (1, d)."""
    if shape in ("full", "tied"):
        return np.atleast_2d(np.diagonal(covariances, axis1=-2, axis2=-1))
    return covariances if shape == "diag" else np.repeat(covariances[:, None], d, 1)


def n_parameters(K: int, d: int, shape: str) -> int:
    """Free parameters of a mixture."""
    of_covariances = {"full": K * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diag": K * d, "spherical": K}[shape]
    return K * d + K - 1 + of_covariances


def draw(n_samples: int, weights, means, covariances, shape: str, rng) -> tuple[np.ndarray, np.ndarray]:
    """Points (n_samples, d) of a mixture and their components, in the order of the components."""
    counts = rng.multinomial(n_samples, weights)
    d, points = means.shape[1], []
    for k, count in enumerate(counts):
        normal = rng.standard_normal((count, d))
        if shape in ("full", "tied"):
            matrix = covariances if shape == "tied" else covariances[k]
            points.append(means[k] + normal @ _scaled_cholesky(matrix).T)
        else:
            points.append(means[k] + normal * np.sqrt(covariances[k]))
    return np.vstack(points), np.repeat(np.arange(len(weights)), counts)
