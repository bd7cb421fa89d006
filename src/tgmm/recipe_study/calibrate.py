"""How fast the changes train: tasks per processor second, each beside the baseline's of the same round."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tgmm.errors import DivergenceError
from tgmm.study.recipe_study import BASELINE
from tgmm.train.family import train_network
from tgmm.train.settings import TrainingSettings

VALIDATION_TASKS = 1  # a training ends with a validation, whose time does not count


def measure_speeds(values: dict[str, Any], rounds: int, tasks: int, device: torch.device) -> pd.DataFrame:
    """Train every change for a while, again and again, each round in another order.

    Parameters
    ----------
    values : what `Study.recipe_study_settings` gives.
    rounds : times that each change is measured.
    tasks : training tasks of a measurement, rounded up to whole batches.

    Returns
    -------
    A row for each change and round: `change`, `round`, `speed` (tasks per processor second; NaN where the training
    diverged) and `share`, the speed by that of the baseline in the same round.
    """
    entries = values["changes"]
    rows = []
    for number in range(rounds):
        first = number * len(entries) // rounds
        for entry in [*entries[first:], *entries[:first]]:
            speed = _speed(entry["settings"], tasks, device)
            rows.append({"change": entry["change"], "round": number, "speed": speed})
    table = pd.DataFrame(rows)
    base = table[table["change"] == BASELINE].set_index("round")["speed"]
    return table.assign(share=table["speed"] / table["round"].map(base))


def _speed(settings: dict[str, Any], tasks: int, device: torch.device) -> float:
    """Tasks per processor second of one short training."""
    budget = settings["training"] | {"tasks": tasks, "validate_every": tasks}
    short = settings | {"training": budget, "validation_tasks": VALIDATION_TASKS}
    with tempfile.TemporaryDirectory() as work:
        try:
            trainer, reason = train_network(TrainingSettings.from_dict(short), Path(work), device, visible=False)
        except DivergenceError:
            return float("nan")
        if reason.kind != "finished":
            raise SystemExit(128 + reason.signal)
    last = trainer.record.history[-1]
    return last["tasks"] / last["processor_seconds"]


def speed_lines(speeds: pd.DataFrame) -> list[str]:
    """The medians over the rounds as text, a line for each change."""
    lines = [f"{'change':<20}{'tasks/s':>9}  tasks_share (median over rounds, lowest to highest)"]
    for change, rows in speeds.groupby("change", sort=False):
        share = rows["share"]
        lines.append(
            f"{change:<20}{rows['speed'].median():>9.0f}  {share.median():.2f} ({share.min():.2f} to {share.max():.2f})"
        )
    return lines
