"""The count of a training step's operations, against a count by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tgmm.models.settings import NETWORK_KINDS
from tgmm.tasks.stream import TaskBatch, TaskStream
from tgmm.train.trainer import training_flops

WIDTH, HEADS, BLOCKS, POINTS, DIMENSION = 16, 2, 3, 40, 2


def batch(n_points: int = POINTS, tasks: int = 4) -> TaskBatch:
    sizes = {"dimension": DIMENSION, "n_components": (2, 3), "n_points": 2 * n_points}
    drawn = TaskStream(1, tasks, covariance="isotropic", **sizes).batch(0)
    return replace(drawn, points=drawn.points[:, :n_points])


def network(kind: str, blocks: int = BLOCKS):
    torch.manual_seed(0)
    return NETWORK_KINDS[kind](
        dimension=DIMENSION, n_components=(2, 3), width=WIDTH, blocks=blocks, heads=HEADS
    ).build()


def test_a_transformer_block_costs_what_its_matrices_say():
    flops = [training_flops(network("set-encoder", blocks), batch(), "matched") for blocks in (1, 2, 3)]
    weights = 12 * WIDTH**2  # four of attention, eight of the MLP
    attention = 2 * POINTS * WIDTH  # scores and mixing, for each point
    forward = 2 * POINTS * (weights + attention)
    # A backward pass costs twice the forward one.
    assert flops[1] - flops[0] == pytest.approx(3 * forward, rel=0.02)
    assert flops[2] - flops[1] == pytest.approx(3 * forward, rel=0.02)


def test_a_data_token_of_the_default_network_costs_its_mlp_and_four_products_with_few_tokens():
    """Nothing of it grows with the square of the points or of the width but the MLP."""
    flops = {
        (blocks, n_points): training_flops(network("components", blocks), batch(n_points), "matched")
        for blocks in (2, 3)
        for n_points in (POINTS, 2 * POINTS)
    }
    each = (flops[3, 2 * POINTS] - flops[2, 2 * POINTS]) - (flops[3, POINTS] - flops[2, POINTS])
    largest = 3
    mlp = network("components").scatters[0].data_mlp.expand.weight.numel()
    forward = 2 * POINTS * (4 * largest * HEADS * WIDTH + 2 * mlp)
    assert each == pytest.approx(3 * forward, rel=0.02)


def test_a_loss_that_looks_at_the_points_costs_more():
    plain = training_flops(network("components"), batch(), "matched")
    assert plain < training_flops(network("components"), batch(), "both")


def test_the_cost_of_a_task_does_not_depend_on_the_batch():
    small, large = (training_flops(network("set-encoder"), batch(tasks=tasks), "matched") for tasks in (4, 16))
    assert small == pytest.approx(large, rel=1e-3)


@pytest.mark.parametrize("kind", ["components", "set-encoder", "gpt2"])
def test_counting_leaves_no_trace(kind):
    counted = network(kind)
    before = {name: value.clone() for name, value in counted.state_dict().items()}
    assert training_flops(counted, batch(), "matched") > 0
    assert all(parameter.grad is None for parameter in counted.parameters())
    assert all(torch.equal(value, before[name]) for name, value in counted.state_dict().items())
