"""How far the transformer of Theorem 1 is from EM: tasks, comparison and the table that the figure reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from tgmm.errors import UserError, unknown_name
from tgmm.methods.em import run_em_steps
from tgmm.methods.initial import kmeans_plus_plus_start
from tgmm.methods.threads import one_thread
from tgmm.mixture import Mixture, concatenate
from tgmm.tasks.points import sample_points
from tgmm.tasks.sampler import MEAN_RANGE, sample_mixtures
from tgmm.theory.blocks import Transformer
from tgmm.theory.theorem_em import COPIES, build_em_transformer, em_trajectory

MIXTURES = ("separated", "overlapping")
OVERLAP_DISTANCE = 3.0  # root mean square distance of two means in the overlapping mixtures, standard deviations
STEPS = (1, 2, 5, 10, 20)
WIDTHS = (512, 1024, 2048, 4096)
EXACT_WIDTH = 128
TASKS_AT_ONCE = 2  # keeps the hidden layer in a processor's cache
ROUNDING = 1e-12


def sample_em_tasks(
    mixtures: str, dimension: int, n_components: int, *, n_tasks: int, n_points: int, seed: int
) -> tuple[Tensor, Mixture]:
    """Points (B, N, d) of random mixtures and k-means++ starts for EM, float64.

    "separated" mixtures are the paper's; "overlapping" ones have their means scaled towards the origin until two are
    three standard deviations apart in the root mean square.
    """
    if mixtures not in MIXTURES:
        raise unknown_name("kind of mixtures", mixtures, MIXTURES)
    if dimension == 1 and n_components > 2:
        raise UserError(f"in one dimension only two means can point in different directions; got K={n_components}")
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, n_components, dimension)
    if mixtures == "overlapping":
        truth = replace(truth, means=truth.means * OVERLAP_DISTANCE / (MEAN_RANGE * math.sqrt(2.0 * dimension / 3.0)))
    points = sample_points(truth, seed, index, n_points)[0].double()
    return points, kmeans_plus_plus_start(points, n_components, seed, index)


def largest_differences(estimate: Mixture, reference: Mixture) -> Tensor:
    """The largest absolute difference of any mean's coordinate or weight, (B,)."""
    means = (estimate.means - reference.means).abs().amax((1, 2))
    return torch.maximum(means, (estimate.weights - reference.weights).abs().amax(1))


@one_thread()
def measure_em(
    dimensions: Sequence[int] = (2, 8), component_counts: Sequence[int] = (2, 3, 5), steps: Sequence[int] = STEPS,
    widths: Sequence[int] = WIDTHS, *, n_tasks: int = 8, n_points: int = 128, seed: int = 2505,
) -> pd.DataFrame:  # fmt: skip
    """Differences between the network and EM after the same number of steps from the same start.

    One network a width serves all d and K. Besides, the table has the plain construction (one token a component) for
    the largest K, and the network with exact scalar maps.

    Returns
    -------
    DataFrame, one row a cell: mixtures, d, K, L, W, copies, exact, N, n_tasks, seed, and the ``median`` and
    ``largest`` over the tasks of the largest difference of any parameter.
    """
    largest_count = max(component_counts)
    variants = [(width, COPIES, False, component_counts) for width in widths]
    variants += [(width, 1, False, [largest_count]) for width in widths]
    variants.append((EXACT_WIDTH, COPIES, True, component_counts))
    rows = []
    for width, copies, exact, counts in variants:
        network = build_em_transformer(max(dimensions), largest_count, max(steps), width, copies=copies, exact=exact)
        for mixtures, d, K in itertools.product(MIXTURES, dimensions, counts):
            tasks = sample_em_tasks(mixtures, d, K, n_tasks=n_tasks, n_points=n_points, seed=seed)
            cell = {"mixtures": mixtures, "d": d, "K": K, "W": width, "copies": copies, "exact": exact}
            cell |= {"N": n_points, "n_tasks": n_tasks, "seed": seed}
            rows += [cell | row for row in _compare(network, *tasks, steps)]
    return pd.DataFrame(rows)


def _compare(network: Transformer, points: Tensor, start: Mixture, steps: Sequence[int]) -> list[dict]:
    """One row for each number of steps."""
    pairs = [slice(first, first + TASKS_AT_ONCE) for first in range(0, len(points), TASKS_AT_ONCE)]
    trajectories = [em_trajectory(network, points[pair], start[pair]) for pair in pairs]
    rows = []
    for n_steps in steps:
        estimate = concatenate([trajectory[n_steps - 1] for trajectory in trajectories])
        difference = largest_differences(estimate, run_em_steps(start, points, n_steps))
        rows.append({"L": n_steps, "median": difference.median().item(), "largest": difference.max().item()})
    return rows
