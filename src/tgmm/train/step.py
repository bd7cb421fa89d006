"""One training step: loss, gradients, optimizer; on a GPU recorded once for every shape and then replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from tgmm.losses import training_loss
from tgmm.tasks.stream import TaskBatch
from tgmm.train.optimizer import Optimizer
from tgmm.train.settings import TrainingSettings

SUMS = ("count", "loss", "mean_loss", "weight_loss")  # what is averaged over steps for the history


class TrainingStep:
    """Takes steps and sums up their losses on the device; nothing here waits for the device.

    Parameters
    ----------
    settings : loss and precision.
    network, optimizer : what is trained.

    Attributes
    ----------
    sums : float64 Tensor (4,): number of steps and sums of the losses since they were last taken.
    bad : int64 Tensor: the first step with a loss or a gradient that is not finite, or ``NEVER``.
    """

    NEVER = 1 << 62

    def __init__(self, settings: TrainingSettings, network: nn.Module, optimizer: Optimizer):
        self.settings, self.network, self.optimizer = settings, network, optimizer
        device = optimizer.value.device
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)
        self.number = torch.zeros((), dtype=torch.int64, device=device)
        self.bad = torch.full((), self.NEVER, dtype=torch.int64, device=device)

    def take(self, number: int, rate: float, batch: TaskBatch) -> None:
        """The ``number``-th step, on a batch."""
        self.optimizer.set_rate(rate)
        self.number.fill_(number)
        self._compute(batch)

    def _compute(self, batch: TaskBatch) -> None:
        self.optimizer.zero()
        with self._autocast():
            estimates = self.network(batch.points, batch.n_components, axes=batch.axes)
        loss, last = training_loss(estimates, batch, self.settings.loss)
        loss.backward()
        norm = self.optimizer.step()
        parts = [torch.ones_like(loss), last.total.mean(), last.means.mean(), last.weights.mean()]
        self.sums += torch.stack([part.detach() for part in parts])
        fine = loss.detach().isfinite() & norm.isfinite()
        self.bad.copy_(torch.where(fine, self.bad, torch.minimum(self.bad, self.number)))

    def _autocast(self) -> AbstractContextManager:
        if self.settings.training.precision == "float32":
            return nullcontext()
        # Weights are cast within every step, also within a recorded one, so nothing is to be kept from one to the next.
        precision = getattr(torch, self.settings.training.precision)
        return torch.autocast(self.sums.device.type, precision, cache_enabled=False)


class RecordedStep(TrainingStep):
    """A training step on a GPU as a CUDA graph: thousands of small kernels start with one call.

    A graph is recorded for every number of points, when it first comes up; all of them share one pool of memory. The
    first steps of each shape run as they are, which sets up the libraries; they are steps like the others.
    """

    WARM_UP = 2

    def __init__(self, settings: TrainingSettings, network: nn.Module, optimizer: Optimizer):
        super().__init__(settings, network, optimizer)
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, TaskBatch]] = {}
        self.seen: dict[int, int] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream()

    def _compute(self, batch: TaskBatch) -> None:
        length = batch.points.shape[1]
        self.seen[length] = self.seen.get(length, 0) + 1
        if self.seen[length] <= self.WARM_UP:
            with self._beside():
                super()._compute(batch)
            return
        if length not in self.graphs:
            self.graphs[length] = self._record(batch)
        graph, inputs = self.graphs[length]
        _copy(batch, inputs)
        graph.replay()

    def _record(self, batch: TaskBatch) -> tuple[torch.cuda.CUDAGraph, TaskBatch]:
        """A graph of a step, and the tensors that it reads. Recording runs nothing."""
        inputs = TaskBatch(
            batch.mixture.map(torch.clone), batch.points.clone(), batch.n_components.clone(),
            None if batch.axes is None else batch.axes.clone(),
        )  # fmt: skip
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            super()._compute(inputs)
        return graph, inputs

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Work in this block runs on another stream, in order with what comes before and after."""
        self.stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            torch.cuda.current_stream().wait_stream(self.stream)


def _copy(source: TaskBatch, target: TaskBatch) -> None:
    """Overwrite the tensors of a batch."""

    def tensors(batch: TaskBatch) -> list[Tensor | None]:
        mixture = batch.mixture
        return [
            mixture.weights,
            mixture.means,
            mixture.standard_deviations,
            batch.points,
            batch.n_components,
            batch.axes,
        ]

    for old, new in zip(tensors(target), tensors(source), strict=True):
        if old is not None:
            old.copy_(new)
