"""Expectation-maximisation of many weighted mixtures at once, for scikit-learn's four shapes of covariance.

All data sets of a batch have the same number of rows, some of weight zero where sets are shorter; points are centred
and scaled (:mod:`tgmm.estimator.scaling`), so that floors are numbers of order ``reg_covar``. One implementation serves
``fit`` (a batch of one) and ``fit_many``.

A step needs sums of responsibilities times 1, x and x x^T. :class:`Quadratic` writes a log-density as a linear function
of these features, computed once; :class:`Direct` subtracts the means first, for many columns or tiny variances. Both
work through the rows in chunks where there are many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SHAPES = ("full", "tied", "diag", "spherical")
LARGEST_FEATURES = 12  # columns; with more of them, pairs of columns are too many
SMALLEST_FLOOR = 1e-10  # of a variance where subtracting squares is still exact enough
CHUNK = 4_000_000  # numbers in a chunk of features
TINY = 1e-12  # rows in a component that stands empty


@dataclass(frozen=True)
class Mixtures:
    """Parameters of B mixtures of one shape.

    Attributes
    ----------
    shape : "full", "tied", "diag" or "spherical".
    log_weights, means : Tensors (B, K) and (B, K, d).
    covariances : Tensor (B, K, d, d), (B, d, d), (B, K, d) or (B, K), by shape.
    """

    shape: str
    log_weights: Tensor
    means: Tensor
    covariances: Tensor

    def select(self, chosen: Tensor | slice) -> Mixtures:
        """Some of the mixtures."""
        return Mixtures(self.shape, self.log_weights[chosen], self.means[chosen], self.covariances[chosen])

    def replaced(self, chosen: Tensor, others: Mixtures) -> Mixtures:
        """The mixtures with those of a bool Tensor (B,) taken from others."""

        def pick(own: Tensor, other: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *[1] * (own.ndim - 1)), other, own)

        names = ("log_weights", "means", "covariances")
        return replace(self, **{name: pick(getattr(self, name), getattr(others, name)) for name in names})

    def each_covariance(self) -> Tensor:
        """Covariances of every component: (B, K, d, d) for full and tied, variances (B, K, d) for the others."""
        K, d = self.means.shape[1:]
        if self.shape == "tied":
            return self.covariances[:, None].expand(-1, K, -1, -1)
        return self.covariances[..., None].expand(-1, -1, d) if self.shape == "spherical" else self.covariances


@dataclass(frozen=True)
class Moments:
    """What a step learns from the data: weight (B, K), mean (B, K, d) and scatter of each component.

    The scatter is the weighted mean square deviation: (B, K, d, d) for full and tied, (B, K, d) for the others.
    """

    weight: Tensor
    mean: Tensor
    scatter: Tensor


class Quadratic:
    """Data sets as features 1, x and products of x, in which a Gaussian log-density is linear.

    Parameters
    ----------
    points : Tensor (B, N, d).
    weights : Tensor (B, N), of sums one.
    shape : of the covariances.
    """

    def __init__(self, points: Tensor, weights: Tensor, shape: str):
        self.points, self.weights, self.shape = points, weights, shape
        d = points.shape[2]
        self.pairs = torch.triu_indices(d, d, device=points.device)
        square = torch.zeros(d, d, dtype=torch.int64, device=points.device)
        square[self.pairs[0], self.pairs[1]] = torch.arange(len(self.pairs[0]), device=points.device)
        self.square = torch.maximum(square, square.mT).flatten()  # of each entry of a matrix, its pair
        self.factors = torch.where(self.pairs[0] == self.pairs[1], -0.5, -1.0).to(points)
        n_features = 1 + 2 * d if shape == "diag" else 2 + d if shape == "spherical" else 1 + d + len(self.pairs[0])
        rows = max(1, CHUNK // (len(points) * n_features))
        self.chunks = [slice(i, i + rows) for i in range(0, points.shape[1], rows)]
        self.kept = self._features(self.chunks[0]) if len(self.chunks) == 1 else None

    def select(self, chosen: Tensor) -> Quadratic:
        """The same for some of the data sets."""
        return Quadratic(self.points[chosen], self.weights[chosen], self.shape)

    def _features(self, rows: slice) -> Tensor:
        x = self.points[:, rows].mT.contiguous()
        if self.shape == "diag":
            products = x.square()
        elif self.shape == "spherical":
            products = x.square().sum(1, keepdim=True)
        else:
            products = x[:, self.pairs[0]] * x[:, self.pairs[1]]
        return torch.cat([torch.ones_like(x[:, :1]), x, products], 1)

    def expect(self, mixtures: Mixtures) -> tuple[Tensor, Moments]:
        """Mean log-likelihoods (B,) under these mixtures, and the moments under their responsibilities."""
        coefficients = self._coefficients(mixtures)
        likelihood, sums = 0.0, 0.0
        for rows in self.chunks:
            features = self._features(rows) if self.kept is None else self.kept
            log_joint = coefficients @ features  # (B, K, N)
            largest = log_joint.amax(1, keepdim=True)
            joint = log_joint.sub_(largest).exp_()
            total = joint.sum(1, keepdim=True)
            weights = self.weights[:, None, rows]
            likelihood = likelihood + ((total.log() + largest) * weights).sum((1, 2))
            sums = sums + joint.mul_(weights / total) @ features.mT
        return likelihood, self._moments(sums)

    def moments(self, responsibilities: Tensor) -> Moments:
        """The moments under responsibilities (B, N, K)."""
        sums = 0.0
        for rows in self.chunks:
            features = self._features(rows) if self.kept is None else self.kept
            sums = sums + (responsibilities[:, rows] * self.weights[:, rows, None]).mT @ features.mT
        return self._moments(sums)

    def _coefficients(self, mixtures: Mixtures) -> Tensor:
        means, d = mixtures.means, mixtures.means.shape[2]
        constant = mixtures.log_weights - 0.5 * d * math.log(2 * math.pi)
        if self.shape in ("diag", "spherical"):
            precisions = 1 / mixtures.each_covariance()
            linear = precisions * means
            quadratic = -0.5 * (precisions if self.shape == "diag" else precisions[..., :1])
            log_determinant = -precisions.log().sum(-1)
        else:
            factor = cholesky(mixtures.covariances)
            precisions = torch.cholesky_inverse(factor)
            log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            if self.shape == "tied":
                precisions, log_determinant = (
                    precisions[:, None].expand(-1, means.shape[1], -1, -1),
                    log_determinant[:, None],
                )
            linear = (precisions @ means[..., None])[..., 0]
            quadratic = precisions[..., self.pairs[0], self.pairs[1]] * self.factors
        constant = constant - 0.5 * (log_determinant + (linear * means).sum(-1))
        return torch.cat([constant[..., None], linear, quadratic], -1)

    def _moments(self, sums: Tensor) -> Moments:
        d = self.points.shape[2]
        weight = sums[..., 0]
        means = sums[..., 1:] / weight.clamp_min(TINY / self.points.shape[1])[..., None]
        mean, second = means[..., :d], means[..., d:]
        if self.shape == "diag":
            scatter = second - mean.square()
        elif self.shape == "spherical":
            scatter = ((second - mean.square().sum(-1, keepdim=True)) / d).expand(-1, -1, d)
        else:
            second = second.index_select(-1, self.square).unflatten(-1, (d, d))
            scatter = second - mean[..., None] * mean[..., None, :]
        return Moments(weight, mean, scatter)


class Direct:
    """Data sets as they are: deviations from the means are taken before they are squared. As :class:`Quadratic`."""

    def __init__(self, points: Tensor, weights: Tensor, shape: str):
        self.points, self.weights, self.shape = points, weights, shape
        rows = max(1, CHUNK // (len(points) * points.shape[2]))
        self.chunks = [slice(i, i + rows) for i in range(0, points.shape[1], rows)]

    def select(self, chosen: Tensor) -> Direct:
        """The same for some of the data sets."""
        return Direct(self.points[chosen], self.weights[chosen], self.shape)

    def expect(self, mixtures: Mixtures) -> tuple[Tensor, Moments]:
        """Mean log-likelihoods (B,) under these mixtures, and the moments under their responsibilities."""
        factors = precision_factors(mixtures)
        likelihood, sums = 0.0, None
        for rows in self.chunks:
            log_joint = log_joint_density(self.points[:, rows], mixtures, factors)
            total = log_joint.logsumexp(2, keepdim=True)
            likelihood = likelihood + (total[..., 0] * self.weights[:, rows]).sum(1)
            weighted = (log_joint - total).exp() * self.weights[:, rows, None]
            sums = _added(sums, self._sums(self.points[:, rows], weighted, mixtures.means))
        return likelihood, self._moments(*sums, mixtures.means)

    def moments(self, responsibilities: Tensor) -> Moments:
        """The moments under responsibilities (B, N, K)."""
        about = self.points.new_zeros(len(self.points), responsibilities.shape[2], self.points.shape[2])
        for _ in range(2):  # the second time about the means
            sums = None
            for rows in self.chunks:
                weighted = responsibilities[:, rows] * self.weights[:, rows, None]
                sums = _added(sums, self._sums(self.points[:, rows], weighted, about))
            moments = self._moments(*sums, about)
            about = moments.mean
        return moments

    def _sums(self, points: Tensor, weighted: Tensor, about: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of weights, deviations and their products, about given means (B, K, d)."""
        firsts, seconds = [], []
        for k in range(about.shape[1]):
            deviation = points - about[:, k, None]
            scaled = deviation * weighted[..., k, None]
            firsts.append(scaled.sum(1))
            outer = self.shape in ("full", "tied")
            seconds.append(scaled.mT @ deviation if outer else (scaled * deviation).sum(1))
        return weighted.sum(1), torch.stack(firsts, 1), torch.stack(seconds, 1)

    def _moments(self, weight: Tensor, first: Tensor, second: Tensor, about: Tensor) -> Moments:
        divisor = weight.clamp_min(TINY / self.points.shape[1])[..., None]
        step = first / divisor
        if self.shape in ("full", "tied"):
            scatter = second / divisor[..., None] - step[..., None] * step[..., None, :]
        else:
            scatter = (second / divisor - step.square()).clamp_min(0)
            if self.shape == "spherical":
                scatter = scatter.mean(-1, keepdim=True).expand_as(scatter)
        # An empty component stays where it is rather than at the origin.
        return Moments(weight, about + step, scatter)


