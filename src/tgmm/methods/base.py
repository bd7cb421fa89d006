"""What every estimation method is given and returns, what keeps its failures apart, and the trivial estimate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tgmm.columns import NOT_APPLICABLE
from tgmm.mixture import Mixture, concatenate, rescaled
from tgmm.tasks.sampler import sample_mixtures


@dataclass(frozen=True)
class FitResult:
    """Estimates for a batch of tasks.

    Attributes
    ----------
    mixture : the estimates; NaN in the tasks that failed.
    iterations : Tensor (B,) of int64, iterations carried out (over all starts); zero where the notion does not apply.
    failures : reason for each failed task, by its position in the batch. A failure is reported, never dropped.
    """

    mixture: Mixture
    iterations: Tensor
    failures: dict[int, str] = field(default_factory=dict)

    def failed(self) -> Tensor:
        """Bool tensor (B,), True where the method gave no estimate."""
        mask = torch.zeros(self.mixture.n_tasks, dtype=torch.bool)
        mask[list(self.failures)] = True
        return mask


@dataclass(frozen=True)
class TaskPoints:
    """What a method sees of a run of tasks that share one K.

    Attributes
    ----------
    points : Tensor (B, N, d).
    n_components : the K that the method is asked for.
    seed, index : the counters that its own randomness uses, an int and an int64 Tensor (B,).
    truth : the true mixtures, for the oracle alone.
    """

    points: Tensor
    n_components: int
    seed: int
    index: Tensor
    truth: Mixture


Method = Callable[[TaskPoints], FitResult]


def not_applicable(task: TaskPoints, reason: str) -> FitResult:
    """No estimate for any of the tasks: figures and tables show a gap."""
    n_tasks, _, dimension = task.points.shape
    weights = torch.full((n_tasks, task.n_components), torch.nan, dtype=torch.float64)
    means = torch.full((n_tasks, task.n_components, dimension), torch.nan, dtype=torch.float64)
    failures = dict.fromkeys(range(n_tasks), f"{NOT_APPLICABLE}: {reason}")
    return FitResult(Mixture(weights, means), torch.zeros(n_tasks, dtype=torch.int64), failures)


def guarded(estimate: Method) -> Method:
    """The method with its failures kept to the tasks that they are of: a row with a reason, the others as without them.

    The method sees no points that are not finite. Where a matrix of one task cannot be decomposed, each task is
    estimated by itself. An estimate that is not finite is a failure too. Without such tasks nothing is changed.
    """

    def estimate_usable(task: TaskPoints) -> FitResult:
        finite = task.points.isfinite().all(2).all(1)
        if finite.all():
            return _flag_infinite(_estimate_alone(estimate, task))
        failures = dict.fromkeys((~finite).nonzero()[:, 0].tolist(), "the points are not all finite")
        if not finite.any():
            return replace(not_applicable(task, ""), failures=failures)
        # The first sound task stands in for the bad ones: a batch of another size would be rounded differently.
        points = torch.where(finite[:, None, None], task.points, task.points[finite][:1])
        result = _flag_infinite(_estimate_alone(estimate, replace(task, points=points)))
        result = replace(result, mixture=result.mixture.map(lambda tensor: _masked(tensor, ~finite, torch.nan)))
        return replace(result, iterations=_masked(result.iterations, ~finite, 0), failures=result.failures | failures)

    return estimate_usable


def _estimate_alone(estimate: Method, task: TaskPoints) -> FitResult:
    """All tasks at once, or one by one where one of them has a matrix that cannot be decomposed."""
    try:
        return estimate(task)
    except torch.linalg.LinAlgError as error:
        if len(task.points) == 1:
            reason = f"a matrix cannot be decomposed: {str(error).splitlines()[0][:200]}"
            return replace(not_applicable(task, ""), failures={0: reason})
    parts = [_estimate_alone(estimate, _select(task, torch.tensor([number]))) for number in range(len(task.points))]
    with_scales = any(part.mixture.standard_deviations is not None for part in parts)
    mixtures = [_with_scales(part.mixture.to("cpu", torch.float64), with_scales) for part in parts]
    return FitResult(
        concatenate(mixtures),
        torch.cat([part.iterations.cpu() for part in parts]),
        {number: reason for number, part in enumerate(parts) for reason in part.failures.values()},
    )


def _select(task: TaskPoints, places: Tensor) -> TaskPoints:
    chosen = places.to(task.points.device)
    truth = task.truth[places.to(task.truth.means.device)]
    return replace(task, points=task.points[chosen], index=task.index[places.to(task.index.device)], truth=truth)


def _masked(values: Tensor, tasks: Tensor, filling: float) -> Tensor:
    return values.masked_fill(tasks.to(values.device).view(-1, *[1] * (values.ndim - 1)), filling)


def _with_scales(mixture: Mixture, wanted: bool) -> Mixture:
    if not wanted or mixture.standard_deviations is not None:
        return mixture
    return replace(mixture, standard_deviations=torch.full_like(mixture.means, torch.nan))


def _flag_infinite(result: FitResult) -> FitResult:
    """The result with every estimate that is not finite among its failures."""
    tensors = [tensor for tensor in result.mixture.tensors() if tensor is not None]
    finite = torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in tensors]).all(0)
    found = dict.fromkeys((~finite).nonzero()[:, 0].tolist(), "the estimate is not finite")
    return replace(result, failures=found | result.failures)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's CPU operations to one thread; a context or, called, a decorator.

    The baselines are thousands of operations of about 0.1 ms. A second thread gains them little, and the barrier
    after each operation costs whole scheduler slices as soon as other processes want the processors: measured on two
    busy cores, 35 times the time for the spectral method. Cells and methods are what to run in parallel.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def estimate_sample_mean(points: Tensor, n_components: int, covariance: str = "isotropic") -> FitResult:
    """The sample mean K times, with equal weights; of anisotropic tasks the sample standard deviations too.

    Parameters
    ----------
    points : Tensor (B, N, d).
    n_components : K.
    covariance : "isotropic" (unit covariances) or "anisotropic" (diagonal).

    Returns
    -------
    FitResult in float64. Points that are not all finite are a failure.
    """
    points = points.double()
    means = points.mean(1, keepdim=True).expand(-1, n_components, -1)
    weights = torch.full_like(means[..., 0], 1.0 / n_components)
    spread = points.std(1, correction=0, keepdim=True).expand_as(means) if covariance == "anisotropic" else None
    bad = (~points.isfinite().all(2).all(1)).nonzero()[:, 0].tolist()
    failures = dict.fromkeys(bad, "the points are not all finite")
    return FitResult(Mixture(weights, means.clone(), spread), torch.zeros(len(points), dtype=torch.int64), failures)


# --- data in any units -------------------------------------------------------------------------------------------


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
