"""How far the transformer of Theorem 2 is from the cubic power iteration: the table that the figure reads."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from tgmm.errors import UserError
from tgmm.methods.threads import one_thread
from tgmm.mixture import Mixture
from tgmm.tasks.points import sample_points
from tgmm.tasks.sampler import sample_mixtures
from tgmm.theory.measure_em import largest_differences
from tgmm.theory.spectral import (
    ITERATIONS,
    RESTARTS,
    apply_tensor,
    classical_power_iteration,
    decompose,
    estimate_spectral,
    network_power_iteration,
)
from tgmm.theory.theorem_power import build_power_transformer, power_trajectory, run_power_transformer

DIMENSIONS = (2, 4, 8, 16, 32)
RECOVERY_DIMENSIONS = (4, 8, 16)
RECOVERY_STEPS = 10
SPECTRAL_CELLS = ((8, 2), (8, 3), (8, 5))
SPECTRAL_POINTS = 2048


def random_tensors(n_tasks: int, dimension: int, generator: torch.Generator) -> Tensor:
    """Tensors (B, d, d, d) of independent standard normal numbers; they need not be symmetric."""
    return torch.randn(n_tasks, dimension, dimension, dimension, generator=generator, dtype=torch.float64)


def random_vectors(*shape: int, generator: torch.Generator) -> Tensor:
    """Unit vectors, uniform on the sphere along the last axis."""
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def random_decomposable(n_tasks: int, dimension: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """sum_k values_k vectors_k^(x3) with values uniform on [1, 2] and random orthonormal vectors.

    Returns
    -------
    tensor (B, d, d, d), values (B, d), vectors (B, d, d) in rows.
    """
    square = torch.randn(n_tasks, dimension, dimension, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(square).Q.mT
    values = 1.0 + torch.rand(n_tasks, dimension, generator=generator, dtype=torch.float64)
    return torch.einsum("bk,bki,bkj,bkm->bijm", values, vectors, vectors, vectors), values, vectors


@one_thread()
def measure_power(
    dimensions: Sequence[int] = DIMENSIONS, recovery_dimensions: Sequence[int] = RECOVERY_DIMENSIONS, *,
    n_tasks: int = 8, seed: int = 2505,
) -> pd.DataFrame:  # fmt: skip
    """Four measurements, told apart by the column ``measure``.

    * ``iteration``: one block against T(I, v, v) / |T(I, v, v)| on random tensors; ``method`` is "network" or
      "network without offset".
    * ``recovery``: distance to the component that the iteration ends at, after each ``iteration``, on orthogonally
      decomposable tensors; ``method`` is "network" or "classical".
    * ``decomposition``: error of all values and vectors after deflation.
    * ``spectral``: difference between the spectral estimates with the network and with the classical iteration.

    Returns
    -------
    DataFrame with measure, method, d, K, iteration, N, n_tasks, seed, and ``median`` and ``largest`` over the tasks.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = [row for d in dimensions for row in _iteration_rows(d, n_tasks, generator)]
    for d in recovery_dimensions:
        rows += _recovery_rows(d, n_tasks, generator)
        rows.append(_decomposition_row(d, n_tasks, generator))
    rows += [_spectral_row(d, K, n_tasks, seed, generator) for d, K in SPECTRAL_CELLS]
    table = pd.DataFrame(rows).assign(n_tasks=n_tasks, seed=seed)
    counts = {name: table[name].astype("Int64") for name in ("K", "iteration", "N")}
    columns = ["measure", "method", "d", "K", "iteration", "N", "n_tasks", "seed", "median", "largest"]
    return table.assign(**counts)[columns]


def _iteration_rows(dimension: int, n_tasks: int, generator: torch.Generator) -> list[dict]:
    tensor = random_tensors(n_tasks, dimension, generator)
    vector = random_vectors(n_tasks, dimension, generator=generator)
    exact = torch.nn.functional.normalize(apply_tensor(tensor, vector), dim=-1)
    rows = []
    for method, offset in (("network", True), ("network without offset", False)):
        network = build_power_transformer(dimension, 1, offset=offset)
        difference = (run_power_transformer(network, tensor, vector) - exact).abs().amax(1)
        rows.append({"measure": "iteration", "method": method, "d": dimension, **_statistics(difference)})
    return rows


