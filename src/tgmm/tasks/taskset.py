"""Task sets on disk: the parameters and a seed for each task, and the SHA-256 of them and the points they generate.

The points themselves are not stored (d = 128 would take gigabytes): they are drawn again from the seed, bit for bit
the same on any machine, and checked against the hash before anything is scored on them. The parameters are in the
hash too: the last component's weight, for one, shapes no point. The same settings always give the same file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from tgmm.counter_random import derive_seed
from tgmm.errors import UserError
from tgmm.files import write_atomically
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.tasks.shifts import Shift

FORMAT = 2
METADATA_KEY = "taskset"  # one key only: safetensors writes several in random order
CHUNK_NUMBERS = 4_000_000
SETTINGS_KEYS = ("taskset", "covariance", "dimension", "n_components", "n_points", "tasks", "heldout_points", "seed")


def sample_shifted_mixtures(
    shift: Shift, seed: int, index: Tensor, n_components: int, dimension: int, covariance: str
) -> Mixture:
    """True parameters of the tasks under a shift; arguments as for :func:`tgmm.tasks.sampler.sample_mixtures`."""
    if shift.kind == "mean":
        again = shift.filter == "after"
        return sample_mixtures(
            seed, index, n_components, dimension, covariance, perturbation=shift.value, filter_again=again
        )
    mixture = sample_mixtures(seed, index, n_components, dimension, covariance)
    if shift.kind == "smallest-weight":
        # Weights are sorted: the first is the lightest.
        rest = mixture.weights[:, 1:]
        rest = rest * ((1.0 - shift.value) / sum(rest.unbind(1)))[:, None]
        lightest = torch.full_like(mixture.weights[:, :1], shift.value)
        return replace(mixture, weights=torch.cat([lightest, rest], dim=1))
    return mixture


def sample_shifted_points(
    shift: Shift, mixture: Mixture, seed: int, index: Tensor, n_points: int, *, heldout: bool = False
) -> tuple[Tensor, Tensor]:
    """Points and labels in the mixture's own units; arguments as for :func:`tgmm.tasks.sampler.sample_points`.

    Held-out points carry no outliers: they are there to judge the estimate of the mixture, which has none.
    """
    freedom = float(shift.value) if shift.kind == "student-t" else math.inf
    share = shift.value if shift.kind == "outliers" and not heldout else 0.0
    return sample_points(
        mixture, seed, index, n_points, heldout=heldout, degrees_of_freedom=freedom, outliers=share
    )  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """The tasks of one K, one number of points N and one shift, with the seed of each.

    Attributes
    ----------
    name : as in the file, such as "k3-n128" or "k3-n128-outliers+0.05".
    shift : how the tasks differ from those that networks are trained on.
    mixture : true parameters of B tasks, float64.
    seed : the Philox key of this K's tasks.
    index : Tensor (B,) of int64, each task's counter under that key.
    n_points : N; the same tasks at another N share their first points.
    heldout_points : number of fresh points a task for the held-out likelihood.
    sha256 : hash of the parameters (float64), then of all points (float32), little-endian, in task order.
    """

    name: str
    shift: Shift
    mixture: Mixture
    seed: int
    index: Tensor
    n_points: int
    heldout_points: int
    sha256: str

    @property
    def n_components(self) -> int:
        return self.mixture.n_components

    def chunks(self) -> Iterator[slice]:
        """Runs of tasks whose points fit comfortably in memory."""
        per_task = max(self.n_points, self.heldout_points) * self.mixture.dimension
        size = max(1, CHUNK_NUMBERS // per_task)
        for start in range(0, self.mixture.n_tasks, size):
            yield slice(start, min(start + size, self.mixture.n_tasks))

    def points(self, tasks: slice) -> tuple[Tensor, Tensor]:
        """Points (b, N, d) of float32, in the mixtures' own units, and labels (b, N) of a run of tasks."""
        return sample_shifted_points(self.shift, self.mixture[tasks], self.seed, self.index[tasks], self.n_points)

    def heldout(self, tasks: slice) -> Tensor:
        """Fresh points (b, heldout_points, d) of the same mixtures."""
        task = (self.mixture[tasks], self.seed, self.index[tasks])
        return sample_shifted_points(self.shift, *task, self.heldout_points, heldout=True)[0]


@dataclass(frozen=True)
class TaskSet:
    """All cells of a task set at one dimension, and the settings that made it."""

    settings: dict[str, Any]
    cells: tuple[Cell, ...]


