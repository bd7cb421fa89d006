"""The count of a training step's operations, against a count by hand."""

from __future__ import annotations

import pytest
import torch

from tgmm.models.network import build_network
from tgmm.models.settings import NetworkSettings
from tgmm.tasks.sampler import sample_training_batch
from tgmm.train.cost import training_flops

WIDTH, HEADS, BLOCKS, POINTS, DIMENSION = 16, 2, 3, 40, 2


def batch(longest: int = 2 * POINTS):
    drawn = sample_training_batch(
        1, 0, 4, dimension=DIMENSION, covariance="isotropic", n_components=(2, 3), longest=longest
    )  # fmt: skip
    return drawn.__class__(drawn.mixture, drawn.points[:, :POINTS], drawn.labels[:, :POINTS], drawn.n_components)


def network(kind: str, blocks: int = BLOCKS):
    torch.manual_seed(0)
    return build_network(NetworkSettings(kind, DIMENSION, (2, 3), width=WIDTH, blocks=blocks, heads=HEADS))


def test_a_transformer_block_costs_what_its_matrices_say():
    flops = [training_flops(network("set-encoder", blocks), batch(), "matched") for blocks in (1, 2, 3)]
    weights = 12 * WIDTH**2  # four of attention, eight of the MLP
    attention = 2 * POINTS * WIDTH  # scores and mixing, for each point
    forward = 2 * POINTS * (weights + attention)
    # A backward pass costs twice the forward one.
    assert flops[1] - flops[0] == pytest.approx(3 * forward, rel=0.02)
    assert flops[2] - flops[1] == pytest.approx(3 * forward, rel=0.02)


@pytest.mark.parametrize("kind", ["components", "set-encoder", "gpt2"])
def test_counting_leaves_no_trace(kind):
    counted = network(kind)
    before = {name: value.clone() for name, value in counted.state_dict().items()}
    assert training_flops(counted, batch(), "matched") > 0
    assert all(parameter.grad is None for parameter in counted.parameters())
    assert all(torch.equal(value, before[name]) for name, value in counted.state_dict().items())
