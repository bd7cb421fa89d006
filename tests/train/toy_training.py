"""A family so small that tests train it in a moment, and what they compare of two trainings."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tgmm.train.progress import InterruptRequest
from tgmm.train.settings import TrainingSettings
from tgmm.train.trainer import Trainer, ValidationSet

STEPS = 12
TIMES = ["seconds", "processor_seconds"]
DEVICE = CPU = torch.device("cpu")
VALUES: dict[str, Any] = {
    "family": "toy", "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "longest": 12,
    "recipe": "components", "network": {"kind": "components", "width": 8, "blocks": 1, "heads": 2}, "loss": "matched",
    "training": {"tasks": 8 * STEPS, "batch": 8, "learning_rate": 5e-3, "validate_every": 32},
    "validation_tasks": 6, "seed": 5, "scale": "smoke",
}  # fmt: skip
RECIPES = {
    "components": {"kind": "components"},
    "matched": {"kind": "set-encoder"},
    "reference": {"kind": "gpt2", "positions": 12},
}


def edited(**changes: Any) -> dict[str, Any]:
    """The settings with changes; a double underscore reaches inside, as in ``training__tasks``."""
    values = copy.deepcopy(VALUES)
    for name, value in changes.items():
        *outer, key = name.split("__")
        target = values[outer[0]] if outer else values
        target[key] = value
    return values


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings.from_dict(edited(**changes))


class Quiet:
    """A progress bar that shows nothing, and a signal that comes during the step of a number."""

    def __init__(self, request: InterruptRequest, stop_after: int | None = None):
        self.request, self.left = request, stop_after
        self.signal()

    def signal(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.request.receive(signal.SIGTERM, None)

    def step(self, done: int, loss: float) -> None:
        self.signal()

    def validated(self, error: float, oracle: float) -> None:
        pass

    def close(self) -> None:
        pass


def run(folder: Path, stop_after: int | None = None, lines: list[str] | None = None, **changes: Any):
    """Train in a folder of states until the end or a signal."""
    request, lines = InterruptRequest(), [] if lines is None else lines
    trainer = Trainer(settings(**changes), folder, DEVICE)
    trainer.resume(lines.append)
    reason = trainer.run(ValidationSet(settings(**changes), DEVICE), Quiet(request, stop_after), request)
    return trainer, reason


def outcome(trainer: Trainer) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    return trainer.network.state_dict(), pd.DataFrame(trainer.record.history).drop(columns=TIMES)


def assert_same(first: Trainer, second: Trainer) -> None:
    (weights, history), (other_weights, other_history) = outcome(first), outcome(second)
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    pd.testing.assert_frame_equal(history, other_history, check_exact=True)


def assert_same_release(first: Path, second: Path) -> None:
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    histories = [pd.read_csv(folder / "history.csv").drop(columns=TIMES) for folder in (first, second)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
