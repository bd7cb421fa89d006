"""What the commands print: a network's sizes and two estimates side by side."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from torch import Tensor

from tgmm.mixture import Mixture
from tgmm.theory.blocks import Transformer
from tgmm.theory.sizes import describe

SHOWN_COORDINATES = 3


def print_network(network: Transformer) -> None:
    """One line: blocks, heads, widths, weights."""
    sizes = describe(network)
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
