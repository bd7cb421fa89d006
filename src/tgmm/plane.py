"""A few tasks in the plane, to look at: every method's estimate, and EM's iterations beside a network's blocks.

What comes out is plain data, as JSON holds it. A component is [weight, x, y, deviation of x, deviation of y]. The
components of every estimate stand in the order in which they match the true ones, so that colours mean the same in all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from tgmm.errors import UserError
from tgmm.evaluate import Scored, ScoreSettings, build_scored
from tgmm.files import write_atomically
from tgmm.methods.base import TaskPoints
from tgmm.methods.em import start_mixtures
from tgmm.metrics import best_permutation, l2_error, pairwise_errors
from tgmm.mixture import Mixture, map_labels, responsibilities
from tgmm.models.checkpoint import load_checkpoint
from tgmm.probes.measure import em_path
from tgmm.settings import Count, Name, Settings
from tgmm.tasks.taskset import Cell, TaskSet

DIGITS = 4
EM = "em"


class PlaneSettings(Settings):
    """What is shown of which task sets."""

    tasks: Count = Field(description="Tasks for each K, the first ones of the task set.")
    em_steps: Count = Field(description="Steps of EM that are shown.")
    tasksets: dict[Name, tuple[dict[str, Any], ...]] = Field(
        description="File of tasks in two dimensions -> the settings of every method that is shown on it."
    )


@dataclass(frozen=True)
class Path2D:
    """An estimate on its way.

    Attributes
    ----------
    method : the method whose way it is.
    steps : a mixture of B tasks after every step, none of them permuted.
    """

    method: str
    steps: list[Mixture]


def fit_plane(settings: PlaneSettings, tasksets: Sequence[TaskSet], models: Path, device: torch.device) -> list[dict]:
    """Every task that is shown, an entry each; ``models`` is the folder of all trained families."""
    entries = []
    for taskset in tasksets:
        name, d = taskset.settings["taskset"], taskset.settings["dimension"]
        covariance = taskset.settings["covariance"]
        if d != 2:
            raise UserError(f"task set '{name}': has d = {d}, and a picture of the plane needs d = 2")
        chosen = [ScoreSettings.from_dict(entry) for entry in settings.tasksets[f"{name}-d2"]]
        scored = [build_scored(entry, covariance, device, models / entry.family) for entry in chosen]
        network = deepest_network(chosen, models, device)
        for cell in _plain_cells(taskset):
            entries += _fit_cell(cell, name, covariance, scored, network, settings)
    return entries


def deepest_network(
    entries: Sequence[ScoreSettings], models: Path, device: torch.device
) -> tuple[str, nn.Module] | None:
    """Of the methods that are a network alone, the first whose network is read out after every block, and it."""
    for entry in entries:
        alone = entry.family and not entry.entry.em_steps and not entry.entry.standardise
        if alone and entry.entry.recipe == "components":
            return entry.method, load_checkpoint(models / entry.family, device).network
    return None


def _plain_cells(taskset: TaskSet) -> list[Cell]:
    """The first cell of every K: no shift, and the task set's first N."""
    cells = {cell.n_components: cell for cell in reversed(taskset.cells) if cell.shift.kind == "none"}
    return [cells[K] for K in sorted(cells)]


def _fit_cell(
    cell: Cell, taskset: str, covariance: str, scored: Sequence[Scored], network: tuple[str, nn.Module] | None,
    settings: PlaneSettings,
) -> list[dict]:  # fmt: skip
    part = slice(0, settings.tasks)
    points, labels = cell.points(part)
    task = TaskPoints(points, cell.n_components, cell.seed, cell.index[part], cell.mixture[part])
    results = {method.settings.method: method.estimate(task) for method in scored}
    paths = [em_from_normal_start(task, covariance, settings.em_steps)]
    if network is not None:
        paths.append(Path2D(network[0], block_estimates(network[1], points, cell.n_components)))
    entries = []
    for number in range(len(points)):
        fits = {
            name: describe_fit(result.mixture.to("cpu", torch.float64)[[number]], task, number)
            if number not in result.failures
            else {"failure": result.failures[number]}
            for name, result in results.items()
        }
        head = {"taskset": taskset, "covariance": covariance, "K": cell.n_components, "number": number + 1}
        entries.append(head | describe_task(task, labels, number, fits, paths))
    return entries


