"""A trained network as an estimation method: one forward pass, and EM steps from there if asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgmm.errors import UserError
from tgmm.methods.base import FitResult
from tgmm.methods.em import run_em_steps
from tgmm.mixture import Mixture, concatenate

CHUNK_NUMBERS = 1_000_000
LARGEST_COORDINATE = 1e15  # the network computes in single precision, where squares of larger numbers overflow


def estimate_with_network(network: nn.Module, points: Tensor, n_components: int) -> Mixture:
    """The network's estimates for a batch of tasks that share one K, float64.

    Parameters
    ----------
    points : Tensor (B, N, d), on the network's device.
    n_components : a K that the network was trained for.

    Returns
    -------
    Mixture, NaN in tasks with a coordinate that is not finite or larger than ``LARGEST_COORDINATE``.

    Raises
    ------
    UserError : for a K or a dimension that the network does not serve.
    """
    settings = network.settings
    if n_components not in settings.n_components:
        served = ", ".join(map(str, settings.n_components))
        raise UserError(f"this network was not trained for K={n_components} (it serves K = {served})")
    if points.shape[-1] != settings.dimension:
        raise UserError(f"this network estimates in d={settings.dimension}; the points have d={points.shape[-1]}")
    usable = within_single_precision(points)
    points = points.where(usable[:, None, None], 0.0)
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
    return with_gaps(concatenate(estimates), ~usable)


def within_single_precision(points: Tensor) -> Tensor:
    """Bool Tensor (B,), True for tasks (B, N, d) whose coordinates are all finite and not too large."""
    return (points.abs() <= LARGEST_COORDINATE).all(2).all(1)


def with_gaps(mixture: Mixture, failed: Tensor) -> Mixture:
    """The mixture with NaN in the tasks that failed, a bool Tensor (B,)."""
    return mixture.map(lambda tensor: tensor.masked_fill(failed.view(-1, *[1] * (tensor.ndim - 1)), torch.nan))


def estimate_tgmm(network: nn.Module, points: Tensor, n_components: int, em_steps: int = 0) -> FitResult:
    """The network's estimates, refined by a fixed number of EM steps.

    An estimate of which a weight, a mean or a standard deviation is not finite is a failure with its reason.
    """
    mixture = estimate_with_network(network, points, n_components)
    if em_steps:
        mixture = run_em_steps(mixture, points.double(), em_steps)
    parts = [tensor for tensor in mixture.tensors() if tensor is not None]
    failed = ~torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in parts]).all(0)
    failures = {task: _reason(points[task]) for task in failed.nonzero()[:, 0].tolist()}
    return FitResult(with_gaps(mixture, failed), torch.full((mixture.n_tasks,), em_steps), failures)


def _reason(points: Tensor) -> str:
    """Why there is no estimate of a data set (N, d)."""
    if not points.isfinite().all():
        return "the points are not all finite"
    if points.abs().max() > LARGEST_COORDINATE:
        return f"a coordinate is beyond {LARGEST_COORDINATE:g}, too large for single precision"
    return "the estimate is not finite"
