"""The quantities that the probes report, each a number a task: pure functions of tensors and mixtures."""

from __future__ import annotations

import torch
from torch import Tensor

from tgmm.methods.em import run_em_steps
from tgmm.mixture import Mixture


def correlation(attention: Tensor, reference: Tensor) -> Tensor:
    """Pearson's correlation over the components and points of each task, (B, H); zero where either is constant.

    Parameters
    ----------
    attention : Tensor (B, H, K, N).
    reference : Tensor (B, K, N).
    """
    attention = attention.double().flatten(2)
    reference = reference.double().flatten(1)[:, None].expand_as(attention)
    attention = attention - attention.mean(2, keepdim=True)
    reference = reference - reference.mean(2, keepdim=True)
    product = attention.norm(dim=2) * reference.norm(dim=2)
    return torch.where(product > 0, (attention * reference).sum(2) / product.clamp_min(1e-300), 0.0)


def over_points(responsibilities: Tensor) -> Tensor:
    """Each component's responsibilities as shares of their sum over the points, what EM's M-step weights points by."""
    return responsibilities / responsibilities.sum(2, keepdim=True).clamp_min(1e-300)


def em_path(start: Mixture, points: Tensor, steps: int) -> list[Mixture]:
    """The mixtures after 0, 1, ..., ``steps`` EM steps from a start."""
    path = [start]
    for _ in range(steps):
        path.append(run_em_steps(path[-1], points.double(), 1))
    return path


def parameter_vector(mixture: Mixture) -> Tensor:
    """Means and weights as one vector (B, K (d + 1)), in which squared distances add up as in the l2-error."""
    means = mixture.means / mixture.dimension**0.5
    return torch.cat([means.flatten(1), mixture.weights], dim=1)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle between two vectors of each task, (B,)."""
    return torch.nn.functional.cosine_similarity(first, second, dim=1, eps=1e-12)


def without(vectors: Tensor, direction: Tensor) -> Tensor:
    """The part (B, P) of each task's vector that is orthogonal to a direction (B, P)."""
    unit = torch.nn.functional.normalize(direction, dim=1, eps=1e-12)
    return vectors - (vectors * unit).sum(1, keepdim=True) * unit
