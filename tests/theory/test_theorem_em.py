"""Theorem 1: the network carries out EM, written here with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tgmm.errors import UserError
from tgmm.methods.em import run_em_steps
from tgmm.mixture import Mixture
from tgmm.theory.em import (
    build_em_transformer,
    em_trajectory,
    largest_differences,
    measure_em,
    run_em_transformer,
    sample_em_tasks,
)


@pytest.fixture(scope="module")
def exact_network():
    """Up to d=8, K=5; 20 steps with exact scalar maps."""
    return build_em_transformer(8, 5, 20, 128, exact=True)


@pytest.mark.parametrize("spread", [3.0, 0.8])
@pytest.mark.parametrize(("d", "K"), [(1, 1), (2, 2), (2, 5), (5, 3), (8, 5)])
def test_with_exact_maps_one_network_is_em_for_every_d_and_k(exact_network, make_em_tasks, largest_error, d, K, spread):
    points, start = make_em_tasks(4, d, K, spread=spread)
    assert largest_error(run_em_transformer(exact_network, points, start), points, start, 20) < 1e-12


@pytest.mark.parametrize("spread", [3.0, 1.0])
def test_relu_maps_reach_the_level_over_twenty_steps(make_em_tasks, largest_error, spread):
    network = build_em_transformer(8, 5, 20, 2048)
    for d, K in ((2, 3), (8, 5)):
        points, start = make_em_tasks(2, d, K, spread=spread, n_points=128)
        assert largest_error(run_em_transformer(network, points, start), points, start, 20) < 1e-4


@pytest.mark.parametrize("copies", [1, 8])
def test_the_error_falls_as_the_square_of_the_width(make_em_tasks, largest_error, copies):
    points, start = make_em_tasks(12, 2, 3, spread=1.2)
    widths, errors = (256, 512, 1024, 2048), []
    for width in widths:
        estimate = run_em_transformer(build_em_transformer(2, 3, 3, width, copies=copies), points, start)
        errors.append([
            largest_error(estimate[[task]], points[[task]], start[[task]], 3) for task in range(len(points))
        ])  # fmt: skip
    slope = np.polyfit(np.log(widths), np.log(errors).mean(1), 1)[0]
    assert -2.3 < slope < -1.7


def test_the_network_agrees_with_the_packages_em_after_every_step():
    points, start = sample_em_tasks("overlapping", 2, 3, n_tasks=4, n_points=64, seed=7)
    trajectory = em_trajectory(build_em_transformer(2, 3, 6, 128, exact=True), points, start)
    assert len(trajectory) == 6
    for n_steps, mixture in enumerate(trajectory, start=1):
        assert largest_differences(mixture, run_em_steps(start, points, n_steps)).max() < 1e-12


def test_components_of_weight_zero_take_nothing_and_stay(make_em_tasks, exact_network):
    points, start = make_em_tasks(3, 2, 3)
    padded = Mixture(
        torch.cat([start.weights, torch.zeros(3, 1)], 1), torch.cat([start.means, torch.full((3, 1, 2), 2.0)], 1)
    )
    result, expected = (run_em_transformer(exact_network, points, mixture) for mixture in (padded, start))
    assert not result.weights[:, 3].any()
    torch.testing.assert_close(result.weights[:, :3], expected.weights, rtol=0.0, atol=1e-13)
    torch.testing.assert_close(result.means[:, :3], expected.means, rtol=0.0, atol=1e-13)


def test_order_of_points_and_components_does_not_matter(make_em_tasks):
    network = build_em_transformer(2, 4, 5, 512)
    points, start = make_em_tasks(3, 2, 4)
    expected = run_em_transformer(network, points, start)
    shuffled = run_em_transformer(network, points[:, torch.randperm(points.shape[1])], start)
    assert largest_differences(shuffled, expected).max() < 1e-9
    order = torch.tensor([2, 0, 3, 1]).expand(3, -1)
    swapped = run_em_transformer(network, points, start.permute_components(order))
    assert largest_differences(swapped, expected.permute_components(order)).max() < 1e-9


def test_layers_and_heads_are_those_of_the_theorem():
    for d, K, steps in ((2, 2, 1), (8, 5, 3)):
        network = build_em_transformer(d, K, steps, 512)
        assert len(network) == 2 * steps
        assert [len(block.attention.query) for block in network] == [1, 3] * steps


def test_what_does_not_fit_is_refused(make_em_tasks):
    with pytest.raises(UserError, match="width 60 is too small"):
        build_em_transformer(8, 5, 1, 60)
    with pytest.raises(UserError, match="built for d <= 2, K <= 3"):
        run_em_transformer(build_em_transformer(2, 3, 1, 128), *make_em_tasks(1, 3, 3))
    with pytest.raises(UserError, match="did you mean 'overlapping'"):
        sample_em_tasks("overlaping", 2, 2, n_tasks=1, n_points=8, seed=0)


@pytest.mark.slow
def test_the_level_holds_in_every_cell():
    table = measure_em(widths=[2048], n_tasks=8)
    main = table[~table["exact"] & (table["copies"] > 1)]
    assert main["largest"].max() < 1e-4
    assert table.loc[table["exact"], "largest"].max() < 1e-12
