"""Trains a family from its settings to a released model folder."""

from __future__ import annotations

import math
import platform
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tgmm.code_version import training_version

from tgmm.files import write_atomically
from tgmm.models.checkpoint import save_checkpoint
from tgmm.train.interrupt import InterruptRequest, deferred_signals
from tgmm.train.lock import exclusive
from tgmm.train.loop import StopReason, Trainer
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.validation import ValidationSet
from tgmm.train.world import World, joined_world

HISTORY_FILE = "history.csv"
PACKAGES = ("torch", "numpy", "safetensors")


def train_family(
    settings: TrainingSettings, out: Path, work: Path, device: torch.device, max_minutes: float = math.inf
) -> StopReason:
    """Train, or go on training, one family; outputs appear only when it is finished.

    Parameters
    ----------
    settings : everything that shapes the result.
    out : the model's folder: model.safetensors, config.json, history.csv.
    work : parent of the resumable states, ``work/<family>/<fingerprint>/``.
    max_minutes : stop cleanly after so long and leave a state to go on from.
    """
    with joined_world(device) as world:
        trainer, reason = train_network(settings, work, device, max_minutes, world)
        if reason.kind == "finished" and world.first:
            release(trainer, out)
    return reason


def train_network(
    settings: TrainingSettings, work: Path, device: torch.device, max_minutes: float = math.inf,
    world: World | None = None, visible: bool = True,
) -> tuple[Trainer, StopReason]:  # fmt: skip
    """Train, or go on training, one network, and release nothing.

    Parameters
    ----------
    settings, work, max_minutes : as for :func:`train_family`.
    world : the processes that train it together.
    visible : whether progress is reported.
    """
    world = world or World()
    with ExitStack() as locks, deferred_signals() as request:
        trainer, validation = prepare(settings, work, device, locks, request, world)
        done = trainer.record.step * settings.training.batch
        progress = TrainingProgress(settings.family, settings.training.tasks, done, visible and world.first)
        try:
            reason = trainer.run(validation, progress, request, 60.0 * max_minutes)
        finally:
            progress.close()
    return trainer, reason


def prepare(
    settings: TrainingSettings, work: Path, device: torch.device, locks: ExitStack, request: InterruptRequest,
    world: World | None = None,
) -> tuple[Trainer, ValidationSet | None]:  # fmt: skip
    """A trainer at the newest state of its family, whose lock it holds, and what the first process validates on."""
    world = world or World()
    folder = state_folder(settings, work)
    if world.first:
        locks.enter_context(exclusive(folder, request=request))
    world.wait()
    trainer = Trainer(settings, folder, device, world)
    trainer.resume(lambda line: print(f"{settings.family}: {line}", flush=True) if world.first else None)
    return trainer, ValidationSet(settings, device) if world.first else None


def state_folder(settings: TrainingSettings, work: Path) -> Path:
    """Where the states of a family lie, ``work/<family>/<fingerprint>/``."""
    return work / settings.family / settings.fingerprint(training_version())


def release(trainer: Trainer, out: Path) -> None:
    """Write a trained family: weights, record and history."""
    history = pd.DataFrame(trainer.record.history)
    write_atomically(out / HISTORY_FILE, history.to_csv(index=False))
    save_checkpoint(
        out,
        trainer.network,
        {
            "family": trainer.settings.family,
            "settings": trainer.settings.to_dict(),
            "record": _record(trainer),
        },
    )


def _record(trainer: Trainer) -> dict[str, Any]:
    last = trainer.record.history[-1]
    return {
        "steps": trainer.record.step,
        "tasks_seen": trainer.record.step * trainer.settings.training.batch,
        "wall_seconds": round(trainer.record.seconds, 1),
        "processor_seconds": round(trainer.record.processor_seconds, 1),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else platform.machine(),
        "processes": trainer.world.size,
        "threads": torch.get_num_threads(),
        "seed": trainer.settings.seed,
        "parameters": trainer.parameters,
        "flops": last["flops"],
        "validation_l2_error": last["validation_l2_error"],
        "validation_l2_error_oracle": last["validation_l2_error_oracle"],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "fingerprint": trainer.settings.fingerprint(training_version()),
    }
