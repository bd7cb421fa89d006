"""Inputs on which fitting goes wrong in practice, and what tests of the estimator share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

CASES = Path(__file__).parent / "cases"
SHAPES = ("full", "tied", "diag", "spherical")


def load_case(name: str) -> np.ndarray:
    """The points of a case, (N, d)."""
    if (path := CASES / f"{name}.npy").exists():
        return np.load(path)
    return np.genfromtxt(CASES / f"{name}.csv", delimiter=",", skip_header=1, dtype=float, ndmin=2)


def load_labels(name: str) -> np.ndarray:
    """The true labels of a case, (N,)."""
    return np.genfromtxt(CASES / f"{name}.labels.csv", skip_header=1, dtype=int)


def make_blobs(seed: int = 0, N: int = 300, K: int = 3, d: int = 2, distance: float = 14.0):
    """Points (N, d) of unit-variance clusters and their labels."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(K, d)) * distance / np.sqrt(2 * d)
    while K > 1 and min(np.linalg.norm(means[i] - means[j]) for i in range(K) for j in range(i)) < 0.6 * distance:
        means = rng.normal(size=(K, d)) * distance / np.sqrt(2 * d)
    labels = rng.integers(0, K, N)
    return means[labels] + rng.normal(size=(N, d)), labels


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two labellings agree up to names."""
    return adjusted_rand_score(a, b) == 1.0


def assert_finite(model, X) -> None:
    """Nothing that a fitted model holds or returns is NaN or infinite, and variances are positive."""
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bound_"):
        assert np.all(np.isfinite(getattr(model, name))), name
    assert np.all(np.isfinite(model.score_samples(X)))
    assert np.all(np.isfinite(model.predict_proba(X)))
    variances = model.covariances_
    if variances.ndim > 1 and model.covariance_type_ in ("full", "tied"):
        variances = np.diagonal(variances, axis1=-2, axis2=-1)
    assert np.all(variances > 0)
