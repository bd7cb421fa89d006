"""The paper's network: a transformer over the points and one attentive-pooling read-out per K.

``causal`` GPT-2 blocks with learnt positions are what the authors' code trains; without either the same blocks form
a set encoder, whose estimate does not depend on the order of the points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.errors import UserError
from tgmm.models.attention import MASKED, MLP, Attention, mask_bias
from tgmm.models.estimate import LogEstimate, component_mask
from tgmm.models.settings import NetworkSettings

INITIAL_STD = 0.02


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


class AttentivePooling(nn.Module):
    """Readout_K of the paper for every K: O = (V_o H) softmax((K_o H)ᵀ Q_o), of shape (K + d) x K.

    The weights are the softmax of the row means of the first K rows, the means are the next d rows; anisotropic
    networks have d more rows, the standard deviations before a softplus. The parameters of all K are stacked, so that
    a batch of mixed K is one matrix product.
    """

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width, largest, dimension = settings.width, settings.largest, settings.dimension
        rows = largest + dimension * (2 if settings.covariance == "anisotropic" else 1)
        self.largest, self.dimension, self.anisotropic = largest, dimension, settings.covariance == "anisotropic"
        sizes = len(settings.n_components)
        self.query = nn.Parameter(torch.randn(sizes, width, largest) / math.sqrt(width))
        self.key = nn.Parameter(torch.randn(sizes, width, width) / math.sqrt(width))
        self.value = nn.Parameter(torch.randn(sizes, width, rows) / math.sqrt(width))

    def forward(self, tokens: Tensor, size: Tensor, unused: Tensor, hidden: Tensor | None) -> LogEstimate:
        scores = (tokens @ self.key[size]) @ self.query[size]  # (B, N, K)
        if hidden is not None:
            scores = scores.masked_fill(hidden[..., None], MASKED)
        pooled = scores.softmax(1).mT @ (tokens @ self.value[size])  # (B, K, rows): the transpose of the paper's O
        logits, means, scales = pooled.split_with_sizes(
            [self.largest, self.dimension, pooled.shape[-1] - self.largest - self.dimension], dim=-1
        )
        used = (~unused).to(tokens.dtype)[..., None]
        row_means = (logits * used).sum(1) / used.sum(1)  # mean over the K columns of the paper's O
        return LogEstimate(
            row_means.masked_fill(unused, MASKED).log_softmax(-1),
            means,
            F.softplus(scales) if self.anisotropic else None,
        )


class PooledNetwork(nn.Module):
    """TGMM as in the paper: Readout_K(TF(Readin([X ‖ embed(K)])))."""

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width = settings.width
        self.settings = settings
        self.causal = settings.kind == "gpt2"
        self.size_embedding = nn.Embedding(len(settings.n_components), width)
        self.read_in = nn.Linear(settings.dimension + width, width)
        self.position = nn.Embedding(settings.positions, width) if self.causal else None
        self.blocks = nn.ModuleList(EncoderBlock(width, settings.heads) for _ in range(settings.blocks))
        self.final_norm = nn.LayerNorm(width)
        self._initialise()
        self.read_out = AttentivePooling(settings)

    def _initialise(self) -> None:
        """GPT-2's: normal of 0.02, projections onto the stream smaller by sqrt(2 x blocks)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INITIAL_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            for projection in (block.attention.output, block.mlp.contract):
                nn.init.normal_(projection.weight, std=INITIAL_STD / math.sqrt(2 * len(self.blocks)))

    def encode(self, points: Tensor, size: Tensor, hidden: Tensor | None) -> Tensor:
        """The tokens after the last block, (B, N, D)."""
        count = points.shape[1]
        embedded = self.size_embedding(size)[:, None].expand(-1, count, -1)
        tokens = self.read_in(torch.cat([points, embedded], dim=-1))
        bias = mask_bias(hidden, tokens.dtype)
        if self.position is not None:
            if count > self.settings.positions:
                raise UserError(f"this network has {self.settings.positions} positions; got N={count} points")
            tokens = tokens + self.position.weight[:count]
            causal = torch.full((count, count), MASKED, dtype=tokens.dtype, device=tokens.device).triu(1)
            bias = causal if bias is None else bias + causal
        for block in self.blocks:
            tokens = block(tokens, bias)
        return self.final_norm(tokens)

    def forward(self, points: Tensor, n_components: Tensor, hidden: Tensor | None = None) -> list[LogEstimate]:
        """Estimates of a batch of tasks; a list of one, as this network reads out once.

        Parameters
        ----------
        points : Tensor (B, N, d).
        n_components : Tensor (B,) of int64.
        hidden : bool Tensor (B, N), True at padding; None where all points are real.
        """
        # Every served K has its own embedding and read-out, found by its position among them.
        size = torch.searchsorted(torch.tensor(self.settings.n_components, device=points.device), n_components)
        unused = component_mask(n_components, self.settings.largest)
        return [self.read_out(self.encode(points, size, hidden), size, unused, hidden)]
