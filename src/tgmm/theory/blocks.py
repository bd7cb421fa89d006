"""Transformer blocks with explicit weight matrices, the only arithmetic that the constructed networks carry out.

A block is multi-head attention and a two-layer perceptron, each added to the residual stream. There is no layer
norm, no bias in the attention and no score scaling; the attention weights come from a softmax or, as in the paper's
Theorem 2, from a ReLU. An optional RMS norm acts on one slot (a range of channels) after the attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention: sum over heads h of output_h . activation(query_h tokens, key_h tokens) . value_h tokens.

    Parameters
    ----------
    n_heads, token_width, key_width, value_width : sizes; every weight starts at zero.
    activation : "softmax" (over the keys) or "relu".
    """

    def __init__(self, n_heads: int, token_width: int, key_width: int, value_width: int, activation: str) -> None:
        super().__init__()
        self.query = _zeros(n_heads, key_width, token_width)
        self.key = _zeros(n_heads, key_width, token_width)
        self.value = _zeros(n_heads, value_width, token_width)
        self.output = _zeros(n_heads, token_width, value_width)
        self.activation = {"softmax": nn.Softmax(dim=-1), "relu": nn.ReLU()}[activation]

    def forward(self, tokens: Tensor) -> Tensor:
        """The attended update of ``tokens`` (B, n, width), same shape."""
        queries = torch.einsum("hqw,bnw->bhnq", self.query, tokens)
        keys = torch.einsum("hqw,bmw->bhmq", self.key, tokens)
        values = torch.einsum("hvw,bmw->bhmv", self.value, tokens)
        attention = self.activation(torch.einsum("bhnq,bhmq->bhnm", queries, keys))
        attended = torch.einsum("bhnm,bhmv->bhnv", attention, values)
        return torch.einsum("hwv,bhnv->bnw", self.output, attended)


class Perceptron(nn.Module):
    """Two linear layers with an activation between them, ReLU in every network that a theorem speaks of."""

    def __init__(self, token_width: int, hidden_width: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.hidden = _zero_linear(token_width, hidden_width)
        self.activation = nn.ReLU() if activation is None else activation
        self.output = _zero_linear(hidden_width, token_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """The update of each token of ``tokens`` (B, n, width), same shape."""
        return self.output(self.activation(self.hidden(tokens)))


class SlotNorm(nn.Module):
    """RMS norm of the channels ``start`` to ``stop``, with gains that leave a vector of unit Euclidean norm."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop
        size = stop - start
        self.norm = nn.RMSNorm(size, eps=torch.finfo(torch.float64).tiny, dtype=torch.float64)
        self.norm.weight = nn.Parameter(torch.full((size,), size**-0.5, dtype=torch.float64), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` (B, n, width) with the slot normalised."""
        normalised = self.norm(tokens[..., self.start : self.stop])
        return torch.cat([tokens[..., : self.start], normalised, tokens[..., self.stop :]], dim=-1)


class Block(nn.Module):
    """One transformer layer: attention and perceptron, each with a residual connection."""

    def __init__(self, attention: Attention, perceptron: Perceptron, norm: SlotNorm | None = None) -> None:
        super().__init__()
        self.attention = attention
        self.norm = nn.Identity() if norm is None else norm
        self.perceptron = perceptron

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` (B, n, width) after the layer, same shape."""
        tokens = self.norm(tokens + self.attention(tokens))
        return tokens + self.perceptron(tokens)


class Transformer(nn.Sequential):
    """Blocks one after the other, with the token layout that its weights were constructed for."""

    def __init__(self, blocks: list[Block], layout: object) -> None:
        super().__init__(*blocks)
        self.layout = layout


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, dtype=torch.float64), requires_grad=False)


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, dtype=torch.float64)
    return layer.requires_grad_(False).apply(lambda module: (module.weight.zero_(), module.bias.zero_()))
