"""A forward pass of a component-token network with everything in it kept: tokens, read-outs and attention.

Hooks record what goes through the network, which stays as it is; attention is computed a second time for the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tgmm.errors import UserError
from tgmm.mixture import Mixture, concatenate
from tgmm.models.attention import CrossAttention

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
    UserError
        For a network without component tokens.
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
    return attention.register_forward_pre_hook(lambda module, inputs: into.append(module.probabilities(*inputs[:3])))


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
