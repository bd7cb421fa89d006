"""The assignment network: a data set goes in, the responsibilities of its mixture's components come out.

Component tokens and data tokens exchange in every block, as in :mod:`tgmm.models.components`; the read-out is a score
of every point for every component, and a softmax over components makes it responsibilities. One M-step turns these into
a mixture of whichever covariance is asked for, in the full space, so one network serves every dimension and shape.

The network sees a data set in a canonical view (:func:`canonical_view`), blind to origin, units and rotation. It is
told the shape of the covariances, or nothing of it, and K; or K is withheld, and it tells a distribution over K.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.models.settings import AssignmentSettings
from tgmm.tasks.settings import SHAPES

AXES = 8  # principal axes that the network sees at most
LARGEST = 10  # components that it tells apart at most
SMALLEST_SHARE = 1e-3  # keeps the logarithm of an unread component's attention, and its gradient, bounded


def canonical_view(
    points: Tensor, shapes: Tensor, weights: Tensor | None = None, signs: Tensor | None = None
) -> Tensor:
    """What the network sees of data sets (B, N, d), as a Tensor (B, N, 3 q + 2) with q = min(d, AXES).

    Centred, in q principal axes whose signs are set by third moments: each coordinate in units of the
    overall spread, whitened, and as a rank; beside them the number of axes and log N. For spheres the columns' units
    count; for the other shapes, which hold mixtures in any units, columns are standardised first.

    Parameters
    ----------
    points : finite Tensor (B, N, d).
    shapes : int64 Tensor (B,), indices of ``SHAPES``.
    weights : Tensor (B, N), of sums one; None where all points count the same. A point of weight zero is padding.
    signs : Tensor (AXES,) or (B, 1, AXES) of +1 and -1: other views of the same data.
    """
    B, N, d = points.shape
    share = (
        torch.full((B, N, 1), 1 / N, dtype=points.dtype, device=points.device)
        if weights is None
        else weights[..., None]
    )
    points = points - (points * share).sum(1, keepdim=True)
    deviations = (points.square() * share).sum(1, keepdim=True).sqrt()
    deviations = torch.where((shapes == 1)[:, None, None], deviations.square().mean(2, keepdim=True).sqrt(), deviations)
    points = points / torch.where(deviations > 0, deviations, torch.ones_like(deviations))
    eigenvalues, axes = torch.linalg.eigh(points.mT @ (points * share))
    q = min(d, AXES)
    eigenvalues, axes = eigenvalues[:, -q:].flip(1).clamp_min(0), axes[..., -q:].flip(2)
    principal = points @ axes
    skewed = (principal.pow(3) * share).sum(1, keepdim=True)
    principal = torch.where(skewed < 0, -principal, principal)
    if signs is not None:
        principal = principal * signs[..., :q].to(principal)
    plain = principal / eigenvalues.mean(1)[:, None, None].sqrt().clamp_min(1e-12)
    whitened = principal / eigenvalues.clamp_min(1e-8 * eigenvalues[:, :1] + 1e-20).sqrt()[:, None]
    hidden = None if weights is None else weights == 0
    parts = [part.clamp(-8, 8) for part in (plain, whitened, ranks(principal, hidden))]
    counts = points.new_full((B,), N) if hidden is None else (~hidden).sum(1).to(points)
    extra = torch.stack([torch.full_like(counts, q / 8), counts.log() / 5], -1)[:, None].expand(B, N, 2)
    return torch.cat([*parts, extra], -1).float()


def ranks(values: Tensor, hidden: Tensor | None = None) -> Tensor:
    """The rank of each value of a Tensor (B, N, q) among its column's, from -1 to 1; equal values share theirs.

    Points marked in a bool Tensor (B, N) do not count.
    """
    columns, counts = values.mT.contiguous(), values.shape[1]
    if hidden is not None:
        columns, counts = columns.masked_fill(hidden[:, None], math.inf), (~hidden).sum(1)[:, None, None]
    ordered, order = columns.sort(-1)
    places = torch.arange(1, values.shape[1] + 1, dtype=values.dtype, device=values.device).expand_as(ordered)
    upto = torch.empty_like(columns).scatter_(-1, order, places)
    below = upto - 1
    if bool(((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] < math.inf)).any()):
        below = torch.searchsorted(ordered, columns).to(values.dtype)
        upto = torch.searchsorted(ordered, columns, right=True)
    return ((below + upto) / counts - 1).mT


class Gather(nn.Module):
    """Component tokens (B, K, D) read the data tokens (B, N, D), then each other.

    Projections of the many are applied to the few instead (see :mod:`tgmm.models.attention`): a score is
    component · matrix · point, and a mean of projected tokens is the projected mean.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, heads * width, bias=False)
        self.values = nn.Linear(heads * width, width)
        self.mix_norm, self.mix_in, self.mix_out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        nn.init.normal_(self.scores.weight, std=1 / width)

    def forward(self, components: Tensor, data: Tensor, hidden: Tensor | None = None) -> Tensor:
        B, K, D = components.shape
        queries = self.scores(self.norm(components)).view(B, K * self.heads, D)
        scores = queries @ data.mT
        spread = (scores if hidden is None else scores.masked_fill(hidden[:, None], -1e9)).softmax(-1)
        components = components + self.values((spread @ data).view(B, K, self.heads * D))
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.mix_in(self.mix_norm(components)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        components = components + self.mix_out(mixed)
        return components + self.mlp(components)


class Scatter(nn.Module):
    """Data tokens read the component tokens, which learn how much of that reading each got."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, heads * width, bias=False)
        self.values = nn.Linear(width, heads * width, bias=False)
        self.count = nn.Linear(heads, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        nn.init.normal_(self.scores.weight, std=1 / width)

    def forward(
        self, data: Tensor, normed: Tensor, components: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        B, K, D = components.shape
        shown = self.norm(components)
        keys, values = self.scores(shown).view(B, K * self.heads, D), self.values(shown).view(B, K * self.heads, D)
        spread = (keys @ normed.mT).view(B, K, self.heads, -1).softmax(1)
        data = data + spread.view(B, K * self.heads, -1).mT @ values
        share = (mean_of_shown(spread, hidden) + SMALLEST_SHARE).log()
        return data + self.mlp(data), components + self.count(share)


def usage(log_responsibilities: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Logarithms of the components' shares, in falling order and padded, and how clear-cut: a Tensor (B, LARGEST + 1).

    Parameters
    ----------
    log_responsibilities : Tensor (B, N, K).
    hidden : bool Tensor (B, N), True at padding; None where all points are real.
    """
    responsibilities = log_responsibilities.exp()
    shares = mean_of_shown(responsibilities.mT, hidden).sort(-1, descending=True).values
    shares = F.pad(shares, (0, LARGEST - shares.shape[-1]))
    clear = mean_of_shown(responsibilities.amax(-1), hidden)[:, None]
    return torch.cat([(shares + SMALLEST_SHARE).log(), clear], -1)


def mean_of_shown(values: Tensor, hidden: Tensor | None) -> Tensor:
    """The mean over the last axis of a Tensor (B, ..., N), of points that are not marked in a bool Tensor (B, N)."""
    if hidden is None:
        return values.mean(-1)
    shown = (~hidden).to(values.dtype).view(len(hidden), *[1] * (values.ndim - 2), -1)
    return (values * shown).sum(-1) / shown.sum(-1)


class AssignmentNetwork(nn.Module):
    """Responsibilities, and a distribution over K, from data sets in their canonical view."""

    def __init__(self, settings: AssignmentSettings | None = None):
        super().__init__()
        self.settings = settings = settings or AssignmentSettings()
        width, heads, blocks = settings.width, settings.heads, settings.blocks
        self.read_in = nn.Linear(AXES * (3 + 4 * settings.waves) + 2, width)
        self.seeds = nn.Parameter(torch.randn(LARGEST, width))
        self.size = nn.Embedding(LARGEST + 1, width)  # entry 0: K is withheld
        self.shape = nn.Embedding(len(SHAPES), width)
        for embedding in (self.size, self.shape):
            nn.init.normal_(embedding.weight, std=0.5)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.gathers = nn.ModuleList(Gather(width, heads) for _ in range(blocks))
        self.scatters = nn.ModuleList(Scatter(width, heads) for _ in range(blocks))
        self.component_norm, self.data_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.bias = nn.Linear(width, width), nn.Linear(width, 1)
        self.pooled = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU())
        self.count = nn.Sequential(
            nn.Linear(2 * width + LARGEST + 1, 2 * width), nn.ReLU(), nn.Linear(2 * width, LARGEST)
        )

    def forward(
        self, seen: Tensor, shapes: Tensor, K: int, hidden: Tensor | None = None, every: bool = True
    ) -> tuple[list[Tensor], Tensor]:
        """Log-responsibilities (B, N, K) after every block, and logits (B, LARGEST) of K = 1 ... LARGEST.

        Parameters
        ----------
        seen : Tensor (B, N, 3 q + 2), from :func:`canonical_view`.
        shapes : int64 Tensor (B,), indices of ``SHAPES``.
        K : the number of components; 0 withholds it: ``LARGEST`` components are told apart, of which some stay empty.
        hidden : bool Tensor (B, N), True at padding; None where all points are real.
        every : False reads the last block out alone.
        """
        width = self.settings.width
        data = self.read(seen)
        components = self.seeds[: K or LARGEST] + (self.size.weight[K] + self.shape(shapes))[:, None]
        outputs = []
        for norm, gather, scatter in zip(self.norms, self.gathers, self.scatters, strict=True):
            normed = norm(data)
            components = gather(components, normed, hidden)
            data, components = scatter(data, normed, components, hidden)
            if not every and scatter is not self.scatters[-1]:
                continue
            shown, told = self.data_norm(data), self.component_norm(components)
            scores = shown @ self.query(told).mT / math.sqrt(width) + self.bias(told).mT
            outputs.append(scores.log_softmax(-1))
        whole = mean_of_shown(shown.mT, hidden)[:, None]
        pooled = self.pooled(torch.cat([told, whole.expand_as(told)], -1)).mean(1)
        return outputs, self.count(torch.cat([pooled, usage(outputs[-1], hidden)], -1))

    def read(self, seen: Tensor) -> Tensor:
        """Data tokens (B, N, D) of a view with Fourier features of its coordinates (ranks have none).

        The read-in has weights for ``AXES`` axes; of those that the data do not have, all features are zero but the
        cosines, which are one.
        """
        q, waves = (seen.shape[-1] - 2) // 3, self.settings.waves
        sine, cosine = (seen[..., : 2 * q] * (math.pi / 8)).sin(), (seen[..., : 2 * q] * (math.pi / 8)).cos()
        sines, cosines = [sine], [cosine]
        for _ in range(waves - 1):  # of twice the angle
            sine, cosine = 2 * sine * cosine, 1 - 2 * sine.square()
            sines.append(sine)
            cosines.append(cosine)
        weight = self.read_in.weight
        plain, sine_weight, cosine_weight = weight.split([3 * AXES + 2, 2 * AXES * waves, 2 * AXES * waves], 1)
        three = plain[:, :-2].unflatten(1, (3, AXES))[..., :q].flatten(1)
        # Columns of the waves: part, axis, wave; here they come wave by wave.
        of_sines, of_cosines = (
            part.unflatten(1, (2, AXES, waves))[:, :, :q].permute(0, 3, 1, 2).flatten(1)
            for part in (sine_weight, cosine_weight)
        )
        absent = cosine_weight.unflatten(1, (2, AXES, waves))[:, :, q:].sum((1, 2, 3))
        features = torch.cat([seen, *sines, *cosines], -1)
        chosen = torch.cat([three, plain[:, -2:], of_sines, of_cosines], 1)
        return F.linear(features, chosen, self.read_in.bias + absent)
