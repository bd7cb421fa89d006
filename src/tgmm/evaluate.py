"""Scores methods on every task of a task set: one row a task and method, failures included."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from tgmm import metrics
from tgmm.columns import METRICS, SCORE_COLUMNS
from tgmm.errors import UserError, shown
from tgmm.files import write_parquet
from tgmm.methods.base import Method, TaskPoints
from tgmm.methods.settings import AnyMethod, MethodContext
from tgmm.mixture import Mixture, rescaled
from tgmm.settings import FamilyName, Name, Seed, Settings, read_as
from tgmm.tasks.taskset import Cell, TaskSet


class ScoreSettings(Settings):
    """What the scores of one method say of it, beside its own settings."""

    method: Name = Field(description="Its name in the study.")
    entry: AnyMethod = Field(description="Its settings.")
    scale: Name = Field(description="The scale of the study.")
    seed: Seed = Field(description="Root of the method's own random numbers.")
    family: FamilyName | Literal[""] = Field("", description="The family whose network it runs; empty for a baseline.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScoreSettings:
        """Settings from the flat mapping that commands take: the method's own keys stand among the others."""
        own = {key: value for key, value in values.items() if key in cls.model_fields and key != "entry"}
        entry = {key: value for key, value in values.items() if key not in own}
        own["entry"] = read_as(AnyMethod, entry, f"method '{values.get('method')}'")
        return cls.read(own, "settings of tgmm score")


def read_score_settings(values: Mapping[str, Any]) -> list[ScoreSettings]:
    """Settings of one method, or of several under the key ``methods``, as commands take them."""
    methods = values["methods"] if list(values) == ["methods"] else [values]
    if not isinstance(methods, list) or not methods or not all(isinstance(entry, Mapping) for entry in methods):
        raise UserError(f"settings of tgmm score: 'methods' must be a list of settings, not {shown(methods)}")
    return [ScoreSettings.from_dict(entry) for entry in methods]


@dataclass(frozen=True)
class Scored:
    """A method ready to be scored.

    Attributes
    ----------
    settings : its name and settings.
    estimate : from :meth:`tgmm.methods.settings.MethodSettings.build`.
    """

    settings: ScoreSettings
    estimate: Method


def build_scored(settings: ScoreSettings, covariance: str, device: torch.device, model: Path | None = None) -> Scored:
    """The method that the settings describe, for tasks of such a covariance; ``model`` is the folder of a trained
    family.

    A network without a model, or one that was trained on tasks of another covariance, is a `UserError`.
    """
    try:
        return Scored(settings, settings.entry.build(MethodContext(covariance, device, model)))
    except UserError as error:
        raise UserError(f"method '{settings.method}': {error}") from None


def score_taskset(taskset: TaskSet, methods: Sequence[Scored]) -> list[pd.DataFrame]:
    """Scores of each method on all cells of a task set, in the columns of a score file; points are drawn once for all.

    Parameters
    ----------
    taskset : as loaded, hashes checked.
    methods : from :func:`build_scored`. The oracle knows a task's true K and its units.
    """
    parts: list[list[pd.DataFrame]] = [[] for _ in methods]
    for cell in taskset.cells:
        where = {
            "K": cell.n_components, "N": cell.n_points, "shift": cell.shift.kind,
            "shift_value": float(cell.shift.value),
        }  # fmt: skip
        for tasks in cell.chunks():
            drawn = Drawn(cell, tasks)
            for method, frames in zip(methods, parts, strict=True):
                frames.append(drawn.score(method).assign(**where))
    tables = [pd.concat(frames, ignore_index=True) for frames in parts]
    return [_labelled(table, taskset, method) for table, method in zip(tables, methods, strict=True)]


def _labelled(frame: pd.DataFrame, taskset: TaskSet, method: Scored) -> pd.DataFrame:
    settings = method.settings
    labels = {
        "scale": settings.scale,
        "taskset": taskset.settings["taskset"],
        "covariance": taskset.settings["covariance"],
        "d": taskset.settings["dimension"],
        "method": settings.method,
        "family": settings.family,
        "recipe": getattr(settings.entry, "recipe", ""),
        "seed": taskset.settings["seed"],
    }
    return frame.assign(**labels)[SCORE_COLUMNS]


class Drawn:
    """Some tasks of a cell with their points."""

    def __init__(self, cell: Cell, tasks: slice):
        self.cell, self.tasks = cell, tasks
        self.points, self.labels = cell.points(tasks)
        self.truth, self.heldout = cell.mixture[tasks], cell.heldout(tasks).double()

    def score(self, method: Scored) -> pd.DataFrame:
        """A row a task; time is the method's alone, shared out evenly."""
        oracle = method.settings.entry.knows_truth
        factor, offset = (1.0, 0.0) if oracle else self.cell.shift.units
        count = self.cell.n_components + (0 if oracle else self.cell.shift.extra_components)
        # A method's own randomness must not repeat the stream that drew the task: same key, streams of its own.
        index = self.cell.index[self.tasks]
        delivered = TaskPoints(factor * self.points + offset, count, self.cell.seed, index, self.truth)
        started = time.perf_counter()
        result = method.estimate(delivered)
        seconds = (time.perf_counter() - started) / len(self.points)
        estimate = rescaled(result.mixture.to("cpu", torch.float64), 1.0 / factor, -offset / factor)
        scores = score_estimates(estimate, self.truth, self.points.double(), self.labels, self.heldout)
        failed = result.failed()
        frame = pd.DataFrame({name: values.masked_fill(failed, torch.nan).numpy() for name, values in scores.items()})
        return frame.assign(
            task_id=index.numpy(),
            seconds=seconds,
            iterations=result.iterations.cpu().numpy(),
            failed=failed.numpy(),
            failure_reason=[result.failures.get(task, "") for task in range(len(self.points))],
        )


def score_estimates(
    estimate: Mixture, truth: Mixture, points: Tensor, labels: Tensor, heldout: Tensor
) -> dict[str, Tensor]:
    """Every metric of a batch of estimates, each a Tensor (B,) of float64.

    The metrics of the reference evaluator are NaN where the estimate has another number of components, which it does
    not provide for; the cross-entropy is NaN where it has fewer than the truth.
    """
    same = estimate.n_components == truth.n_components
    matched, names = (metrics.match(estimate, truth), None) if same else metrics.pair(estimate, truth)
    labelled = matched if same else estimate
    missing = torch.full_like(truth.weights[:, 0], torch.nan)
    mean_error, weight_error = metrics.mean_error(matched, truth), metrics.weight_error(matched, truth)
    fewer = estimate.n_components < truth.n_components
    return {
        "mean_error": mean_error,
        "weight_error": weight_error,
        "scale_error": metrics.scale_error(matched, truth),
        "l2_error": mean_error + weight_error,
        "l2_error_reference": metrics.l2_error_reference(estimate, truth) if same else missing,
        "weight_cross_entropy": missing if fewer else metrics.weight_cross_entropy(matched, truth),
        "accuracy": metrics.clustering_accuracy(labelled, points, labels, names),
        "log_likelihood": metrics.mean_log_likelihood(labelled, points),
        "log_likelihood_heldout": metrics.mean_log_likelihood(labelled, heldout),
        "log_likelihood_reference": metrics.mean_log_likelihood_reference(labelled, points) if same else missing,
        "dropped_reference": metrics.dropped_reference(labelled, points) if same else missing,
    }


def write_scores(path: Path, scores: pd.DataFrame) -> None:
    """Write scores as parquet, whole or not at all; measurements in single precision, which halves the file."""
    write_parquet(path, scores.astype({name: "float32" for name in METRICS if name != "iterations"}))
