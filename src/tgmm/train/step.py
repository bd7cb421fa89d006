"""One training step: loss, gradients, optimizer; on a GPU recorded once for every shape and then replayed.

AdamW takes all parameters as one vector: one kernel for the step and one for the norm of the gradient, where a list of
a few hundred small tensors would cost a few hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn

from tgmm.losses import training_loss
from tgmm.tasks.stream import TaskBatch
from tgmm.train.settings import AssignmentTraining, Budget, TrainingSettings

BETAS = (0.9, 0.98)
ALIGNMENT = 16  # numbers: tensors begin at multiples of 64 bytes


class Optimizer:
    """Steps of a network whose parameters and gradients it lays out in two vectors.

    Parameters
    ----------
    network : its parameters become views of ``value``; they may be read, but not replaced.
    budget : learning rate, weight decay and clipping.

    Attributes
    ----------
    gradient : Tensor, the gradients of all parameters, summed up by every backward pass until :meth:`zero`.
    """

    def __init__(self, network: nn.Module, budget: Budget | AssignmentTraining):
        parameters = list(network.parameters())
        sizes = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters]
        self.value = torch.zeros(sum(sizes), device=parameters[0].device)
        self.gradient = torch.zeros_like(self.value)
        for parameter, (start, _) in zip(
            parameters, pairwise(torch.tensor([0, *sizes]).cumsum(0).tolist()), strict=True
        ):
            part = slice(start, start + parameter.numel())
            self.value[part] = parameter.detach().flatten()
            parameter.data = self.value[part].view_as(parameter)
            parameter.grad = self.gradient[part].view_as(parameter)
        self.clip, cuda = budget.clip, self.value.is_cuda
        self.vector = nn.Parameter(self.value)
        self.vector.grad = self.gradient
        rate = torch.tensor(budget.learning_rate, device=self.value.device) if cuda else budget.learning_rate
        self.adamw = torch.optim.AdamW(
            [self.vector], lr=rate, betas=BETAS, weight_decay=budget.weight_decay, fused=True, capturable=cuda
        )

    def zero(self) -> None:
        """Forget the gradients."""
        self.gradient.zero_()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        group = self.adamw.param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    def step(self) -> Tensor:
        """Clip the gradient and step. Return the norm before clipping, a scalar Tensor."""
        norm = self.gradient.norm()
        self.gradient.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        self.adamw.step()
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """AdamW's memory by name: the number of steps and the moments; nothing before the first step."""
        return {name: torch.as_tensor(value) for name, value in self.adamw.state.get(self.vector, {}).items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave."""
        state = {0: dict(tensors)} if tensors else {}
        self.adamw.load_state_dict({**self.adamw.state_dict(), "state": state})


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
        loss, last = training_loss(estimates, batch, self.settings.loss, self.settings.cross_entropy_weight)
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
        inputs = batch.map(torch.clone)
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
    for old, new in zip(target.tensors(), source.tensors(), strict=True):
        if old is not None:
            old.copy_(new)
