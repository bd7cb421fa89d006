"""Trains the assignment network, from its settings to its released files; a stopped training resumes.

Every step draws a batch of tasks from the broad prior (:mod:`tgmm.tasks.prior`), new ones each time. The loss is the
cross-entropy of the responsibilities with the true labels under the best permutation, earlier blocks counting 0.3; in
some batches K is withheld, and the cross-entropy of K is added. The learning rate is constant and then falls to zero
over the last third of the budget. All draws follow from the seed and the number of the step, so that nothing random
has to be saved.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from tgmm.counter_random import derive_seed
from tgmm.errors import DivergenceError
from tgmm.files import write_atomically, write_json
from tgmm.models.assignment import AssignmentNetwork, canonical_view
from tgmm.tasks.prior import Tasks, draw_tasks, tell_shapes
from tgmm.train.family import cost_and_origin, state_folder
from tgmm.train.lease import exclusive
from tgmm.train.progress import InterruptRequest, TrainingProgress, deferred_signals
from tgmm.train.settings import ASSIGNMENT_FILES, AssignmentTraining
from tgmm.train.state import TrainingRecord, restore_state, save_state
from tgmm.train.step import Optimizer
from tgmm.train.trainer import STATE_SECONDS, count_parameters

EARLIER = 0.3  # what the loss of an earlier block counts
POINTS = 32 * 192  # that a batch holds at most
WARM_STEPS, COOLING = 500, 0.35  # steps of rising rate, and the share of the budget in which it falls
ROWS = 40  # validations of a training
SUMS = ("told", "withheld", "of_k")


def matched_cross_entropy(outputs: list[Tensor], labels: Tensor) -> tuple[Tensor, float]:
    """The loss of all blocks, and the cross-entropy of the last one, under the last block's best permutation.

    Parameters
    ----------
    outputs : log-responsibilities (B, N, K) after every block.
    labels : int64 Tensor (B, N); -1 does not count.
    """
    K = outputs[-1].shape[-1]
    counted = labels >= 0
    labels = labels.clamp_min(0)
    with torch.no_grad():
        truth = F.one_hot(labels, K).float() * counted[..., None]
        costs = -(truth.mT @ outputs[-1]).nan_to_num().cpu().numpy()
        order = torch.tensor(np.stack([linear_sum_assignment(cost)[1] for cost in costs]))
        target = order.gather(1, labels)[..., None]
    share = counted / counted.sum()
    losses = [-(output.gather(2, target)[..., 0] * share).sum() for output in outputs]
    return losses[-1] + EARLIER * sum(losses[:-1]), losses[-1].item()


def draw_batch(settings: AssignmentTraining, seed: int) -> tuple[Tasks, Tensor, int]:
    """Tasks, the shapes and the K that the network is told (0: withheld); a seed fixes them all."""
    prior, rng, generator = settings.prior, np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    d = int(rng.choice(prior.dimensions))
    N = int(rng.choice(prior.large_sizes if rng.random() < prior.large else prior.sizes))
    B = min(settings.batch, max(4, POINTS // N))
    choices = [K for K in prior.components if max(2, N // 6) >= K]
    if withheld := rng.random() < settings.withheld:
        n_components = torch.tensor(rng.choice(choices, B))
    else:
        choices = [K for K in choices if K > 1 and (d > 1 or K <= 6)]
        n_components = torch.full((B,), int(rng.choice(choices)))
    tasks = draw_tasks(prior, n_components, d, N, generator)
    return tasks, tell_shapes(tasks.kinds, generator), 0 if withheld else int(n_components[0])


def batch_loss(network: AssignmentNetwork, tasks: Tasks, shapes: Tensor, K: int) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and its cross-entropies of the labels and of K by name."""
    outputs, logits = network(canonical_view(tasks.points, shapes), shapes, K)
    loss, last = matched_cross_entropy(outputs, tasks.labels)
    if K:
        return loss, {"told": last}
    of_k = F.cross_entropy(logits, tasks.n_components - 1)
    return loss + of_k, {"withheld": last, "of_k": of_k.item()}


