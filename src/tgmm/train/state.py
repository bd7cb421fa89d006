"""Resumable training states: weights, optimiser moments, step and history in one checked file.

A state's name carries its step and the first digits of its SHA-256, so a damaged file is recognised and the one before
it is used. Tasks are drawn by counters and nothing else is random after the start, so no generator has to be saved.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from tgmm.files import write_atomically
from tgmm.train.optimiser import Optimiser
from tgmm.train.state_files import NAME, state_files

KEPT = 2


@dataclass
class TrainingRecord:
    """What a state holds besides the tensors of network and optimiser.

    Attributes
    ----------
    step : steps taken.
    history : rows of history.csv so far.
    running : number of steps since the last row and sums of their losses, in the order of ``tgmm.train.step.SUMS``.
    seconds : time so far, over all sittings.
    processor_seconds : processor time of the steps alone, over all sittings.
    """

    step: int
    history: list[dict[str, Any]]
    running: list[float]
    seconds: float
    processor_seconds: float


def save_state(folder: Path, network: nn.Module, optimiser: Optimiser, progress: TrainingRecord) -> Path:
    """Write a state and remove all but the newest two."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors.update({f"optimiser.{name}": tensor for name, tensor in optimiser.tensors().items()})
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    content = save_tensors(tensors, {"record": json.dumps(asdict(progress))})
    path = folder / f"state-{progress.step:09d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    write_atomically(path, content)
    for old in state_files(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def restore_state(folder: Path, network: nn.Module, optimiser: Optimiser, warn=print) -> TrainingRecord | None:
    """Load the newest sound state into network and optimiser; None where there is none."""
    for path in state_files(folder):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != NAME.fullmatch(path.name)[2]:
            warn(f"{path}: damaged (its checksum does not match); using the state before it")
            continue
        try:
            tensors = load_tensors(content)
        except SafetensorError as error:
            warn(f"{path}: damaged ({error}); using the state before it")
            continue
        length = int.from_bytes(content[:8], "little")
        record = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["record"])
        _load(tensors, network, optimiser)
        return TrainingRecord(**record)
    return None


def _load(tensors: dict[str, Tensor], network: nn.Module, optimiser: Optimiser) -> None:
    prefix = "network."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    prefix = "optimiser."
    optimiser.load({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
