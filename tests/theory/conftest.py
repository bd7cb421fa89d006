"""Mixtures and the comparison that the tests of Theorem 1 share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from theory_reference import em_steps

from tgmm.mixture import Mixture


@pytest.fixture
def make_em_tasks():
    """Points from Gaussian clusters by numpy, and starts at points: (points (B, N, d), Mixture)."""

    def make(n_tasks, dimension, n_components, *, n_points=96, spread=3.0, seed=0):
        generator = np.random.default_rng(seed)
        centres = spread * generator.standard_normal((n_tasks, n_components, dimension)).clip(-1.6, 1.6)
        labels = generator.integers(n_components, size=(n_tasks, n_points))
        points = np.take_along_axis(centres, labels[..., None], 1) + generator.standard_normal(
            (n_tasks, n_points, dimension)
        )
        weights = generator.dirichlet(np.full(n_components, 5.0), n_tasks)
        start = Mixture(torch.from_numpy(weights), torch.from_numpy(points[:, :n_components].copy()))
        return torch.from_numpy(points), start

    return make


@pytest.fixture
def largest_error():
    """The largest difference of any parameter between estimates and EM by numpy, over all tasks."""

    def compare(estimate, points, start, steps):
        largest = 0.0
        for task in range(len(points)):
            weights, means = em_steps(
                points[task].numpy(), start.weights[task].numpy(), start.means[task].numpy(), steps
            )
            largest = max(largest, np.abs(estimate.weights[task].numpy() - weights).max())
            largest = max(largest, np.abs(estimate.means[task].numpy() - means).max())
        return largest

    return compare
