"""Trained models in half precision, where the scores stay the same to three digits."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from tgmm.models.checkpoint import RECORD_FILE, WEIGHTS_FILE, load_checkpoint
from tgmm.train.family import HISTORY_FILE
from tgmm.train.settings import TrainingSettings
from tgmm.train.validation import ValidationSet

AGREEMENT = 5e-4  # relative difference of errors that agree to three digits


def half_model(folder: Path, device: torch.device) -> dict[str, bytes]:
    """The files of a model folder by name, the record last and the weights in half precision.

    The record says so, with the validation error after rounding. Where that error does not agree to three digits
    with the one before, for some K, the files stay as they are.

    Raises
    ------
    UserError : the folder holds no sound model.
    """
    checkpoint = load_checkpoint(folder, device)
    validation = ValidationSet(TrainingSettings.from_dict(checkpoint.record["settings"]), device)
    state = half_state(checkpoint.network)
    before, after = validation.errors(checkpoint.network), validation.errors(rounded(checkpoint.network, state))
    files = {name: (folder / name).read_bytes() for name in (HISTORY_FILE, WEIGHTS_FILE, RECORD_FILE)}
    if not agree(before, after):
        return files
    weights = save(state)
    record: dict[str, Any] = {**checkpoint.record, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    error = sum(after.values()) / len(after)
    record["record"] = {**record["record"], "weights": "float16", "validation_l2_error_float16": error}
    content = json.dumps(record, indent=2, allow_nan=False) + "\n"
    return {**files, WEIGHTS_FILE: weights, RECORD_FILE: content.encode()}


def half_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors, those of real numbers in half precision."""
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def rounded(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """A copy of the network with these tensors."""
    other = copy.deepcopy(network)
    other.load_state_dict(state)
    return other


def agree(before: dict[int, float], after: dict[int, float]) -> bool:
    """Whether errors agree to three digits for every K; one that is not a number never does."""
    return all(abs(after[count] / before[count] - 1.0) <= AGREEMENT for count in before)
