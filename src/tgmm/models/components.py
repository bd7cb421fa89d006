"""The default network: component tokens beside the data tokens, the structure that Theorem 1 uses, learnt.

In every block the component tokens attend to the data tokens, then to each other, and the data tokens attend to the
component tokens, with an MLP on each side; the estimate is read from the component tokens after every block. The cost
is linear in the number of points, and nothing depends on their order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.models.attention import MASKED, MLP, Attention, CountingAttention, mask_bias
from tgmm.models.estimate import LogEstimate, component_slots
from tgmm.models.settings import NetworkSettings
from tgmm.models.view import View


class GatherBlock(nn.Module):
    """Component tokens (B, K, D) read the data tokens (B, N, D), then each other."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.gather_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.gather = Attention(width, heads)
        self.mix_norm = nn.LayerNorm(width)
        self.mix = Attention(width, heads)
        self.component_norm = nn.LayerNorm(width)
        self.component_mlp = MLP(width, F.relu)

    def forward(self, components: Tensor, data: Tensor, unused: Tensor, hidden: Tensor | None) -> Tensor:
        receive, send = self.gather_norms
        components = components + self.gather(receive(components), send(data), hidden)
        normed = self.mix_norm(components)
        components = components + self.mix(normed, normed, unused)
        return components + self.component_mlp(self.component_norm(components))


class ScatterBlock(nn.Module):
    """Data tokens (B, N, D) read the component tokens (B, K, D), which learn how much of that reading each got."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.scatter_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.scatter = CountingAttention(width, heads)
        self.count = nn.Linear(heads, width)
        self.data_norm = nn.LayerNorm(width)
        self.data_mlp = MLP(width, F.relu, expansion=2)

    def forward(self, data: Tensor, components: Tensor, unused: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        receive, send = self.scatter_norms
        read, share = self.scatter(receive(data), send(components), unused, hidden)
        data = data + read
        return data + self.data_mlp(self.data_norm(data)), components + self.count(share)


class ComponentReadout(nn.Module):
    """Weights, means and (anisotropic) standard deviations of each component, from its token."""

    def __init__(self, settings: NetworkSettings, dimension: int):
        super().__init__()
        self.norm = nn.LayerNorm(settings.width)
        self.weight = nn.Linear(settings.width, 1, bias=False)  # a bias common to all cancels
        self.mean = nn.Linear(settings.width, dimension)
        anisotropic = settings.covariance == "anisotropic"
        self.scale = nn.Linear(settings.width, dimension) if anisotropic else None

    def forward(self, components: Tensor, unused: Tensor) -> LogEstimate:
        normed = self.norm(components)
        logits = self.weight(normed)[..., 0].masked_fill(unused, MASKED)
        scales = None if self.scale is None else F.softplus(self.scale(normed))
        return LogEstimate(logits.log_softmax(-1), self.mean(normed), scales)


class ComponentNetwork(nn.Module):
    """A set transformer with K component tokens: learnt seeds plus the embedding of K.

    It sees the points, and says what it estimates, in axes of the data's own (:class:`tgmm.models.view.View`).
    """

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width = settings.width
        self.settings = settings
        self.view = View(settings)
        self.read_in = nn.Linear(self.view.dimension, width)
        self.seeds = nn.Parameter(torch.randn(settings.largest, width))
        self.size_embedding = nn.Embedding(len(settings.n_components), width)
        nn.init.normal_(self.size_embedding.weight, std=0.5)
        self.gathers = nn.ModuleList(GatherBlock(width, settings.heads) for _ in range(settings.blocks))
        # Nothing reads the data tokens after the last block, so it does not update them.
        self.scatters = nn.ModuleList(ScatterBlock(width, settings.heads) for _ in range(settings.blocks - 1))
        self.read_outs = nn.ModuleList(ComponentReadout(settings, self.view.dimension) for _ in range(settings.blocks))

    def forward(self, points: Tensor, n_components: Tensor, hidden: Tensor | None = None) -> list[LogEstimate]:
        """The estimate after every block, the last one being the network's.

        Parameters
        ----------
        points : Tensor (B, N, d).
        n_components : Tensor (B,) of int64.
        hidden : bool Tensor (B, N), True at padding; None where all points are real.
        """
        size, unused = component_slots(self.settings, n_components)
        axes = self.view.axes(points, hidden)
        data = self.read_in(self.view.look(points, axes))
        components = self.seeds + self.size_embedding(size)[:, None]
        unused_bias, hidden_bias = mask_bias(unused, data.dtype), mask_bias(hidden, data.dtype)
        estimates = []
        for block, (gather, read_out) in enumerate(zip(self.gathers, self.read_outs, strict=True)):
            components = gather(components, data, unused_bias, hidden_bias)
            estimates.append(self.view.restore(read_out(components, unused), axes))
            if block < len(self.scatters):
                data, components = self.scatters[block](data, components, unused_bias, hidden)
        return estimates
