"""A fit in a few numbers, by which fits with different numbers of components are compared."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, multigammaln

from tgmm.estimator.density import log_joint, n_parameters, precision_factors, whiten
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
    parts, counts = weights[:, None] * shares, weights @ shares
    clear = np.sort((weights @ shares**2) / np.maximum(counts, 1e-9))
    known = [
        float(weights @ total), n_parameters(K, d, fitted.shape), rows, d, entropy,
        np.log(np.maximum(counts / rows, 1e-6)).sum(), counts.min() / rows, clear[0], clear[:2].mean(),
        weights @ shares.max(1) / rows, fitted.n_iter, fitted.converged,
        *departures(X, parts, fitted.means, factors, fitted.shape), _closest(parts, shares),
        _smallest_volume(factors, fitted.shape, counts),
    ]  # fmt: skip
    return np.array([*known, *log_evidence(fitted, rows, entropy)], dtype=float).reshape(LENGTH)


def departures(X: np.ndarray, parts: np.ndarray, means: np.ndarray, factors: np.ndarray, shape: str) -> list[float]:
    """How far components are from Gaussian, in standard errors, by the rows that lack nothing.

    A component that stands for two has flat tails or is skewed; one that took up outliers has heavy tails. Kurtosis is
    Mardia's (1970, Biometrika 57, 519-530), relative to the component's own mean squared distance, since shrinkage
    changes that; skewness that of Mori, Rohatgi & Szekely (1993, Theory Probab. Appl. 38, 547-551).

    Parameters
    ----------
    X, parts : arrays (N, d), and (N, K) of the share that each component has of each row.
    means, factors : of the fit; the factors are those of :func:`tgmm.estimator.density.precision_factors`.

    Returns
    -------
    The kurtosis of the flattest component, of the heaviest, the mean by their counts, and the largest skewness.
    """
    complete = ~np.isnan(X).any(1)
    X, parts, d = X[complete], parts[complete], X.shape[1]
    counts = np.maximum(parts.sum(0), 1e-9)
    kurtosis, skewness = np.zeros(len(means)), np.zeros(len(means))
    for k, (mean, part, count) in enumerate(zip(means, parts.T, counts, strict=True)):
        factor = factors if shape == "tied" else factors[k]
        whitened = whiten(X, mean, factor, shape)
        squares = np.einsum("nd,nd->n", whitened, whitened)
        typical = max(part @ squares / count, 1e-9)
        excess = (part @ squares**2 / count) / typical**2 * d / (d + 2) - 1
        third = ((part * squares) @ whitened) / count / (typical / d) ** 1.5
        kurtosis[k] = excess * np.sqrt(count * d * (d + 2) / 8)
        skewness[k] = (count * third @ third / (2 * (d + 2)) - d) / np.sqrt(2 * d)
    return [kurtosis.min(), kurtosis.max(), counts @ kurtosis / counts.sum(), skewness.max()]


def _closest(parts: np.ndarray, shares: np.ndarray) -> float:
    """What the two components that overlap most share, of the smaller one."""
    common, counts = parts.T @ shares, np.maximum(parts.sum(0), 1e-9)
    np.fill_diagonal(common, 0.0)
    return float((common / np.minimum(counts[:, None], counts)).max())


def _smallest_volume(factors: np.ndarray, shape: str, counts: np.ndarray) -> float:
    """Log standard deviation of the smallest component, a column, from the mean of all."""
    if shape == "tied":
        return 0.0
    diagonals = np.diagonal(factors, axis1=1, axis2=2) if shape == "full" else factors.reshape(len(counts), -1)
    sizes = -np.log(diagonals).mean(1)
    return float(sizes.min() - counts @ sizes / counts.sum())


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
        + multigammaln((freedom + n) / 2, d)
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