def hash_tasks(cell: Cell) -> str:
    """SHA-256 of all the cell's parameters and points."""
    digest = hashlib.sha256()
    for parameters in (cell.mixture.weights, cell.mixture.means, cell.mixture.standard_deviations):
        if parameters is not None:
            digest.update(parameters.contiguous().numpy().astype("<f8", copy=False).tobytes())
    for tasks in cell.chunks():
        digest.update(cell.points(tasks)[0].contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def sample_taskset(settings: dict[str, Any]) -> TaskSet:
    """Draw a task set.

    Parameters
    ----------
    settings : "taskset" (its name), "covariance", "dimension", "n_components" (list of K), "n_points" (list of N),
        "tasks" (number for each K), "heldout_points", "seed" and, where the tasks are shifted, "shifts" (list of a
        "kind" with its "values").
    """
    missing = [key for key in SETTINGS_KEYS if key not in settings]
    if missing:
        raise UserError(f"task-set settings lack '{missing[0]}'")
    shifts = list_shifts(settings)
    cells = []
    for n_components in settings["n_components"]:
        seed = derive_seed(settings["seed"], "test", settings["taskset"], settings["dimension"], n_components)
        index = torch.arange(settings["tasks"])
        for shift in shifts:
            mixture = sample_shifted_mixtures(
                shift, seed, index, n_components, settings["dimension"], settings["covariance"]
            )  # fmt: skip
            for n_points in settings["n_points"]:
                name = f"k{n_components}-n{n_points}{shift.name}"
                cell = Cell(name, shift, mixture, seed, index, n_points, settings["heldout_points"], "")
                cells.append(replace(cell, sha256=hash_tasks(cell)))
    return TaskSet(settings, tuple(cells))


def list_shifts(settings: dict[str, Any]) -> list[Shift]:
    """Every value of every shift of a task set's settings; one that shifts nothing where they name none."""
    shifts = [
        Shift(**{key: entry[key] for key in entry if key != "values"}, value=value)
        for entry in settings.get("shifts") or ()
        for value in entry["values"]
    ]
    return shifts or [Shift()]


def save_taskset(path: Path, taskset: TaskSet) -> None:
    """Write a task set as safetensors; the hashes and settings are its metadata."""
    tensors: dict[str, Tensor] = {}
    cells = {}
    for cell in taskset.cells:
        parts = {"weights": cell.mixture.weights, "means": cell.mixture.means, "index": cell.index}
        if cell.mixture.standard_deviations is not None:
            parts["standard_deviations"] = cell.mixture.standard_deviations
        group = f"k{cell.n_components}{cell.shift.name if cell.shift.moves_parameters else ''}"
        tensors.update({f"{group}.{part}": tensor.clone() for part, tensor in parts.items()})
        cells[cell.name] = {
            "group": group, "shift": asdict(cell.shift), "seed": cell.seed, "n_points": cell.n_points,
            "sha256": cell.sha256,
        }  # fmt: skip
    record = {"format": FORMAT, "settings": taskset.settings, "cells": cells}
    write_atomically(path, save_tensors(tensors, {METADATA_KEY: json.dumps(record)}))


def load_taskset(path: Path, *, check: bool = True) -> TaskSet:
    """Read a task set and, unless told not to, draw its points once to check them against the hashes.

    Raises
    ------
    UserError
        For a missing or foreign file, and for tasks that do not match their hash.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        tensors = load_tensors(content)
        record = json.loads(_read_metadata(content)[METADATA_KEY])
        if record["format"] != FORMAT:
            raise UserError(f"{path}: format {record['format']}; this version reads format {FORMAT}")
        settings, cells = record["settings"], record["cells"]
        taskset = TaskSet(settings, tuple(_cell(name, cell, tensors, settings) for name, cell in cells.items()))
    except (SafetensorError, AttributeError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a task set, or a corrupt one ({type(error).__name__}: {error})") from error
    if check:
        check_hashes(path, taskset)
    return taskset


def check_hashes(path: Path, taskset: TaskSet) -> None:
    """Refuse, by name, a cell whose tasks are not the ones that the file was made with."""
    for cell in taskset.cells:
        if hash_tasks(cell) != cell.sha256:
            raise UserError(
                f"{path}: the points of cell '{cell.name}' do not match their SHA-256; sample the set again"
            )


def _read_metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def _cell(name: str, cell: dict[str, Any], tensors: dict[str, Tensor], settings: dict[str, Any]) -> Cell:
    group = cell["group"]
    mixture = Mixture(
        tensors[f"{group}.weights"], tensors[f"{group}.means"], tensors.get(f"{group}.standard_deviations")
    )
    index = tensors[f"{group}.index"]
    numbers = (cell["n_points"], settings["heldout_points"])
    try:
        shift = Shift(**cell["shift"])
    except UserError as error:
        raise ValueError(str(error)) from error
    return Cell(name, shift, mixture, cell["seed"], index, *numbers, cell["sha256"])
