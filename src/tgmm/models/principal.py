"""Axes of a data set's own, in which its means look alike however the data are rotated.

K means span at most K dimensions, and the largest eigenvalues of the points' second moment find that span (the idea
behind spectral methods: Vempala & Wang 2004; Hsu & Kakade 2013). In these coordinates a network need not learn every
rotation of the same task, and in many dimensions it need not carry coordinates that are noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXACT_DIMENSION = 64  # up to here the eigenvectors of the (d, d) second moment are cheap
ITERATIONS = 4
OVERSAMPLING = 4


@torch.no_grad()
def principal_axes(points: Tensor, count: int, hidden: Tensor | None = None) -> Tensor:
    """Orthonormal directions of largest second moment, a Tensor (B, d, count), largest last.

    Every direction points to where the sum of the points lies, so that its sign does not depend on the order of the
    points. In many dimensions they come from subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4): exact
    for the large eigenvalues that hold the means, approximate among the small ones.

    Parameters
    ----------
    points : Tensor (B, N, d).
    count : number of directions, at most d.
    hidden : bool Tensor (B, N), True at points that do not count.
    """
    points = _counted(points, hidden)
    dimension = points.shape[-1]
    if dimension <= max(EXACT_DIMENSION, count + OVERSAMPLING):
        axes = torch.linalg.eigh(points.mT @ points).eigenvectors[..., -count:]
    else:
        basis = _start(dimension, count + OVERSAMPLING, points).expand(len(points), -1, -1)
        for _ in range(ITERATIONS):
            basis = torch.linalg.qr(points.mT @ (points @ basis)).Q
        inside = points @ basis
        axes = basis @ torch.linalg.eigh(inside.mT @ inside).eigenvectors[..., -count:]
    return _directed(axes, points)


@torch.no_grad()
def sorted_coordinates(points: Tensor, hidden: Tensor | None = None) -> Tensor:
    """The coordinates as axes, in the order of their second moments and with signs as above: a Tensor (B, d, d)."""
    points = _counted(points, hidden)
    order = points.square().sum(1).argsort(1)
    identity = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
    return _directed(identity[order].mT, points)


def _counted(points: Tensor, hidden: Tensor | None) -> Tensor:
    return points if hidden is None else points.masked_fill(hidden[..., None], 0.0)


def _directed(axes: Tensor, points: Tensor) -> Tensor:
    """Axes (B, d, q) turned to where the sum of the points lies."""
    return torch.where((points @ axes).sum(1, keepdim=True) < 0, -axes, axes)


def _start(dimension: int, count: int, like: Tensor) -> Tensor:
    """A fixed set of directions, the same in every call: no draw of the caller's random numbers depends on it."""
    grid = torch.arange(1, dimension * count + 1, dtype=torch.float64).reshape(dimension, count)
    return (math.sqrt(2.0) * grid).cos().mul(grid.sqrt().sin()).to(like)
