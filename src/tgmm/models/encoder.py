"""The paper's network: attention blocks over the points, and an attentive-pooling read-out for every K.

``causal`` GPT-2 blocks with learnt positions ("gpt2") are what the authors' code trains; without either the same blocks
form a set encoder ("set-encoder"), whose estimate does not depend on the order of the points. The Mamba2 networks put
other blocks between the same read-in and read-out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.errors import UserError
from tgmm.models.attention import MASKED, MLP, Attention, mask_bias
from tgmm.models.estimate import LogEstimate, component_slots
from tgmm.models.settings import NetworkSettings

INITIAL_STD = 0.02


class PooledNetwork(nn.Module):
    """TGMM as in the paper: Readout_K(backbone(Readin([X ‖ embed(K)]))).

    A subclass is one backbone: it builds its blocks, sets the initial weights and says how tokens pass through.
    """

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width = settings.width
        self.settings = settings
        self.size_embedding = nn.Embedding(len(settings.n_components), width)
        self.read_in = nn.Linear(settings.dimension + width, width)
        self.build_backbone()
        self.final_norm = nn.LayerNorm(width)
        self.initialise()
        self.read_out = AttentivePooling(settings)

    def build_backbone(self) -> None:
        """Add the backbone's modules."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Set the initial weights of all but the read-out."""
        raise NotImplementedError

    def backbone(self, tokens: Tensor, hidden: Tensor | None) -> Tensor:
        """The tokens (B, N, D) after the last block; ``hidden`` (B, N) is True at padding."""
        raise NotImplementedError

    def encode(self, points: Tensor, size: Tensor, hidden: Tensor | None) -> Tensor:
        """The tokens that are read out, (B, N, D)."""
        embedded = self.size_embedding(size)[:, None].expand(-1, points.shape[1], -1)
        tokens = self.read_in(torch.cat([points, embedded], dim=-1))
        return self.final_norm(self.backbone(tokens, hidden))

    def axes(self, points: Tensor, hidden: Tensor | None = None) -> None:
        """None: this network sees the coordinates as they are."""

    def forward(
        self, points: Tensor, n_components: Tensor, hidden: Tensor | None = None, axes: None = None
    ) -> list[LogEstimate]:
        """Estimates of a batch of tasks; a list of one, as this network reads out once.

        Parameters
        ----------
        points : Tensor (B, N, d).
        n_components : Tensor (B,) of int64.
        hidden : bool Tensor (B, N), True at padding; None where all points are real.
        axes : what :meth:`axes` gives, for a common interface.
        """
        # Every served K has its own embedding and read-out, found by its position among them.
        size, unused = component_slots(self.settings, n_components)
        return [self.read_out(self.encode(points, size, hidden), size, unused, hidden)]


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
        with torch.autocast(tokens.device.type, enabled=False):  # in bfloat16, a mean of 4 comes in steps of 0.03
            return self._pool(tokens.to(self.query.dtype), size, unused, hidden)

    def _pool(self, tokens: Tensor, size: Tensor, unused: Tensor, hidden: Tensor | None) -> LogEstimate:
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


def gpt2_gelu(values: Tensor) -> Tensor:
    """GPT-2's activation, the tanh approximation of the GELU."""
    return F.gelu(values, approximate="tanh")


def initialise_normal(module: nn.Module) -> None:
    """GPT-2's initial weights of a linear map or an embedding; other modules are left alone."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
