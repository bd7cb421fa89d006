"""The default network: component tokens beside the data tokens, the structure that Theorem 1 uses, learnt.

The points are seen in axes of the data's own. In every block the component tokens attend to the data tokens, then to
each other, and the data tokens attend to the component tokens, with an MLP on each side; one read-out serves the
component tokens of every block. The cost is linear in the number of points, and nothing depends on their order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.mixture import LogEstimate
from tgmm.models.attention import (
    MASKED,
    MLP,
    Attention,
    GatherAttention,
    ScatterAttention,
    component_slots,
    mask_bias,
    self_attention_block,
)
from tgmm.models.settings import ComponentsNetwork

EXACT_DIMENSION = 64  # up to here the eigenvectors of the (d, d) second moment are cheap
ITERATIONS = 4
OVERSAMPLING = 4
LONGEST_WAVE = 32.0  # beyond the diameter of the box that means are drawn from


class ComponentNetwork(nn.Module):
    """A set transformer with K component tokens: learnt seeds plus the embedding of K.

    It sees the points, and says what it estimates, in axes of the data's own (:class:`DataAxes`).
    """

    def __init__(self, settings: ComponentsNetwork):
        super().__init__()
        width, heads, blocks = settings.width, settings.heads, settings.blocks
        self.settings = settings
        self.data_axes = DataAxes(settings)
        self.read_in = ReadIn(self.data_axes.dimension, width, settings.fourier)
        self.seeds = nn.Parameter(torch.randn(settings.largest, width))
        self.size_embedding = nn.Embedding(len(settings.n_components), width)
        nn.init.normal_(self.size_embedding.weight, std=0.5)
        self.data_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        coordinates = self.data_axes.dimension if settings.moments else 0
        self.gathers = nn.ModuleList(GatherBlock(width, heads, coordinates) for _ in range(blocks))
        # Nothing reads the data tokens after the last block, so it does not update them.
        self.scatters = nn.ModuleList(ScatterBlock(settings) for _ in range(blocks - 1))
        self.read_out = ComponentReadout(settings, self.data_axes.dimension)

    def axes(self, points: Tensor, hidden: Tensor | None = None) -> Tensor | None:
        """The axes in which the network sees tasks; see :meth:`DataAxes.find`."""
        return self.data_axes.find(points, hidden)

    def forward(self, points: Tensor, n_components: Tensor, axes: Tensor | None = None) -> list[LogEstimate]:
        """The estimate after every block, the last one being the network's.

        Parameters
        ----------
        points : Tensor (B, N, d).
        n_components : Tensor (B,) of int64.
        axes : what :meth:`axes` gives for these points, where it has been computed before.
        """
        size, unused = component_slots(self.settings, n_components)
        axes = self.axes(points) if axes is None else axes
        seen = self.data_axes.project(points, axes)
        data = self.read_in(seen)
        components = self.seeds + self.size_embedding(size)[:, None]
        bias = mask_bias(unused, data.dtype)
        tokens = []
        for block, (norm, gather) in enumerate(zip(self.data_norms, self.gathers, strict=True)):
            normed = norm(data)
            components = gather(components, normed, bias, seen)
            tokens.append(components)
            if block < len(self.scatters):
                data, components = self.scatters[block](data, normed, components, bias)
        return self.data_axes.restore(self.read_out(torch.stack(tokens), unused), axes).split()


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

    def forward(self, components: Tensor, data: Tensor, unused: Tensor, seen: Tensor | None = None) -> Tensor:
        read, spread = self.gather(self.gather_norm(components), data)
        components = components + read
        if self.moments is not None:
            components = components + self.moments(spread, seen)
        norms = (self.mix_norm, self.component_norm)
        return self_attention_block(components, norms, self.mix, self.component_mlp, unused)


class ScatterBlock(nn.Module):
    """Data tokens (B, N, D) read the component tokens (B, K, D), which learn how much of that reading each got."""

    def __init__(self, settings: ComponentsNetwork):
        super().__init__()
        width, heads = settings.width, settings.heads
        self.scatter_norm = nn.LayerNorm(width)
        self.scatter = ScatterAttention(width, heads)
        self.count = nn.Linear(heads, width)
        self.data_norm = nn.LayerNorm(width)
        # The points are many: a wider one costs time and learns no more.
        self.data_mlp = MLP(width, F.relu, expansion=1)

    def forward(self, data: Tensor, normed: Tensor, components: Tensor, unused: Tensor) -> tuple[Tensor, Tensor]:
        """Both kinds of tokens after the block.

        ``normed`` is what data tokens show of themselves, ``unused`` (B, 1, 1, K) a bias that hides unused components.
        """
        read, share = self.scatter(normed, self.scatter_norm(components), unused.permute(0, 3, 1, 2))
        data = data + read
        return data + self.data_mlp(self.data_norm(data)), components + self.count(share)


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


class ReadIn(nn.Module):
    """A linear map of the coordinates and, if asked for, of their sines and cosines (Tancik et al. 2020).

    Parameters
    ----------
    dimension : number of coordinates.
    width : D.
    waves : number of waves that the coordinates share: each gets ``waves // dimension`` of them, of length 32, 16, 8,
        ...; 0 for the coordinates alone. Few coordinates have to carry more each.
    """

    def __init__(self, dimension: int, width: int, waves: int):
        super().__init__()
        self.octaves = waves // dimension
        self.linear = nn.Linear(dimension * (1 + 2 * self.octaves), width)

    def forward(self, points: Tensor) -> Tensor:
        """Tokens (B, N, D) of points (B, N, dimension)."""
        if not self.octaves:
            return self.linear(points)
        waves = 2.0 * math.pi / LONGEST_WAVE * 2.0 ** torch.arange(self.octaves, device=points.device)
        angles = (points[..., None] * waves).flatten(-2)
        return self.linear(torch.cat([points, angles.sin(), angles.cos()], dim=-1))


class ComponentReadout(nn.Module):
    """Weights, means and (anisotropic) standard deviations of each component, from its token."""

    def __init__(self, settings: ComponentsNetwork, dimension: int):
        super().__init__()
        self.norm = nn.LayerNorm(settings.width)
        self.weight = nn.Linear(settings.width, 1, bias=False)  # a bias common to all cancels
        self.mean = nn.Linear(settings.width, dimension)
        anisotropic = settings.covariance == "anisotropic"
        self.scale = nn.Linear(settings.width, dimension) if anisotropic else None

    def forward(self, components: Tensor, unused: Tensor) -> LogEstimate:
        """The estimates (..., B, K) of component tokens (..., B, K, D); ``unused`` (B, K) is True at padding."""
        # Under autocast blocks compute in bfloat16, whose steps at a mean of 4 are 0.03: too coarse for an estimate.
        with torch.autocast(components.device.type, enabled=False):
            normed = self.norm(components.to(self.norm.weight.dtype))
            logits = self.weight(normed)[..., 0].masked_fill(unused, MASKED)
            scales = None if self.scale is None else F.softplus(self.scale(normed))
            return LogEstimate(logits.log_softmax(-1), self.mean(normed), scales)


class DataAxes:
    """Axes of the data's own: rotations of a task then look the same, and many dimensions become few.

    Isotropic tasks are seen in the leading principal axes of their points. Diagonal covariances would not stay diagonal
    under a rotation, so anisotropic tasks keep their coordinates, brought into a common order and direction.

    Attributes
    ----------
    dimension : number of coordinates that the network sees.
    """

    def __init__(self, settings: ComponentsNetwork):
        self.anisotropic = settings.covariance == "anisotropic"
        self.used = settings.axes > 0
        few = self.used and not self.anisotropic
        self.dimension = min(settings.axes, settings.dimension) if few else settings.dimension
        # Means of length sqrt(d) get the length that they would have in as many dimensions as the network sees.
        self.scale = math.sqrt(self.dimension / settings.dimension)

    def find(self, points: Tensor, hidden: Tensor | None) -> Tensor | None:
        """The axes of tasks, (B, d, dimension), orthonormal columns; None where coordinates stay as they are."""
        if not self.used:
            return None
        if self.anisotropic:
            return sorted_coordinates(points, hidden)
        return principal_axes(points, self.dimension, hidden)

    def project(self, points: Tensor, axes: Tensor | None) -> Tensor:
        """The coordinates of points (B, N, d) in their axes, (B, N, dimension)."""
        return points if axes is None else self.scale * (points @ axes)

    def restore(self, estimate: LogEstimate, axes: Tensor | None) -> LogEstimate:
        """An estimate in the coordinates of the points."""
        if axes is None:
            return estimate
        scales = estimate.standard_deviations
        return LogEstimate(
            estimate.log_weights,
            estimate.means @ axes.mT / self.scale,
            None if scales is None else scales @ axes.mT.abs(),  # the axes of scales are signed coordinates
        )


@torch.no_grad()
def principal_axes(points: Tensor, count: int, hidden: Tensor | None = None) -> Tensor:
    """Orthonormal directions of largest second moment, a Tensor (B, d, count), largest last.

    K means span at most K dimensions, and the largest eigenvalues of the points' second moment find that span (the idea
    behind spectral methods: Vempala & Wang 2004; Hsu & Kakade 2013). Every direction points to where the sum of the
    points lies, so that its sign does not depend on the order of the points. In many dimensions they come from subspace
    iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4): exact for the large eigenvalues that hold the means,
    approximate among the small ones. All is computed in float64: in single precision the order in which the points are
    summed up turns directions of nearly equal moments. NaN for tasks with points that are not finite.

    Parameters
    ----------
    points : Tensor (B, N, d).
    count : number of directions, at most d.
    hidden : bool Tensor (B, N), True at points that do not count.
    """
    counted = _counted(points, hidden)
    dimension = points.shape[-1]
    if dimension <= max(EXACT_DIMENSION, count + OVERSAMPLING):
        axes = _eigenvectors(counted.mT @ counted)[..., -count:]
    else:
        basis = _start(dimension, count + OVERSAMPLING, counted).expand(len(counted), -1, -1)
        for _ in range(ITERATIONS):
            basis = torch.linalg.qr(counted.mT @ (counted @ basis)).Q
        inside = counted @ basis
        axes = basis @ _eigenvectors(inside.mT @ inside)[..., -count:]
    return _directed(axes, counted).to(points.dtype)


@torch.no_grad()
def sorted_coordinates(points: Tensor, hidden: Tensor | None = None) -> Tensor:
    """The coordinates as axes, in the order of their second moments and with signs as above: a Tensor (B, d, d)."""
    counted = _counted(points, hidden)
    order = counted.square().sum(1).argsort(1)
    identity = torch.eye(points.shape[-1], dtype=counted.dtype, device=points.device)
    return _directed(identity[order].mT, counted).to(points.dtype)


def _counted(points: Tensor, hidden: Tensor | None) -> Tensor:
    """The points that count, in float64, and zero elsewhere."""
    return (points if hidden is None else points.masked_fill(hidden[..., None], 0.0)).double()


def _eigenvectors(matrices: Tensor) -> Tensor:
    """Eigenvectors of symmetric matrices (B, d, d), by increasing eigenvalue; NaN where a matrix is not finite."""
    finite = matrices.isfinite().flatten(1).all(1)[:, None, None]
    return torch.linalg.eigh(matrices.where(finite, 0.0)).eigenvectors.where(finite, torch.nan)


def _directed(axes: Tensor, counted: Tensor) -> Tensor:
    """Axes (B, d, q) turned to where the sum of the points (B, N, d) lies."""
    return torch.where(counted.sum(1, keepdim=True) @ axes < 0, -axes, axes)


def _start(dimension: int, count: int, like: Tensor) -> Tensor:
    """A fixed set of directions, the same in every call: no draw of the caller's random numbers depends on it."""
    grid = torch.arange(1, dimension * count + 1, dtype=torch.float64).reshape(dimension, count)
    return (math.sqrt(2.0) * grid).cos().mul(grid.sqrt().sin()).to(like)
