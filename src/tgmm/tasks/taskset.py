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
from tgmm.files import SafetensorsHeader, read_safetensors_header, write_atomically
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points, simplex_means
from tgmm.tasks.settings import LARGEST_FILE, MOST_CELLS, TaskSetSettings, refuse_size
from tgmm.tasks.shifts import Shift

FORMAT = 2
METADATA_KEY = "taskset"  # one key only: safetensors writes several in random order
CHUNK_NUMBERS = 4_000_000
LARGEST_SEED = 2**63 - 1


def sample_shifted_mixtures(
    shift: Shift, seed: int, index: Tensor, n_components: int, dimension: int, covariance: str
) -> Mixture:
    """True parameters of the tasks under a shift; arguments as for :func:`tgmm.tasks.sampler.sample_mixtures`."""
    if shift.kind == "mean":
        again = shift.filter == "after"
        return sample_mixtures(
            seed, index, n_components, dimension, covariance, perturbation=shift.value, filter_again=again
        )
    if shift.kind == "spaced":
        return sample_mixtures(seed, index, n_components, dimension, covariance, distance=shift.value)
    mixture = sample_mixtures(seed, index, n_components, dimension, covariance)
    if shift.kind == "smallest-weight":
        # Weights are sorted: the first is the lightest.
        rest = mixture.weights[:, 1:]
        rest = rest * ((1.0 - shift.value) / sum(rest.unbind(1)))[:, None]
        lightest = torch.full_like(mixture.weights[:, :1], shift.value)
        return replace(mixture, weights=torch.cat([lightest, rest], dim=1))
    if shift.kind == "separation":
        means = simplex_means(seed, index, n_components, dimension, shift.value)
        return replace(mixture, weights=torch.full_like(mixture.weights, 1.0 / n_components), means=means)
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
        degrees = int(self.shift.value) if self.shift.kind == "student-t" and math.isfinite(self.shift.value) else 0
        per_task = max(self.n_points, self.heldout_points) * max(self.mixture.dimension, degrees)
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
    """Draw a task set from the keys of :class:`TaskSetSettings`."""
    chosen = TaskSetSettings.read(settings, "task-set settings")
    cells = []
    for n_components in chosen.n_components:
        seed = derive_seed(chosen.seed, "test", chosen.taskset, chosen.dimension, n_components)
        index = torch.arange(chosen.tasks)
        for shift in chosen.all_shifts():
            mixture = sample_shifted_mixtures(shift, seed, index, n_components, chosen.dimension, chosen.covariance)
            for n_points in chosen.n_points:
                name = f"k{n_components}-n{n_points}{shift.name}"
                cell = Cell(name, shift, mixture, seed, index, n_points, chosen.heldout_points, "")
                cells.append(replace(cell, sha256=hash_tasks(cell)))
    return TaskSet(settings, tuple(cells))


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
    UserError : for a missing or foreign file, and for tasks that do not match their hash.
    """
    header = read_safetensors_header(path)
    try:
        record = json.loads(header.metadata[METADATA_KEY])
        if record["format"] != FORMAT:
            raise UserError(f"{path}: format {record['format']}; this version reads format {FORMAT}")
        settings, cells = record["settings"], record["cells"]
        _check_header(header, _read_settings(path, settings), cells)
        tensors = load_tensors(Path(path).read_bytes())
        taskset = TaskSet(settings, tuple(_cell(name, cell, tensors, settings) for name, cell in cells.items()))
    except (SafetensorError, AttributeError, LookupError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a task set, or a corrupt one ({type(error).__name__}: {reason})") from error
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


def _check_header(header: SafetensorsHeader, settings: TaskSetSettings, cells: dict[str, Any]) -> None:
    """Raise a ValueError unless the tensors have the sizes that the cells need, all within the limits."""
    if header.n_bytes > LARGEST_FILE:
        raise ValueError(f"{header.n_bytes:,} bytes of parameters are above the limit of {LARGEST_FILE:,}")
    if len(cells) > MOST_CELLS:
        raise ValueError(f"{len(cells):,} cells are above the limit of {MOST_CELLS:,}")
    for name, cell in cells.items():
        group = cell["group"]
        n_tasks, n_components, dimension = header.shapes[f"{group}.means"]
        wanted = {"weights": (n_tasks, n_components), "index": (n_tasks,), "means": (n_tasks, n_components, dimension)}
        if settings.covariance == "anisotropic":
            wanted["standard_deviations"] = wanted["means"]
        for part, shape in wanted.items():
            dtype = "I64" if part == "index" else "F64"
            found = header.dtypes[f"{group}.{part}"], header.shapes[f"{group}.{part}"]
            if found != (dtype, shape):
                raise ValueError(f"cell '{name}': the {part} are {found[0]} of shape {found[1]}, not {dtype} {shape}")
        if not n_tasks or not n_components or dimension != settings.dimension:
            raise ValueError(f"cell '{name}': {n_tasks} tasks of {n_components} components in d={dimension}")
        _check_counts(name, cell, dimension)


def _check_counts(name: str, cell: dict[str, Any], dimension: int) -> None:
    for key, least in (("n_points", 1), ("seed", 0)):
        value = cell[key]
        if type(value) is not int or not least <= value <= LARGEST_SEED:
            raise ValueError(f"cell '{name}': {key} is {value!r:.60}")
    refuse_size(cell["n_points"], dimension)


def _read_settings(path: Path, settings: Any) -> TaskSetSettings:
    try:
        return TaskSetSettings.read(settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _cell(name: str, cell: dict[str, Any], tensors: dict[str, Tensor], settings: dict[str, Any]) -> Cell:
    group = cell["group"]
    mixture = Mixture(
        tensors[f"{group}.weights"], tensors[f"{group}.means"], tensors.get(f"{group}.standard_deviations")
    )
    _check_parameters(name, mixture)
    try:
        shift = Shift(**cell["shift"])
    except UserError as error:
        raise ValueError(str(error)) from error
    numbers = (cell["n_points"], settings["heldout_points"])
    return Cell(name, shift, mixture, cell["seed"], tensors[f"{group}.index"], *numbers, cell["sha256"])


def _check_parameters(name: str, mixture: Mixture) -> None:
    scales = mixture.standard_deviations
    finite = all(tensor.isfinite().all() for tensor in mixture.tensors() if tensor is not None)
    shares = (mixture.weights >= 0).all() and ((mixture.weights.sum(1) - 1.0).abs() < 1e-6).all()
    if not (finite and shares and (scales is None or (scales > 0).all())):
        raise ValueError(f"cell '{name}': its parameters are no mixtures")
