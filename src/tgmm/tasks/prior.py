"""The broad prior of the assignment network: mixtures of every shape, size, overlap and nuisance that it is trained on.

A task is a data set with the label of every point. It has d = 1 ... 12 columns, N = 32 ... 1,024 points and
K = 1 ... 10 components of spherical, diagonal, full or tied covariance, with distances of the means from heavy overlap
to clear gaps. Some tasks have nuisances of real data: heavy tails, outliers that belong to no component, very unequal
weights, columns that tell nothing, columns in units of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.tasks.settings import HOLDERS, PriorSettings

# A Wishart matrix of d degrees of freedom may be singular in all but name; its diagonal is kept above this.
SMALLEST_CHI = 0.05


@dataclass(frozen=True)
class Tasks:
    """A batch of data sets.

    Attributes
    ----------
    points : Tensor (B, N, d); with the held-out points behind them (B, N + heldout, d).
    labels : int64 Tensor of the same N; -1 for outliers, which belong to no component.
    n_components : int64 Tensor (B,).
    kinds : int64 Tensor (B,), indices of ``KINDS``.
    """

    points: Tensor
    labels: Tensor
    n_components: Tensor
    kinds: Tensor


def draw_tasks(
    settings: PriorSettings,
    n_components: Tensor,
    dimension: int,
    n_points: int,
    generator: torch.Generator,
    *,
    heldout: int = 0,
    kind: int | None = None,
    distance: float | None = None,
    nuisances: bool = True,
) -> Tasks:
    """Draw one task for each entry of ``n_components``.

    Parameters
    ----------
    n_components : int64 Tensor (B,), K of each task.
    dimension, n_points : d and N.
    heldout : further points of each task, behind the others.
    kind, distance : fixed for all tasks; None draws them.
    nuisances : False leaves out heavy tails, outliers, noise columns and units.
    """
    B, K = len(n_components), int(n_components.max())
    draw = _Draws(generator)
    kinds = draw.choice(settings.kinds, B) if kind is None else torch.full((B,), kind)
    deviations, factors = _factors(draw, kinds, B, K, dimension)
    means = _means(draw, settings, kinds, deviations, factors, distance)
    N = n_points + heldout
    labels = _labels(draw, settings, n_components, K, N)
    noise = draw.normal(B, N, dimension)
    if nuisances:
        noise = _heavy_tails(draw, settings, noise)
        means = _noise_columns(draw, settings, means)
    every = means[:, :, None] + noise[:, None] @ factors.mT  # (B, K, N, d): as if each component had drawn the point
    points = every.gather(1, labels[:, None, :, None].expand(-1, 1, -1, dimension))[:, 0]
    if nuisances:
        points, labels = _outliers(draw, settings, points, labels)
        points = _own_units(draw, settings, kinds, points)
    return Tasks(points, labels, n_components, kinds)


def tell_shapes(kinds: Tensor, generator: torch.Generator) -> Tensor:
    """A shape that the network is told of each task, (B,): one that holds the task's covariances, or "unknown"."""
    holders = torch.tensor(HOLDERS)[kinds]
    told = holders.gather(1, torch.randint(0, 4, (len(kinds), 1), generator=generator))[:, 0]
    own = torch.rand(len(kinds), generator=generator)
    told = torch.where(own < 0.35, holders[:, 0], told)
    return torch.where(own > 0.85, torch.zeros_like(told), told)