class AssignmentTrainer:
    """Trains an assignment network; its states lie in ``work``."""

    def __init__(self, settings: AssignmentTraining, work: Path):
        torch.manual_seed(derive_seed(settings.seed, "initial weights", "assignment"))
        self.settings, self.work = settings, work
        self.network = AssignmentNetwork(settings.network)
        self.optimizer = Optimizer(self.network, settings)
        self.record = TrainingRecord(0, [], self._nothing(), 0.0, 0.0)
        self.validation = [
            draw_batch(settings, derive_seed(settings.seed, "assignment validation", number))
            for number in range(settings.validation_batches)
        ]

    @staticmethod
    def _nothing() -> list[float]:
        """No tasks, and for each cross-entropy no batches and no sum."""
        return [0.0] * (1 + 2 * len(SUMS))

    @property
    def tasks(self) -> int:
        """Tasks seen so far."""
        return round(self.record.running[0])

    def rate(self, step: int) -> float:
        """Learning rate of the ``step``-th step, counted from zero."""
        left = (self.settings.steps - step) / (COOLING * self.settings.steps)
        return self.settings.learning_rate * min(1.0, (step + 1) / WARM_STEPS, left)

    def take_step(self) -> float:
        """One step of the optimiser. Return its loss."""
        number = self.record.step
        tasks, shapes, K = draw_batch(self.settings, derive_seed(self.settings.seed, "assignment tasks", number))
        loss, parts = batch_loss(self.network, tasks, shapes, K)
        self.optimizer.zero()
        loss.backward()
        self.optimizer.set_rate(self.rate(number))
        if not torch.isfinite(self.optimizer.step()):
            raise DivergenceError(
                f"assignment: the gradient is not finite in step {number:,}; take a smaller assignment.learning_rate"
                f" (now {self.settings.learning_rate:g}); the states before are in {self.work}"
            )
        self.record.step += 1
        self.record.running[0] += len(tasks.points)
        for index, name in enumerate(SUMS):
            if name in parts:
                self.record.running[1 + 2 * index] += 1
                self.record.running[2 + 2 * index] += parts[name]
        return loss.item()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The cross-entropies on the validation batches, by name."""
        values: dict[str, list[float]] = {name: [] for name in SUMS}
        for tasks, shapes, K in self.validation:
            for name, value in batch_loss(self.network, tasks, shapes, K)[1].items():
                values[name].append(value)
        return {name: float(np.mean(several)) for name, several in values.items() if several}

    def add_row(self) -> dict[str, Any]:
        """Append a row of the history: cross-entropies of the training since the last one, and of the validation."""
        running = self.record.running
        row: dict[str, Any] = {"step": self.record.step, "tasks": self.tasks}
        for index, name in enumerate(SUMS):
            if count := running[1 + 2 * index]:
                row[name] = round(running[2 + 2 * index] / count, 5)
        row.update({f"validation_{name}": round(value, 5) for name, value in self.validate().items()})
        self.record.running = [running[0], *self._nothing()[1:]]
        self.record.history.append(row)
        return row

    def run(self, progress: TrainingProgress, request: InterruptRequest) -> bool:
        """Train until the budget is used or a signal asks to stop; return whether it is finished."""
        row_every = max(1, self.settings.steps // ROWS)
        started = saved = time.monotonic()
        earlier = self.record.seconds, self.record.processor_seconds - time.process_time()
        while self.record.step < self.settings.steps:
            loss = self.take_step()
            last = self.record.step == self.settings.steps
            self.record.seconds = earlier[0] + time.monotonic() - started
            self.record.processor_seconds = earlier[1] + time.process_time()
            progress.step(self.record.step * self.settings.batch, loss)
            if last or self.record.step % row_every == 0:
                row = self.add_row()
                shown = (f"{name} {row.get(f'validation_{name}', math.nan):.4f}" for name in SUMS)
                progress.validation = ", ".join(shown)
            if last or request or time.monotonic() - saved > STATE_SECONDS:
                save_state(self.work, self.network, self.optimizer, self.record)
                saved = time.monotonic()
            if request and not last:
                return False
        return True

    def release(self, folder: Path) -> None:
        """Write the weights, then their record; each appears whole or not at all."""
        tensors = {name: value.clone().contiguous() for name, value in self.network.state_dict().items()}
        weights_file, record_file = (folder / name for name in ASSIGNMENT_FILES)
        write_atomically(weights_file, save(tensors))
        write_json(
            record_file,
            {
                "settings": self.settings.plain(),
                "tasks": self.tasks,
                **cost_and_origin(self.record, torch.device("cpu")),
                "parameters": count_parameters(self.network),
                "history": self.record.history,
                "fingerprint": self.settings.fingerprint(),
            },
        )


def train(settings: AssignmentTraining, out: Path, work: Path, visible: bool = True) -> int | None:
    """Train a network, or go on with its training, and write it; return the signal that stopped it, or None.

    Parameters
    ----------
    settings : everything that shapes the result.
    out : gets assignment.safetensors and assignment.json, its record.
    work : parent of the resumable states, ``work/assignment/<fingerprint>/``.
    visible : whether progress is reported.
    """
    folder = state_folder(work, "assignment", settings.fingerprint())
    with deferred_signals() as request, exclusive(folder, request=request):
        trainer = AssignmentTrainer(settings, folder)
        trainer.record = restore_state(folder, trainer.network, trainer.optimizer) or trainer.record
        progress = TrainingProgress("assignment", settings.tasks, trainer.record.step * settings.batch, visible)
        try:
            finished = trainer.run(progress, request)
        finally:
            progress.close()
        if finished:
            trainer.release(out)
    return None if finished else request.number
