"""The training loop: tasks drawn on the fly, exact resume, one family a call."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tgmm.counter_random import derive_seed
from tgmm.errors import DivergenceError
from tgmm.models.network import build_network, count_parameters
from tgmm.tasks.stream import Axes, TaskBatch, TaskStream
from tgmm.train.cost import training_flops
from tgmm.train.interrupt import InterruptRequest
from tgmm.train.optimiser import Optimiser
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.state import TrainingRecord, restore_state, save_state
from tgmm.train.step import SUMS, RecordedStep, TrainingStep
from tgmm.train.validation import ValidationSet
from tgmm.train.world import World

HISTORY_ROWS = 200
STATE_SECONDS = 60.0
STATE_IS_OLD, TIME_IS_UP = 0.25, 0.5  # wishes of a process; a larger one is the number of a signal
LOOK_EVERY = {"cpu": 1, "cuda": 50}  # steps between two looks at losses, clock and signals: a look waits for a GPU


@dataclass
class StopReason:
    """Why the loop ended: "finished", "interrupted" (with the signal's number) or "budget"."""

    kind: str
    signal: int | None = None


def training_stream(settings: TrainingSettings, device: torch.device, axes: Axes | None = None) -> TaskStream:
    """The tasks that a family sees."""
    return TaskStream(
        derive_seed(settings.seed, "training tasks", settings.family), settings.training.batch,
        dimension=settings.dimension, covariance=settings.covariance, n_components=settings.n_components,
        n_points=settings.longest, device=device, axes=axes,
    )  # fmt: skip


class Trainer:
    """Trains one family; its state lives in ``work``, keyed by the settings' fingerprint.

    Parameters
    ----------
    settings : everything that shapes the result.
    work : folder of the resumable states.
    device : where to train.
    world : the processes that train this family together; each takes its share of every batch.
    """

    def __init__(
        self, settings: TrainingSettings, work: Path, device: torch.device | str = "cpu", world: World | None = None
    ):
        self.settings, self.work, self.device, self.world = settings, work, torch.device(device), world or World()
        budget = settings.training
        self.world.check(budget.batch)
        torch.manual_seed(derive_seed(settings.seed, "initial weights", settings.family))
        self.network = build_network(settings.network).to(self.device)
        self.parameters = count_parameters(self.network)
        self.stream = training_stream(settings, self.device, self.network.axes)
        self.task_flops = training_flops(self.network, self._typical_batch(), settings.loss, settings.unrolled)
        self.optimiser = Optimiser(self.network, budget)
        recorded = self.device.type == "cuda" and self.world.size == 1 and budget.optimiser == "adamw"
        self.step = (RecordedStep if recorded else TrainingStep)(settings, self.network, self.optimiser, self.world)
        self.record = TrainingRecord(step=0, history=[], running=[0.0] * len(SUMS), seconds=0.0, processor_seconds=0.0)
        self.look_every = LOOK_EVERY[self.device.type]

    def resume(self, say=print) -> None:
        """Go on from the newest sound state, if there is one."""
        restored = restore_state(self.work, self.network, self.optimiser, say)
        if restored is not None:
            self.record = restored
            self.step.sums.copy_(torch.tensor(restored.running, dtype=torch.float64))
            say(f"resuming at step {restored.step:,} of {self.settings.training.steps:,}")

    def run(
        self, validation: ValidationSet | None, progress: TrainingProgress, request: InterruptRequest,
        max_seconds: float = math.inf,
    ) -> StopReason:  # fmt: skip
        """Train until the budget of tasks is used, a signal asks to stop, or ``max_seconds`` have passed."""
        return next(filter(None, self.sitting(validation, progress, request, max_seconds)))

    def sitting(
        self, validation: ValidationSet | None, progress: TrainingProgress, request: InterruptRequest,
        max_seconds: float = math.inf,
    ) -> Iterator[StopReason | None]:  # fmt: skip
        """As :meth:`run`, piece by piece: None while training goes on, at last the reason for its end."""
        budget, record = self.settings.training, self.record
        started = saved = time.monotonic()
        earlier, busy = record.seconds, time.process_time()
        row_every = max(1, budget.steps // HISTORY_ROWS)
        validate_every = max(1, budget.validate_every // budget.batch)
        while record.step < budget.steps:
            self._take_step()
            last = record.step == budget.steps
            validate = last or record.step % validate_every == 0
            row = validate or record.step % row_every == 0
            if not (row or record.step % self.look_every == 0):
                continue
            record.processor_seconds += time.process_time() - busy
            yield None  # a GPU works on these steps while another family's turn comes
            self._refuse_bad_steps()
            now = time.monotonic()
            record.seconds = earlier + now - started
            time_is_up, state_is_old = now - started > max_seconds, now - saved > STATE_SECONDS
            # All processes do the same: what the largest number asks for, a signal's own or one below.
            wish = self.world.largest(
                request.number or (TIME_IS_UP if time_is_up else STATE_IS_OLD if state_is_old else 0.0), self.device
            )
            stop = wish >= TIME_IS_UP
            progress.step(min(record.step * budget.batch, budget.tasks), self._mean_loss())
            if row:
                self._add_row(validation if validate else None, progress)
            if last or wish:
                self._save()
                saved = now
            if stop and not last:
                yield StopReason("interrupted", int(wish)) if wish > TIME_IS_UP else StopReason("budget")
                return
            busy = time.process_time()
        yield StopReason("finished")

    def _take_step(self) -> None:
        number = self.record.step
        batch = self.stream.batch(number)
        self.step.take(number, self.settings.training.rate(number), batch[self.world.share(len(batch.points))])
        self.record.step += 1

    def _save(self) -> None:
        sums = self.step.sums.clone()
        self.world.average(sums)
        self.record.running = sums.tolist()
        if self.world.first:
            save_state(self.work, self.network, self.optimiser, self.record)

    def _mean_loss(self) -> float:
        """Of the steps since the last row of the history."""
        count, loss, *_ = self.step.sums.tolist()
        return loss / count

    def _refuse_bad_steps(self) -> None:
        step = self.step.bad.item()
        if step != TrainingStep.NEVER:
            self._refuse_divergence("the loss or its gradient is not finite", step)

    def _refuse_divergence(self, what: str, step: int) -> None:
        raise DivergenceError(
            f"{self.settings.family}: {what} at step {step} (learning rate {self.settings.training.rate(step):.2e}); "
            f"lower training.learning_rate. The states so far are kept in {self.work}"
        )

    def _typical_batch(self) -> TaskBatch:
        """The first batch at the average number of points, 3/4 N0, to count operations on."""
        batch = self.stream.batch(0)
        typical = round(0.75 * self.settings.longest)
        return replace(batch, points=batch.points.repeat(1, 2, 1)[:, :typical])

    def _add_row(self, validation: ValidationSet | None, progress: TrainingProgress) -> None:
        """Append a history row: losses averaged since the last one and, at a validation, the errors."""
        record, budget = self.record, self.settings.training
        self.world.average(self.step.sums)
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
        if validation is not None and self.world.first:
            errors = validation.errors(self.network)
            row["validation_l2_error"] = sum(errors.values()) / len(errors)
            if not math.isfinite(row["validation_l2_error"]):
                self._refuse_divergence("the validation error is not finite", record.step - 1)
            row["validation_l2_error_oracle"] = sum(validation.oracle.values()) / len(validation.oracle)
            row.update({f"validation_l2_error_k{count}": error for count, error in errors.items()})
            progress.validated(row["validation_l2_error"], row["validation_l2_error_oracle"])
        record.history.append(row)
