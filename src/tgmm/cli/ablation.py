"""The commands of the ablation: run, merge, calibrate."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from tgmm.cli.common import (
    ConfigOption,
    DeviceOption,
    ScaleOption,
    SettingsOption,
    WorkOption,
    leased,
    refuse_other,
    resolve_settings,
    write_table,
)
from tgmm.files import check_outputs

app = typer.Typer(no_args_is_help=True, help="What makes a training task count: one change of a recipe at a time.")

DimensionOption = Annotated[int, typer.Option("-d", min=1, help="Dimension, one of ablation.d.")]


@app.command()
def run(
    d: DimensionOption,
    seed: Annotated[int, typer.Option(min=0, help="Seed, one of ablation.seeds.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv.")],
    work: WorkOption = Path("work"),
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Train every change with one seed, or go on from the last state; Ctrl-C and SIGTERM save a state first."""
    values = resolve_settings(settings, config, scale, lambda study: study.ablation_settings(d, seed))
    check_outputs(out)
    refuse_other({key: values.get(key) for key in ("d", "seed")}, {"d": d, "seed": seed})
    name = f"ablation, d = {d}, seed {seed}"
    with leased(device) as torch_device:
        from tgmm.ablation.run import run_ablation

        part = run_ablation(values, work, torch_device, lambda line: print(f"{name}: {line}", flush=True))
    if part.signal is not None:
        print(f"{name}: stopped by {signal.Signals(part.signal).name}; the same command resumes", file=sys.stderr)
        sys.exit(128 + part.signal)
    write_table(out, part.rows, digits=8)
    print(f"{name}: {part.rows['change'].nunique()} changes -> {out}")


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Tables that `tgmm ablation run` wrote.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv: all dimensions and seeds.")],
) -> None:
    """Join the parts of the study, one a dimension and seed; figures and tables read what this writes."""
    from tgmm.ablation.compare import COLUMNS, final_rows, merge_parts
    from tgmm.aggregate import read_table

    check_outputs(out)
    table = merge_parts([read_table(path, COLUMNS) for path in files])
    final_rows(table)  # refuses a part without a baseline
    write_table(out, table, digits=8)
    print(f"ablation: {len(files)} parts -> {out}")


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
        return study.ablation_settings(d, study.config.ablation.seeds[0])

    values = resolve_settings(settings, config, scale, choose)
    with leased(device) as torch_device:
        from tgmm.ablation.run import measure_speeds, speed_lines

        speeds = measure_speeds(values, rounds, tasks, torch_device)
    print("\n".join(speed_lines(speeds)))
