"""Training speed: this project's trainer beside a plain Hugging Face loop, in turns within one run.

Run from the repository's root: ``python benchmarks/training.py --cores 2``. Contestants train in short rounds whose
order rotates, so that other work on the machine hits all alike; ratios are taken within each round. With several cores
the plain loop gets a thread on each, and the project's trainer a family on each, which is how its workflow trains. A
round of the project's trainer ends with saving a state, which its time includes. ``--losses 6400`` instead trains every
recipe from the same weights with plain and with fused attention, and once more from weights that are off by a rounding
error, and prints how far the final losses are apart.
"""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import typer
from torch.nn.attention import SDPBackend, sdpa_kernel

from crew import Contestant, Crew
from matrix_rate import DTYPES, matrix_rate, synchronise
from plain_loop import PlainLoop, PlainNetwork
from tgmm.config import refuse_unknown
from tgmm.devices import resolve_device
from tgmm.errors import UserError, unknown_name
from tgmm.models.settings import LOSSES, GPT2Network
from tgmm.study import Family, Study, family_settings, load_study
from tgmm.train.progress import InterruptRequest, TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.trainer import Trainer, ValidationSet, training_flops, training_stream, typical_batch

PLAIN = "plain loop"
ENDLESS = 10**12  # tasks of a budget that no round uses up
WARM_UP_SECONDS = 2.0
VALIDATION_TASKS = 8
DISTURBANCE = 1e-7  # of weights, the size of a rounding error in single precision


def silent(settings: TrainingSettings) -> TrainingProgress:
    """Progress that nobody sees."""
    return TrainingProgress(settings.family, settings.training.tasks, visible=False)


class ProjectTrainer:
    """This project's trainer, run for a while at a time."""

    def __init__(self, settings: TrainingSettings, work: Path, device: torch.device):
        self.trainer = Trainer(settings, work, device)
        self.network = self.trainer.network

    def train(self, seconds: float) -> int:
        """Train for so long; the number of steps taken. The budget is endless, so no validation comes up."""
        before = self.trainer.record.step
        self.trainer.run(None, silent(self.trainer.settings), InterruptRequest(), seconds)
        return self.trainer.record.step - before


def build_trainer(settings: TrainingSettings, device: torch.device, work: Path) -> ProjectTrainer:
    return ProjectTrainer(settings, work, device)


def build_plain(settings: TrainingSettings, device: torch.device, _work: Path) -> PlainLoop:
    return PlainLoop(settings, device)


def contestant(name: str, build: Callable[[Path], Contestant], work: Path, cores: int) -> Contestant:
    """In this process; or on several cores, the plain loop by threads and the others by processes."""
    if cores == 1:
        return build(work / name)
    return Crew(build, processes=1, threads=cores) if name == PLAIN else Crew(build, processes=cores, threads=1)


def recipe_settings(study: Study, recipe: str, sizes: dict[str, int], tasks: int) -> TrainingSettings:
    """A recipe's training settings at the given sizes: d, points, batch, width, blocks, heads."""
    refuse_unknown("recipe", recipe, study.config.recipes)
    family = Family("isotropic", sizes["d"], sizes["points"], (2, 3, 4, 5), recipe)
    values = family_settings(study.config, family, study.config.seed)
    values["network"] |= {name: sizes[name] for name in ("width", "blocks", "heads")}
    if values["network"]["kind"] == "gpt2":
        values["network"]["positions"] = sizes["points"]
    values["training"] |= {"tasks": tasks, "batch": sizes["batch"], "validate_every": tasks}
    return TrainingSettings.from_dict(values | {"validation_tasks": VALIDATION_TASKS})


def plain_settings(settings: TrainingSettings, loss: str) -> TrainingSettings:
    """The same tasks, batch and sizes for the plain loop, with a loss of its own choice."""
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    same = ("width", "blocks", "heads", "dimension", "n_components")
    sizes = {name: getattr(settings.network, name) for name in same}
    network = GPT2Network(**sizes, positions=settings.n_points)
    return settings.model_copy(update={"network": network, "loss": loss})


def tasks_per_second(contestant: Contestant, seconds: float, batch: int, device: torch.device) -> float:
    """Speed over one round."""
    synchronise(device)
    start = time.perf_counter()
    steps = contestant.train(seconds)
    synchronise(device)
    return steps * batch / (time.perf_counter() - start)


