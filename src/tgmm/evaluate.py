"""Scores a method on every task of a task set: one row a task, failures included."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tgmm import metrics
from tgmm.columns import METRICS, SCORE_COLUMNS
from tgmm.errors import UserError, unknown_name
from tgmm.files import atomic_path
from tgmm.methods.base import Method, TaskPoints
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.methods.spectral import estimate_spectral
from tgmm.methods.standardise import estimate_standardised
from tgmm.methods.transformer import estimate_tgmm
from tgmm.mixture import Mixture, rescaled
from tgmm.models.checkpoint import load_checkpoint
from tgmm.tasks.taskset import Cell, TaskSet

METHOD_KINDS = ("em", "spectral", "tgmm")


def build_method(settings: dict[str, Any], covariance: str, model: Path | None, device: torch.device) -> Method:
    """The estimation method that the settings describe.

    Parameters
    ----------
    settings : "kind" ("em", "spectral" or "tgmm"), that kind's own keys, and "standardise".
    covariance : of the tasks, "isotropic" or "anisotropic".
    model : folder of the trained family, for "tgmm".
    device : where to compute.
    """
    if settings.get("standardise"):
        plain = {key: value for key, value in settings.items() if key != "standardise"}
        method = build_method(plain, covariance, model, device)
        return lambda task: estimate_standardised(method, task, covariance)
    kind = settings.get("kind")
    if kind == "em":
        keys = {field.name for field in fields(EMSettings)} - {"covariance"}
        em = EMSettings(**{key: settings[key] for key in keys & settings.keys()}, covariance=covariance)
        return lambda task: estimate_em(
            task.points.to(device, torch.float64), task.n_components, em,
            seed=task.seed, index=task.index.to(device), truth=task.truth.to(device),
        )  # fmt: skip
    if kind == "spectral":
        return lambda task: estimate_spectral(
            task.points.to(device, torch.float64), task.n_components, seed=task.seed, index=task.index.to(device),
            covariance=covariance,
        )  # fmt: skip
    if kind == "tgmm":
        if model is None:
            raise UserError(f"method '{settings.get('method')}' is a trained network: name its folder with --model")
        network = load_checkpoint(model, device).network
        steps = settings.get("em_steps", 0)
        return lambda task: estimate_tgmm(network, task.points.to(device), task.n_components, steps)
    raise unknown_name("method kind", kind, METHOD_KINDS)


def score_taskset(taskset: TaskSet, settings: dict[str, Any], method: Method) -> pd.DataFrame:
    """Scores of a method on all cells of a task set, in the columns of a score file.

    Parameters
    ----------
    taskset : as loaded, hashes checked.
    settings : "scale", "method" and, for a trained network, "family" and "recipe"; a "start" of "truth" marks the
        oracle, which knows a task's true K and its units.
    method : from :func:`build_method`.
    """
    oracle = settings.get("start") == "truth"
    cells = [
        _score_cell(cell, method, oracle).assign(
            K=cell.n_components, N=cell.n_points, shift=cell.shift.kind, shift_value=float(cell.shift.value)
        )
        for cell in taskset.cells
    ]
    frame = pd.concat(cells, ignore_index=True).assign(
        scale=settings["scale"],
        taskset=taskset.settings["taskset"],
        covariance=taskset.settings["covariance"],
        d=taskset.settings["dimension"],
        method=settings["method"],
        family=settings.get("family", ""),
        recipe=settings.get("recipe", ""),
        seed=taskset.settings["seed"],
    )
    return frame[SCORE_COLUMNS]


def _score_cell(cell: Cell, method: Method, oracle: bool) -> pd.DataFrame:
    return pd.concat([_score_tasks(cell, tasks, method, oracle) for tasks in cell.chunks()], ignore_index=True)


def _score_tasks(cell: Cell, tasks: slice, method: Method, oracle: bool) -> pd.DataFrame:
    """Scores of one run of tasks; time is the method's alone, shared out evenly."""
    points, labels = cell.points(tasks)
    truth = cell.mixture[tasks]
    factor, offset = (1.0, 0.0) if oracle else cell.shift.units
    count = cell.n_components + (0 if oracle else cell.shift.extra_components)
    # A method's own randomness must not repeat the stream that drew the task: same key, streams of its own.
    delivered = TaskPoints(factor * points + offset, count, cell.seed, cell.index[tasks], truth)
    started = time.perf_counter()
    result = method(delivered)
    seconds = (time.perf_counter() - started) / len(points)
    estimate = rescaled(result.mixture.to("cpu", torch.float64), 1.0 / factor, -offset / factor)
    scores = score_estimates(estimate, truth, points.double(), labels, cell.heldout(tasks).double())
    failed = result.failed()
    frame = pd.DataFrame({name: values.masked_fill(failed, torch.nan).numpy() for name, values in scores.items()})
    return frame.assign(
        task_id=cell.index[tasks].numpy(),
        seconds=seconds,
        iterations=result.iterations.cpu().numpy(),
        failed=failed.numpy(),
        failure_reason=[result.failures.get(task, "") for task in range(len(points))],
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
    compact = scores.astype({name: "float32" for name in METRICS if name != "iterations"})
    with atomic_path(path) as temporary:
        compact.to_parquet(temporary, index=False, compression="zstd")