def _added(sums: tuple[Tensor, ...] | None, others: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return others if sums is None else tuple(a + b for a, b in zip(sums, others, strict=True))


def cholesky(covariances: Tensor) -> Tensor:
    """Lower factors of covariances (..., d, d); NaN where one is not positive definite (its fit ends)."""
    factor, failed = torch.linalg.cholesky_ex(covariances)
    return torch.where((failed > 0)[..., None, None], torch.nan, factor) if bool(failed.any()) else factor


def design(points: Tensor, weights: Tensor, shape: str, floors: Tensor) -> Quadratic | Direct:
    """The form in which a step is fast and exact enough: points (B, N, d), weights (B, N), floors (B, d)."""
    exact = points.shape[2] <= LARGEST_FEATURES and float(floors.min()) >= SMALLEST_FLOOR
    return (Quadratic if exact else Direct)(points, weights, shape)


def precision_factors(mixtures: Mixtures) -> Tensor:
    """Upper factors U of the precisions U U^T, (B, K, d, d); for diag and spherical 1 / deviations, (B, K, d)."""
    if mixtures.shape in ("diag", "spherical"):
        return mixtures.each_covariance().rsqrt()
    factor = cholesky(mixtures.covariances)
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device).expand_as(factor)
    inverse = torch.linalg.solve_triangular(factor, eye, upper=False).mT
    return inverse[:, None].expand(-1, mixtures.means.shape[1], -1, -1) if mixtures.shape == "tied" else inverse


def log_joint_density(points: Tensor, mixtures: Mixtures, factors: Tensor | None = None) -> Tensor:
    """Log weight plus log density of every point (B, N, d) under every component, (B, N, K)."""
    factors = precision_factors(mixtures) if factors is None else factors
    d = points.shape[2]
    columns = []
    for k in range(mixtures.means.shape[1]):
        deviation, factor = points - mixtures.means[:, k, None], factors[:, k]
        if factors.ndim == 4:
            log_determinant, whitened = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1), deviation @ factor
        else:
            log_determinant, whitened = factor.log().sum(-1), deviation * factor[:, None]
        constant = mixtures.log_weights[:, k] + log_determinant - 0.5 * d * math.log(2 * math.pi)
        columns.append(constant[:, None] - 0.5 * whitened.square().sum(-1))
    return torch.stack(columns, -1)
