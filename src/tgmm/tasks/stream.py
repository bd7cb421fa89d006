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

from tgmm.counter_random import derive_seed
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import labels_from_uniform, sample_component_counts, sample_length, sample_mixtures

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
    n_components : Tensor (B,) of int64.
    axes : the axes in which a network sees the tasks (B, d, q), where it has its own.
    """

    mixture: Mixture
    points: Tensor
    n_components: Tensor
    axes: Tensor | None = None

    def __getitem__(self, tasks: slice) -> TaskBatch:
        axes = None if self.axes is None else self.axes[tasks]
        return TaskBatch(self.mixture[tasks], self.points[tasks], self.n_components[tasks], axes)


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
    """

    def __init__(
        self, seed: int, size: int, *, dimension: int, covariance: str, n_components: tuple[int, ...], n_points: int,
        device: torch.device | str = "cpu", axes: Axes | None = None,
    ):  # fmt: skip
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
        mixture = sample_mixtures(self.seed, index, counts, self.dimension, self.covariance).to(torch.float32)
        lengths = [sample_length(self.seed, first + step, self.n_points) for step in range(self.steps)]
        points = self._points(mixture, derive_seed(self.seed, "noise", chunk), max(lengths))
        wide = torch.tensor(lengths, device=self.device).repeat_interleave(self.size)[:, None]
        hidden = torch.arange(max(lengths), device=self.device) >= wide
        axes = None if self.axes is None else self.axes(points, hidden)
        whole = TaskBatch(mixture, points, counts, axes)
        parts = [whole[step * self.size : (step + 1) * self.size] for step in range(self.steps)]
        return [replace(part, points=part.points[:, :n]) for part, n in zip(parts, lengths, strict=True)]

    def _points(self, mixture: Mixture, seed: int, n_points: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        draw = {"generator": generator, "device": self.device}
        labels = labels_from_uniform(mixture, torch.rand(mixture.n_tasks, n_points, **draw))
        noise = torch.randn(mixture.n_tasks, n_points, self.dimension, **draw)
        chosen = labels[..., None].expand(-1, -1, self.dimension)
        if mixture.standard_deviations is not None:
            noise = noise * mixture.standard_deviations.gather(1, chosen)
        return noise.add_(mixture.means.gather(1, chosen))
