"""How far every family of a study is, read from the files that training leaves; no trainer notices the reader.

Free of torch, so that figures and tables read histories without it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tgmm.errors import UserError
from tgmm.train.lease import is_held
from tgmm.train.settings import TrainingSettings
from tgmm.train.state import read_header, state_files

if TYPE_CHECKING:
    import pandas as pd

    from tgmm.study import Study

STATES = ("training", "damaged", "stopped", "finished", "queued")
ERRORS = ("validation_l2_error", "validation_l2_error_oracle")
SPEED_SECONDS = 60.0  # of training, at least, over which the speed is averaged
DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError, UserError)


@dataclass(frozen=True)
class FamilyStatus:
    """What is known of a family; None where nothing is.

    Attributes
    ----------
    state : one of ``STATES``: "training" (somebody holds the lock), "stopped" (a state exists and nobody holds the
        lock), "damaged" (likewise, but the newest state or the model's record cannot be read), "finished", "queued".
    step, steps, tasks, total_tasks : training steps and tasks, done at the last state and in all.
    validation_l2_error, validation_l2_error_oracle : of the last validation before that state.
    tasks_per_second, seconds_left : while it trains.
    state_age : seconds since the last state was written; None once the family is finished.
    note : damage, or a model or trainer of other settings (or of other code), which count for nothing.
    """

    family: str
    state: str
    steps: int
    total_tasks: int
    step: int = 0
    tasks: int = 0
    validation_l2_error: float | None = None
    validation_l2_error_oracle: float | None = None
    tasks_per_second: float | None = None
    seconds_left: float | None = None
    state_age: float | None = None
    note: str | None = None


class StudyStatus:
    """Reads the status of a study's families as often as it is asked; ``work`` holds the resumable states."""

    def __init__(self, study: Study, work: Path):
        self.study, self.work = study, work

    def read(self) -> list[FamilyStatus]:
        """Of every family of the default run, and of those for the reviewers that have been begun."""
        every = [self._family(family, self.study.train_settings(family)) for family in self.study.families]
        default = self.study.default_families
        return [status for status in every if status.family in default or status.state != "queued"]

    def _family(self, family: str, settings: dict[str, Any]) -> FamilyStatus:
        """A family's model if it is that of these settings, else its last state, if that is."""
        chosen = TrainingSettings.from_dict(settings)
        steps, batch = chosen.training.steps, chosen.training.batch
        total = {"family": family, "steps": steps, "total_tasks": steps * batch}
        model, broken_model = read_model(Path(self.study.results) / "models" / family)
        folders = work_folders(self.work / family)
        if model is None and not folders:
            return FamilyStatus(state="damaged" if broken_model else "queued", note=broken_model, **total)
        fingerprint = chosen.fingerprint()
        if model is not None and model.pop("fingerprint") == fingerprint:
            return FamilyStatus(state="finished", **model, **total)
        held = {folder.name for folder in folders if is_held(folder)}
        values, broken_state = newest_state(self.work / family / fingerprint, batch)
        note = broken_model or broken_state
        if fingerprint in held:
            left = _seconds_left(total["total_tasks"], values)
            return FamilyStatus(state="training", seconds_left=left, note=note, **values, **total)
        values.pop("tasks_per_second", None)
        if note is None and held:
            note = "training with other settings"
        elif note is None and model is not None:
            note = "model of other settings"
        state = "damaged" if broken_model or broken_state else "stopped" if values else "queued"
        return FamilyStatus(state=state, note=note, **values, **total)


def read_model(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """What a trained model's record says of its training, None where there is none; and a note where it is damaged."""
    path = folder / "config.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))["record"]
        done = {"step": int(record["steps"]), "tasks": int(record["tasks_seen"])}
        return {"fingerprint": record["fingerprint"], **done, **{name: float(record[name]) for name in ERRORS}}, None
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except DAMAGE:
        return None, f"{path.name} damaged"


def work_folders(parent: Path) -> list[Path]:
    """The folders of a family's states, one for each fingerprint."""
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{parent}: cannot be read ({error.strerror})") from error


def newest_state(folder: Path, batch: int) -> tuple[dict[str, Any], str | None]:
    """What the newest readable state says, nothing where there is none; and a note where a newer one is damaged."""
    note = None
    for path in state_files(folder):
        try:
            return read_state(path, batch), note
        except FileNotFoundError:  # its trainer has just replaced it
            continue
        except DAMAGE:
            note = "newest state damaged"
    return {}, note


def read_state(path: Path, batch: int) -> dict[str, Any]:
    """What a state's header says.

    Raises
    ------
    FileNotFoundError, or one of ``DAMAGE`` where the file is no state.
    """
    record, written = read_header(path)
    step, history = int(record["step"]), record["history"]
    validated = next((row for row in reversed(history) if ERRORS[0] in row), None)
    return {
        "step": step,
        "tasks": step * batch,
        **({name: float(validated[name]) for name in ERRORS} if validated else {}),
        "tasks_per_second": recent_speed(step * batch, record["seconds"], history),
        "state_age": max(0.0, time.time() - written),
    }


def recent_speed(tasks: int, seconds: float, history: list[dict[str, Any]]) -> float | None:
    """Tasks a second since the last row of the history that is ``SPEED_SECONDS`` of training old."""
    start = {"tasks": 0, "seconds": 0.0}
    row = next((row for row in reversed(history) if seconds - row["seconds"] >= SPEED_SECONDS), start)
    return (tasks - row["tasks"]) / (seconds - row["seconds"]) if seconds > row["seconds"] else None


def _seconds_left(total_tasks: int, values: dict[str, Any]) -> float | None:
    """Time to the end at the state's speed; what has passed since the state was written is taken off."""
    if not values.get("tasks_per_second"):
        return None
    return max(0.0, (total_tasks - values["tasks"]) / values["tasks_per_second"] - values["state_age"])


# --- what a training's history says ------------------------------------------------------------------------------


HISTORY_COLUMNS = ("tasks", "validation_l2_error", "validation_l2_error_oracle")
LAST_PART, LEAST_GAIN = 1 / 3, 0.05


def validations(history: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the rows of a family's ``history.csv`` at which it was validated; a `UserError` where there is none."""
    rows = history.dropna(subset=["validation_l2_error"])
    rows = rows[rows["tasks"] > 0]
    if rows.empty:
        raise UserError(f"the training history of family '{family}' holds no validation")
    return rows


def still_learning(history: pd.DataFrame) -> bool:
    """Return whether the best validation error fell by more than 5 % over the last third of the tasks seen.

    A history (``tasks``, ``validation_l2_error``, in any order) without a validation in its first two thirds shows no
    end of learning and counts as still learning.
    """
    tasks, errors = (history[name].to_numpy(float) for name in ("tasks", "validation_l2_error"))
    before = errors[~np.isnan(errors) & (tasks <= (1 - LAST_PART) * np.nanmax(tasks))]
    return not before.size or bool(np.nanmin(errors) < (1 - LEAST_GAIN) * before.min())
