"""The floor of the sorted, unmatched loss: the l2-error, after correct matching, of the loss's own minimiser."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tgmm.bootstrap import bootstrap_interval
from tgmm.errors import UserError
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.methods.threads import one_thread
from tgmm.metrics import match, mean_error, weight_cross_entropy, weight_error
from tgmm.mixture import Mixture, concatenate
from tgmm.tasks.points import sample_points
from tgmm.tasks.sampler import sample_mixtures
from tgmm.theory.sorted_estimate import SortedEstimate, known_labels_estimate
from tgmm.theory.sorted_importance import CHAINS, CHAINS_ELSEWHERE, DRAWS, importance_estimate

APPROACHES = ("known labels", "importance sampling")
FEW_SAMPLES = 50  # effective samples below which a task's estimate is not to be trusted
TASKS_AT_ONCE = 8
RESAMPLES = 1000


@one_thread()
def measure_sorted_floor(
    dimensions: Sequence[int] = (2, 8), component_counts: Sequence[int] = (2, 3, 4, 5),
    n_points: Sequence[int] = (128,), *, n_tasks: int = 256, seed: int = 2505,
) -> pd.DataFrame:  # fmt: skip
    """The floor in every cell, by two approaches, on random tasks of the paper.

    * ``known labels``: the minimiser for someone who sees which points belong together. Only which component is the
      k-th lightest is open, so this is the loss's own floor where components are far apart.
    * ``importance sampling``: the minimiser given the points alone. A task with few effective samples comes close to a
      single draw from the posterior, which is in *some* order and so matches well: few samples understate the floor.

    Returns
    -------
    DataFrame with a row for each cell and approach:

    * ``d``, ``K``, ``N``, ``n_tasks``, ``seed``, ``approach``;
    * ``mean``, ``median`` of the l2-error after matching, ``low`` and ``high`` (95 % bootstrap interval of the mean),
      and the mean's two parts, ``mean_error`` and ``weight_error``;
    * ``oracle_mean``, ``oracle_median``: the l2-error of EM from the truth on the same tasks, the statistical floor;
    * ``effective_samples`` (median over the tasks) and ``few_samples``, the share of tasks with fewer than 50;
    * ``sorted_loss`` of the minimiser, ``oracle_sorted_loss`` of EM from the truth ordered by its own weights, and
      ``oracle_matched_loss`` of the same matched with the truth: squared error of means and cross-entropy of weights.

    Raises
    ------
    UserError
        For no tasks, or fewer points than components.
    """
    if n_tasks < 1:
        raise UserError(f"n_tasks must be at least 1; got {n_tasks}")
    if min(n_points) < max(component_counts):
        raise UserError(f"N={min(n_points)} points are too few for K={max(component_counts)} components")
    cells = itertools.product(dimensions, n_points, component_counts)
    return pd.DataFrame([row for d, N, K in cells for row in _cell_rows(d, K, N, n_tasks, seed)])


def _cell_rows(dimension: int, count: int, n_points: int, n_tasks: int, seed: int) -> Iterator[dict]:
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, count, dimension)
    points, labels = sample_points(truth, seed, index, n_points)
    points = points.double()
    oracle = estimate_em(points, count, EMSettings(start="truth"), seed=seed, index=index, truth=truth).mixture
    for approach in APPROACHES:
        estimate = estimate_sorted(approach, points, labels, truth, seed=seed, index=index)
        cell = {"d": dimension, "K": count, "N": n_points, "n_tasks": n_tasks, "seed": seed, "approach": approach}
        yield cell | _statistics(estimate, oracle, truth)


def estimate_sorted(
    approach: str, points: Tensor, labels: Tensor, truth: Mixture, *, seed: int, index: Tensor
) -> SortedEstimate:
    """The minimiser of the sorted loss for tasks (B, N, d), a few at a time, by one of the two approaches."""
    shape = [points.shape[2], truth.n_components, points.shape[1]]
    generator = np.random.default_rng([seed, *shape, APPROACHES.index(approach)])
    parts = []
    for tasks in torch.arange(len(points)).split(TASKS_AT_ONCE):
        if approach == "known labels":
            part = known_labels_estimate(points[tasks], labels[tasks], truth.n_components, generator)
        else:
            part = _importance_estimate(points[tasks], truth[tasks], generator, seed, index[tasks])
        parts.append(part)
    samples = torch.cat([part.effective_samples for part in parts])
    return SortedEstimate(concatenate([part.mixture for part in parts]), samples)


def _importance_estimate(
    points: Tensor, truth: Mixture, generator: np.random.Generator, seed: int, index: Tensor
) -> SortedEstimate:
    """Importance sampling, once more with twice the chains and twice the draws of each for tasks with few samples."""
    estimate = importance_estimate(points, truth, generator, seed=seed, index=index)
    for task in (estimate.effective_samples < FEW_SAMPLES).nonzero():
        again = importance_estimate(
            points[task], truth[task], generator, seed=seed, index=index[task], chains=2 * CHAINS,
            chains_elsewhere=2 * CHAINS_ELSEWHERE, draws=2 * DRAWS,
        )  # fmt: skip
        estimate.mixture.weights[task], estimate.mixture.means[task] = again.mixture.weights, again.mixture.means
        estimate.effective_samples[task] = again.effective_samples
    return estimate


def _statistics(estimate: SortedEstimate, oracle: Mixture, truth: Mixture) -> dict[str, float]:
    matched, oracle_matched = match(estimate.mixture, truth), match(oracle, truth)
    of_means, of_weights = mean_error(matched, truth).numpy(), weight_error(matched, truth).numpy()
    error = of_means + of_weights
    oracle_error = (mean_error(oracle_matched, truth) + weight_error(oracle_matched, truth)).numpy()
    samples = estimate.effective_samples.numpy()
    low, high = bootstrap_interval(error[:, None], RESAMPLES)
    return {
        "mean": error.mean(),
        "median": np.median(error),
        "low": low[0],
        "high": high[0],
        "mean_error": of_means.mean(),
        "weight_error": of_weights.mean(),
        "oracle_mean": oracle_error.mean(),
        "oracle_median": np.median(oracle_error),
        "effective_samples": np.median(samples),
        "few_samples": (samples < FEW_SAMPLES).mean(),
        "sorted_loss": _loss(estimate.mixture, truth),
        "oracle_sorted_loss": _loss(oracle.permute_components(oracle.weights.argsort(1)), truth),
        "oracle_matched_loss": _loss(oracle_matched, truth),
    }


def _loss(ordered: Mixture, truth: Mixture) -> float:
    """Squared error of means and cross-entropy of weights, component by component, averaged over the tasks."""
    return (mean_error(ordered, truth) + weight_cross_entropy(ordered, truth)).mean().item()
