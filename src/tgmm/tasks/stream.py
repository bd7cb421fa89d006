"""The endless tasks that a training sees, drawn for several steps at once on the device that trains.

Parameters and lengths are functions of seed and index alone, as those of test tasks. The noise of the points is most of
the work and nobody else needs the same: it comes from torch's generator, seeded anew for every few steps, so that a
resumed training sees the same tasks; on another type of device they are other tasks of the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from tgmm.counter_random import derive_seed, random_words
from tgmm.mixture import Mixture, concatenate
from tgmm.tasks.sampler import (
    OUTLIER_RANGE,
    labels_from_uniform,
    sample_component_counts,
    sample_length,
    sample_mixtures,
)
from tgmm.tasks.shifts import Shift, ShiftValues
from tgmm.tasks.taskset import sample_shifted_mixtures

STREAM_SHIFT = 12  # of the counter-based generator: which shift a batch is under
NUMBERS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 27}  # coordinates of points drawn together
MOST_STEPS = 32

Axes = Callable[[Tensor, Tensor | None], Tensor | None]


@dataclass(frozen=True)
class TaskBatch:
    """Tasks with their points.

    Attributes
    ----------
    mixture : the true parameters, K padded to the largest served with components of weight zero.
    points : Tensor (B, N, d) of float32.
    n_components : Tensor (B,) of int64, what a network is asked for: the truth's but under the shift "wrong-k".
    fresh : further points of the same mixtures (B, N, d), where they were asked for.
    axes : the axes in which a network sees the tasks (B, d, q), where it has its own.
    """

    mixture: Mixture
    points: Tensor
    n_components: Tensor
    axes: Tensor | None = None
    fresh: Tensor | None = None

    def __getitem__(self, tasks: slice) -> TaskBatch:
        return self.map(lambda tensor: tensor[tasks])

    def map(self, function: Callable[[Tensor], Tensor]) -> TaskBatch:
        """A batch of what a function makes of each tensor."""
        axes, fresh = (None if tensor is None else function(tensor) for tensor in (self.axes, self.fresh))
        return TaskBatch(self.mixture.map(function), function(self.points), function(self.n_components), axes, fresh)

    def tensors(self) -> list[Tensor | None]:
        """All that a batch consists of."""
        parts = (self.mixture.weights, self.mixture.means, self.mixture.standard_deviations)
        return [*parts, self.points, self.n_components, self.axes, self.fresh]


class TaskStream:
    """Training batches by number: ``size`` tasks with K among ``n_components`` and one common N.

    Every batch has one length, so that no work goes into padding; over batches N is uniform on {N0 / 2, ..., N0}.

    Parameters
    ----------
    seed : of the stream.
    size : B, tasks in a batch.
    dimension, covariance, n_components, n_points : d, "isotropic" or "anisotropic", every K, and N0.
    device : where the tasks are drawn and stay.
    axes : function of points and a mask of padding (B, N), such as ``ComponentNetwork.axes``; its results come with the
        batches.
    shifts : how tasks differ from the paper's: every batch is under one of these kinds of shift, each equally often,
        and each of its values. None are the paper's tasks, and so is the kind "none".
    fresh : whether batches bring further points.
    """

    def __init__(
        self, seed: int, size: int, *, dimension: int, covariance: str, n_components: tuple[int, ...], n_points: int,
        device: torch.device | str = "cpu", axes: Axes | None = None, shifts: tuple[ShiftValues, ...] = (),
        fresh: bool = False,
    ):  # fmt: skip
        self.shifts, self.fresh = shifts, fresh
        self.seed, self.size, self.dimension, self.covariance = seed, size, dimension, covariance
        self.n_components, self.n_points, self.axes = n_components, n_points, axes
        self.device = torch.device(device)
        at_once = NUMBERS_AT_ONCE[self.device.type] // (size * n_points * dimension)
        every_size = math.ceil((2 * len(n_components) - 1) / size)  # so that the padding is always that of the largest
        self.steps = max(min(at_once, MOST_STEPS), every_size, 1)
        self.chunk, self.drawn = -1, []

    def batch(self, number: int) -> TaskBatch:
        """The ``number``-th batch. Asked for in order, each is drawn once."""
        chunk, position = divmod(number, self.steps)
        if chunk != self.chunk:
            self.chunk, self.drawn = chunk, self._draw(chunk)
        return self.drawn[position]

    def _draw(self, chunk: int) -> list[TaskBatch]:
        first, tasks = chunk * self.steps, self.steps * self.size
        index = torch.arange(first * self.size, first * self.size + tasks, device=self.device)
        counts = sample_component_counts(self.seed, index, self.n_components)
        steps = range(first, first + self.steps)
        lengths = [sample_length(self.seed, step, self.n_points) for step in steps]
        shifts = [self._shift(step) for step in steps]
        mixture = self._mixtures(index, counts, shifts).to(torch.float32)
        points = self._points(mixture, derive_seed(self.seed, "noise", chunk), max(lengths), shifts)
        fresh = self._points(mixture, derive_seed(self.seed, "fresh", chunk), max(lengths)) if self.fresh else None
        if self.shifts:
            extra = torch.tensor([shift.extra_components for shift in shifts], device=self.device)
            asked = counts + extra.repeat_interleave(self.size)
            counts = asked.clamp(min(self.n_components), max(self.n_components))
        wide = torch.tensor(lengths, device=self.device).repeat_interleave(self.size)[:, None]
        hidden = torch.arange(max(lengths), device=self.device) >= wide
        axes = None if self.axes is None else self.axes(points, hidden)
        whole = TaskBatch(mixture, points, counts, axes, fresh)
        return [self._shortened(whole[self._tasks(step)], length) for step, length in enumerate(lengths)]

    def _tasks(self, step: int) -> slice:
        """The tasks of a step among those that are drawn together."""
        return slice(step * self.size, (step + 1) * self.size)

    @staticmethod
    def _shortened(batch: TaskBatch, n_points: int) -> TaskBatch:
        fresh = None if batch.fresh is None else batch.fresh[:, :n_points]
        return replace(batch, points=batch.points[:, :n_points], fresh=fresh)

    def _shift(self, step: int) -> Shift:
        """The shift that the tasks of a step are under."""
        if not self.shifts:
            return Shift()
        kind, value = (int(word) for word in random_words(self.seed, STREAM_SHIFT, torch.tensor([step]), 2)[0])
        chosen = self.shifts[kind * len(self.shifts) >> 32].shifts
        return chosen[value * len(chosen) >> 32]

    def _mixtures(self, index: Tensor, counts: Tensor, shifts: list[Shift]) -> Mixture:
        """The true parameters; tasks under a shift are drawn K by K, as those of task sets are."""
        if not any(shift.moves_parameters for shift in shifts):
            return sample_mixtures(self.seed, index, counts, self.dimension, self.covariance)
        rows, parts, largest = [], [], int(counts.max())
        for step, shift in enumerate(shifts):
            tasks = self._tasks(step)
            for count in counts[tasks].unique().tolist():
                some = tasks.start + (counts[tasks] == count).nonzero()[:, 0]
                tasks_of = (count, self.dimension, self.covariance)
                rows.append(some)
                parts.append(_padded(sample_shifted_mixtures(shift, self.seed, index[some], *tasks_of), largest))
        return concatenate(parts)[torch.cat(rows).argsort()]

    def _points(self, mixture: Mixture, seed: int, n_points: int, shifts: list[Shift] | None = None) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        draw = {"generator": generator, "device": self.device}
        labels = labels_from_uniform(mixture, torch.rand(mixture.n_tasks, n_points, **draw))
        noise = torch.randn(mixture.n_tasks, n_points, self.dimension, **draw)
        chosen = labels[..., None].expand(-1, -1, self.dimension)
        if mixture.standard_deviations is not None:
            noise = noise * mixture.standard_deviations.gather(1, chosen)
        for step, shift in enumerate(shifts or []):
            if shift.kind == "student-t" and math.isfinite(shift.value):
                noise[self._tasks(step)] *= self._student_factor(int(shift.value), n_points, draw)
        points = noise.add_(mixture.means.gather(1, chosen))
        for step, shift in enumerate(shifts or []):
            if shift.kind == "outliers":
                part = points[self._tasks(step)]
                away = torch.rand(*part.shape[:2], 1, **draw) < shift.value
                box = OUTLIER_RANGE * (2.0 * torch.rand(part.shape, **draw) - 1.0)
                points[self._tasks(step)] = torch.where(away, box, part)
        return points

    def _student_factor(self, degrees: int, n_points: int, draw: dict) -> Tensor:
        """Factors (size, N, 1), sqrt((v - 2) / chi2_v), that turn normal noise into Student t of unit covariance."""
        squares = torch.randn(degrees, self.size, n_points, 1, **draw).square()
        return ((degrees - 2) / squares.sum(0)).sqrt()


def _padded(mixture: Mixture, n_components: int) -> Mixture:
    """The mixture with components of weight zero behind its own."""
    behind = n_components - mixture.n_components
    scales = mixture.standard_deviations
    return Mixture(
        pad(mixture.weights, (0, behind)),
        pad(mixture.means, (0, 0, 0, behind)),
        None if scales is None else pad(scales, (0, 0, 0, behind), value=1.0),
    )
