"""What every estimation method is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tgmm.mixture import Mixture


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
