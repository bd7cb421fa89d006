"""What is told of the theorems' networks: their sizes beside the claims, the power law of the error, estimates.

Figures import this module for the power law, so torch and the networks are imported where they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from torch import Tensor

    from tgmm.mixture import Mixture
    from tgmm.theory.blocks import Transformer

UNITS = 64  # hidden units for each square and logarithm in the networks whose sizes are listed
ROUNDING = 1e-12  # differences up to this are rounding
SHOWN_COORDINATES = 3


# --- the power law ---------------------------------------------------------------------------------------------------


def fitted_slope(measurements: pd.DataFrame, smallest_width: int = 1024) -> float:
    """The slope of log(difference) in log W, by least squares with a level of its own for every cell.

    The difference is the median over tasks; cells where it is rounding at any width (the start is already EM's fixed
    point) are left out, and so are narrower networks, where terms of higher order still count. NaN if fewer than two
    widths remain.
    """
    rows = measurements[~measurements["exact"] & (measurements["W"] >= smallest_width)]
    table = rows.pivot(index=["mixtures", "d", "K", "L", "copies"], columns="W", values="median")
    table = table[(table > ROUNDING).all(axis=1)]
    if table.shape[1] < 2 or table.empty:
        return math.nan
    widths, levels = np.log(table.columns.to_numpy(dtype=float)), np.log(table.to_numpy()).mean(axis=0)
    return float(np.polyfit(widths, levels, 1)[0])


# --- sizes -----------------------------------------------------------------------------------------------------------


def network_sizes(
    dimensions: Iterable[int] = (2, 8, 32), component_counts: Iterable[int] = (2, 5),
    steps: Iterable[int] = (1, 5), units: int = UNITS,
) -> pd.DataFrame:  # fmt: skip
    """Sizes of both theorems' networks, one row each.

    Theorem 1's networks have ``units`` hidden units for each square and logarithm, so that all have about the same
    accuracy. Columns: theorem, d, K, L (steps), layers, layers_claimed (2 L; L for Theorem 2), layers_he_2025 (K L, the
    order of He et al. 2025 for EM), heads (the most of any layer), heads_claimed, token_width, hidden_width, weights,
    nonzero_weights.
    """
    steps = list(steps)
    rows = [
        _em_row(dimension, n_components, n_steps, units)
        for dimension in dimensions
        for n_components in component_counts
        for n_steps in steps
    ]
    return pd.DataFrame([*rows, *(_power_row(dimension, n_steps) for dimension in dimensions for n_steps in steps)])


def _em_row(dimension: int, n_components: int, steps: int, units: int) -> dict:
    from tgmm.theory.em import build_em_transformer, width_for_units

    network = build_em_transformer(dimension, n_components, steps, width_for_units(dimension, n_components, units))
    claims = {"layers_claimed": 2 * steps, "layers_he_2025": n_components * steps, "heads_claimed": "O(1)"}
    return {"theorem": 1, "d": dimension, "K": n_components, "L": steps, **claims, **network.sizes()}


def _power_row(dimension: int, steps: int) -> dict:
    from tgmm.theory.power import build_power_transformer

    claims = {"layers_claimed": steps, "layers_he_2025": pd.NA, "heads_claimed": "d"}
    network = build_power_transformer(dimension, steps)
    return {"theorem": 2, "d": dimension, "K": pd.NA, "L": steps, **claims, **network.sizes()}


# --- what the commands print -----------------------------------------------------------------------------------------


def print_network(network: Transformer) -> None:
    """One line: blocks, heads, widths, weights."""
    sizes = network.sizes()
    print(
        f"transformer of {sizes['layers']} blocks, at most {sizes['heads']} heads, tokens of {sizes['token_width']} "
        f"channels, {sizes['hidden_width']} hidden units; {sizes['nonzero_weights']:,} of its {sizes['weights']:,} "
        "weights are not zero"
    )


def print_mixtures(first_name: str, first: Mixture, second_name: str, second: Mixture, title: str) -> None:
    """The first task's weights and the first coordinates of its means, one row a component."""
    shown = min(first.dimension, SHOWN_COORDINATES)
    columns = ["weight", *(f"mean[{number}]" for number in range(shown))]
    table = Table("component", *(f"{column}\n{name}" for column in columns for name in (first_name, second_name)))
    table.title = title
    for component in range(first.n_components):
        pairs = [(first.weights[0, component], second.weights[0, component])]
        pairs += zip(first.means[0, component, :shown], second.means[0, component, :shown], strict=True)
        table.add_row(str(component + 1), *(f"{float(value):.7f}" for pair in pairs for value in pair))
    Console(width=max(80, 20 + 26 * len(columns))).print(table)


def print_components(true: Tensor, found: Tensor) -> None:
    """Values and first coordinates of a tensor's components: Tensors (d, 1 + d), the value first."""
    shown = min(true.shape[1] - 1, SHOWN_COORDINATES)
    columns = ["value", *(f"vector[{number}]" for number in range(shown))]
    table = Table("component", *(f"{column}\n{name}" for column in columns for name in ("true", "transformer")))
    table.title = f"components of an orthogonally decomposable tensor, d={len(true)}"
    for number, (left, right) in enumerate(zip(true, found, strict=True), start=1):
        pairs = zip(left[: shown + 1], right[: shown + 1], strict=True)
        table.add_row(str(number), *(f"{float(value):.7f}" for pair in pairs for value in pair))
    Console(width=max(80, 20 + 26 * len(columns))).print(table)
