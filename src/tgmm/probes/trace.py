"""A forward pass of a component-token network over tasks of its own, with everything in it kept.

The tasks are apart from every training, validation and test task. Hooks record what goes through the network (tokens,
read-outs and attention), which stays as it is; attention is computed a second time for the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tgmm.counter_random import derive_seed
from tgmm.errors import UserError
from tgmm.metrics import best_permutation, pairwise_errors
from tgmm.mixture import Mixture, concatenate
from tgmm.models.attention import CrossAttention
from tgmm.models.checkpoint import Checkpoint, load_checkpoint
from tgmm.tasks.sampler import sample_mixtures, sample_points

FIT, TEST = "probe-train", "probe-test"
FITTED_SHARE = 4  # tasks to fit probes on, for each task to test them on
CHUNK_NUMBERS = 4_000_000  # numbers in the data tokens of the tasks treated at once


@dataclass(frozen=True)
class Trace:
    """What went through the network for B tasks of one K.

    Attributes
    ----------
    tokens : L + 1 Tensors (B, K, D): the component tokens before the first block and after each of the L blocks.
    estimates : L mixtures in float64: the read-out after each block.
    gather : L Tensors (B, H, K, N): in each block and head, how a component's attention is spread over the points.
    scatter : L - 1 Tensors (B, H, K, N): how a point's attention is spread over the components (the last block has no
        such attention).
    """

    tokens: list[Tensor]
    estimates: list[Mixture]
    gather: list[Tensor]
    scatter: list[Tensor]


def trace_network(network: nn.Module, points: Tensor, n_components: int) -> Trace:
    """Run the network and keep what its parts see and say.

    Parameters
    ----------
    network : a network of kind "components".
    points : Tensor (B, N, d).
    n_components : a K that the network serves.

    Raises
    ------
    UserError : for a network without component tokens.
    """
    if network.settings.kind != "components":
        raise UserError(f"probes need a network of kind 'components'; this one is '{network.settings.kind}'")
    size = max(1, CHUNK_NUMBERS // (points.shape[1] * network.settings.width))
    return _join([_trace_chunk(network, chunk, n_components) for chunk in points.split(size)])


def _trace_chunk(network: nn.Module, points: Tensor, n_components: int) -> Trace:
    counts = torch.full(points.shape[:1], n_components, device=points.device)
    was_training = network.training
    network.eval()
    with torch.no_grad(), _recording(network) as (tokens, gather, scatter):
        estimates = network(points.float(), counts)
    network.train(was_training)
    return Trace(
        [token[:, :n_components] for token in tokens],
        [estimate.mixture(n_components).to(torch.float64) for estimate in estimates],
        [probabilities[:, :n_components].transpose(1, 2) for probabilities in gather],
        [probabilities[:, :n_components].transpose(1, 2) for probabilities in scatter],
    )


@contextmanager
def _recording(network: nn.Module) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor]]]:
    """Hooks for the length of the block; the three lists fill as the network runs."""
    tokens: list[Tensor] = []
    gather: list[Tensor] = []
    scatter: list[Tensor] = []
    hooks = [network.gathers[0].register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))]
    hooks += [block.register_forward_hook(lambda _, __, output: tokens.append(output)) for block in network.gathers]
    hooks += [_record_attention(block.gather, gather) for block in network.gathers]
    hooks += [_record_attention(block.scatter, scatter) for block in network.scatters]
    try:
        yield tokens, gather, scatter
    finally:
        for hook in hooks:
            hook.remove()


def _record_attention(attention: CrossAttention, into: list[Tensor]):
    return attention.register_forward_pre_hook(lambda module, inputs: into.append(module.probabilities(*inputs)))


def _join(traces: list[Trace]) -> Trace:
    """The tasks of several traces, one after the other."""

    def joined(name: str, join) -> list:
        return [join(list(parts)) for parts in zip(*(getattr(trace, name) for trace in traces), strict=True)]

    return Trace(
        joined("tokens", torch.cat),
        joined("estimates", concatenate),
        joined("gather", torch.cat),
        joined("scatter", torch.cat),
    )


# --- tasks of the probes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TracedTasks:
    """Tasks of one K and what a network does with them.

    Attributes
    ----------
    points : Tensor (B, N, d) of float32.
    truth : the true mixtures, float64, their components in the order of the network's tokens: beside each token the
        true component that the best matching of the *last* read-out gives it.
    trace : the network's forward pass.
    estimates : the read-out after each block, its components matched to ``truth``.
    reordered : bool Tensors (B,), True where that matching moved a component: the loss matches every block's read-out
        separately, so nothing keeps a block from naming the components in an order of its own.
    """

    points: Tensor
    truth: Mixture
    trace: Trace
    estimates: list[Mixture]
    reordered: list[Tensor]

    @property
    def n_components(self) -> int:
        return self.truth.n_components


def trace_tasks(network: nn.Module, settings: dict[str, Any], purpose: str) -> list[TracedTasks]:
    """A network's passes over tasks of a purpose, for every K; see :func:`tgmm.probes.measure.measure_probes`."""
    n_tasks = settings["tasks"] * (FITTED_SHARE if purpose == FIT else 1)
    traced = []
    for n_components in settings["n_components"]:
        seed = derive_seed(settings["seed"], purpose, settings["covariance"], settings["dimension"], n_components)
        index = torch.arange(n_tasks)
        truth = sample_mixtures(seed, index, n_components, settings["dimension"], settings["covariance"])
        points, _ = sample_points(truth, seed, index, settings["longest"])
        points, truth = in_own_axes(network, points, truth)
        traced.append(align(points, truth, trace_network(network, points, n_components)))
    return traced


def in_own_axes(network: nn.Module, points: Tensor, truth: Mixture) -> tuple[Tensor, Mixture]:
    """The tasks turned into the axes in which the network sees them, so that its tokens are compared with what it sees.

    A linear probe has no way to know each task's own rotation. For isotropic tasks the turned task is as good as the
    other; a network of fewer axes than dimensions sees its projection.
    """
    axes = network.axes(points)
    if axes is None:
        return points, truth
    wide = axes.to(truth.means.dtype)
    scales = truth.standard_deviations
    turned = Mixture(truth.weights, truth.means @ wide, None if scales is None else scales @ wide.abs())
    return points @ axes, turned


def align(points: Tensor, truth: Mixture, trace: Trace) -> TracedTasks:
    """Put the true components in the order of the tokens, and every read-out's components in the order of both."""
    order = best_permutation(pairwise_errors(trace.estimates[-1], truth))
    truth = truth.permute_components(order.argsort(1))
    orders = [best_permutation(pairwise_errors(estimate, truth)) for estimate in trace.estimates]
    identity = torch.arange(truth.n_components)
    return TracedTasks(
        points, truth, trace,
        [estimate.permute_components(order) for estimate, order in zip(trace.estimates, orders, strict=True)],
        [(order != identity).any(1) for order in orders],
    )  # fmt: skip


def load_networks(model: Path, settings: dict[str, Any]) -> dict[str, nn.Module]:
    """The trained network and, as a control, the same network with the weights that its training began from."""
    checkpoint = load_checkpoint(model)
    return {"trained": checkpoint.network, "untrained": _untrained(checkpoint, settings)}


def _untrained(checkpoint: Checkpoint, settings: dict[str, Any]) -> nn.Module:
    seed = checkpoint.record.get("settings", {}).get("seed", settings["seed"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights", checkpoint.family))
        return checkpoint.network.settings.build().eval()
