"""Where the families of a study are trained: their settings, models and states, and how far each of them is."""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgmm.errors import UserError, unknown_name
from tgmm.train.state_files import read_header, state_files
from tgmm.train.status import DAMAGE

if TYPE_CHECKING:
    from tgmm.train.settings import TrainingSettings


@dataclass(frozen=True)
class Progress:
    """How far a family is, read from the files that its training left.

    Attributes
    ----------
    state : "done", "begun" or "queued".
    tasks, seconds : seen and trained, over all sittings.
    error, oracle : of the last validation.
    """

    state: str = "queued"
    tasks: int = 0
    seconds: float = 0.0
    error: float | None = None
    oracle: float | None = None


class Workplace:
    """Where models and states lie, and the settings that families are trained with.

    Parameters
    ----------
    settings : of every family, as `tgmm train` takes them.
    models : parent of the model folders.
    work : parent of the resumable states.
    """

    def __init__(self, settings: dict[str, dict], models: Path, work: Path):
        self.settings, self.models, self.work = settings, models, work

    def training(self, family: str) -> TrainingSettings:
        from tgmm.train.settings import TrainingSettings

        if family not in self.settings:
            raise unknown_name("family", family, self.settings)
        return TrainingSettings.from_dict(self.settings[family])

    def fingerprint(self, family: str) -> str:
        from tgmm.code_version import training_version

        return self.training(family).fingerprint(training_version())

    def model(self, family: str) -> Path:
        return self.models / family

    def newest_state(self, family: str) -> Path | None:
        """The newest state of these settings and this code that is whole; the trainer passes over others too."""
        for path in state_files(self.work / family / self.fingerprint(family)):
            with suppress(*DAMAGE):
                read_header(path)
                return path
        return None

    def progress(self, family: str) -> Progress:
        from tgmm.models.checkpoint import RECORD_FILE

        record = self.model(family) / RECORD_FILE
        if record.is_file():
            made = json.loads(record.read_text(encoding="utf-8"))["record"]
            if made["fingerprint"] == self.fingerprint(family):
                errors = made["validation_l2_error"], made["validation_l2_error_oracle"]
                return Progress("done", made["tasks_seen"], training_seconds(self.model(family)), *errors)
        state = self.newest_state(family)
        return Progress() if state is None else state_progress(state, self.training(family).training.batch)


def training_seconds(model: Path) -> float:
    """How long a finished model trained, from the last row of its history; the record has tenths of a second only."""
    with (model / "history.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["seconds"])


def state_progress(path: Path, batch: int) -> Progress:
    """What a state says of itself, in the header of its file."""
    record, _ = read_header(path)
    validated = [row for row in record["history"] if "validation_l2_error" in row]
    errors = [validated[-1][f"validation_l2_error{part}"] for part in ("", "_oracle")] if validated else [None, None]
    return Progress("begun", record["step"] * batch, record["seconds"], *errors)


def family_settings(settings: Path | None, config: Path, scale: str, tasks: int | None) -> dict[str, dict]:
    """Settings of every family, from an exported file or else from the study; ``tasks`` takes the budget's place."""
    if settings is not None:
        from tgmm.cli.settings import load_settings

        families = load_settings(str(settings))
    else:
        from tgmm.study import load_study

        try:
            study = load_study(config, scale)
        except ModuleNotFoundError as error:
            line = f"{config}: reading it needs {error.name}; --settings takes what --export-settings wrote"
            raise UserError(line) from error
        families = {family: study.train_settings(family) for family in study.families}
    if tasks is None:
        return families
    return {family: with_budget(values, tasks) for family, values in families.items()}


def with_budget(values: dict[str, Any], tasks: int) -> dict[str, Any]:
    """A family's settings with another number of tasks to see."""
    budget = values["training"]
    return {**values, "training": {**budget, "tasks": tasks, "validate_every": min(tasks, budget["validate_every"])}}
