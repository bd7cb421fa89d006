"""What every estimation method is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tgmm.mixture import Mixture, concatenate


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
    """No estimate for any of the tasks, each a failure with the reason."""
    n_tasks, _, dimension = task.points.shape
    weights = torch.full((n_tasks, task.n_components), torch.nan, dtype=torch.float64)
    means = torch.full((n_tasks, task.n_components, dimension), torch.nan, dtype=torch.float64)
    failures = dict.fromkeys(range(n_tasks), f"not applicable: {reason}")
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
