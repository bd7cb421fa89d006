"""Data in any units brought to the location and spread of the training tasks, for methods that assume their scale."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from tgmm.methods.base import FitResult, Method, TaskPoints
from tgmm.mixture import rescaled
from tgmm.tasks.sampler import sample_mixtures

TYPICAL_TASKS = 512
SMALLEST_SPREAD = 1e-12


def estimate_standardised(method: Method, task: TaskPoints, covariance: str) -> FitResult:
    """A method's estimates from data standardised task by task, given in the data's own units.

    Each data set is centred at its mean and divided by one number, so that its root mean square distance from the mean
    is that of a typical training task of the same d and K. Where the components have unit covariance in training,
    the estimate then has spherical covariances of the size that the standardisation implies.
    """
    points = task.points.double()
    centre = points.mean(1, keepdim=True)
    spread = (points - centre).square().mean((1, 2)).sqrt().clamp_min(SMALLEST_SPREAD)
    factor = spread / typical_spread(task.n_components, points.shape[2], covariance)
    result = method(replace(task, points=((points - centre) / factor[:, None, None]).to(task.points.dtype)))
    mixture = rescaled(result.mixture, factor.to(result.mixture.means.device), centre[:, 0].to(result.mixture.means))
    return replace(result, mixture=mixture)


@functools.cache
def typical_spread(n_components: int, dimension: int, covariance: str) -> float:
    """Root mean square distance of a coordinate from its task's mean, over the tasks that networks are trained on."""
    mixture = sample_mixtures(0, torch.arange(TYPICAL_TASKS), n_components, dimension, covariance)
    weights = mixture.weights[..., None]
    between = (weights * mixture.means.square()).sum(1) - (weights * mixture.means).sum(1).square()
    scales = mixture.standard_deviations
    within = 1.0 if scales is None else (weights * scales.square()).sum(1)
    return (between + within).mean().sqrt().item()