def em_from_normal_start(task: TaskPoints, covariance: str, steps: int) -> Path2D:
    """EM as the one-start baseline runs it, after 0, 1, ..., ``steps`` iterations."""
    options = {"seed": task.seed, "index": task.index, "covariance": covariance}
    start = start_mixtures("normal", task.points.double(), task.n_components, **options)
    return Path2D(EM, em_path(start, task.points, steps))


def block_estimates(network: nn.Module, points: Tensor, n_components: int) -> list[Mixture]:
    """The mixtures that a network reads out after its blocks, float64."""
    device = next(network.parameters()).device
    counts = torch.full(points.shape[:1], n_components, device=device)
    network.eval()
    with torch.no_grad():
        estimates = network(points.float().to(device), counts)
    return [estimate.mixture(n_components).to("cpu", torch.float64) for estimate in estimates]


def write_plane(path: Path, entries: list[dict]) -> None:
    """Write the tasks as compact JSON, whole or not at all."""
    write_atomically(path, json.dumps(entries, separators=(",", ":"), allow_nan=False) + "\n")


# --- plain data ------------------------------------------------------------------------------------------------------


def describe_task(task: TaskPoints, labels: Tensor, number: int, fits: dict[str, dict], paths: list[Path2D]) -> dict:
    """One task of a batch with its estimates and paths."""
    return {
        "points": _rounded(task.points[number]),
        "labels": labels[number].tolist(),
        "truth": components(task.truth[[number]]),
        "fits": fits,
        "paths": {path.method: describe_path(path, task, number) for path in paths},
    }


def describe_fit(estimate: Mixture, task: TaskPoints, number: int) -> dict:
    """The estimate of one task: its components, everybody's responsibilities in per cent, and its error."""
    truth = task.truth[[number]]
    matched = estimate.permute_components(best_permutation(pairwise_errors(estimate, truth)))
    shares = 100 * responsibilities(matched, task.points[[number]].double())[0].mT
    error = l2_error(matched, truth).item()
    return {
        "components": components(matched),
        "responsibilities": shares.round().int().tolist(),
        "error": _short(error),
    }


def describe_path(path: Path2D, task: TaskPoints, number: int) -> dict:
    """The way of one task's estimate, in the order in which its last step matches the truth; it ends where EM broke."""
    truth, points = task.truth[[number]], task.points[[number]].double()
    steps = [step[[number]] for step in path.steps]
    whole = [
        bool(torch.stack([part.isfinite().all() for part in step.tensors() if part is not None]).all())
        for step in steps
    ]
    steps = steps[: whole.index(False)] if False in whole else steps
    order = best_permutation(pairwise_errors(steps[-1], truth))
    steps = [step.permute_components(order) for step in steps]
    return {
        "steps": [components(step) for step in steps],
        "labels": ["".join(map(str, map_labels(step, points)[0].tolist())) for step in steps],
        "errors": [_short(l2_error(step, truth).item()) for step in steps],
    }


def components(mixture: Mixture) -> list[list[float]]:
    """The components of a mixture of one task."""
    if mixture.standard_deviations is None:
        mixture = replace(mixture, standard_deviations=torch.ones_like(mixture.means))
    rows = torch.cat([mixture.weights[0, :, None], mixture.means[0], mixture.standard_deviations[0]], 1)
    return _rounded(rows)


def _rounded(rows: Tensor) -> list[list[float]]:
    return [[_short(value) for value in row] for row in rows.tolist()]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
