"""Where the time of a training step goes: drawing tasks, forward, loss, backward, optimizer.

Run from the repository's root: ``python benchmarks/step_profile.py --threads 1``. Beside the sizes asked for, the same
step is timed on tasks so small that nothing but the overhead of its operations is left.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import typer

from matrix_rate import synchronise
from tgmm.devices import resolve_device
from tgmm.losses import training_loss
from tgmm.study import load_study
from tgmm.train.settings import TrainingSettings
from tgmm.train.trainer import Trainer
from training import ENDLESS, recipe_settings

WARM_UP_STEPS = 10
PARTS = ("tasks", "forward", "loss", "backward", "optimizer")


def time_parts(settings: TrainingSettings, steps: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of processor time (on a GPU: of wall time) that a step spends in each of ``PARTS``."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    with tempfile.TemporaryDirectory() as work:
        trainer = Trainer(settings, Path(work), device)
    network, optimizer, rate = trainer.network, trainer.optimizer, settings.training.rate
    total = dict.fromkeys(PARTS, 0.0)

    def timed(part: str, call: Callable):
        start = clock()
        result = call()
        synchronise(device)
        total[part] += clock() - start
        return result

    for number in range(WARM_UP_STEPS + steps):
        if number == WARM_UP_STEPS:
            total.update(dict.fromkeys(PARTS, 0.0))
        optimizer.set_rate(rate(number))
        batch = timed("tasks", lambda number=number: trainer.stream.batch(number))
        timed("optimizer", optimizer.zero)
        estimates = timed("forward", lambda batch=batch: network(batch.points, batch.n_components, axes=batch.axes))
        loss = timed("loss", lambda pair=(estimates, batch): training_loss(*pair, settings.loss)[0])
        timed("backward", loss.backward)
        timed("optimizer", optimizer.step)
    return {part: 1e3 * seconds / steps for part, seconds in total.items()}


def main(
    width: int = typer.Option(64, min=1, help="Width of the network."),
    blocks: int = typer.Option(4, min=1, help="Blocks of the network."),
    heads: int = typer.Option(4, min=1, help="Heads of every attention."),
    batch: int = typer.Option(16, min=1, help="Tasks in a step."),
    points: int = typer.Option(128, min=2, help="N0; numbers of points are uniform on N0/2...N0."),
    d: int = typer.Option(8, min=1, help="Dimension."),
    recipe: str = typer.Option("components", help="Recipe of the study."),
    steps: int = typer.Option(200, min=1, help="Steps to average over."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int = typer.Option(0, min=0, help="Threads of torch; 0 leaves its default."),
    config: Path = typer.Option(Path("config.yaml"), help="The study that has the recipe."),
) -> None:
    """Print milliseconds and shares of a step's parts."""
    if threads:
        torch.set_num_threads(threads)
    processor, study = torch.device(resolve_device(device)), load_study(config)
    sizes = {"width": width, "blocks": blocks, "heads": heads, "batch": batch, "points": points, "d": d}
    tiny = {**sizes, "batch": 4, "points": 8}
    parts, overhead = (
        time_parts(recipe_settings(study, recipe, chosen, ENDLESS), steps, processor) for chosen in (sizes, tiny)
    )
    typer.echo(f"{recipe}: " + ", ".join(f"{key} {value}" for key, value in sizes.items()))
    typer.echo(f"{'':10s}{'ms a step':>10s}{'share':>8s}{'at 4 tasks of 8 points':>24s}")
    for part in (*PARTS, "all"):
        own, small = (sum(times.values()) if part == "all" else times[part] for times in (parts, overhead))
        typer.echo(f"{part:10s}{own:10.2f}{100 * own / sum(parts.values()):7.1f}%{small:21.2f} ms")


if __name__ == "__main__":
    typer.run(main)
