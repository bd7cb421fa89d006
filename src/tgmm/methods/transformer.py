"""A trained network as an estimation method: one forward pass, and EM steps from there if asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgmm.errors import UserError
from tgmm.methods.base import FitResult
from tgmm.methods.em import run_em_steps
from tgmm.mixture import Mixture, concatenate

CHUNK_NUMBERS = 1_000_000


def estimate_with_network(network: nn.Module, points: Tensor, n_components: int) -> Mixture:
    """The network's estimates for a batch of tasks that share one K, float64.

    Parameters
    ----------
    points : Tensor (B, N, d), on the network's device.
    n_components : a K that the network was trained for.

    Raises
    ------
    UserError
        For a K or a dimension that the network does not serve.
    """
    settings = network.settings
    if n_components not in settings.n_components:
        served = ", ".join(map(str, settings.n_components))
        raise UserError(f"this network was not trained for K={n_components} (it serves K = {served})")
    if points.shape[-1] != settings.dimension:
        raise UserError(f"this network estimates in d={settings.dimension}; the points have d={points.shape[-1]}")
    counts = torch.full(points.shape[:1], n_components, device=points.device)
    size = max(1, CHUNK_NUMBERS // (points.shape[1] * settings.width))
    was_training = network.training
    network.eval()
    with torch.no_grad():
        estimates = [
            network(chunk.float(), counts[: len(chunk)])[-1].mixture(n_components).to(torch.float64)
            for chunk in points.split(size)
        ]
    network.train(was_training)
    return concatenate(estimates)


def estimate_tgmm(network: nn.Module, points: Tensor, n_components: int, em_steps: int = 0) -> FitResult:
    """The network's estimates, refined by a fixed number of EM steps.

    A non-finite estimate is a failure with its reason.
    """
    mixture = estimate_with_network(network, points, n_components)
    if em_steps:
        mixture = run_em_steps(mixture, points.double(), em_steps)
    finite = mixture.means.isfinite().all((1, 2)) & mixture.weights.isfinite().all(1)
    failures = {int(task): "the estimate is not finite" for task in (~finite).nonzero()[:, 0]}
    return FitResult(mixture, torch.full((mixture.n_tasks,), em_steps), failures)
