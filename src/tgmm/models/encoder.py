"""The attention backbones of the paper's network: GPT-2 blocks over the points.

``causal`` blocks with learnt positions ("gpt2") are what the authors' code trains; without either the same blocks form
a set encoder ("set-encoder"), whose estimate does not depend on the order of the points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.errors import UserError
from tgmm.models.attention import MASKED, MLP, Attention, mask_bias
from tgmm.models.pooled import INITIAL_STD, PooledNetwork, initialise_normal


def gpt2_gelu(values: Tensor) -> Tensor:
    """GPT-2's activation, the tanh approximation of the GELU."""
    return F.gelu(values, approximate="tanh")


class EncoderBlock(nn.Module):
    """A pre-norm GPT-2 block: self-attention, then an MLP, each added to the stream."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, gpt2_gelu)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, normed, bias)
        return tokens + self.mlp(self.mlp_norm(tokens))


class EncoderNetwork(PooledNetwork):
    """The paper's network with GPT-2 blocks, causal or not."""

    def build_backbone(self) -> None:
        settings = self.settings
        causal = settings.kind == "gpt2"
        self.position = nn.Embedding(settings.positions, settings.width) if causal else None
        self.blocks = nn.ModuleList(EncoderBlock(settings.width, settings.heads) for _ in range(settings.blocks))

    def initialise(self) -> None:
        """GPT-2's: normal of 0.02, projections onto the stream smaller by sqrt(2 x blocks)."""
        for module in self.modules():
            initialise_normal(module)
        for block in self.blocks:
            for projection in (block.attention.output, block.mlp.contract):
                nn.init.normal_(projection.weight, std=INITIAL_STD / math.sqrt(2 * len(self.blocks)))

    def backbone(self, tokens: Tensor, hidden: Tensor | None) -> Tensor:
        count = tokens.shape[1]
        bias = mask_bias(hidden, tokens.dtype)
        if self.position is not None:
            if count > self.settings.positions:
                raise UserError(f"this network has {self.settings.positions} positions; got N={count} points")
            tokens = tokens + self.position.weight[:count]
            causal = torch.full((count, count), MASKED, dtype=tokens.dtype, device=tokens.device).triu(1)
            bias = causal if bias is None else bias + causal
        for block in self.blocks:
            tokens = block(tokens, bias)
        return tokens
