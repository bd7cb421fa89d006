"""EM and tensor algebra written with numpy loops, sharing no code with the package."""

from __future__ import annotations

import numpy as np


def em_steps(points, weights, means, steps):
    """EM for one mixture of unit covariances: arrays (N, d), (K,), (K, d)."""
    for _ in range(steps):
        distances = ((points[:, None, :] - means[None]) ** 2).sum(2)
        logits = np.log(weights)[None] - 0.5 * distances
        joint = np.exp(logits - logits.max(1, keepdims=True))
        responsibilities = joint / joint.sum(1, keepdims=True)
        totals = responsibilities.sum(0)
        weights, means = totals / len(points), responsibilities.T @ points / totals[:, None]
    return weights, means


def cubic_map(tensor, vector):
    """T(I, v, v), one sum after the other."""
    result = np.zeros_like(vector)
    for j, first in enumerate(vector):
        for m, second in enumerate(vector):
            result += tensor[:, j, m] * first * second
    return result
