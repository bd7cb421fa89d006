"""Attention between many data tokens and few component tokens, at a cost that the few decide.

Textbook attention projects every data token to keys, values or queries. The same numbers come out when the projections
of the many are applied to the few instead: a score (W_k x) · (W_q c) is the inner product of x and W_k^T W_q c, and a
mean of projected tokens is the projected mean. With K components and H heads a data token then takes 2 K H D
multiplications a direction in place of 2 D^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_SHARE = 1e-3  # keeps the logarithm of an unread component's attention, and its gradient, bounded


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
    """Component tokens attend to the data tokens."""

    def forward(self, components: Tensor, data: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What each component reads, (B, K, D), and its attention as :meth:`probabilities` gives it.

        Parameters
        ----------
        components, data : Tensors (B, K, D) and (B, N, D).
        bias : Tensor (B, 1, N) added to the scores, very negative at hidden data tokens; or None.
        """
        spread = self.probabilities(components, data, bias)
        means = (spread.flatten(1, 2) @ data).unflatten(1, (-1, self.heads)).flatten(2)  # (B, K, H D)
        return F.linear(means, self.values().transpose(0, 1).flatten(1), self.output.bias), spread

    def probabilities(self, components: Tensor, data: Tensor, bias: Tensor | None) -> Tensor:
        """How the attention of each component and head is spread over the data, (B, K, H, N); sums over N are one."""
        queries = F.linear(components, self.scores().mT.flatten(0, 1)).unflatten(-1, (self.heads, -1))
        scores = queries.flatten(1, 2) @ data.mT
        return (scores if bias is None else scores + bias).softmax(-1).unflatten(1, (-1, self.heads))


class Moments(nn.Module):
    """Mean and log-variance of the coordinates under each head's attention, as something to add to component tokens.

    With attention near the responsibilities these are the M-step's mean and variance (Theorem 1's blocks do the same);
    out of means of learnt features a network would have to square and subtract numbers far larger than the variance.

    Parameters
    ----------
    coordinates : number of coordinates, q.
    width, heads : D and H.
    """

    SMALLEST_VARIANCE = 1e-3

    def __init__(self, coordinates: int, width: int, heads: int):
        super().__init__()
        self.embed = nn.Linear(2 * heads * coordinates, width)

    def forward(self, spread: Tensor, seen: Tensor) -> Tensor:
        """Tokens (B, K, D) of attention (B, K, H, N) over points (B, N, q) in the coordinates that the network sees."""
        with torch.autocast(seen.device.type, enabled=False):  # the variance is a small difference of large numbers
            weights, seen = spread.flatten(1, 2).to(self.embed.weight.dtype), seen.to(self.embed.weight.dtype)
            first, second = (weights @ torch.cat([seen, seen.square()], -1)).chunk(2, -1)  # (B, K H, q)
            variance = (second - first.square()).clamp_min(self.SMALLEST_VARIANCE)
            told = torch.cat([first, variance.log()], -1)
            return self.embed(told.unflatten(1, (-1, spread.shape[2])).flatten(2))


class ScatterAttention(CrossAttention):
    """Data tokens attend to the component tokens, and each component learns how much attention it got.

    A softmax over components hands on averages and no counts; the attention that a component gets is an estimate of its
    weight, which nothing else in the network could tell it.
    """

    def forward(
        self, data: Tensor, components: Tensor, bias: Tensor | None = None, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What each data token reads, (B, N, D), and the log of each component's mean attention by head, (B, K, H).

        Parameters
        ----------
        data, components : Tensors (B, N, D) and (B, K, D).
        bias : Tensor (B, K, 1, 1) added to the scores, very negative at unused components; or None.
        hidden : bool Tensor (B, N), data tokens that do not count; None where all do.
        """
        spread = self.probabilities(data, components, bias)
        values = F.linear(components, self.values().flatten(0, 1)).unflatten(-1, (self.heads, -1)).flatten(1, 2)
        read = spread.flatten(1, 2).mT @ values + self.output.bias
        if hidden is None:
            share = spread.mean(-1)
        else:
            counted = (~hidden).to(spread.dtype)[:, None, None]
            share = (spread * counted).sum(-1) / counted.sum(-1)
        return read, (share + SMALLEST_SHARE).log()

    def probabilities(self, data: Tensor, components: Tensor, bias: Tensor | None) -> Tensor:
        """How each data token's attention is spread over the components by head, (B, K, H, N); sums over K are one."""
        keys = F.linear(components, self.scores().flatten(0, 1)).unflatten(-1, (self.heads, -1))
        scores = (keys.flatten(1, 2) @ data.mT).unflatten(1, (-1, self.heads))
        return (scores if bias is None else scores + bias).softmax(1)
