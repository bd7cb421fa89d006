"""The commands that compute: sample-tasks, train, score."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm.cli.settings import ConfigOption, ScaleOption, SettingsOption, resolve_settings

DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def sample_tasks(
    name: Annotated[str, typer.Argument(help="Task set and dimension, such as effectiveness-d8.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Draw a set of test tasks: parameters, a seed for each task and the hash of its points."""
    from tgmm.tasks.taskset import sample_taskset, save_taskset

    values = resolve_settings(settings, config, scale, lambda study: study.task_settings(name))
    taskset = sample_taskset(values)
    save_taskset(out, taskset)
    tasks = sum(cell.mixture.n_tasks for cell in taskset.cells)
    print(f"{name}: {tasks:,} tasks in {len(taskset.cells)} cells -> {out}")


def train(
    family: Annotated[str, typer.Argument(help="Family to train, such as isotropic-d8-n128-components.")],
    out: Annotated[Path, typer.Option(help="The model's folder.")],
    work: Annotated[Path, typer.Option(help="Folder of resumable states.")] = Path("work"),
    device: DeviceOption = "auto",
    max_minutes: Annotated[float, typer.Option(min=0.0, help="Stop cleanly after so many minutes.")] = float("inf"),
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Train one task family, or go on from its last state; Ctrl-C and SIGTERM save a state first.

    Ends with 0 when the family is trained or the minutes are over, 2 for bad input, 128 + the signal's number when
    stopped.
    """
    values = resolve_settings(settings, config, scale, lambda study: study.train_settings(family))
    with leased(device) as torch_device:
        from tgmm.train.family import train_family
        from tgmm.train.settings import TrainingSettings

        reason = train_family(TrainingSettings.from_dict(values), out, work, torch_device, max_minutes)
    if reason.kind == "finished":
        print(f"{family}: trained -> {out}")
    elif reason.kind == "budget":
        print(f"{family}: stopped after {max_minutes:g} minutes; the same command goes on from here")
    else:
        print(f"{family}: stopped by {signal.Signals(reason.signal).name}; the same command goes on", file=sys.stderr)
        sys.exit(128 + reason.signal)


def score(
    method: Annotated[str, typer.Argument(help="Method to score, such as em-restarts or tgmm-components.")],
    tasks: Annotated[Path, typer.Option(help="Task set, a file that sample-tasks wrote.")],
    out: Annotated[Path, typer.Option(help="The .parquet file to write, one row a task.")],
    model: Annotated[Path | None, typer.Option(help="Folder of the trained family, for networks.")] = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Score a method on every task of a set, beside the truth."""
    values = resolve_settings(settings, config, scale, lambda study: study.score_settings(method, tasks.stem))
    with leased(device) as torch_device:
        from tgmm.evaluate import build_method, score_taskset, write_scores
        from tgmm.tasks.taskset import load_taskset

        taskset = load_taskset(tasks)
        estimator = build_method(values, taskset.settings["covariance"], model, torch_device)
        scores = score_taskset(taskset, values, estimator)
    write_scores(out, scores)
    print(_score_line(method, tasks, scores))


def _score_line(method: str, tasks: Path, scores: Any) -> str:
    usable = scores[~scores.failed]
    failed = f", {scores.failed.mean():.1%} failed" if scores.failed.any() else ""
    if usable.empty:
        return f"{method} on {tasks.stem}: all {len(scores):,} tasks failed ({scores.failure_reason.iloc[0]})"
    mean, median = usable.l2_error.mean(), usable.l2_error.median()
    return f"{method} on {tasks.stem}: l2-error mean {mean:.4f}, median {median:.4f}{failed} ({len(scores):,} tasks)"


@contextmanager
def leased(device: str) -> Iterator[Any]:
    """A leased torch device; the lease comes before torch is imported, as it chooses the visible cards."""
    from tgmm.devices import lease_device, settle_threads

    settle_threads()
    with lease_device(device) as kind:
        import torch

        yield torch.device(kind)
