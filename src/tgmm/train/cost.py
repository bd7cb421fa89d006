"""What a training step costs: floating-point operations of one task, forward and backward."""

from __future__ import annotations

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tgmm.losses import training_loss
from tgmm.tasks.stream import TaskBatch


def training_flops(network: nn.Module, batch: TaskBatch, loss: str, unrolled: int = 0) -> float:
    """Floating-point operations that a step spends on one task of the batch, matrix products alone.

    They are counted while a forward and a backward pass run, so every kind of network is counted by the same rule;
    attention runs unfused for the count. Gradients are gone afterwards.

    Parameters
    ----------
    batch : tasks of a typical length.
    loss, unrolled : as for :func:`tgmm.losses.training_loss`.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        estimates = network(batch.points, batch.n_components)
        training_loss(estimates, batch, loss, unrolled)[0].backward()
    for parameter in network.parameters():
        parameter.grad = None
    return counter.get_total_flops() / len(batch.points)
