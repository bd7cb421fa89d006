"""The Cramér-Rao bound of a mixture's means: Fisher information at the truth, by Monte Carlo.

The variance of an unbiased estimate of the parameters is at least the inverse of N times the Fisher information. With
unit covariances the parameters are the K means and K - 1 of the weights. The score of a mean is its responsibility
times the point's deviation from it; that of a weight w_k is r_k / w_k - r_K / w_K.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from tgmm.aggregate import bootstrap_interval
from tgmm.counter_random import derive_seed
from tgmm.methods.base import one_thread
from tgmm.mixture import Mixture, responsibilities
from tgmm.tasks.sampler import sample_mixtures, sample_points

DRAWS = 20_000  # points of a task that stand for its distribution
TASKSET = "effectiveness"  # whose tasks the bound is computed for
RESAMPLES = 1000


def measure_fisher(
    dimensions: Sequence[int] = (2, 8), n_components: Sequence[int] = (2, 3, 4, 5), n_points: int = 128,
    n_tasks: int = 256, seed: int = 2505,
) -> pd.DataFrame:  # fmt: skip
    """The bound for the test tasks of the task set ``effectiveness``: one row for each d and K.

    ``mean``, ``median``, ``low`` and ``high`` are of the bound on the error of the means, in that metric's units, over
    tasks.
    """
    rows = []
    for d in dimensions:
        for K in n_components:
            key, index = derive_seed(seed, "test", TASKSET, d, K), torch.arange(n_tasks)
            bounds = cramer_rao(sample_mixtures(key, index, K, d), n_points, seed=key, index=index)
            low, high = bootstrap_interval(bounds.numpy()[:, None], RESAMPLES)
            rows.append({
                "d": d, "K": K, "N": n_points, "n_tasks": n_tasks, "seed": seed, "mean": bounds.mean().item(),
                "median": bounds.median().item(), "low": low[0], "high": high[0],
            })  # fmt: skip
    return pd.DataFrame(rows)


@one_thread()
def cramer_rao(mixture: Mixture, n_points: int, *, seed: int, index: Tensor, draws: int = DRAWS) -> Tensor:
    """The bound on the error of the means, (1 / (K d)) of the means' part of the trace, a Tensor (B,).

    Parameters
    ----------
    mixture : B mixtures with unit covariances, float64.
    n_points : N of the estimate.
    seed, index : what the draws depend on, an int and an int64 Tensor (B,); their stream is that of held-out points.
    draws : points of each task.
    """
    size = mixture.n_components * mixture.dimension
    bounds = []
    for task in range(mixture.n_tasks):
        one, own = mixture[task : task + 1], index[task : task + 1]
        points = sample_points(one, seed, own, draws, heldout=True)[0].double()
        scores = score_vectors(one, points)[0]
        information = scores.mT @ scores / draws
        bounds.append(torch.linalg.inv(information).diagonal()[:size].sum() / (n_points * size))
    return torch.stack(bounds)


def score_vectors(mixture: Mixture, points: Tensor) -> Tensor:
    """Derivatives of log p(x) by the means and by all weights but the last, which makes up the sum.

    Parameters
    ----------
    mixture : B mixtures with unit covariances.
    points : Tensor (B, N, d).

    Returns
    -------
    Tensor (B, N, K d + K - 1).
    """
    share = responsibilities(mixture, points).mT
    deviations = points[:, :, None] - mixture.means[:, None]
    of_means = (share[..., None] * deviations).flatten(2)
    ratios = share / mixture.weights[:, None]
    return torch.cat([of_means, ratios[..., :-1] - ratios[..., -1:]], 2)
