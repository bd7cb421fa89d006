"""One part of the recipe study: every change trained one after the other on the same tasks, for one d and one seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch

from tgmm.counter_random import derive_seed
from tgmm.errors import DivergenceError
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.metrics import l2_error
from tgmm.recipe_study.comparison import COLUMNS, ORACLE, PLAIN, REFINED, RESTARTS
from tgmm.train.family import train_network
from tgmm.train.progress import deferred_signals
from tgmm.train.settings import TrainingSettings
from tgmm.train.trainer import ValidationSet

FROM_HISTORY = ("tasks", "processor_seconds", "seconds", PLAIN, ORACLE, "parameters")


@dataclass(frozen=True)
class Part:
    """A part of the study: its rows, or the number of the signal that stopped it before the end."""

    rows: pd.DataFrame
    signal: int | None = None


def run_recipe_study(values: dict[str, Any], work: Path, device: torch.device, say=print) -> Part:
    """Train and validate every change, or go on with those that are not finished.

    A change whose training diverges is a result: one row with `diverged` and without errors.

    Parameters
    ----------
    values : what `Study.recipe_study_settings` gives: the settings of training of every change, EM steps and starts.
    work : parent of the resumable states. A finished change's last state is kept there, so it is not trained again.
    say : takes a line for every change.

    Returns
    -------
    Part with the columns of `tgmm.recipe_study.comparison.COLUMNS`: a row for every validation, the last of a change
    with the errors after EM steps and of EM from many starts.

    Raises
    ------
    UserError : for settings that cannot be trained, before anything is trained.
    """
    changes = {entry["change"]: TrainingSettings.from_dict(entry["settings"]) for entry in values["changes"]}
    tables = []
    with deferred_signals() as request:
        validation = ValidationSet(next(iter(changes.values())), device)
        restarts = error_of_restarts(validation, values)
        for change, settings in changes.items():
            if request:
                return Part(pd.DataFrame(), request.number)
            say(f"{change}: {settings.training.tasks:,} tasks to see")
            try:
                trainer, reason = train_network(settings, work, device)
            except DivergenceError as error:
                say(f"{change}: diverged ({error})")
                tables.append(pd.DataFrame([{"change": change, "diverged": True}]))
                continue
            if reason.kind == "interrupted":
                return Part(pd.DataFrame(), reason.signal)
            tables.append(_rows(change, trainer, validation, values["em_steps"]))
            say(_line(tables[-1].iloc[-1]))
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
    last = ~table["change"].duplicated(keep="last")
    table[ORACLE] = fmean(validation.oracle.values())
    table.loc[last, RESTARTS] = restarts
    whole = {"tasks": "Int64", "parameters": "Int64"}
    return table.assign(d=values["d"], seed=values["seed"]).astype(whole)
