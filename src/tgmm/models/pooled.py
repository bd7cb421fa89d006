"""The paper's network around its backbone: the read-in of [X ‖ embed(K)] and one attentive-pooling read-out per K."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.models.attention import MASKED
from tgmm.models.estimate import LogEstimate, component_slots
from tgmm.models.settings import NetworkSettings

INITIAL_STD = 0.02


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


def initialise_normal(module: nn.Module) -> None:
    """GPT-2's initial weights of a linear map or an embedding; other modules are left alone."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
