"""Bootstrap percentile intervals of means and of ratios of means (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
MOST_RESAMPLES = 100_000  # all of a cell are in memory at once
COLUMNS_AT_A_TIME = 2048  # all resamples of so many means are held in memory


def bootstrap_interval(
    values: np.ndarray, resamples: int, seed: int | Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % bootstrap percentile interval of the mean of every column, as one matrix product.

    Parameters
    ----------
    values : array (n, m), one row a task. Columns with a value that is not finite have no interval (NaN).
    resamples : number of bootstrap samples.
    seed : the resamples depend on it and on n only, so a method's interval does not change with its company, and
        methods on the same tasks see the same resamples.

    Returns
    -------
    low, high : arrays (m,).
    """
    low, high = np.full((2, values.shape[1]), math.nan)
    finite = np.flatnonzero(np.isfinite(values).all(axis=0) & (len(values) > 0))
    tail = (1 - CONFIDENCE) / 2
    entropy = (seed,) if isinstance(seed, int) else tuple(seed)
    for part in range(0, len(finite), COLUMNS_AT_A_TIME):
        columns = finite[part : part + COLUMNS_AT_A_TIME]
        means = values[:, columns].T @ resample_shares(len(values), resamples, entropy)
        low[columns], high[columns] = np.quantile(means, [tail, 1 - tail], axis=1, overwrite_input=True)
    return low, high


@functools.lru_cache(maxsize=8)
def resample_shares(n: int, resamples: int, entropy: tuple[int, ...]) -> np.ndarray:
    """Array (n, resamples): the share of each task in each bootstrap sample; columns sum to one."""
    generator = np.random.default_rng([*entropy, n])
    return (generator.multinomial(n, np.full(n, 1.0 / n), size=resamples) / n).T


def resampled_sums(values: np.ndarray, resamples: int, seed: int, stream: int = 0) -> np.ndarray:
    """The sum over tasks, averaged over trainings and divided by n, in every bootstrap sample, array (resamples,).

    Trainings are drawn first, then tasks. All trainings are tested on the same tasks, so the tasks that are drawn are
    the same for each of them (Owen 2007, "The pigeonhole bootstrap").

    Parameters
    ----------
    values : array (n, S), one row a task, one column a training of the same recipe with another seed. Zero in tasks
        that do not count: of two sums over the same tasks the ratio is that of the means.
    stream : tells apart the draws of trainings; the draws of tasks depend on ``seed`` and n only, so that sums of two
        methods on the same tasks are paired.
    """
    by_training = values.T @ resample_shares(len(values), resamples, (seed,))
    if len(by_training) == 1:
        return by_training[0]
    return (by_training * resample_shares(len(by_training), resamples, (seed, 1 + stream))).sum(axis=0)


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """The ends of the central 95 % of bootstrap samples (resamples,); NaN if one is not finite."""
    if not np.isfinite(resampled).all():
        return math.nan, math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)
