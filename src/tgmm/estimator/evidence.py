"""A fit in a few numbers, by which fits with different numbers of components are compared."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, multigammaln

from tgmm.estimator.density import log_joint, n_parameters, precision_factors
from tgmm.estimator.fit import Fitted
from tgmm.models.criterion import LENGTH, PRIORS


def summarise(fitted: Fitted, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The numbers of ``tgmm.models.criterion.SUMMARY`` and the evidence for each of its priors, (LENGTH,).

    Parameters
    ----------
    fitted : a fit to the data.
    X, weights : arrays (N, d), NaN where a value is missing, and (N,).
    """
    factors = precision_factors(fitted.covariances, fitted.shape)
    logs = log_joint(X, fitted.weights, fitted.means, fitted.covariances, factors, fitted.shape)
    total = np.logaddexp.reduce(logs, axis=1)
    shares = np.exp(logs - total[:, None])
    (K, d), rows = fitted.means.shape, float(weights.sum())
    entropy = -float(weights @ (shares * np.where(shares > 0, logs - total[:, None], 0.0)).sum(1))
    counts = weights @ shares
    clear = np.sort((weights @ shares**2) / np.maximum(counts, 1e-9))
    known = [
        float(weights @ total), n_parameters(K, d, fitted.shape), rows, d, entropy,
        np.log(np.maximum(counts / rows, 1e-6)).sum(), counts.min() / rows, clear[0], clear[:2].mean(),
        weights @ shares.max(1) / rows, fitted.n_iter, fitted.converged,
    ]  # fmt: skip
    return np.array([*known, *log_evidence(fitted, rows, entropy)], dtype=float).reshape(LENGTH)


def log_evidence(fitted: Fitted, rows: float, entropy: float) -> np.ndarray:
    """A lower bound of the log evidence of K components for each of ``PRIORS``, (len(PRIORS),).

    The variational bound (Bishop 2006, section 10.2) at the fit's own responsibilities, in closed form: means and
    covariances have the conjugate prior (normal inverse Wishart, or normal inverse gamma), whose mean is the data's and
    whose scale is a share of the data's covariance; weights are Dirichlet(1); the K! orders of the components count.

    Parameters
    ----------
    fitted : means and covariances are taken for those of the responsibilities.
    rows : how many the data are.
    entropy : of the responsibilities, summed over the data.
    """
    K = len(fitted.weights)
    counts = rows * fitted.weights
    scatter, deviations, log_volume = _standardised(fitted, counts)
    base = gammaln(K) - gammaln(rows + K) + gammaln(counts + 1).sum() + gammaln(K + 1) + entropy - rows * log_volume
    marginal = _wishart if fitted.shape in ("full", "tied") else _gamma
    return np.array([base + marginal(fitted.shape, counts, scatter, deviations, *prior) for prior in PRIORS])


def _standardised(fitted: Fitted, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Scatter about each mean, the means, both where the data's covariance is one, and the log volume of its unit."""
    share, shape = fitted.weights, fitted.shape
    deviations = fitted.means - share @ fitted.means
    K, d = deviations.shape
    if shape in ("full", "tied"):
        inner = fitted.covariances if shape == "full" else np.broadcast_to(fitted.covariances, (K, d, d))
        total = np.einsum("k,kij->ij", share, inner) + (share[:, None] * deviations).T @ deviations
        unit = np.sqrt(np.diag(total))
        factor = np.linalg.inv(np.linalg.cholesky(total / np.outer(unit, unit))) / unit
        scatter = counts[:, None, None] * (factor @ inner @ factor.T)
        return scatter, deviations @ factor.T, -float(np.log(np.diag(factor)).sum())
    inner = fitted.covariances if shape == "diag" else np.repeat(fitted.covariances[:, None], d, 1)
    total = share @ (inner + deviations**2)
    total = total if shape == "diag" else np.full(d, total.mean())
    return counts[:, None] * inner / total, deviations / np.sqrt(total), 0.5 * float(np.log(total).sum())


def _wishart(shape: str, counts, scatter, deviations, scale: float, certainty: float) -> float:
    """Log marginal likelihood of the points of each component under a normal inverse Wishart prior."""
    d, more = deviations.shape[1], certainty + counts
    freedom = d + 2
    pull = (certainty * counts / more)[:, None, None] * deviations[:, :, None] * deviations[:, None, :]
    posterior, n = scatter + pull, counts
    if shape == "tied":
        posterior, n = posterior.sum(0, keepdims=True), counts.sum(keepdims=True)
    log_determinants = np.linalg.slogdet(posterior + scale * np.eye(d))[1]
    of_covariance = (
        -n * d / 2 * np.log(np.pi)
        + np.array([multigammaln((freedom + count) / 2, d) for count in n])
        - multigammaln(freedom / 2, d)
        + freedom / 2 * d * np.log(scale)
        - (freedom + n) / 2 * log_determinants
    )
    return float(of_covariance.sum() + (d / 2 * np.log(certainty / more)).sum())


def _gamma(shape: str, counts, scatter, deviations, scale: float, certainty: float) -> float:
    """The same under a normal inverse gamma prior of each coordinate, or of all together."""
    d, more = deviations.shape[1], certainty + counts
    squares = scatter + (certainty * counts / more)[:, None] * deviations**2
    n, before = counts[:, None], 1.5
    if shape == "spherical":
        squares, n, before = squares.sum(1, keepdims=True), d * n, (d + 2) / 2
    rate, after = scale * before, before + n / 2
    of_variances = -n / 2 * np.log(2 * np.pi) + gammaln(after) - gammaln(before) + before * np.log(rate)
    of_variances = of_variances - after * np.log(rate + squares / 2)
    return float(of_variances.sum() + (d / 2 * np.log(certainty / more)).sum())
