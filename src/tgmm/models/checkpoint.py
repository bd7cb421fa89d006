"""Released models: safetensors weights beside a JSON record. No pickle is ever loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from tgmm.errors import UserError
from tgmm.files import read_json, read_safetensors_header, write_atomically, write_json
from tgmm.models.settings import NetworkSettings

FORMAT = 1
WEIGHTS_FILE, RECORD_FILE = "model.safetensors", "config.json"
ADVICE = "; train the family or pull its release"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and its record (see ``config.json``)."""

    network: nn.Module
    record: dict[str, Any]

    @property
    def family(self) -> str:
        return self.record["family"]


def save_checkpoint(folder: Path, network: nn.Module, record: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and, last, ``config.json`` with the architecture and the weights' SHA-256.

    Weights are rounded to half precision, which takes half the bytes of a release: what is scored are these.
    """
    state = {name: _rounded(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}
    weights = save_tensors(state)
    write_atomically(folder / WEIGHTS_FILE, weights)
    complete = {
        **record,
        "format": FORMAT,
        "network": network.settings.to_dict(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(folder / RECORD_FILE, complete)


def _rounded(tensor: Tensor) -> Tensor:
    """In half precision, unless it holds what is too large for that."""
    half = tensor.half()
    return half if half.isfinite().all() else tensor.clone()


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a model folder, in evaluation mode.

    Raises
    ------
    UserError : for a missing, corrupt or foreign folder: the message names the file and what is wrong with it.
    """
    record = read_record(folder)
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise UserError(f"{path}: cannot be read (no such file){ADVICE}")
    shapes = read_safetensors_header(path).shapes
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}){ADVICE}") from error
    if digest != record["weights_sha256"]:
        raise UserError(f"{path}: its SHA-256 is not the one in {RECORD_FILE}: corrupt, or from another training")
    try:
        settings = NetworkSettings.from_dict(record["network"])
        if settings.blocks > len(shapes):
            raise UserError(f"{settings.blocks:,} blocks, and {path.name} has {len(shapes):,} tensors")
        with torch.device("meta"):  # shapes without memory
            wanted = {name: tuple(tensor.shape) for name, tensor in settings.build().state_dict().items()}
    except (UserError, AttributeError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"{folder / RECORD_FILE}: describes no network of this version ({error})") from error
    try:
        _refuse_other_shapes(shapes, wanted)
        network = settings.build()
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, RuntimeError, UserError) as error:
        reason = str(error).removeprefix(f"{path}: ").splitlines()[0]
        raise UserError(f"{path}: not a checkpoint of the network in {RECORD_FILE} ({reason})") from error
    return Checkpoint(network.to(device).eval(), record)


def _refuse_other_shapes(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    """Compare the tensors of a file with those of a network before memory is taken for either."""
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise UserError(f"tensor '{name}' has shape {found.get(name)}, and the network's has {wanted.get(name)}")


def read_record(folder: Path) -> dict[str, Any]:
    """The training record of a model folder, checked for the keys that loading needs."""
    path = folder / RECORD_FILE
    record = read_json(path, ADVICE)
    keys = record if isinstance(record, dict) else {}
    missing = [key for key in ("family", "format", "network", "weights_sha256") if key not in keys]
    if missing:
        raise UserError(f"{path}: not a model record, it lacks '{missing[0]}'")
    if record["format"] != FORMAT:
        raise UserError(f"{path}: format {record['format']}; this version reads format {FORMAT}")
    return record
