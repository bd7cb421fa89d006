"""The training loop: tasks drawn on the fly, AdamW, exact resume, one family a call."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tgmm.counter_random import derive_seed
from tgmm.errors import UserError
from tgmm.losses import training_loss
from tgmm.models.network import build_network, count_parameters
from tgmm.tasks.sampler import TaskBatch, sample_training_batch
from tgmm.train.cost import training_flops
from tgmm.train.interrupt import InterruptRequest
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.state import TrainingRecord, restore_state, save_state
from tgmm.train.validation import ValidationSet

BETAS = (0.9, 0.98)
HISTORY_ROWS = 200
STATE_SECONDS = 60.0


@dataclass
class StopReason:
    """Why the loop ended: "finished", "interrupted" (with the signal's number) or "budget"."""

    kind: str
    signal: int | None = None


class Trainer:
    """Trains one family; its state lives in ``work``, keyed by the settings' fingerprint.

    Parameters
    ----------
    settings : everything that shapes the result.
    work : folder of the resumable states.
    device : where to train.
    """

    def __init__(self, settings: TrainingSettings, work: Path, device: torch.device | str = "cpu"):
        self.settings, self.work, self.device = settings, work, torch.device(device)
        torch.manual_seed(derive_seed(settings.seed, "initial weights", settings.family))
        self.network = build_network(settings.network).to(self.device)
        budget = settings.training
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=budget.learning_rate,
            betas=BETAS,
            weight_decay=budget.weight_decay,
            fused=True,
        )
        self.task_seed = derive_seed(settings.seed, "training tasks", settings.family)
        self.record = TrainingRecord(step=0, history=[], running={}, seconds=0.0)
        self.parameters = count_parameters(self.network)
        self.task_flops = training_flops(self.network, self._typical_batch(), settings.loss)

    def resume(self, say=print) -> None:
        """Go on from the newest sound state, if there is one."""
        restored = restore_state(self.work, self.network, self.optimiser, say)
        if restored is not None:
            self.record = restored
            say(f"resuming at step {restored.step:,} of {self.settings.training.steps:,}")

    def run(
        self, validation: ValidationSet, progress: TrainingProgress, request: InterruptRequest,
        max_seconds: float = math.inf,
    ) -> StopReason:  # fmt: skip
        """Train until the budget of tasks is used, a signal asks to stop, or ``max_seconds`` have passed."""
        budget = self.settings.training
        started = saved = time.monotonic()
        record, earlier = self.record, self.record.seconds
        row_every = max(1, budget.steps // HISTORY_ROWS)
        validate_every = max(1, budget.validate_every // budget.batch)
        while record.step < budget.steps:
            loss = self._train_step()
            record.step += 1
            now = time.monotonic()
            record.seconds = earlier + now - started
            last = record.step == budget.steps
            if last or record.step % validate_every == 0:
                self._record(validation, progress)
            elif record.step % row_every == 0:
                self._record(None, progress)
            progress.step(min(record.step * budget.batch, budget.tasks), loss)
            stop = bool(request) or now - started > max_seconds
            if last or stop or now - saved > STATE_SECONDS:
                save_state(self.work, self.network, self.optimiser, record)
                saved = now
            if stop and not last:
                return StopReason("interrupted", request.number) if request else StopReason("budget")
        return StopReason("finished")

    def _train_step(self) -> float:
        budget = self.settings.training
        rate = budget.rate(self.record.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = self._sample(self.record.step)
        estimates = self.network(batch.points, batch.n_components)
        loss, last = training_loss(estimates, batch.mixture, batch.n_components, self.settings.loss)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), budget.clip)
        value = last.total.item()
        self._refuse_divergence("loss", loss.item(), self.record.step)
        self.optimiser.step()
        self._accumulate(loss=value, mean_loss=last.means.item(), weight_loss=last.weights.item())
        return value

    def _refuse_divergence(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise UserError(
                f"{self.settings.family}: the {name} is {value} at step {step} "
                f"(learning rate {self.settings.training.rate(step):.2e}); lower training.learning_rate. "
                f"The states so far are kept in {self.work}"
            )

    def _sample(self, step: int) -> TaskBatch:
        settings = self.settings
        return sample_training_batch(
            self.task_seed, step, settings.training.batch, dimension=settings.dimension,
            covariance=settings.covariance, n_components=settings.n_components, longest=settings.longest,
            device=self.device,
        )  # fmt: skip

    def _typical_batch(self) -> TaskBatch:
        """The first batch at the average number of points, 3/4 N0, to count operations on."""
        batch = self._sample(0)
        typical = round(0.75 * self.settings.longest)
        points = batch.points.repeat(1, 2, 1)[:, :typical]
        return replace(batch, points=points)

    def _accumulate(self, **values: float) -> None:
        running = self.record.running
        for name, value in {"count": 1.0, **values}.items():
            running[name] = running.get(name, 0.0) + value

    def _record(self, validation: ValidationSet | None, progress: TrainingProgress) -> None:
        """Append a history row: losses averaged since the last one and, at a validation, the errors."""
        record, budget = self.record, self.settings.training
        count = record.running.pop("count")
        row: dict[str, Any] = {
            "step": record.step,
            "tasks": record.step * budget.batch,
            "seconds": round(record.seconds, 3),
            **{name: total / count for name, total in record.running.items()},
            "flops": record.step * budget.batch * self.task_flops,
            "parameters": self.parameters,
            "width": self.settings.network.width,
            "blocks": self.settings.network.blocks,
            "learning_rate": budget.rate(record.step - 1),
        }
        record.running = {}
        if validation is not None:
            errors = validation.errors(self.network)
            row["validation_l2_error"] = sum(errors.values()) / len(errors)
            self._refuse_divergence("validation error", row["validation_l2_error"], record.step - 1)
            row["validation_l2_error_oracle"] = sum(validation.oracle.values()) / len(validation.oracle)
            row.update({f"validation_l2_error_k{count}": error for count, error in errors.items()})
            progress.validated(row["validation_l2_error"], row["validation_l2_error_oracle"])
        record.history.append(row)
