"""The training loop: tasks drawn on the fly, validation beside the oracle, exact resume, one family a process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tgmm.counter_random import derive_seed
from tgmm.errors import DivergenceError
from tgmm.losses import HELDOUT, training_loss
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.methods.transformer import estimate_tgmm
from tgmm.metrics import l2_error
from tgmm.mixture import Mixture
from tgmm.tasks.stream import Axes, TaskBatch, TaskStream
from tgmm.tasks.taskset import sample_shifted_mixtures, sample_shifted_points
from tgmm.train.progress import InterruptRequest, TrainingProgress
from tgmm.train.settings import MEAN_LENGTH, TrainingSettings
from tgmm.train.state import TrainingRecord, restore_state, save_state
from tgmm.train.step import SUMS, Optimizer, RecordedStep, TrainingStep

HISTORY_ROWS = 200
STATE_SECONDS = 60.0
LOOK_EVERY = {"cpu": 1, "cuda": 50}  # steps between two looks at losses, clock and signals: a look waits for a GPU


@dataclass
class StopReason:
    """Why the loop ended: "finished", "interrupted" (with the signal's number) or "budget"."""

    kind: str
    signal: int | None = None


class Trainer:
    """Trains one family on a device; its state lives in the folder ``work``, keyed by the settings' fingerprint."""

    def __init__(self, settings: TrainingSettings, work: Path, device: torch.device | str = "cpu"):
        self.settings, self.work, self.device = settings, work, torch.device(device)
        torch.manual_seed(derive_seed(settings.seed, "initial weights", settings.family))
        self.network = settings.network.build().to(self.device)
        self.parameters = count_parameters(self.network)
        self.stream = training_stream(settings, self.device, self.network.axes)
        self.task_flops = training_flops(self.network, typical_batch(self.stream, settings.n_points), settings.loss)
        self.optimizer = Optimizer(self.network, settings.training)
        kind = RecordedStep if self.device.type == "cuda" else TrainingStep
        self.step = kind(settings, self.network, self.optimizer)
        self.record = TrainingRecord(step=0, history=[], running=[0.0] * len(SUMS), seconds=0.0, processor_seconds=0.0)
        self.look_every = LOOK_EVERY[self.device.type]

    def resume(self, report: Callable[[str], None] = print) -> None:
        """Resume from the newest sound state, if there is one."""
        restored = restore_state(self.work, self.network, self.optimizer, report)
        if restored is not None:
            self.record = restored
            self.step.sums.copy_(torch.tensor(restored.running, dtype=torch.float64))
            report(f"resuming at step {restored.step:,} of {self.settings.training.steps:,}")

    def run(
        self, validation: ValidationSet | None, progress: TrainingProgress, request: InterruptRequest,
        max_seconds: float = math.inf,
    ) -> StopReason:  # fmt: skip
        """Train until the budget of tasks is used, a signal asks to stop, or ``max_seconds`` have passed.

        Parameters
        ----------
        validation : tasks to validate on; None where no validation comes up.
        progress, request : what reports, and what asks to stop.
        """
        budget, record = self.settings.training, self.record
        started = saved = time.monotonic()
        earlier, busy = record.seconds, time.process_time()
        row_every = max(1, budget.steps // HISTORY_ROWS)
        validate_every = max(1, budget.validate_every // budget.batch)
        while record.step < budget.steps:
            self.take_step()
            last = record.step == budget.steps
            validate = last or record.step % validate_every == 0
            row = validate or record.step % row_every == 0
            if not (row or record.step % self.look_every == 0):
                continue
            record.processor_seconds += time.process_time() - busy
            self.refuse_bad_steps()
            now = time.monotonic()
            record.seconds = earlier + now - started
            stop = bool(request) or now - started > max_seconds
            progress.step(min(record.step * budget.batch, budget.tasks), self._mean_loss())
            if row:
                self.add_row(validation if validate else None, progress)
            if last or stop or now - saved > STATE_SECONDS:
                self._save()
                saved = now
            if stop and not last:
                return StopReason("interrupted", request.number) if request else StopReason("budget")
            busy = time.process_time()
        return StopReason("finished")

    def take_step(self, rate: float | None = None) -> None:
        """Take the next step, at the schedule's learning rate or another one."""
        number = self.record.step
        self.step.take(number, self.settings.training.rate(number) if rate is None else rate, self.stream.batch(number))
        self.record.step += 1

    def refuse_bad_steps(self) -> None:
        """Raise a `DivergenceError` if the loss or its gradient was not finite in some step."""
        step = self.step.bad.item()
        if step != TrainingStep.NEVER:
            self._refuse_divergence("the loss or its gradient is not finite", step)

    def add_row(self, validation: ValidationSet | None, progress: TrainingProgress) -> None:
        """Append a history row: losses averaged since the last one and, at a validation, the errors."""
        record, budget = self.record, self.settings.training
        count, *sums = self.step.sums.tolist()
        self.step.sums.zero_()
        row: dict[str, Any] = {
            "step": record.step,
            "tasks": record.step * budget.batch,
            "seconds": round(record.seconds, 3),
            "processor_seconds": round(record.processor_seconds, 3),
            **{name: total / count for name, total in zip(SUMS[1:], sums, strict=True)},
            "flops": record.step * budget.batch * self.task_flops,
            "parameters": self.parameters,
            "width": self.settings.network.width,
            "blocks": self.settings.network.blocks,
            "learning_rate": budget.rate(record.step - 1),
        }
        if validation is not None:
            errors = validation.errors(self.network)
            row["validation_l2_error"] = sum(errors.values()) / len(errors)
            if not math.isfinite(row["validation_l2_error"]):
                self._refuse_divergence("the validation error is not finite", record.step - 1)
            row["validation_l2_error_oracle"] = sum(validation.oracle.values()) / len(validation.oracle)
            row.update({f"validation_l2_error_k{count}": error for count, error in errors.items()})
            progress.validated(row["validation_l2_error"], row["validation_l2_error_oracle"])
        record.history.append(row)

    def _save(self) -> None:
        self.record.running = self.step.sums.tolist()
        save_state(self.work, self.network, self.optimizer, self.record)

    def _mean_loss(self) -> float:
        """Of the steps since the last row of the history."""
        count, loss, *_ = self.step.sums.tolist()
        return loss / count

    def _refuse_divergence(self, what: str, step: int) -> None:
        raise DivergenceError(
            f"{self.settings.family}: {what} at step {step} (learning rate {self.settings.training.rate(step):.2e}); "
            f"lower training.learning_rate. The states so far are kept in {self.work}"
        )


def training_stream(settings: TrainingSettings, device: torch.device, axes: Axes | None = None) -> TaskStream:
    """The tasks that a family sees."""
    return TaskStream(
        derive_seed(settings.seed, "training tasks", settings.family), settings.training.batch,
        dimension=settings.dimension, covariance=settings.covariance, n_components=settings.n_components,
        n_points=settings.n_points, device=device, axes=axes, shifts=settings.shifts, fresh=settings.loss == HELDOUT,
    )  # fmt: skip


def typical_batch(stream: TaskStream, n_points: int) -> TaskBatch:
    """The first batch at the average number of points, 3/4 N0, to count operations on."""
    batch, length = stream.batch(0), round(MEAN_LENGTH * n_points)
    fresh = None if batch.fresh is None else batch.fresh.repeat(1, 2, 1)[:, :length]
    return replace(batch, points=batch.points.repeat(1, 2, 1)[:, :length], fresh=fresh)


def training_flops(network: nn.Module, batch: TaskBatch, loss: str) -> float:
    """Floating-point operations that a step spends on one task of a typical batch, matrix products alone.

    They are counted while a forward and a backward pass run, so every kind of network is counted by the same rule;
    attention runs unfused for the count. Gradients are gone afterwards.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        estimates = network(batch.points, batch.n_components)
        training_loss(estimates, batch, loss)[0].backward()
    for parameter in network.parameters():
        parameter.grad = None
    return counter.get_total_flops() / len(batch.points)


@dataclass(frozen=True)
class ValidationTasks:
    """The validation tasks of one K at N = N0."""

    truth: Mixture
    points: Tensor


class ValidationSet:
    """A family's validation tasks, apart from every test task; the same for every recipe of the same tasks.

    Attributes
    ----------
    tasks : the tasks by K.
    oracle : mean l2-error of EM started from the truth, by K: the floor beside every error.
    """

    def __init__(self, settings: TrainingSettings, device: torch.device | str = "cpu"):
        self.tasks: dict[int, ValidationTasks] = {}
        self.oracle: dict[int, float] = {}
        index = torch.arange(settings.validation_tasks)
        for count in settings.n_components:
            seed = derive_seed(settings.seed, "validation", settings.covariance, settings.dimension, count)
            shape = (count, settings.dimension, settings.covariance)
            truth = sample_shifted_mixtures(settings.validated_on, seed, index, *shape)
            points, _ = sample_shifted_points(settings.validated_on, truth, seed, index, settings.n_points)
            oracle = estimate_em(
                points, count, EMSettings(start="truth", covariance=settings.covariance),
                seed=seed, index=index, truth=truth,
            )  # fmt: skip
            self.oracle[count] = l2_error(oracle.mixture, truth).mean().item()
            self.tasks[count] = ValidationTasks(truth.to(device), points.to(device))

    def errors(self, network: nn.Module, em_steps: int = 0) -> dict[int, float]:
        """Mean l2-error of the network's estimates, after so many EM steps, by K."""
        return {
            count: l2_error(estimate_tgmm(network, tasks.points, count, em_steps).mixture, tasks.truth).mean().item()
            for count, tasks in self.tasks.items()
        }


def count_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
