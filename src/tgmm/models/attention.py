"""The parts of every network: multi-head attention between two sets, and the MLP."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MASKED = -1e9


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


class MLP(nn.Module):
    """Two linear maps, four times as wide between them, around an activation."""

    def __init__(self, width: int, activation: Callable[[Tensor], Tensor], expansion: int = 4):
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.contract(self.activation(self.expand(tokens)))


def mask_bias(hidden: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A bias (B, 1, 1, N) that hides the senders marked in a bool tensor (B, N)."""
    if hidden is None:
        return None
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, MASKED)[:, None, None, :]
