"""The commands of the recipe study: run, merge, calibrate."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgmm.cli.compute import DeviceOption, leased
from tgmm.cli.settings import ConfigOption, ScaleOption, SettingsOption, resolve_settings
from tgmm.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(no_args_is_help=True, help="What makes a training task count: one change of a recipe at a time.")

DimensionOption = Annotated[int, typer.Option("-d", min=1, help="Dimension, one of recipe_study.d.")]


@app.command()
def run(
    d: DimensionOption,
    seed: Annotated[int, typer.Option(min=0, help="Seed, one of recipe_study.seeds.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv.")],
    work: Annotated[Path, typer.Option(help="Folder of resumable states.")] = Path("work"),
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Train every change with one seed, or go on from the last state; Ctrl-C and SIGTERM save a state first."""
    values = resolve_settings(settings, config, scale, lambda study: study.recipe_study_settings(d, seed))
    if (values.get("d"), values.get("seed")) != (d, seed):
        raise UserError(f"--settings are of d = {values.get('d')}, seed {values.get('seed')}, not of {d}, {seed}")
    name = f"recipe study, d = {d}, seed {seed}"
    with leased(device) as torch_device:
        from tgmm.recipe_study.run import run_recipe_study

        part = run_recipe_study(values, work, torch_device, lambda line: print(f"{name}: {line}", flush=True))
    if part.signal is not None:
        print(f"{name}: stopped by {signal.Signals(part.signal).name}; the same command goes on", file=sys.stderr)
        sys.exit(128 + part.signal)
    _write(out, part.rows)
    print(f"{name}: {part.rows['change'].nunique()} changes -> {out}")


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Tables that `tgmm recipe-study run` wrote.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv: all dimensions and seeds.")],
) -> None:
    """Join the parts of the study, one a dimension and seed; figures and tables read what this writes."""
    from tgmm.aggregate import read_table
    from tgmm.recipe_study.comparison import COLUMNS, final_rows, merge_parts

    table = merge_parts([read_table(path, COLUMNS) for path in files])
    final_rows(table)  # refuses a part without a baseline
    _write(out, table)
    print(f"recipe study: {len(files)} parts -> {out}")


@app.command()
def calibrate(
    d: DimensionOption,
    rounds: Annotated[int, typer.Option(min=1, help="Times that every change is measured.")] = 5,
    tasks: Annotated[int, typer.Option(min=1, help="Training tasks of one measurement.")] = 640,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Measure tasks per processor second of every change beside the baseline's: the change's tasks_share.

    The changes take turns, each round in another order, so that whatever else runs on the machine slows all alike.
    """

    def choose(study) -> dict:
        return study.recipe_study_settings(d, study.config["recipe_study"]["seeds"][0])

    values = resolve_settings(settings, config, scale, choose)
    with leased(device) as torch_device:
        from tgmm.recipe_study.calibrate import measure_speeds, speed_lines

        speeds = measure_speeds(values, rounds, tasks, torch_device)
    print("\n".join(speed_lines(speeds)))


def _write(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all."""
    from tgmm.files import write_atomically

    write_atomically(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
