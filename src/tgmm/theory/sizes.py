"""What the constructed networks are made of, beside what the theorems claim."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from torch import nn

from tgmm.theory.blocks import Attention, Transformer
from tgmm.theory.theorem_em import build_em_transformer, width_for_units
from tgmm.theory.theorem_power import build_power_transformer

UNITS = 64


def count_weights(network: nn.Module) -> tuple[int, int]:
    """All entries of the state dict, and those that are not zero."""
    tensors = network.state_dict().values()
    return sum(tensor.numel() for tensor in tensors), sum(int(tensor.count_nonzero()) for tensor in tensors)


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
        _em_row(dimension, count, n_steps, units)
        for dimension in dimensions
        for count in component_counts
        for n_steps in steps
    ]
    return pd.DataFrame([*rows, *(_power_row(dimension, n_steps) for dimension in dimensions for n_steps in steps)])


def _em_row(dimension: int, count: int, steps: int, units: int) -> dict:
    network = build_em_transformer(dimension, count, steps, width_for_units(dimension, count, units))
    claims = {"layers_claimed": 2 * steps, "layers_he_2025": count * steps, "heads_claimed": "O(1)"}
    return {"theorem": 1, "d": dimension, "K": count, "L": steps, **claims, **describe(network)}


def _power_row(dimension: int, steps: int) -> dict:
    claims = {"layers_claimed": steps, "layers_he_2025": pd.NA, "heads_claimed": "d"}
    network = build_power_transformer(dimension, steps)
    return {"theorem": 2, "d": dimension, "K": pd.NA, "L": steps, **claims, **describe(network)}


def describe(network: Transformer) -> dict[str, int]:
    """Layers, the most heads of any layer, token and hidden width, weights and how many of them are not zero."""
    weights, nonzero = count_weights(network)
    attentions = [module for module in network.modules() if isinstance(module, Attention)]
    return {
        "layers": len(network),
        "heads": max(len(attention.query) for attention in attentions),
        "token_width": network.layout.width,
        "hidden_width": max(block.perceptron.hidden.out_features for block in network),
        "weights": weights,
        "nonzero_weights": nonzero,
    }
