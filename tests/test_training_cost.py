"""The estimate of what training costs, against the count of the operations that it runs."""

from __future__ import annotations

import pytest
import torch

from tgmm.mixture import Mixture
from tgmm.models.network import build_network
from tgmm.models.settings import NETWORK_KINDS, NetworkSettings
from tgmm.study.training_cost import CORE_RATE, task_flops, training_hours
from tgmm.tasks.stream import TaskBatch
from tgmm.train.cost import training_flops

LONGEST = 128


def counted(network: dict, mixture: Mixture) -> float:
    """Operations of a task of mean length, counted while they run."""
    torch.manual_seed(0)
    batch = TaskBatch(mixture, torch.randn(2, 3 * LONGEST // 4, 8), torch.tensor([5, 5]))
    return training_flops(build_network(NetworkSettings(dimension=8, **network)), batch, "matched")


@pytest.mark.parametrize("kind", NETWORK_KINDS)
@pytest.mark.parametrize(("width", "blocks"), [(64, 4), (128, 12)])
def test_the_estimate_is_within_a_factor_of_two_of_the_count(kind, width, blocks, make_mixture):
    network = {"kind": kind, "width": width, "blocks": blocks, "heads": 4}
    estimate = task_flops({"network": network, "longest": LONGEST})
    assert 0.5 < estimate / counted(network, make_mixture(2, 5, 8)) < 2.0


def test_hours_add_up_and_cores_share_them():
    network = {"kind": "gpt2", "width": 64, "blocks": 4}
    family = {"network": network, "longest": LONGEST, "training": {"tasks": 1000}}
    alone = training_hours([family], cores=1)
    assert alone == pytest.approx(1000 * task_flops(family) / CORE_RATE / 3600)
    assert training_hours([family, family], cores=1) == pytest.approx(2 * alone)
    assert training_hours([family, family], cores=4) == pytest.approx(alone / 2)
