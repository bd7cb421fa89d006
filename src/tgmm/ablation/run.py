"""Parts of the ablation, and how fast its changes train.

For one d and one seed every change is trained on the same tasks; a part is one change, or several one after the other.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self

import pandas as pd
import torch
from pydantic import Field, model_validator

from tgmm.ablation import COLUMNS, ORACLE, PLAIN, REFINED, RESTARTS
from tgmm.config import BASELINE
from tgmm.counter_random import derive_seed
from tgmm.errors import DivergenceError, UserError
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.metrics import l2_error
from tgmm.settings import Count, Name, Seed, Settings
from tgmm.train.family import train_network
from tgmm.train.progress import deferred_signals
from tgmm.train.settings import TrainingSettings
from tgmm.train.trainer import ValidationSet

VALIDATION_TASKS = 1  # of a measurement of speed: it ends with a validation, whose time does not count
FROM_HISTORY = ("tasks", "processor_seconds", "seconds", PLAIN, ORACLE, "parameters")


class ChangeSettings(Settings):
    """One change of the ablation."""

    change: Name = Field(description="Its name.")
    settings: TrainingSettings = Field(description="Settings of its training.")


class PartSettings(Settings):
    """A part of the ablation: changes of one d and one seed."""

    d: Count = Field(description="Dimension of the points.")
    seed: Seed = Field(description="Of every training.")
    scale: Name | Literal[""] = Field("", description="The scale of the study.")
    em_steps: int = Field(ge=0, le=10**4, description="EM steps that follow a network.")
    em_starts: int = Field(ge=1, le=10**4, description="Starts of EM beside the networks.")
    changes: tuple[ChangeSettings, ...] = Field(min_length=1, description="The changes.")

    @model_validator(mode="after")
    def _check_changes(self) -> Self:
        names = [entry.change for entry in self.changes]
        if len(set(names)) < len(names):
            raise ValueError(f"changes must have different names, not {names}")
        return self


@dataclass(frozen=True)
class Part:
    """A part of the ablation: its rows, or the number of the signal that stopped it before the end."""

    rows: pd.DataFrame
    signal: int | None = None


def run_ablation(values: dict[str, Any], work: Path, device: torch.device, report=print) -> Part:
    """Train and validate every change, or go on with those that are not finished.

    A change whose training diverges is a result: one row with `diverged` and without errors.

    Parameters
    ----------
    values : what `Study.ablation_settings` gives: the settings of training of every change, EM steps and starts.
    work : parent of the resumable states. A finished change's last state is kept there, so it is not trained again.
    report : takes a line for every change.

    Returns
    -------
    Part with `tgmm.ablation.COLUMNS`: a row for every validation, the last of a change with the error after EM steps,
    that of the baseline with the error of EM from many starts. Settings that cannot be trained are a `UserError` before
    anything is trained.
    """
    changes = {entry.change: entry.settings for entry in PartSettings.read(values, "settings of the ablation").changes}
    tables = []
    with deferred_signals() as request:
        validation = ValidationSet(next(iter(changes.values())), device)
        restarts = error_of_restarts(validation, values) if BASELINE in changes else float("nan")
        for change, settings in changes.items():
            if request:
                return Part(pd.DataFrame(), request.number)
            report(f"{change}: {settings.training.tasks:,} tasks to see")
            try:
                trainer, reason = train_network(settings, work, device)
            except DivergenceError as error:
                report(f"{change}: diverged ({error})")
                tables.append(pd.DataFrame([{"change": change, "diverged": True}]))
                continue
            if reason.kind == "interrupted":
                return Part(pd.DataFrame(), reason.signal)
            tables.append(_rows(change, trainer, validation, values["em_steps"]))
            report(_line(tables[-1].iloc[-1]))
    return Part(_joined(tables, values, validation, restarts))


def error_of_restarts(validation: ValidationSet, values: dict[str, Any]) -> float:
    """Mean l2-error of EM from many k-means++ starts on the validation tasks, averaged over K."""
    errors = []
    for count, cell in validation.tasks.items():
        covariance = values["changes"][0]["settings"]["covariance"]
        estimate = estimate_em(
            cell.points, count, EMSettings(start="k-means++", starts=values["em_starts"], covariance=covariance),
            seed=derive_seed(values["seed"], "recipe study", "em restarts", values["d"], count),
            index=torch.arange(len(cell.points)),
        )  # fmt: skip
        errors.append(l2_error(estimate.mixture, cell.truth).mean().item())
    return fmean(errors)


def _rows(change: str, trainer: Any, validation: ValidationSet, em_steps: int) -> pd.DataFrame:
    """The validations of a finished training, the last with the error after EM steps."""
    history = pd.DataFrame(trainer.record.history)
    rows = history.dropna(subset=[PLAIN])[list(FROM_HISTORY)].assign(change=change, diverged=False)
    rows.loc[rows.index[-1], REFINED] = fmean(validation.errors(trainer.network, em_steps=em_steps).values())
    return rows


def _line(row: pd.Series) -> str:
    return (
        f"{row['change']}: {row['tasks']:,} tasks in {row['processor_seconds']:.1f} processor seconds, "
        f"l2-error {row[PLAIN]:.4f}, after EM steps {row[REFINED]:.4f} (oracle {row[ORACLE]:.4f})"
    )


def _joined(
    tables: list[pd.DataFrame], values: dict[str, Any], validation: ValidationSet, restarts: float
) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True).reindex(columns=list(COLUMNS))
    table[ORACLE] = fmean(validation.oracle.values())
    baseline = table.index[table["change"] == BASELINE]
    table.loc[baseline[-1:], RESTARTS] = restarts
    whole = {"tasks": "Int64", "parameters": "Int64"}
    return table.assign(d=values["d"], seed=values["seed"]).astype(whole)


def measure_speeds(values: dict[str, Any], rounds: int, tasks: int, device: torch.device) -> pd.DataFrame:
    """Train every change for a while in every round, each round in another order.

    ``values`` are those of `Study.ablation_settings`, ``tasks`` the training tasks of a measurement, rounded up to
    whole batches. Returns a row for each change and round: `change`, `round`, `speed` (tasks per processor second; NaN
    where the training diverged) and `share`, the speed by that of the baseline in the same round.
    """
    asked = PartSettings.read(values, "settings of the ablation")
    if BASELINE not in (entry.change for entry in asked.changes):
        raise UserError(f"settings of the ablation: speeds are compared with that of '{BASELINE}', which is missing")
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
