"""Where EM starts: the responsibilities of the assignment network, or k-means beyond its largest K."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgmm.models.assignment import AXES, LARGEST, AssignmentNetwork, canonical_view
from tgmm.models.criterion import CriterionNetwork
from tgmm.models.settings import AssignmentSettings, CriterionSettings
from tgmm.tasks.settings import SHAPES

SEEN = 2048  # rows that the network sees at most
LEAST = 512  # rows that stand for unequal weights


@lru_cache(maxsize=4)
def load_network(device: str = "cpu") -> AssignmentNetwork:
    """The released assignment network, from the package itself."""
    from safetensors.torch import load

    data = resources.files("tgmm") / "data"
    network = AssignmentNetwork(AssignmentSettings.read(network_record()["settings"]["network"]))
    network.load_state_dict(load((data / "assignment.safetensors").read_bytes()))
    return network.requires_grad_(False).eval().to(device)


@lru_cache(maxsize=1)
def load_criterion() -> CriterionNetwork:
    """The released criterion network, from the package itself."""
    from safetensors.torch import load

    data = resources.files("tgmm") / "data"
    settings = json.loads((data / "criterion.json").read_text())["settings"]["network"]
    network = CriterionNetwork(CriterionSettings.read(settings))
    network.load_state_dict(load((data / "criterion.safetensors").read_bytes()))
    return network.requires_grad_(False).eval()


def network_record() -> dict[str, Any]:
    """How the released network was trained: tasks, minutes, prior, versions."""
    return json.loads((resources.files("tgmm") / "data" / "assignment.json").read_text())


@torch.inference_mode()
def responsibilities(
    points: Tensor, shape: str, K: int, signs: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """What the network says who belongs where, (B, N, K), of finite points (B, N, d) in any units.

    Weights (B, N) of sums one are zero at padding; None where all points are real.
    """
    B, N, _ = points.shape
    if K == 1:
        return torch.ones(B, N, 1, dtype=points.dtype, device=points.device)
    told = torch.full((B,), SHAPES.index(shape), device=points.device)
    seen, hidden = canonical_view(points, told, weights, signs), None if weights is None else weights == 0
    outputs, _ = load_network(str(points.device))(seen, told, K, hidden, every=False)
    return outputs[-1].exp().to(points.dtype)


@torch.inference_mode()
def count_probabilities(points: Tensor, shape: str, signs: Tensor | None = None) -> Tensor:
    """P(K | data) for K = 1 ... LARGEST, (B, LARGEST), of finite points (B, N, d)."""
    told = torch.full((len(points),), SHAPES.index(shape), device=points.device)
    _, logits = load_network(str(points.device))(canonical_view(points, told, signs=signs), told, 0, every=False)
    return logits.double().softmax(-1)


def view_signs(n_views: int) -> Tensor:
    """Signs of the axes in each view, (n_views, 1, AXES), always the same; the first view is the canonical one."""
    others = np.random.default_rng(0).choice([-1.0, 1.0], (n_views - 1, 1, AXES))
    return torch.from_numpy(np.concatenate([np.ones((1, 1, AXES)), others]))


def seen_rows(weights: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Indices of the rows that stand for the data before the network, at most ``SEEN``, repeated as weights ask."""
    counted = np.flatnonzero(weights > 0)
    shares = weights[counted]
    total = shares.sum()
    if np.all(shares == shares[0]):
        return counted if len(counted) <= SEEN else np.sort(rng.choice(counted, SEEN, replace=False))
    if total <= SEEN and np.all(shares == np.round(shares)):
        return np.repeat(counted, shares.astype(int))
    size = min(SEEN, max(LEAST, len(counted)))
    steps = (np.arange(size) + 0.5) / size  # systematic: a row's copies are its share, rounded up or down
    return counted[np.searchsorted(np.cumsum(shares / total), steps).clip(max=len(counted) - 1)]


def k_means(points: np.ndarray, K: int, rng: np.random.RandomState) -> Tensor:
    """Responsibilities (1, N, K) of one run of k-means, for K that the network does not know."""
    from sklearn.cluster import KMeans

    labels = KMeans(K, n_init=1, random_state=rng).fit(points).labels_
    return torch.nn.functional.one_hot(torch.tensor(labels, dtype=torch.int64), K).double()[None]


def network_knows(K: int) -> bool:
    """Whether the network tells K components apart."""
    return K <= LARGEST
