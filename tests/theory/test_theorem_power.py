"""Theorem 2: the network carries out cubic power iterations, alone and inside the spectral method."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from theory_reference import cubic_map

from tgmm.errors import UserError
from tgmm.methods import spectral as package_spectral
from tgmm.metrics import match
from tgmm.theory.em import largest_differences
from tgmm.theory.power import (
    build_power_transformer,
    classical_power_iteration,
    decompose,
    estimate_spectral,
    network_power_iteration,
    power_trajectory,
    run_power_transformer,
)


def random_case(n_tasks, dimension, seed=0):
    generator = np.random.default_rng(seed)
    tensor = generator.standard_normal((n_tasks, dimension, dimension, dimension))
    vector = generator.standard_normal((n_tasks, dimension))
    return tensor, vector / np.linalg.norm(vector, axis=1, keepdims=True)


def orthogonal_case(n_tasks, dimension, seed=0):
    generator = np.random.default_rng(seed)
    vectors = np.linalg.qr(generator.standard_normal((n_tasks, dimension, dimension)))[0]
    values = 1.0 + generator.random((n_tasks, dimension))
    tensor = sum(
        np.einsum("b,bi,bj,bm->bijm", values[:, k], *[vectors[:, k]] * 3) for k in range(dimension)
    )  # fmt: skip
    return (torch.from_numpy(array) for array in (tensor, values, vectors))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("dimension", [1, 2, 3, 8, 16, 32])
def test_one_block_is_one_power_iteration(dimension, normalise):
    tensor, vector = random_case(3, dimension)
    expected = np.stack([cubic_map(*pair) for pair in zip(tensor, vector, strict=True)])
    if normalise:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    network = build_power_transformer(dimension, 1, normalise=normalise)
    result = run_power_transformer(network, torch.from_numpy(tensor), torch.from_numpy(vector)).numpy()
    np.testing.assert_allclose(result, expected, rtol=0.0, atol=1e-12)


def test_iterations_without_the_norm_for_bounded_vectors():
    tensor, vector = random_case(2, 3)
    tensor, expected = 0.2 * tensor, vector
    for _ in range(3):
        expected = np.stack([cubic_map(*pair) for pair in zip(tensor, expected, strict=True)])
    network = build_power_transformer(3, 3, normalise=False, bound=2.0)
    result = run_power_transformer(network, torch.from_numpy(tensor), torch.from_numpy(vector)).numpy()
    np.testing.assert_allclose(result, expected, rtol=0.0, atol=1e-13)


def test_the_offset_is_needed():
    tensor, vector = random_case(8, 8)
    results = [
        run_power_transformer(
            build_power_transformer(8, 1, offset=offset), torch.from_numpy(tensor), torch.from_numpy(vector)
        )
        for offset in (True, False)
    ]
    assert (results[0] - results[1]).abs().max() > 0.1


def test_all_tokens_agree_and_coordinates_follow_the_vector():
    tensor, vector = (torch.from_numpy(array) for array in random_case(2, 5))
    network = build_power_transformer(5, 4)
    trajectory = power_trajectory(network, tensor, vector)
    assert trajectory.shape == (5, 2, 5)
    torch.testing.assert_close(trajectory[1:].norm(dim=-1), torch.ones(4, 2, dtype=torch.float64))
    torch.testing.assert_close(trajectory[-1], run_power_transformer(network, tensor, vector))


@pytest.mark.parametrize("dimension", [3, 8])
def test_all_components_of_an_orthogonal_tensor_are_recovered(dimension):
    tensor, values, vectors = orthogonal_case(2, dimension)
    starts = torch.from_numpy(random_case(2 * dimension * 12, dimension)[1]).view(2, dimension, 12, dimension)
    found_values, found_vectors = decompose(tensor, starts, network_power_iteration(dimension, 15))
    order = (found_vectors @ vectors.mT).argmax(1)
    assert order.sort(1).values.tolist() == [list(range(dimension))] * 2
    torch.testing.assert_close(found_values.gather(1, order), values, rtol=0.0, atol=1e-12)
    found = found_vectors.gather(1, order[..., None].expand_as(vectors))
    torch.testing.assert_close(found, vectors, rtol=0.0, atol=1e-12)


def test_recovery_is_quadratic():
    tensor, _, vectors = orthogonal_case(1, 8, seed=3)
    vector = torch.nn.functional.normalize(vectors[:, 0] + 0.2 * vectors[:, 1], dim=-1)
    trajectory = power_trajectory(build_power_transformer(8, 4), tensor, vector)
    distances = (trajectory - vectors[:, 0]).norm(dim=-1)[:, 0].tolist()
    ratios = [after / before**2 for before, after in itertools.pairwise(distances) if after > 1e-14]
    assert len(ratios) >= 3
    assert max(ratios) / min(ratios) < 1.5


@pytest.mark.parametrize("n_components", [2, 4])
def test_the_spectral_estimate_is_the_classical_one(make_mixture, n_components):
    mixture = make_mixture(3, n_components, 6)
    generator = torch.Generator().manual_seed(1)
    labels = torch.multinomial(mixture.weights, 4000, replacement=True, generator=generator)
    noise = torch.randn(3, 4000, 6, generator=generator, dtype=torch.float64)
    points = mixture.means.gather(1, labels[..., None].expand(-1, -1, 6)) + noise
    starts = torch.randn(3, n_components, 24, n_components, generator=generator, dtype=torch.float64)
    starts = torch.nn.functional.normalize(starts, dim=-1)
    network, classical = (
        estimate_spectral(points, n_components, starts, iterate)
        for iterate in (network_power_iteration(n_components, 25), classical_power_iteration(25))
    )
    assert largest_differences(network, classical).max() < 1e-10
    package = package_spectral.estimate_spectral(points, n_components, seed=0, index=torch.arange(3)).mixture
    assert largest_differences(match(package, network), network).max() < 1e-8


def test_senseless_sizes_are_refused():
    with pytest.raises(UserError, match="at least 1"):
        build_power_transformer(0, 1)
