"""The parts that networks share: textbook multi-head attention, and attention between many tokens and few.

Textbook attention projects every token to keys, values or queries. The same numbers come out when the projections of
many data tokens are applied to few component tokens instead: a score (W_k x) · (W_q c) is the inner product of x and
W_k^T W_q c, and a mean of projected tokens is the projected mean. With K components and H heads a data token then takes
2 K H D multiplications a direction in place of 2 D^2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.mixture import component_mask
from tgmm.models.settings import NetworkSettings

MASKED = -1e9
SMALLEST_SHARE = 1e-3  # keeps the logarithm of an unread component's attention, and its gradient, bounded


class Attention(nn.Module):
    """Multi-head softmax attention of one sequence over another (Vaswani et al. 2017).

    Parameters
    ----------
    width : D, the width of both sequences.
    heads : number of heads; must divide the width.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, receivers: Tensor, senders: Tensor, bias: Tensor | None = None) -> Tensor:
        """Each receiver's weighted mean of the senders' values, (B, M, D).

        Parameters
        ----------
        receivers : Tensor (B, M, D).
        senders : Tensor (B, N, D).
        bias : Tensor broadcastable to (B, heads, M, N), added to the scores; ``MASKED`` hides a sender.
        """
        query = self.query(receivers).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(senders).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)  # (B, heads, M, D / heads)
        return self.output(mixed.transpose(1, 2).flatten(-2))


def self_attention_block(
    tokens: Tensor, norms: tuple[nn.Module, nn.Module], attention: Attention, mlp: MLP, bias: Tensor | None
) -> Tensor:
    """A pre-norm transformer block: tokens (B, M, D) attend to each other, then pass an MLP, both residual."""
    normed = norms[0](tokens)
    tokens = tokens + attention(normed, normed, bias)
    return tokens + mlp(norms[1](tokens))


class MLP(nn.Module):
    """Two linear maps, four times as wide between them, around an activation."""

    def __init__(self, width: int, activation: Callable[[Tensor], Tensor], expansion: int = 4):
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.contract(self.activation(self.expand(tokens)))


def mask_bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """A bias (B, 1, 1, N) that hides the senders marked in a bool tensor (B, N)."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, MASKED)[:, None, None, :]


class CrossAttention(nn.Module):
    """The projections of multi-head attention (Vaswani et al. 2017) between two sets of tokens.

    Queries, keys and values have no bias: the tokens come from layer norms, which have one.

    Parameters
    ----------
    width : D, the width of both sets.
    heads : H, the number of heads; must divide the width.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, math.sqrt(heads / width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width)

    def scores(self) -> Tensor:
        """The matrix of each head's scores, (H, D, D): a score is query token · matrix · key token."""
        query, key = (part.weight.unflatten(0, (self.heads, -1)) for part in (self.query, self.key))
        return self.scale * query.mT @ key

    def values(self) -> Tensor:
        """What each head makes of a token, as a map onto the stream, (H, D, D): rows are the stream's."""
        output = self.output.weight.unflatten(1, (self.heads, -1)).transpose(0, 1)
        return output @ self.value.weight.unflatten(0, (self.heads, -1))


class GatherAttention(CrossAttention):
    """Component tokens (B, K, D) attend to the data tokens (B, N, D)."""

    def forward(self, components: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        """What each component reads, (B, K, D), and its attention as :meth:`probabilities` gives it."""
        spread = self.probabilities(components, data)
        means = (spread.flatten(1, 2) @ data).unflatten(1, (-1, self.heads)).flatten(2)  # (B, K, H D)
        return F.linear(means, self.values().transpose(0, 1).flatten(1), self.output.bias), spread

    def probabilities(self, components: Tensor, data: Tensor) -> Tensor:
        """How the attention of each component and head is spread over the data, (B, K, H, N); sums over N are one."""
        queries = F.linear(components, self.scores().mT.flatten(0, 1)).unflatten(-1, (self.heads, -1))
        return (queries.flatten(1, 2) @ data.mT).softmax(-1).unflatten(1, (-1, self.heads))


class ScatterAttention(CrossAttention):
    """Data tokens (B, N, D) attend to the component tokens (B, K, D), each of which learns how much attention it got.

    A softmax over components hands on averages and no counts; the attention that a component gets is an estimate of its
    weight, which nothing else in the network could tell it.
    """

    def forward(self, data: Tensor, components: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What each data token reads, (B, N, D), and the log of each component's mean attention by head, (B, K, H).

        ``bias`` (B, K, 1, 1) is added to the scores: very negative at unused components.
        """
        spread = self.probabilities(data, components, bias)
        values = F.linear(components, self.values().flatten(0, 1)).unflatten(-1, (self.heads, -1)).flatten(1, 2)
        return spread.flatten(1, 2).mT @ values + self.output.bias, (spread.mean(-1) + SMALLEST_SHARE).log()

    def probabilities(self, data: Tensor, components: Tensor, bias: Tensor | None) -> Tensor:
        """How each data token's attention is spread over the components by head, (B, K, H, N); sums over K are one."""
        keys = F.linear(components, self.scores().flatten(0, 1)).unflatten(-1, (self.heads, -1))
        scores = (keys.flatten(1, 2) @ data.mT).unflatten(1, (-1, self.heads))
        return (scores if bias is None else scores + bias).softmax(1)


def component_slots(settings: NetworkSettings, n_components: Tensor) -> tuple[Tensor, Tensor]:
    """Where each task's K (B,) stands among those that a network serves, (B,), and its ``component_mask``."""
    size = torch.searchsorted(_served(settings.n_components, n_components.device), n_components)
    return size, component_mask(n_components, settings.largest)


@functools.cache
def _served(n_components: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept on the device: a copy in every step would make a GPU's host wait."""
    return torch.tensor(n_components, device=device)