def _recovery_rows(dimension: int, n_tasks: int, generator: torch.Generator) -> list[dict]:
    tensor, _, vectors = random_decomposable(n_tasks, dimension, generator)
    start = random_vectors(n_tasks, dimension, generator=generator)
    network = build_power_transformer(dimension, RECOVERY_STEPS)
    classical = [start]
    for _ in range(RECOVERY_STEPS):
        classical.append(classical_power_iteration(1)(tensor, classical[-1]))
    runs = {"network": power_trajectory(network, tensor, start), "classical": torch.stack(classical)}
    rows = []
    for method, trajectory in runs.items():
        nearest = torch.einsum("bki,bi->bk", vectors, trajectory[-1]).argmax(1)
        distances = (trajectory - vectors[torch.arange(n_tasks), nearest]).norm(dim=-1)
        rows += [
            {"measure": "recovery", "method": method, "d": dimension, "iteration": number, **_statistics(distance)}
            for number, distance in enumerate(distances)
        ]
    return rows


def _decomposition_row(dimension: int, n_tasks: int, generator: torch.Generator) -> dict:
    true, found = _decompositions(dimension, RECOVERY_STEPS, n_tasks, generator)
    errors = (found - true).abs().amax((1, 2))
    return {"measure": "decomposition", "method": "network", "d": dimension, **_statistics(errors)}


def _spectral_row(dimension: int, n_components: int, n_tasks: int, seed: int, generator: torch.Generator) -> dict:
    estimates = _spectral_estimates(
        dimension, n_components, ITERATIONS, n_tasks, SPECTRAL_POINTS, seed, generator
    )  # fmt: skip
    cell = {"measure": "spectral", "method": "network", "d": dimension, "K": n_components, "N": SPECTRAL_POINTS}
    return cell | _statistics(largest_differences(*estimates))


def compare_decompositions(dimension: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """True and found components of one random tensor, each (d, 1 + d): the value, then the vector."""
    true, found = _decompositions(dimension, steps, 1, torch.Generator().manual_seed(seed))
    return true[0], found[0]


def compare_spectral(
    dimension: int, n_components: int, steps: int, n_points: int, seed: int
) -> tuple[Mixture, Mixture]:
    """Spectral estimates of one random mixture by the network and by the classical power iteration."""
    if n_components > dimension:
        raise UserError(f"the spectral method needs K <= d; got K={n_components}, d={dimension}")
    generator = torch.Generator().manual_seed(seed)
    return _spectral_estimates(dimension, n_components, steps, 1, n_points, seed, generator)


def _decompositions(dimension: int, steps: int, n_tasks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """True and found (value, vector) rows, each (B, d, 1 + d), in the order of the truth."""
    tensor, values, vectors = random_decomposable(n_tasks, dimension, generator)
    starts = random_vectors(n_tasks, dimension, RESTARTS, dimension, generator=generator)
    found_values, found_vectors = decompose(tensor, starts, network_power_iteration(dimension, steps))
    order = (found_vectors @ vectors.mT).argmax(1)[..., None]  # for each true component, the found one nearest to it
    found = torch.cat([found_values[..., None], found_vectors], dim=2)
    true = torch.cat([values[..., None], vectors], dim=2)
    return true, found.gather(1, order.expand_as(true))


def _spectral_estimates(
    dimension: int, n_components: int, steps: int, n_tasks: int, n_points: int, seed: int, generator: torch.Generator
) -> tuple[Mixture, Mixture]:
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, n_components, dimension)
    points = sample_points(truth, seed, index, n_points)[0].double()
    starts = random_vectors(n_tasks, n_components, RESTARTS, n_components, generator=generator)
    iterations = (network_power_iteration(n_components, steps), classical_power_iteration(steps))
    network, classical = (estimate_spectral(points, n_components, starts, iterate) for iterate in iterations)
    return network, classical


def _statistics(values: Tensor) -> dict[str, float]:
    return {"median": values.median().item(), "largest": values.max().item()}
