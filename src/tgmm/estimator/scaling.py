"""What data must be to be fitted, and the coordinates in which it is: centred and scaled in double precision."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning

LARGEST_VALUE, SMALLEST_SPREAD = 1e150, 1e-150  # beyond them squares leave double precision
NORMAL_RANGE = 1.349  # interquartile range of a standard normal variable


@dataclass(frozen=True)
class Scaling:
    """Coordinates z = (x - origin) / unit, and the floors of variances in them.

    Attributes
    ----------
    origin, unit, floors : arrays (d,); the unit is the same for all columns where covariances are spherical.
    """

    origin: np.ndarray
    unit: np.ndarray
    floors: np.ndarray

    def apply(self, X: np.ndarray) -> np.ndarray:
        """Points (N, d) in these coordinates."""
        return (X - self.origin) / self.unit

    def log_volume(self, X: np.ndarray, weights: np.ndarray) -> float:
        """What the mean log-density of these points loses in the data's own coordinates."""
        return float(np.average(~np.isnan(X) @ np.log(self.unit), weights=weights))


def find_scaling(X: np.ndarray, weights: np.ndarray, shape: str, reg_covar: float) -> Scaling:
    """The coordinates for data (N, d) with NaN where a value is missing.

    A column's unit is its standard deviation. The floor is ``reg_covar`` times a variance that outliers do not move:
    of the standard deviation and the interquartile range (made comparable) the smaller counts.

    Parameters
    ----------
    X, weights : arrays (N, d) and (N,), weights not negative.
    shape : of the covariances.
    reg_covar : relative floor of variances.
    """
    seen = ~np.isnan(X)
    filled, share = np.where(seen, X, 0.0), seen * weights[:, None]
    share = share / share.sum(0)
    origin = (filled * share).sum(0)
    origin = origin + (np.where(seen, filled - origin, 0.0) * share).sum(0)  # once more: the first sum is rounded
    spread = np.sqrt((np.where(seen, filled - origin, 0.0) ** 2 * share).sum(0))
    constant = np.nanmax(X, 0) == np.nanmin(X, 0)
    origin, spread = np.where(constant, np.nanmin(X, 0), origin), np.where(constant, 0.0, spread)
    overall = float(np.sqrt(np.mean(spread**2))) or 1.0
    typical = np.minimum(spread, _interquartile(X, weights) / NORMAL_RANGE)
    typical = np.where(typical > 0, typical, np.where(spread > 0, spread, overall))
    if shape == "spherical":
        typical, unit = np.full_like(spread, np.sqrt(np.mean(typical**2))), np.full_like(spread, overall)
    else:
        unit = np.where(spread > 0, spread, overall)
    return Scaling(origin, unit, reg_covar * (typical / unit) ** 2)


def _interquartile(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted interquartile ranges of the columns; a quantile is a value of the data, so repeated rows are weights."""
    ranges = []
    for column in X.T:
        seen = ~np.isnan(column) & (weights > 0)
        values, shares = column[seen], weights[seen]
        if np.all(shares == shares[0]):
            ranks = [max(0, int(np.ceil(q * len(values))) - 1) for q in (0.25, 0.75)]
            low, high = np.partition(values, ranks)[ranks]
        else:
            order = np.argsort(values, kind="stable")
            upto = np.cumsum(shares[order])
            low, high = values[order][np.searchsorted(upto, np.array([0.25, 0.75]) * upto[-1] * (1 - 1e-12))]
        ranges.append(high - low)
    return np.array(ranges)


def check_data(X: np.ndarray, weights: np.ndarray, K: int) -> None:
    """Refuse data that cannot be fitted, naming the numbers; warn where rows repeat too much.

    Raises
    ------
    ValueError : fewer rows than components, infinite values, a column without values, magnitudes beyond double
        precision.
    """
    counted = weights > 0
    n_samples = int(counted.sum())
    if n_samples < K:
        what = "" if n_samples == len(X) else " with a positive sample_weight"
        raise ValueError(
            f"Expected n_samples >= n_components but got n_components = {K}, n_samples = {n_samples}{what}"
        )
    empty = np.isnan(X[counted]).all(0)
    if empty.any():
        raise ValueError(f"column {int(np.argmax(empty))} has no value: leave it out")
    largest = float(np.nanmax(np.abs(X)))
    if largest > LARGEST_VALUE:
        raise ValueError(
            f"values up to {largest:.3g} have squares beyond double precision (limit {LARGEST_VALUE:g}): "
            "divide the data by a constant first"
        )
    widths = np.nanmax(X, 0) - np.nanmin(X, 0)
    narrow = (widths > 0) & (widths < SMALLEST_SPREAD)
    if narrow.any():
        column = int(np.argmax(narrow))
        raise ValueError(
            f"the values of column {column} differ by {widths[column]:.3g} only, whose square is below double "
            f"precision (limit {SMALLEST_SPREAD:g}): multiply the data by a constant first"
        )
    _warn_of_repeats(X[counted], K)


def _warn_of_repeats(X: np.ndarray, K: int) -> None:
    if K == 1 or len(X) > 100_000:
        return
    distinct = len(np.unique(X[:1], axis=0))
    for rows in (16 * K, len(X)):  # a few rows settle it nearly always
        distinct = len(np.unique(X[:rows], axis=0))
        if distinct >= K:
            return
    warnings.warn(
        f"{distinct} distinct points are fewer than n_components = {K}: some components are alike or empty",
        ConvergenceWarning,
        stacklevel=4,
    )