def measure(
    contestants: dict[str, Contestant], rounds: int, seconds: float, batch: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Every contestant's speed in every round, tasks/s, and the largest matrix rates seen between them, FLOP/s."""
    names = list(contestants)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    rates = dict.fromkeys(DTYPES[device.type], 0.0)
    for contestant in contestants.values():
        contestant.train(min(seconds, WARM_UP_SECONDS))
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            speeds[name].append(tasks_per_second(contestants[name], seconds, batch, device))
        for dtype in rates:
            rates[dtype] = max(rates[dtype], matrix_rate(device, dtype, seconds / 5))
    return speeds, rates


def spread(values: list[float], digits: int) -> str:
    """Median and range."""
    numbers = (statistics.median(values), min(values), max(values))
    return "{:.{n}f} ({:.{n}f}-{:.{n}f})".format(*numbers, n=digits)


def report(speeds: dict[str, list[float]], rates: dict[str, float], flops: dict[str, float]) -> None:
    """Print a line for each contestant and the matrix rates."""
    shares = "  ".join(f"{'of ' + dtype:>11s}" for dtype in rates)
    typer.echo(f"{'':24s}{'tasks/s':>26s}  {'/ plain loop':>22s}  {'MFLOP/task':>10s}  {'GFLOP/s':>9s}  {shares}")
    for name, values in speeds.items():
        ratios = [speed / plain for speed, plain in zip(values, speeds[PLAIN], strict=True)]
        achieved = statistics.median(values) * flops[name]
        shares = "  ".join(f"{100 * achieved / rate:>9.2f} %" for rate in rates.values())
        typer.echo(
            f"{name:24s}{spread(values, 1):>26s}  {spread(ratios, 3):>22s}  {flops[name] / 1e6:10.2f}"
            f"  {achieved / 1e9:9.3f}  {shares}"
        )
    for dtype, rate in rates.items():
        typer.echo(f"matrix products in {dtype}: {rate / 1e9:.1f} GFLOP/s")


def final_loss(settings: TrainingSettings, device: torch.device, fused: bool, disturbance: float = 0.0) -> float:
    """Mean loss over the last tenth of a whole training, whose first weights are off by a share ``disturbance``."""
    with tempfile.TemporaryDirectory() as work, nullcontext() if fused else sdpa_kernel(SDPBackend.MATH):
        trainer = Trainer(settings, Path(work), device)
        trainer.optimizer.value.mul_(1.0 + disturbance)
        trainer.run(ValidationSet(settings, device), silent(settings), InterruptRequest())
    rows = [row["loss"] for row in trainer.record.history if row["tasks"] > 0.9 * settings.training.tasks]
    return statistics.fmean(rows)


def compare_losses(recipes: dict[str, TrainingSettings], device: torch.device) -> None:
    """Print the final losses of plain and of fused attention, and what a rounding error in the weights does to them."""
    for name, settings in recipes.items():
        plain, fused = (final_loss(settings, device, fused) for fused in (False, True))
        disturbed = final_loss(settings, device, False, DISTURBANCE)
        typer.echo(
            f"{name:24s}loss after {settings.training.tasks} tasks: plain attention {plain:.6f}, "
            f"fused attention {fused:.6f}, relative difference {fused / plain - 1:+.1e}; "
            f"with first weights off by {DISTURBANCE:g}: {disturbed / plain - 1:+.1e}"
        )


def describe(processor: torch.device, sizes: dict[str, int]) -> None:
    """Print what the numbers hold for."""
    cuda = processor.type == "cuda"
    name = torch.cuda.get_device_name(processor) if cuda else platform.processor() or platform.machine()
    precision = torch.get_float32_matmul_precision()
    typer.echo(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32 products: {precision}")
    typer.echo(", ".join(f"{key} {value}" for key, value in sizes.items()))


def main(
    width: int = typer.Option(64, min=1, help="Width of every network."),
    blocks: int = typer.Option(4, min=1, help="Blocks of every network."),
    heads: int = typer.Option(4, min=1, help="Heads of every attention."),
    batch: int = typer.Option(32, min=1, help="Tasks in a step."),
    points: int = typer.Option(128, min=2, help="N0; numbers of points are uniform on N0/2...N0."),
    d: int = typer.Option(8, min=1, help="Dimension."),
    recipes: str = typer.Option("components,matched,reference", help="Recipes of the study, with commas."),
    loss: str = typer.Option("sorted", help="Loss of the plain loop: sorted or matched."),
    seconds: float = typer.Option(5.0, min=0.01, help="Length of a contestant's turn in a round."),
    rounds: int = typer.Option(6, min=1, help="Number of rounds."),
    losses: int = typer.Option(0, min=0, help="Compare losses after so many tasks; nothing is timed then."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int = typer.Option(0, min=0, help="Threads of torch; 0 leaves its default."),
    cores: int = typer.Option(1, min=1, help="More than one: a thread of the plain loop, or a family, on each."),
    config: Path = typer.Option(Path("config.yaml"), help="The study that has the recipes."),
) -> None:
    """Compare the two and print the ratio of their speeds."""
    if threads:
        torch.set_num_threads(threads)
    processor, study = torch.device(resolve_device(device)), load_study(config)
    sizes = {"width": width, "blocks": blocks, "heads": heads, "batch": batch, "points": points, "d": d}
    chosen = {name: recipe_settings(study, name, sizes, losses or ENDLESS) for name in recipes.split(",")}
    describe(processor, sizes)
    if losses:
        compare_losses(chosen, processor)
        return
    plain = plain_settings(next(iter(chosen.values())), loss)
    typical = typical_batch(training_stream(plain, processor), points)
    flops = {PLAIN: training_flops(PlainNetwork(plain.network).to(processor), typical, loss)}
    builders: dict[str, Callable[[Path], Contestant]] = {PLAIN: partial(build_plain, plain, processor)}
    for name, settings in chosen.items():
        builders[name] = partial(build_trainer, settings, processor)
        flops[name] = training_flops(settings.network.build().to(processor), typical, settings.loss)
    with tempfile.TemporaryDirectory() as work:
        contestants = {name: contestant(name, build, Path(work), cores) for name, build in builders.items()}
        typer.echo(f"{rounds} rounds, {seconds:g} s a contestant; median (range); the plain loop's loss is {loss}")
        if cores > 1:
            typer.echo(f"{cores} cores: {cores} threads of the plain loop, {cores} families of the others")
        report(*measure(contestants, rounds, seconds, batch, processor), flops)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"training.py: {error}", file=sys.stderr)
        sys.exit(2)
