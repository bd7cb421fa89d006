"""The trivial estimate: what a method must beat to have learnt anything."""

from __future__ import annotations

import torch
from torch import Tensor

from tgmm.methods.base import FitResult
from tgmm.mixture import Mixture


def estimate_sample_mean(points: Tensor, n_components: int, covariance: str = "isotropic") -> FitResult:
    """The sample mean K times, with equal weights; of anisotropic tasks the sample standard deviations too.

    Parameters
    ----------
    points : Tensor (B, N, d).
    n_components : K.
    covariance : "isotropic" (unit covariances) or "anisotropic" (diagonal).

    Returns
    -------
    FitResult in float64. Points that are not all finite are a failure.
    """
    points = points.double()
    means = points.mean(1, keepdim=True).expand(-1, n_components, -1)
    weights = torch.full_like(means[..., 0], 1.0 / n_components)
    spread = points.std(1, correction=0, keepdim=True).expand_as(means) if covariance == "anisotropic" else None
    bad = (~points.isfinite().all(2).all(1)).nonzero()[:, 0].tolist()
    failures = dict.fromkeys(bad, "the points are not all finite")
    return FitResult(Mixture(weights, means.clone(), spread), torch.zeros(len(points), dtype=torch.int64), failures)
