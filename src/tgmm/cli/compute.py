"""The commands that compute: sample-tasks, train, score, probe, plane; run, merge and calibrate of the ablation."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from tgmm.settings import Settings


def sample_tasks(
    name: Annotated[str, typer.Argument(help="Task set and dimension, such as effectiveness-d8.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Draw a set of test tasks: parameters, a seed for each task and the hash of its points."""
    from tgmm.tasks.settings import TaskSetSettings
    from tgmm.tasks.taskset import sample_taskset, save_taskset

    values = resolve_settings(settings, config, scale, lambda study: study.task_settings(name))
    refuse_other(TaskSetSettings.read(values, "task-set settings").name, name)
    check_outputs(out)
    taskset = sample_taskset(values)
    save_taskset(out, taskset)
    tasks = sum(cell.mixture.n_tasks for cell in taskset.cells)
    print(f"{name}: {tasks:,} tasks in {len(taskset.cells)} cells -> {out}")


def train(
    family: Annotated[str, typer.Argument(help="Family to train, such as isotropic-d8-n128-components.")],
    out: Annotated[Path, typer.Option(help="The model's folder.")],
    work: WorkOption = Path("work"),
    device: DeviceOption = "auto",
    max_minutes: Annotated[float, typer.Option(min=0.0, help="Stop cleanly after so many minutes.")] = float("inf"),
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Train one task family, or resume from its last state; Ctrl-C and SIGTERM save a state first.

    Ends with 0 when the family is trained or the minutes are over, 2 for bad input, 128 + the signal's number when
    stopped.
    """
    from tgmm.study import MODEL_FILES
    from tgmm.train.settings import TrainingSettings

    values = resolve_settings(settings, config, scale, lambda study: study.train_settings(family))
    chosen = TrainingSettings.read(values, "settings of tgmm train")
    refuse_other(chosen.family, family)
    check_outputs(*(out / file for file in MODEL_FILES))
    with leased(device) as torch_device:
        from tgmm.train.family import train_family

        reason = train_family(chosen, out, work, torch_device, max_minutes)
    if reason.kind == "finished":
        print(f"{family}: trained -> {out}")
    elif reason.kind == "budget":
        print(f"{family}: stopped after {max_minutes:g} minutes; the same command resumes")
    else:
        print(f"{family}: stopped by {signal.Signals(reason.signal).name}; the same command resumes", file=sys.stderr)
        sys.exit(128 + reason.signal)


def train_assignment(
    out: Annotated[Path, typer.Option(help="Folder of assignment.safetensors and assignment.json, its record.")],
    work: WorkOption = Path("work"),
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Train the estimator's network on the CPU, or go on from its last state; Ctrl-C and SIGTERM save a state first."""
    from tgmm.train.settings import ASSIGNMENT_FILES, AssignmentTraining

    values = resolve_settings(settings, config, scale, lambda study: study.assignment_settings())
    chosen = AssignmentTraining.read(values, "settings of tgmm train-assignment")
    check_outputs(*(out / file for file in ASSIGNMENT_FILES))
    _train_for_estimator("assignment", chosen, out, work)


def train_criterion(
    out: Annotated[Path, typer.Option(help="Folder of criterion.safetensors and criterion.json, its record.")],
    work: WorkOption = Path("work"),
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Train the network that tells the number of components from fits; a stopped training goes on where it was."""
    from tgmm.train.settings import CRITERION_FILES, CriterionTraining

    values = resolve_settings(settings, config, scale, lambda study: study.criterion_settings())
    chosen = CriterionTraining.read(values, "settings of tgmm train-criterion")
    check_outputs(*(out / file for file in CRITERION_FILES))
    _train_for_estimator("criterion", chosen, out, work)


def _train_for_estimator(name: str, chosen: Settings, out: Path, work: Path) -> None:
    """Run the training of a network that the package ships."""
    from importlib import import_module

    from tgmm.devices import settle_threads

    settle_threads()
    number = import_module(f"tgmm.train.{name}").train(chosen, out, work)
    if number is not None:
        print(f"{name}: stopped by {signal.Signals(number).name}; the same command resumes", file=sys.stderr)
        sys.exit(128 + number)
    print(f"{name}: trained -> {out}")


def score(
    methods: Annotated[list[str], typer.Argument(help="Methods to score, such as em-restarts or tgmm-components.")],
    tasks: Annotated[Path, typer.Option(help="Task set, a file that sample-tasks wrote.")],
    out: Annotated[Path, typer.Option(help="The .parquet file to write; for several methods, a folder.")],
    model: Annotated[Path | None, typer.Option(help="Folder of the trained family, for one network.")] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder of all trained families, from which each network takes its own.")
    ] = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Score methods on every task of a set, beside the truth; the points are drawn once for all of them."""
    with leased(device) as torch_device:
        from tgmm.evaluate import build_scored, read_score_settings, score_taskset, write_scores
        from tgmm.tasks.taskset import load_taskset

        taskset = load_taskset(tasks)
        name = f"{taskset.settings['taskset']}-d{taskset.settings['dimension']}"
        values = resolve_settings(settings, config, scale, lambda study: _score_settings(study, methods, name))
        entries = read_score_settings(values)
        refuse_other(", ".join(entry.method for entry in entries), ", ".join(methods))
        single = len(entries) == 1 and out.suffix == ".parquet"
        files = [out if single else out / f"{entry.method}.parquet" for entry in entries]
        check_outputs(*files)
        folders = [model or (models / entry.family if models and entry.family else None) for entry in entries]
        covariance = taskset.settings["covariance"]
        scored = [
            build_scored(entry, covariance, torch_device, folder)
            for entry, folder in zip(entries, folders, strict=True)
        ]
        for entry, file, scores in zip(entries, files, score_taskset(taskset, scored), strict=True):
            write_scores(file, scores)
            print(_score_line(entry.method, name, scores))


def _score_settings(study: Any, methods: list[str], taskset: str) -> dict[str, Any]:
    return {"methods": [study.score_settings(method, taskset) for method in methods]}


def _score_line(method: str, taskset: str, scores: Any) -> str:
    """What ``tgmm headline`` shows of it: mean and median a K, averaged over K."""
    usable = scores[~scores.failed]
    failed = f", {scores.failed.mean():.1%} failed" if scores.failed.any() else ""
    if usable.empty:
        return f"{method} on {taskset}: all {len(scores):,} tasks failed ({scores.failure_reason.iloc[0]})"
    errors = usable.groupby("K").l2_error
    mean, median = errors.mean().mean(), errors.median().mean()
    counts = f"{usable.K.nunique()} K, {len(scores):,} tasks"
    return f"{method} on {taskset}: l2-error mean {mean:.4f}, median {median:.4f}{failed} (averages over {counts})"


def probe(
    family: Annotated[str, typer.Argument(help="A family with component tokens: isotropic-d8-n128-components.")],
    model: Annotated[Path, typer.Option(help="Folder of the trained family.")],
    out: Annotated[Path, typer.Option(help="The measurements to write, .csv or .parquet.")],
    picture: Annotated[Path | None, typer.Option(help="The picture's data to write, likewise; d = 2 only.")] = None,
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Measure how far a trained network does what EM does: linear probes, errors by layer, attention."""
    values = resolve_settings(settings, config, scale, lambda study: study.probe_settings(family))
    from tgmm.methods.base import one_thread
    from tgmm.probes.measure import ProbeSettings, measure_probes, picture_table

    refuse_other(ProbeSettings.read(values, "settings of tgmm probe").family, family)
    check_outputs(out, *filter(None, [picture]))
    with one_thread():
        table, tests = measure_probes(model, values)
        write_table(out, table, digits=6)
        if picture is not None:
            write_table(picture, picture_table(tests, table, values), digits=6)
    print(f"{family}: {len(table)} rows -> {out}" + (f", {picture}" if picture else ""))


def plane(
    tasks: Annotated[list[Path], typer.Argument(help="Task sets in two dimensions, files that sample-tasks wrote.")],
    models: Annotated[Path, typer.Option(help="Folder of all trained families.")],
    out: Annotated[Path, typer.Option(help="The tasks and estimates to write, .json.")],
    device: DeviceOption = "cpu",
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Fit a few tasks in the plane with every method, and EM step by step beside a network block by block."""
    values = resolve_settings(settings, config, scale, lambda study: study.plane_settings())
    with leased(device) as torch_device:
        from tgmm.methods.base import one_thread
        from tgmm.plane import PlaneSettings, fit_plane, write_plane
        from tgmm.tasks.taskset import load_taskset

        with one_thread():
            tasksets = [load_taskset(path) for path in tasks]
            entries = fit_plane(PlaneSettings.read(values, "settings of tgmm plane"), tasksets, models, torch_device)
        write_plane(out, entries)
    print(f"{len(entries)} tasks -> {out}")


# --- the ablation ------------------------------------------------------------------------------------------------


ablation = typer.Typer(no_args_is_help=True, help="What makes a training task count: one change of a recipe at a time.")

DimensionOption = Annotated[int, typer.Option("-d", min=1, help="Dimension, one of ablation.d.")]


@ablation.command()
def run(
    d: DimensionOption,
    seed: Annotated[int, typer.Option(min=0, help="Seed, one of ablation.seeds.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv.")],
    change: Annotated[str | None, typer.Option(help="One of ablation.changes; all if none is named.")] = None,
    work: WorkOption = Path("work"),
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Train changes with one seed, or go on from the last state; Ctrl-C and SIGTERM save a state first."""
    values = resolve_settings(settings, config, scale, lambda study: study.ablation_settings(d, seed, change))
    check_outputs(out)
    refuse_other({key: values.get(key) for key in ("d", "seed")}, {"d": d, "seed": seed})
    if change is not None:
        refuse_other([entry.get("change") for entry in values.get("changes", ())], [change])
    name = f"ablation, d = {d}, seed {seed}"
    with leased(device) as torch_device:
        from tgmm.ablation.run import run_ablation

        part = run_ablation(values, work, torch_device, lambda line: print(f"{name}: {line}", flush=True))
    if part.signal is not None:
        print(f"{name}: stopped by {signal.Signals(part.signal).name}; the same command resumes", file=sys.stderr)
        sys.exit(128 + part.signal)
    write_table(out, part.rows, digits=8)
    print(f"{name}: {', '.join(part.rows['change'].unique())} -> {out}")


@ablation.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Tables that `tgmm ablation run` wrote.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv: all dimensions and seeds.")],
) -> None:
    """Join the parts of the study; figures and tables read what this writes."""
    from tgmm.ablation import COLUMNS, final_rows, merge_parts
    from tgmm.aggregate import read_table

    table = merge_parts([read_table(path, COLUMNS) for path in files])
    final_rows(table)  # refuses a part without a baseline
    write_table(out, table, digits=8)
    print(f"ablation: {len(files)} parts -> {out}")


@ablation.command()
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
