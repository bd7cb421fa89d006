"""Trains a family from its settings to a released model folder."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tgmm.code_version import training_version
from tgmm.files import write_atomically
from tgmm.models.checkpoint import save_checkpoint
from tgmm.train.interrupt import deferred_signals
from tgmm.train.lock import exclusive
from tgmm.train.loop import StopReason, Trainer
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.validation import ValidationSet

HISTORY_FILE = "history.csv"
PACKAGES = ("torch", "numpy", "safetensors")


def train_family(
    settings: TrainingSettings, out: Path, work: Path, device: torch.device, max_minutes: float = float("inf")
) -> StopReason:
    """Train, or go on training, one family; outputs appear only when it is finished.

    Parameters
    ----------
    settings : everything that shapes the result.
    out : the model's folder: model.safetensors, config.json, history.csv.
    work : parent of the resumable states, ``work/<family>/<fingerprint>/``.
    max_minutes : stop cleanly after so long and leave a state to go on from.
    """
    fingerprint = settings.fingerprint(training_version())
    folder = work / settings.family / fingerprint
    budget = settings.training
    with exclusive(folder), deferred_signals() as request:
        trainer = Trainer(settings, folder, device)
        trainer.resume(lambda line: print(f"{settings.family}: {line}", flush=True))
        validation = ValidationSet(settings, device)
        progress = TrainingProgress(settings.family, budget.tasks, trainer.record.step * budget.batch)
        try:
            reason = trainer.run(validation, progress, request, 60.0 * max_minutes)
        finally:
            progress.close()
        if reason.kind == "finished":
            _release(trainer, out, fingerprint)
    return reason


def _release(trainer: Trainer, out: Path, fingerprint: str) -> None:
    history = pd.DataFrame(trainer.record.history)
    write_atomically(out / HISTORY_FILE, history.to_csv(index=False))
    save_checkpoint(
        out,
        trainer.network,
        {
            "family": trainer.settings.family,
            "settings": trainer.settings.to_dict(),
            "record": _record(trainer, fingerprint),
        },
    )


def _record(trainer: Trainer, fingerprint: str) -> dict[str, Any]:
    last = trainer.record.history[-1]
    return {
        "steps": trainer.record.step,
        "tasks_seen": trainer.record.step * trainer.settings.training.batch,
        "wall_seconds": round(trainer.record.seconds, 1),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "seed": trainer.settings.seed,
        "parameters": trainer.parameters,
        "flops": last["flops"],
        "validation_l2_error": last["validation_l2_error"],
        "validation_l2_error_oracle": last["validation_l2_error_oracle"],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "fingerprint": fingerprint,
    }
