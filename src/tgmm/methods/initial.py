"""Starting points of EM for batches of tasks: N(0, I) means, k-means++ centres, the truth.

A start is a function of (seed, task index, start number) alone, so it does not depend on the batch that a task sits
in or on how many starts are asked for. Starts come stacked, S rows a task and all of a task's rows together.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tgmm.counter_random import inverse_normal_cdf, random_uniform
from tgmm.errors import UserError, unknown_name
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import COVARIANCES, STREAM_INITIAL

STREAM_NORMAL_START, STREAM_KMEANS_START = STREAM_INITIAL, STREAM_INITIAL + 1
STARTS = ("normal", "k-means++", "truth")
ROUNDING = 1e-12  # squared distances below this share of the squared norms are rounding: the points coincide


def start_mixtures(
    start: str, points: Tensor, n_components: int, *, seed: int, index: Tensor, starts: int = 1,
    covariance: str = "isotropic", truth: Mixture | None = None,
) -> Mixture:  # fmt: skip
    """``starts`` starting mixtures for every task.

    Parameters
    ----------
    start : "normal", "k-means++" or "truth" (then there is one start, whatever ``starts`` says).
    points : Tensor (B, N, d).
    n_components : K.
    seed, index : what the random numbers depend on: an int and an int64 Tensor (B,).
    covariance : "isotropic" (no scales) or "anisotropic" (unit scales, or the truth's).
    truth : the true mixtures, K components each; needed for "truth" only.

    Returns
    -------
    Mixture of B * S rows in float64, row b * S + s being the s-th start of task b.

    Raises
    ------
    UserError
        For an unknown start or covariance, or a missing or unfit truth.
    """
    if covariance not in COVARIANCES:
        raise unknown_name("covariance", covariance, COVARIANCES)
    if start == "normal":
        mixture = normal_start(seed, index, n_components, points.shape[-1], starts)
    elif start == "k-means++":
        mixture = kmeans_plus_plus_start(points, n_components, seed, index, starts)
    elif start == "truth":
        mixture = _true_start(truth, points, n_components)
    else:
        raise unknown_name("start", start, STARTS)
    if covariance == "isotropic":
        return replace(mixture, standard_deviations=None)
    if mixture.standard_deviations is None:
        return replace(mixture, standard_deviations=torch.ones_like(mixture.means))
    return mixture


def normal_start(seed: int, index: Tensor, n_components: int, dimension: int, starts: int = 1) -> Mixture:
    """Uniform weights and means from N(0, I), the paper's EM: B * S rows."""
    uniform = _uniform(STREAM_NORMAL_START, seed, index, starts, n_components * dimension)
    means = inverse_normal_cdf(uniform).unflatten(-1, (n_components, dimension)).flatten(0, 1)
    return _uniform_weights(means)


def kmeans_plus_plus_start(points: Tensor, n_components: int, seed: int, index: Tensor, starts: int = 1) -> Mixture:
    """Uniform weights and means at k-means++ centres (Arthur and Vassilvitskii, SODA 2007): B * S rows.

    The first centre is a uniformly drawn point, each further one is drawn with probability proportional to the
    squared distance to the nearest centre so far (one candidate a step, not the greedy variant). If all points
    coincide with centres, the next one is a uniformly drawn point.
    """
    points = points.double()
    uniform = _uniform(STREAM_KMEANS_START, seed, index, starts, n_components)
    squared_norms = points.square().sum(-1)[:, None]
    distances = torch.full_like(uniform[..., :1], torch.inf).expand(-1, -1, points.shape[1])
    centres = []
    for component in range(n_components):
        mass = torch.ones_like(distances) if component == 0 else distances
        choice = _draw(mass, uniform[..., component, None])
        centre = points.gather(1, choice.expand(-1, -1, points.shape[-1]))
        centres.append(centre)
        scale = squared_norms + centre.square().sum(-1, keepdim=True)
        latest = scale - 2.0 * centre @ points.mT
        latest = latest.where(latest > ROUNDING * scale, 0.0).scatter(2, choice, 0.0)
        distances = torch.minimum(distances, latest)
    return _uniform_weights(torch.stack(centres, dim=2).flatten(0, 1))


def _draw(mass: Tensor, uniform: Tensor) -> Tensor:
    """An index along the last axis of ``mass`` (B, S, N), drawn in proportion to it; int64, (B, S, 1)."""
    cumulative = mass.cumsum(-1)
    empty = cumulative[..., -1:] <= 0
    cumulative = torch.where(empty, torch.ones_like(mass).cumsum(-1), cumulative)
    # Below the total by more than rounding, so that the index is never past the last point of positive mass.
    target = uniform * cumulative[..., -1:] * (1.0 - 1e-15)
    index = torch.searchsorted(cumulative, target, right=True)
    return index.clamp_max(mass.shape[-1] - 1)


def _true_start(truth: Mixture | None, points: Tensor, n_components: int) -> Mixture:
    if truth is None:
        raise UserError("start 'truth' needs the true mixtures, and none were given")
    wanted = (points.shape[0], n_components, points.shape[-1])
    if tuple(truth.means.shape) != wanted:
        raise UserError(f"the true means have shape {tuple(truth.means.shape)}, the tasks need {wanted}")
    return truth.to(points.device, torch.float64)


def _uniform(stream: int, seed: int, index: Tensor, starts: int, count: int) -> Tensor:
    """Uniform numbers (B, S, count): one attempt of the stream a start."""
    return random_uniform(seed, stream, index[:, None], count, torch.arange(starts, device=index.device))


def _uniform_weights(means: Tensor) -> Mixture:
    return Mixture(torch.full_like(means[..., 0], 1.0 / means.shape[1]), means)
