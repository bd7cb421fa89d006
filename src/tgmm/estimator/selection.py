"""Choose the number of components and the shape of the covariances by a criterion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from tgmm.estimator.density import log_joint, n_parameters, precision_factors
from tgmm.estimator.em import SHAPES
from tgmm.estimator.evidence import summarise
from tgmm.estimator.fit import Fitted
from tgmm.estimator.start import load_criterion
from tgmm.models.assignment import LARGEST
from tgmm.models.criterion import LENGTH, compare_fits

CRITERIA = ("network", "bic", "icl", "aic")


@dataclass(frozen=True)
class Choice:
    """A fit among several.

    Attributes
    ----------
    fitted : the best fit.
    values : criterion of every (K, shape) that was compared; the smallest is the best.
    """

    fitted: Fitted
    values: dict[tuple[int, str], float] = field(default_factory=dict)


def information(
    log_joint_values: np.ndarray, sample_weight: np.ndarray | None, K: int, d: int, shape: str
) -> dict[str, float]:
    """BIC, AIC and ICL (Biernacki, Celeux & Govaert 2000) of log weight plus log density (N, K); smaller is better."""
    weights = np.ones(len(log_joint_values)) if sample_weight is None else sample_weight
    total = np.logaddexp.reduce(log_joint_values, axis=1)
    logs = log_joint_values - total[:, None]
    likelihood, n_samples, free = float(weights @ total), float(weights.sum()), n_parameters(K, d, shape)
    entropy = -float(weights @ (np.exp(logs) * np.where(np.isfinite(logs), logs, 0.0)).sum(1))
    bic = -2 * likelihood + free * np.log(n_samples)
    return {"bic": bic, "aic": -2 * likelihood + 2 * free, "icl": bic + 2 * entropy}


def criterion_of(fitted: Fitted, X: np.ndarray, weights: np.ndarray, criterion: str) -> float:
    """A criterion of a fit to data that it was fitted to."""
    factors = precision_factors(fitted.covariances, fitted.shape)
    values = log_joint(X, fitted.weights, fitted.means, fitted.covariances, factors, fitted.shape)
    return information(values, weights, *fitted.means.shape, fitted.shape)[criterion]


def choose(
    X: np.ndarray,
    weights: np.ndarray,
    sizes: list[int],
    covariance_type: str,
    criterion: str,
    fit: Callable[[int, str], Fitted],
    told: Callable[[str], np.ndarray],
) -> Choice:
    """The best fit among sizes and shapes.

    Parameters
    ----------
    X, weights : arrays (N, d) and (N,).
    sizes : every K that is compared.
    covariance_type : one of the four shapes, or "auto" for all of them.
    criterion : one of ``CRITERIA``. The network tells K; between shapes, of which it tells nothing, the Bayesian
        information criterion chooses.
    fit : fits a mixture of K components of a shape.
    told : the assignment network's P(K | data), K = 1, 2, ..., for a shape.
    """
    shapes = list(SHAPES) if covariance_type == "auto" else [covariance_type]
    if criterion != "network" or len(sizes) == 1:
        tried = {(K, shape): fit(K, shape) for shape in shapes for K in sizes}
        return _smallest(tried, X, weights, "bic" if criterion == "network" else criterion)
    best, curve = {}, {}
    for shape in shapes:
        fits = {K: fit(K, shape) for K in range(1, max(sizes) + 1)}
        surprise = _surprise(fits, sizes, X, weights, told(shape))
        K = min(sizes, key=surprise.get)
        best[K, shape] = fits[K]
        curve |= {(K, shape): value for K, value in surprise.items()}
    return Choice(_smallest(best, X, weights, "bic").fitted, curve)


def _surprise(
    fits: dict[int, Fitted], sizes: list[int], X: np.ndarray, weights: np.ndarray, told: np.ndarray
) -> dict[int, float]:
    """Minus the logarithm of the criterion network's P(K | data), for the sizes that are compared."""
    summaries = np.full((1, LARGEST, LENGTH), np.nan)
    for K, fitted in fits.items():
        summaries[0, K - 1] = summarise(fitted, X, weights)
    with torch.inference_mode():
        logits = load_criterion()(torch.from_numpy(compare_fits(summaries, told[None])).float())[0].double().numpy()
    logits = logits[[K - 1 for K in sizes]]
    return dict(zip(sizes, (np.logaddexp.reduce(logits) - logits).tolist(), strict=True))


def _smallest(tried: dict[tuple[int, str], Fitted], X: np.ndarray, weights: np.ndarray, criterion: str) -> Choice:
    if len(tried) == 1:
        return Choice(next(iter(tried.values())))
    values = {key: criterion_of(fitted, X, weights, criterion) for key, fitted in tried.items()}
    return Choice(tried[min(values, key=values.get)], values)