class _Draws:
    """Random tensors of one generator."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def gamma(self, concentration: Tensor) -> Tensor:
        return torch._standard_gamma(concentration.contiguous(), generator=self.generator)

    def choice(self, chances: tuple[float, ...], count: int) -> Tensor:
        return torch.multinomial(torch.tensor(chances), count, True, generator=self.generator)


def _factors(draw: _Draws, kinds: Tensor, B: int, K: int, d: int) -> tuple[Tensor, Tensor]:
    """Standard deviations (B, K, d) and factors F (B, K, d, d) of the covariances F F^T."""
    kind = kinds[:, None, None]
    equal, spheres, tied = kind == 0, kind <= 1, kind == 4
    log_eigenvalues = draw.normal(B, K, d) * draw.uniform(B, 1, 1)
    log_eigenvalues = torch.where(tied, log_eigenvalues[:, :1], log_eigenvalues).masked_fill(spheres, 0.0)
    log_sizes = (draw.normal(B, K, 1) * 0.5 * draw.uniform(B, 1, 1)).masked_fill(equal | tied, 0.0)
    deviations = (0.5 * log_eigenvalues + log_sizes).exp()
    factors = torch.diag_embed(deviations)
    turned = ((kinds == 3) | (kinds == 4)).nonzero()[:, 0]
    if len(turned):
        rotations = torch.linalg.qr(draw.normal(len(turned), K, d, d))[0]
        rotations = torch.where(tied[turned][..., None], rotations[:, :1], rotations)
        factors[turned] = rotations * deviations[turned][:, :, None, :]
    wishart = (kinds == 5).nonzero()[:, 0]
    if len(wishart):
        factors[wishart] = _inverse_wishart(draw, len(wishart), K, d)
        deviations[wishart] = factors[wishart].square().sum(-1).sqrt()
    return deviations, factors


def _inverse_wishart(draw: _Draws, B: int, K: int, d: int) -> Tensor:
    """Factors (B, K, d, d) of inverse-Wishart covariances, degrees of freedom d to d + 4 (Bartlett's decomposition)."""
    freedom = d + torch.randint(0, 5, (B, 1, 1), generator=draw.generator)
    chi = (2 * draw.gamma(((freedom - torch.arange(d)) / 2).expand(B, K, d))).sqrt().clamp_min(SMALLEST_CHI)
    lower = torch.tril(draw.normal(B, K, d, d), -1) + torch.diag_embed(chi)
    return torch.linalg.solve_triangular(lower, torch.eye(d).expand(B, K, d, d), upper=False).mT


def _means(
    draw: _Draws, settings: PriorSettings, kinds: Tensor, deviations: Tensor, factors: Tensor, distance: float | None
) -> Tensor:
    """Means (B, K, d) with a given mean distance; under the inverse Wishart N(0, covariance / kappa)."""
    B, K, d = deviations.shape
    if distance is None:
        steps = draw.uniform(B, 1, 1) * math.log(settings.farthest / settings.nearest)
        distances = settings.nearest * steps.exp()
    else:
        distances = torch.full((B, 1, 1), float(distance))
    directions = draw.normal(B, K, d)
    spread = deviations.square().mean((1, 2), keepdim=True).sqrt()
    means = directions * distances / math.sqrt(2 * d) * spread
    own = (factors @ directions[..., None])[..., 0] * distances.clamp_min(3.0) * (10 / 12)
    return torch.where((kinds == 5)[:, None, None], own, means)


def _labels(draw: _Draws, settings: PriorSettings, n_components: Tensor, K: int, N: int) -> Tensor:
    B, choices = len(n_components), torch.tensor(settings.concentrations)
    concentration = choices[torch.randint(0, len(choices), (B,), generator=draw.generator)][:, None]
    weights = draw.gamma(concentration.expand(B, K)) + 0.05 * concentration
    weights = weights * (torch.arange(K) < n_components[:, None])
    return torch.multinomial(weights, N, True, generator=draw.generator)


def _heavy_tails(draw: _Draws, settings: PriorSettings, noise: Tensor) -> Tensor:
    chosen = (draw.uniform(len(noise)) < settings.heavy_tails).nonzero()[:, 0]
    if len(chosen):
        chi = draw.gamma(torch.full((len(chosen), noise.shape[1], 1), 2.5)) / 2.5
        noise[chosen] = noise[chosen] / chi.sqrt()
    return noise


def _noise_columns(draw: _Draws, settings: PriorSettings, means: Tensor) -> Tensor:
    B, _, d = means.shape
    keep = draw.uniform(B, 1, d) < 0.5
    keep[..., 0] = True
    keep |= draw.uniform(B, 1, 1) >= settings.noise_columns
    return torch.where(keep, means, means.mean(1, keepdim=True))


def _outliers(draw: _Draws, settings: PriorSettings, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    chosen = (draw.uniform(len(points)) < settings.outliers).nonzero()[:, 0]
    if not len(chosen):
        return points, labels
    some = points[chosen]
    share = draw.uniform(len(chosen), 1) * 0.05
    away = draw.uniform(*some.shape[:2]) < share
    width = some.std(1, keepdim=True) * (1 + 9 * draw.uniform(len(chosen), 1, 1).square())
    scattered = some.mean(1, keepdim=True) + draw.normal(*some.shape) * width
    points[chosen] = torch.where(away[..., None], scattered, some)
    labels[chosen] = labels[chosen].masked_fill(away, -1)
    return points, labels


def _own_units(draw: _Draws, settings: PriorSettings, kinds: Tensor, points: Tensor) -> Tensor:
    B, _, d = points.shape
    units = (draw.normal(B, 1, d) * 1.5 * draw.uniform(B, 1, 1)).exp()
    own = (draw.uniform(B, 1, 1) < settings.own_units) & (kinds > 1)[:, None, None]
    return points * torch.where(own, units, torch.ones(()))
