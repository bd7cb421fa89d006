"""The commands of the executable theorems: em, power, measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tgmm.cli.common import write_table
from tgmm.errors import UserError, refuse_unknown

if TYPE_CHECKING:
    from torch import Tensor

    from tgmm.mixture import Mixture
    from tgmm.theory.blocks import Transformer

app = typer.Typer(no_args_is_help=True, help="The paper's theorems as programs: constructed transformers at work.")

SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the tasks.")]
SHOWN_COORDINATES = 3
MEASUREMENTS = ("em", "power", "sizes", "sorted-floor", "fisher")


@app.command()
def em(
    d: Annotated[int, typer.Option(min=1, help="Dimension.")] = 2,
    k: Annotated[int, typer.Option(min=1, help="Number of components.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="EM steps L; the transformer has 2 L blocks.")] = 5,
    width: Annotated[int, typer.Option(min=1, help="Hidden units W of every perceptron.")] = 2048,
    copies: Annotated[int, typer.Option(min=1, help="Tokens for each component.")] = 8,
    exact: Annotated[bool, typer.Option("--exact", help="Exact scalar maps in the perceptrons (a check).")] = False,
    overlapping: Annotated[bool, typer.Option("--overlapping", help="Means three standard deviations apart.")] = False,
    points: Annotated[int, typer.Option(min=2, help="Points N.")] = 128,
    seed: SeedOption = 2505,
) -> None:
    """Theorem 1: EM steps by a constructed transformer beside EM, on a random mixture."""
    from tgmm.methods.em import run_em_steps
    from tgmm.theory.em import build_em_transformer, largest_differences, run_em_transformer, sample_em_tasks

    kind = "overlapping" if overlapping else "separated"
    data, start = sample_em_tasks(kind, d, k, n_tasks=1, n_points=points, seed=seed)
    network = build_em_transformer(d, k, steps, width, copies=copies, exact=exact)
    estimate, reference = run_em_transformer(network, data, start), run_em_steps(start, data, steps)
    print_network(network)
    print_mixtures("EM", reference, "transformer", estimate, f"{steps} EM steps, {points} points, {kind} means")
    print(f"largest difference: {largest_differences(estimate, reference).item():.1e}")


@app.command()
def power(
    d: Annotated[int, typer.Option(min=2, help="Dimension of the tensor and of the mixture.")] = 8,
    k: Annotated[int, typer.Option(min=1, help="Components of the mixture, at most d.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Power iterations, one block each.")] = 20,
    points: Annotated[int, typer.Option(min=2, help="Points of the mixture.")] = 2048,
    seed: SeedOption = 2505,
) -> None:
    """Theorem 2: cubic power iterations by a constructed transformer, alone and inside the spectral method."""
    from tgmm.theory.em import largest_differences
    from tgmm.theory.power import build_power_transformer, compare_decompositions, compare_spectral

    print_network(build_power_transformer(d, steps))
    true, found = compare_decompositions(d, steps, seed)
    print_components(true, found)
    print(f"largest difference: {(found - true).abs().max().item():.1e}\n")
    network, classical = compare_spectral(d, k, steps, points, seed)
    title = f"spectral estimate of a mixture, d={d}, K={k}, {points} points"
    print_mixtures("classical", classical, "transformer", network, title)
    print(f"largest difference: {largest_differences(network, classical).item():.1e}")


@app.command()
def measure(
    what: Annotated[str, typer.Argument(help="em, power, sizes, sorted-floor or fisher.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv.")],
    tasks: Annotated[int, typer.Option(min=1, help="Random tasks a cell.")] = 8,
    widths: Annotated[str, typer.Option(help="em: hidden widths W, with commas.")] = "512,1024,2048,4096",
    points: Annotated[str, typer.Option(help="sorted-floor: numbers of points N, with commas.")] = "128",
    seed: SeedOption = 2505,
) -> None:
    """Measure a theorem over a grid of sizes, count the networks' weights, or compute a floor: that of the sorted loss,
    or the Cramér-Rao bound.

    Figures and tables read what this writes.
    """
    from tgmm.theory.em import measure_em
    from tgmm.theory.fisher import measure_fisher
    from tgmm.theory.power import measure_power, network_sizes
    from tgmm.theory.sorted_floor import measure_sorted_floor

    refuse_unknown("measurement", what, MEASUREMENTS)
    measurements = {
        "em": lambda: measure_em(widths=_whole_numbers("--widths", widths), n_tasks=tasks, seed=seed),
        "power": lambda: measure_power(n_tasks=tasks, seed=seed),
        "sizes": network_sizes,
        "sorted-floor": lambda: measure_sorted_floor(
            n_points=_whole_numbers("--points", points), n_tasks=tasks, seed=seed
        ),
        "fisher": lambda: measure_fisher(n_tasks=tasks, seed=seed),
    }
    table = measurements[what]()
    write_table(out, table)
    print(f"{what}: {len(table)} rows -> {out}")


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} must be whole numbers with commas, such as 64,128; got '{text}'") from error


# --- what the commands print -------------------------------------------------------------------------------------


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
    sides = [[[w, *mean] for w, mean in zip(m.weights[0], m.means[0], strict=True)] for m in (first, second)]
    _print_pairs(("weight", "mean"), (first_name, second_name), *sides, title)


def print_components(true: Tensor, found: Tensor) -> None:
    """Values and first coordinates of a tensor's components: Tensors (d, 1 + d), the value first."""
    title = f"components of an orthogonally decomposable tensor, d={len(true)}"
    _print_pairs(("value", "vector"), ("true", "transformer"), true, found, title)


def _print_pairs(heads: tuple[str, str], names: tuple[str, str], first: Any, second: Any, title: str) -> None:
    """Rows of a number and the first coordinates of a vector, two of each side by side."""
    from rich.console import Console
    from rich.table import Table

    shown = min(len(first[0]) - 1, SHOWN_COORDINATES)
    columns = [heads[0], *(f"{heads[1]}[{number}]" for number in range(shown))]
    table = Table("component", *(f"{column}\n{name}" for column in columns for name in names), title=title)
    for number, rows in enumerate(zip(first, second, strict=True), start=1):
        pairs = zip(*(row[: shown + 1] for row in rows), strict=True)
        table.add_row(str(number), *(f"{float(value):.7f}" for pair in pairs for value in pair))
    Console(width=max(80, 20 + 26 * len(columns))).print(table)
