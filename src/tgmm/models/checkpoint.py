"""Released models: safetensors weights beside a JSON record. No pickle is ever loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from tgmm.errors import UserError
from tgmm.files import (
    SafetensorsHeader,
    parse_json,
    read_safetensors_header,
    read_text,
    write_atomically,
    write_json,
)
from tgmm.models.settings import NetworkSettings

FORMAT = 1
WEIGHTS_FILE, RECORD_FILE = "model.safetensors", "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and its record (see ``config.json``)."""

    network: nn.Module
    record: dict[str, Any]

    @property
    def family(self) -> str:
        return self.record["family"]


def save_checkpoint(folder: Path, network: nn.Module, record: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and, last, ``config.json`` with the architecture and the weights' SHA-256."""
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    weights = save_tensors(state)
    write_atomically(folder / WEIGHTS_FILE, weights)
    complete = {
        **record,
        "format": FORMAT,
        "network": network.settings.to_dict(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(folder / RECORD_FILE, complete)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a model folder, in evaluation mode.

    Raises
    ------
    UserError
        For a missing, corrupt or foreign folder: the message names the file and what is wrong with it.
    """
    record = read_record(folder)
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise UserError(f"{path}: cannot be read (no such file); train the family or pull its release")
    header = read_safetensors_header(path)
    network = _network(folder, record, header)
    weights = path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != record["weights_sha256"]:
        raise UserError(f"{path}: its SHA-256 is not the one in {RECORD_FILE}: corrupt, or from another training")
    try:
        state = {name: tensor.float() for name, tensor in load_tensors(weights).items()}
        network.load_state_dict(state, assign=True)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a checkpoint of the network in {RECORD_FILE} ({reason})") from error
    return Checkpoint(network.to(device).eval(), record)


def _network(folder: Path, record: dict[str, Any], header: SafetensorsHeader) -> nn.Module:
    """The record's network without weights, which takes no memory, if the file has tensors of its names and shapes."""
    path, place = folder / WEIGHTS_FILE, folder / RECORD_FILE
    try:
        settings = NetworkSettings.from_dict(record["network"])
        if settings.blocks > len(header.shapes):
            raise UserError(f"{settings.blocks:,} blocks, and {path.name} has {len(header.shapes):,} tensors")
        with torch.device("meta"):
            network = settings.build()
    except (UserError, AttributeError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"{place}: describes no network of this version ({error})") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(shapes.keys() | header.shapes.keys()):
        if shapes.get(name) != header.shapes.get(name):
            found, wanted = header.shapes.get(name, "missing"), shapes.get(name, "not wanted")
            raise UserError(f"{path}: not a checkpoint of the network in {RECORD_FILE} ({name}: {found}, {wanted})")
    return network


def read_record(folder: Path) -> dict[str, Any]:
    """The training record of a model folder, checked for the keys that loading needs."""
    path = folder / RECORD_FILE
    try:
        record = parse_json(read_text(path), path)
    except UserError as error:
        raise UserError(f"{error}; train the family or pull its release") from error
    keys = record if isinstance(record, dict) else {}
    missing = [key for key in ("family", "format", "network", "weights_sha256") if key not in keys]
    if missing:
        raise UserError(f"{path}: not a model record, it lacks '{missing[0]}'")
    if record["format"] != FORMAT:
        raise UserError(f"{path}: format {record['format']}; this version reads format {FORMAT}")
    return record
