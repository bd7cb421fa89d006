"""Trains a family from its settings to a released model folder."""

from __future__ import annotations

import math
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tgmm.files import write_atomically
from tgmm.models.checkpoint import save_checkpoint
from tgmm.train.lease import exclusive
from tgmm.train.progress import TrainingProgress, deferred_signals
from tgmm.train.settings import TrainingSettings
from tgmm.train.state import TrainingRecord
from tgmm.train.trainer import StopReason, Trainer, ValidationSet

HISTORY_FILE = "history.csv"
PACKAGES = ("torch", "numpy", "safetensors")


def train_family(
    settings: TrainingSettings, out: Path, work: Path, device: torch.device, max_minutes: float = math.inf
) -> StopReason:
    """Train one family, or resume its training; outputs appear only when it is finished.

    Parameters
    ----------
    settings : everything that shapes the result.
    out : the model's folder: model.safetensors, config.json, history.csv.
    work : parent of the resumable states, ``work/<family>/<fingerprint>/``.
    max_minutes : stop cleanly after so long and leave a state to resume from.
    """
    trainer, reason = train_network(settings, work, device, max_minutes)
    if reason.kind == "finished":
        release(trainer, out)
    return reason


def train_network(
    settings: TrainingSettings, work: Path, device: torch.device, max_minutes: float = math.inf, visible: bool = True
) -> tuple[Trainer, StopReason]:
    """Train one network as :func:`train_family` does, but release nothing; ``visible`` reports progress."""
    folder = state_folder(work, settings.family, settings.fingerprint())
    with deferred_signals() as request, exclusive(folder, request=request):
        trainer = Trainer(settings, folder, device)
        trainer.resume(lambda line: print(f"{settings.family}: {line}", flush=True))
        validation = ValidationSet(settings, device)
        done = trainer.record.step * settings.training.batch
        progress = TrainingProgress(settings.family, settings.training.tasks, done, visible)
        try:
            reason = trainer.run(validation, progress, request, 60.0 * max_minutes)
        finally:
            progress.close()
    return trainer, reason


def state_folder(work: Path, name: str, fingerprint: str) -> Path:
    """Where the states of a family lie, ``work/<family>/<fingerprint>/``."""
    return work / name / fingerprint


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
            "record": training_record(trainer),
        },
    )


def training_record(trainer: Trainer) -> dict[str, Any]:
    """What a released model says of its training."""
    last = trainer.record.history[-1]
    return {
        "tasks_seen": trainer.record.step * trainer.settings.training.batch,
        **cost_and_origin(trainer.record, trainer.device),
        "seed": trainer.settings.seed,
        "parameters": trainer.parameters,
        "flops": last["flops"],
        "validation_l2_error": last["validation_l2_error"],
        "validation_l2_error_oracle": last["validation_l2_error_oracle"],
        "fingerprint": trainer.settings.fingerprint(),
    }


def cost_and_origin(record: TrainingRecord, device: torch.device) -> dict[str, Any]:
    """What any training took, when it ended, and on which device and versions."""
    return {
        "steps": record.step,
        "wall_seconds": round(record.seconds, 1),
        "processor_seconds": round(record.processor_seconds, 1),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def processor_name(information: Path = Path("/proc/cpuinfo")) -> str:
    """Model of this machine's processor; where the system does not tell it, its architecture."""
    try:
        model = re.search(r"^model name\s*:\s*(.+)$", information.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        model = None
    return " ".join(model[1].split()) if model else platform.processor() or platform.machine()
