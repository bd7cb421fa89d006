"""The default network: component tokens beside the data tokens, the structure that Theorem 1 uses, learnt.

In every block the component tokens attend to the data tokens, then to each other, and the data tokens attend to the
component tokens, with an MLP on each side; one read-out serves the component tokens of every block. The cost is linear
in the number of points, and nothing depends on their order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.models.attention import MASKED, MLP, Attention, mask_bias
from tgmm.models.cross import GatherAttention, Moments, ScatterAttention
from tgmm.models.estimate import LogEstimate, component_slots
from tgmm.models.read_in import ReadIn
from tgmm.models.settings import NetworkSettings
from tgmm.models.view import View


class GatherBlock(nn.Module):
    """Component tokens (B, K, D) read the data tokens (B, N, D), then each other.

    Parameters
    ----------
    width, heads : D and the number of heads.
    coordinates : of the points, where component tokens are told moments; 0 where they are not.
    """

    def __init__(self, width: int, heads: int, coordinates: int = 0):
        super().__init__()
        self.gather_norm = nn.LayerNorm(width)
        self.gather = GatherAttention(width, heads)
        self.moments = Moments(coordinates, width, heads) if coordinates else None
        self.mix_norm = nn.LayerNorm(width)
        self.mix = Attention(width, heads)
        self.component_norm = nn.LayerNorm(width)
        self.component_mlp = MLP(width, F.relu)

    def forward(
        self, components: Tensor, data: Tensor, unused: Tensor, hidden: Tensor | None, seen: Tensor | None = None
    ) -> Tensor:
        read, spread = self.gather(self.gather_norm(components), data, hidden)
        components = components + read
        if self.moments is not None:
            components = components + self.moments(spread, seen)
        normed = self.mix_norm(components)
        components = components + self.mix(normed, normed, unused)
        return components + self.component_mlp(self.component_norm(components))


class ScatterBlock(nn.Module):
    """Data tokens (B, N, D) read the component tokens (B, K, D), which learn how much of that reading each got."""

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width, heads = settings.width, settings.heads
        self.scatter_norm = nn.LayerNorm(width)
        self.scatter = ScatterAttention(width, heads)
        self.count = nn.Linear(heads, width)
        self.attention_norm = nn.LayerNorm(width) if settings.data_attention else None
        self.attention = Attention(width, heads) if settings.data_attention else None
        self.data_norm = nn.LayerNorm(width)
        # The points are many: a wider one costs time and learns no more.
        self.data_mlp = MLP(width, F.relu, expansion=1)

    def forward(
        self, data: Tensor, normed: Tensor, components: Tensor, unused: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both kinds of tokens after the block.

        Parameters
        ----------
        data, normed : Tensors (B, N, D), the data tokens and what they show of themselves.
        components : Tensor (B, K, D).
        unused : Tensor (B, 1, 1, K), a bias that hides unused components.
        hidden : bool Tensor (B, N), True at padding; None where all points are real.
        """
        read, share = self.scatter(normed, self.scatter_norm(components), unused.permute(0, 3, 1, 2), hidden)
        data = data + read
        if self.attention is not None:
            shown = self.attention_norm(data)
            data = data + self.attention(shown, shown, mask_bias(hidden, data.dtype))
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
        """The estimates (..., B, K) of component tokens (..., B, K, D); ``unused`` (B, K) is True at padding."""
        # Under autocast the blocks may compute in bfloat16, whose steps at a mean of 4 are 0.03: too coarse to be said.
        with torch.autocast(components.device.type, enabled=False):
            normed = self.norm(components.to(self.norm.weight.dtype))
            logits = self.weight(normed)[..., 0].masked_fill(unused, MASKED)
            scales = None if self.scale is None else F.softplus(self.scale(normed))
            return LogEstimate(logits.log_softmax(-1), self.mean(normed), scales)


class Feedback(nn.Module):
    """What a block has estimated, as something to add to the component tokens."""

    def __init__(self, settings: NetworkSettings, dimension: int):
        super().__init__()
        self.embed = nn.Linear(1 + dimension * (2 if settings.covariance == "anisotropic" else 1), settings.width)

    def forward(self, estimate: LogEstimate) -> Tensor:
        """Tokens (B, K, D) of estimates in the coordinates that the network sees."""
        scales = estimate.standard_deviations
        parts = [estimate.log_weights.exp()[..., None], estimate.means, *([] if scales is None else [scales])]
        return self.embed(torch.cat(parts, dim=-1))


class ComponentNetwork(nn.Module):
    """A set transformer with K component tokens: learnt seeds plus the embedding of K.

    It sees the points, and says what it estimates, in axes of the data's own (:class:`tgmm.models.view.View`).
    """

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width, heads, blocks = settings.width, settings.heads, settings.blocks
        self.settings = settings
        self.view = View(settings)
        self.read_in = ReadIn(self.view.dimension, width, settings.fourier)
        self.seeds = nn.Parameter(torch.randn(settings.largest, width))
        self.size_embedding = nn.Embedding(len(settings.n_components), width)
        nn.init.normal_(self.size_embedding.weight, std=0.5)
        self.data_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        coordinates = self.view.dimension if settings.moments else 0
        self.gathers = nn.ModuleList(GatherBlock(width, heads, coordinates) for _ in range(blocks))
        # Nothing reads the data tokens after the last block, so it does not update them.
        self.scatters = nn.ModuleList(ScatterBlock(settings) for _ in range(blocks - 1))
        self.read_out = ComponentReadout(settings, self.view.dimension)
        self.feedback = Feedback(settings, self.view.dimension) if settings.feedback else None

    def axes(self, points: Tensor, hidden: Tensor | None = None) -> Tensor | None:
        """The axes in which the network sees tasks; see :meth:`tgmm.models.view.View.axes`."""
        return self.view.axes(points, hidden)

    def forward(
        self, points: Tensor, n_components: Tensor, hidden: Tensor | None = None, axes: Tensor | None = None
    ) -> list[LogEstimate]:
        """The estimate after every block, the last one being the network's.

        Parameters
        ----------
        points : Tensor (B, N, d).
        n_components : Tensor (B,) of int64.
        hidden : bool Tensor (B, N), True at padding; None where all points are real.
        axes : what :meth:`axes` gives for these points, where it is at hand already.
        """
        size, unused = component_slots(self.settings, n_components)
        axes = self.axes(points, hidden) if axes is None else axes
        seen = self.view.look(points, axes)
        data = self.read_in(seen)
        components = self.seeds + self.size_embedding(size)[:, None]
        unused_bias, hidden_bias = mask_bias(unused, data.dtype), mask_bias(hidden, data.dtype)
        tokens = []
        for block, (norm, gather) in enumerate(zip(self.data_norms, self.gathers, strict=True)):
            normed = norm(data)
            components = gather(components, normed, unused_bias, None if hidden is None else hidden_bias[:, 0], seen)
            tokens.append(components)
            if block < len(self.scatters):
                if self.feedback is not None:
                    components = components + self.feedback(self.read_out(components, unused))
                data, components = self.scatters[block](data, normed, components, unused_bias, hidden)
        return self.view.restore(self.read_out(torch.stack(tokens), unused), axes).split()
