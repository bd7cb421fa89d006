"""Tasks of the probes' own, apart from every training, validation and test task, and the networks to be probed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tgmm.counter_random import derive_seed
from tgmm.metrics import best_permutation, pairwise_errors
from tgmm.mixture import Mixture
from tgmm.models.checkpoint import Checkpoint, load_checkpoint
from tgmm.probes.trace import Trace, trace_network
from tgmm.tasks.points import sample_points
from tgmm.tasks.sampler import sample_mixtures

FIT, TEST = "probe-train", "probe-test"
FITTED_SHARE = 4  # tasks to fit probes on, for each task to test them on


@dataclass(frozen=True)
class TracedTasks:
    """Tasks of one K and what a network does with them.

    Attributes
    ----------
    points : Tensor (B, N, d) of float32.
    truth : the true mixtures, float64, their components in the order of the network's tokens: beside each token the
        true component that the best matching of the *last* read-out gives it.
    trace : the network's forward pass.
    estimates : the read-out after each block, its components matched to ``truth``.
    reordered : bool Tensors (B,), True where that matching moved a component: the loss matches every block's read-out
        separately, so nothing keeps a block from naming the components in an order of its own.
    """

    points: Tensor
    truth: Mixture
    trace: Trace
    estimates: list[Mixture]
    reordered: list[Tensor]

    @property
    def n_components(self) -> int:
        return self.truth.n_components


def trace_tasks(network: nn.Module, settings: dict[str, Any], purpose: str) -> list[TracedTasks]:
    """A network's passes over tasks of a purpose, for every K; see :func:`tgmm.probes.measure.measure_probes`."""
    n_tasks = settings["tasks"] * (FITTED_SHARE if purpose == FIT else 1)
    traced = []
    for count in settings["n_components"]:
        seed = derive_seed(settings["seed"], purpose, settings["covariance"], settings["dimension"], count)
        index = torch.arange(n_tasks)
        truth = sample_mixtures(seed, index, count, settings["dimension"], settings["covariance"])
        points, _ = sample_points(truth, seed, index, settings["longest"])
        points, truth = in_own_axes(network, points, truth)
        traced.append(align(points, truth, trace_network(network, points, count)))
    return traced


def in_own_axes(network: nn.Module, points: Tensor, truth: Mixture) -> tuple[Tensor, Mixture]:
    """The tasks turned into the axes in which the network sees them, so that its tokens are compared with what it sees.

    A linear probe has no way to know each task's own rotation. For isotropic tasks the turned task is as good as the
    other; a network of fewer axes than dimensions sees its projection.
    """
    axes = network.axes(points)
    if axes is None:
        return points, truth
    wide = axes.to(truth.means.dtype)
    scales = truth.standard_deviations
    turned = Mixture(truth.weights, truth.means @ wide, None if scales is None else scales @ wide.abs())
    return points @ axes, turned


def align(points: Tensor, truth: Mixture, trace: Trace) -> TracedTasks:
    """Put the true components in the order of the tokens, and every read-out's components in the order of both."""
    order = best_permutation(pairwise_errors(trace.estimates[-1], truth))
    truth = truth.permute_components(order.argsort(1))
    orders = [best_permutation(pairwise_errors(estimate, truth)) for estimate in trace.estimates]
    identity = torch.arange(truth.n_components)
    return TracedTasks(
        points, truth, trace,
        [estimate.permute_components(order) for estimate, order in zip(trace.estimates, orders, strict=True)],
        [(order != identity).any(1) for order in orders],
    )  # fmt: skip


def load_networks(model: Path, settings: dict[str, Any]) -> dict[str, nn.Module]:
    """The trained network and, as a control, the same network with the weights that its training began from."""
    checkpoint = load_checkpoint(model)
    return {"trained": checkpoint.network, "untrained": _untrained(checkpoint, settings)}


def _untrained(checkpoint: Checkpoint, settings: dict[str, Any]) -> nn.Module:
    seed = checkpoint.record.get("settings", {}).get("seed", settings["seed"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights", checkpoint.family))
        return build_network(checkpoint.network.settings).eval()
