"""Resumable states of a training: weights, optimizer moments, step and history in one checked file, under a lock.

A state's name carries its step and the first digits of its SHA-256, so a damaged file is recognised and the one before
it is used. Tasks are drawn by counters and nothing else is random after the start, so no generator has to be saved.
Whoever only watches a training reads names and headers, for which torch is not imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgmm.errors import UserError
from tgmm.files import read_safetensors_header, write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tgmm.train.step import Optimizer

NAME = re.compile(r"state-(\d{9})-([0-9a-f]{16})\.safetensors")
KEPT = 2


@dataclass
class TrainingRecord:
    """What a state holds besides the tensors of network and optimizer.

    Attributes
    ----------
    step : steps taken.
    history : rows of history.csv so far.
    running : number of steps since the last row and sums of their losses, in the order of ``tgmm.train.step.SUMS``.
    seconds : time so far, without interruptions.
    processor_seconds : processor time of the steps alone.
    """

    step: int
    history: list[dict[str, Any]]
    running: list[float]
    seconds: float
    processor_seconds: float


def save_state(folder: Path, network: nn.Module, optimizer: Optimizer, record: TrainingRecord) -> Path:
    """Write a state and remove all but the newest two."""
    from safetensors.torch import save

    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors.update({f"optimizer.{name}": tensor for name, tensor in optimizer.tensors().items()})
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    content = save(tensors, {"record": json.dumps(asdict(record))})
    path = folder / f"state-{record.step:09d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    write_atomically(path, content)
    for old in state_files(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def restore_state(
    folder: Path, network: nn.Module, optimizer: Optimizer, warn: Callable[[str], None] = print
) -> TrainingRecord | None:
    """Load the newest sound state into network and optimizer; None where there is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    for path in state_files(folder):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != NAME.fullmatch(path.name)[2]:
            warn(f"{path}: damaged (its checksum does not match); using the state before it")
            continue
        try:
            tensors = load(content)
        except SafetensorError as error:
            warn(f"{path}: damaged ({error}); using the state before it")
            continue
        record, _ = read_header(path)
        network.load_state_dict(_part(tensors, "network."))
        optimizer.load(_part(tensors, "optimizer."))
        return TrainingRecord(**record)
    return None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def state_files(folder: Path) -> list[Path]:
    """The states in a folder, newest first."""
    return sorted((path for path in folder.glob("state-*.safetensors") if NAME.fullmatch(path.name)), reverse=True)


def read_header(path: Path) -> tuple[dict[str, Any], float]:
    """The training record in a state's header, and when the file was written (seconds since the epoch).

    Tensors stay unread, so of their damage only a wrong size is noticed.

    Raises
    ------
    FileNotFoundError
    UserError, ValueError or LookupError : where the file is no state.
    """
    written = path.stat().st_mtime
    try:
        return json.loads(read_safetensors_header(path).metadata["record"]), written
    except UserError as error:
        raise (error.__cause__ if isinstance(error.__cause__, FileNotFoundError) else error) from None
