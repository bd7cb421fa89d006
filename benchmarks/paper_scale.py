"""Trains the families of the paper's scale on machines that are lent for minutes, and keeps the queue of them.

From the repository's root; only the packages of training are needed where it trains (``--settings`` spares reading the
study, which needs more)::

    python benchmarks/paper_scale.py --export-settings settings.json             # at home
    python benchmarks/paper_scale.py --settings settings.json --minutes 8 --out pack    # on the lent machine
    python benchmarks/paper_scale.py --collect pack --update-queue               # at home again

It takes families from the queue (``benchmarks/paper_scale.md``) until its minutes are used, some side by side, and
leaves finished models in half precision and the newest states of the others in ``--out``, in pieces under 16 MiB.
``--resume pack`` goes on from them, bit for bit on the same type of device. Where the limits leave no room for all,
finished models come first, then states in the order of the queue; what is left behind is named in the table.
"""

from __future__ import annotations

import platform
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from call_results import Result, pack, unpack
from pieces import MIB
from queue_file import NONE, Call, Queue, Row
from tgmm.errors import UserError, unknown_name
from tgmm.files import write_json
from workplace import Workplace, family_settings

if TYPE_CHECKING:
    import torch

    from tgmm.train.settings import TrainingSettings

QUEUE_FILE = Path("benchmarks/paper_scale.md")
TABLE = "{:44s} {:9s} {:>12s} {:>9s} {:>9s} {:>9s} {:>8s}  {}"


def chosen_families(names: str | None, queue: Queue, place: Workplace) -> list[str]:
    """The families that are named, in that order, or else those of the queue that are not done."""
    families = names.split(",") if names else [row.family for row in queue.rows.values() if row.state != "done"]
    for family in families:
        if family not in queue.rows:
            raise unknown_name(f"family in {queue.path}:", family, queue.rows)
        place.training(family)
    return families


def train_families(
    families: list[str], place: Workplace, device: torch.device, end: float, together: int
) -> tuple[list[Result], Call, int]:
    """Train until ``end`` on the monotonic clock; what became of each family, the call, and an exit code."""
    before = {family: place.progress(family) for family in families}
    waiting = [family for family in families if before[family].state != "done"]
    started, name = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    notes, code = attempt([place.training(family) for family in waiting], place, device, end, together)
    seconds = time.monotonic() - started
    after = {family: place.progress(family) for family in families}
    spent = {family: max(0.0, after[family].seconds - before[family].seconds) for family in families}
    total = sum(spent.values()) or 1.0
    results = []
    for family in families:
        seen, trained = after[family].tasks - before[family].tasks, spent[family]
        results.append(
            Result(
                family, place.fingerprint(family), after[family], speed=seen / trained if trained else None,
                minutes=seconds * trained / total / 60, note=notes.get(family, ""),
            )
        )  # fmt: skip
    tasks = sum(after[family].tasks - before[family].tasks for family in families)
    active = sum(time > 0 for time in spent.values())
    return results, Call(name, device_name(device), seconds / 60, active, tasks / max(seconds, 1e-9)), code


def attempt(
    settings: list[TrainingSettings], place: Workplace, device: torch.device, end: float, together: int
) -> tuple[dict[str, str], int]:
    """Train; whatever goes wrong, the states are there. Notes on families that failed, and an exit code."""
    from tgmm.train.side_by_side import train_side_by_side

    minutes = max(0.0, end - time.monotonic()) / 60
    try:
        outcomes = train_side_by_side(settings, place.model, place.work, device, minutes, together)
    except Exception:  # a lent machine is gone afterwards: what was reached must come back
        traceback.print_exc()
        return {}, 1
    notes = {family: outcome.message for family, outcome in outcomes.items() if outcome.kind == "failed"}
    signals = [outcome.signal for outcome in outcomes.values() if outcome.signal]
    return notes, 128 + signals[0] if signals else 2 if notes else 0


def device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()


def print_table(results: list[Result], call: Call) -> None:
    """A line a family, then the call."""
    typer.echo(TABLE.format("family", "state", "tasks seen", "tasks/s", "l2-error", "oracle", "minutes", "").rstrip())
    for result in results:
        made = result.progress
        errors = [NONE if error is None else f"{error:.4f}" for error in (made.error, made.oracle)]
        speed = NONE if result.speed is None else f"{result.speed:,.0f}"
        numbers = [f"{made.tasks:,}", speed, *errors, f"{result.minutes:.2f}"]
        typer.echo(TABLE.format(result.family, made.state, *numbers, result.note).rstrip())
    typer.echo(f"{call.device}: {call.minutes:.2f} minutes, {call.speed:,.0f} tasks/s in all, call {call.name}")


def update_queue(queue: Queue, results: list[Result], call: Call, place: Workplace) -> None:
    """Rewrite the rows of what came back, unless a later call has, and add the call's minutes once."""
    latest = all(call.name >= name for name in queue.calls)
    for result in results:
        made = result.progress
        if made.state == "begun" and result.fingerprint != place.fingerprint(result.family):
            typer.echo(f"{result.family}: its state is of other settings or code; training cannot go on from it")
        elif latest and result.kept and made.state != "queued":
            minutes = queue.rows[result.family].minutes
            queue.update(Row(result.family, made.state, made.tasks, made.error, made.oracle, minutes))
    queue.spend(call, {result.family: result.minutes for result in results})
    queue.write()
    typer.echo(f"{queue.path}: brought up to date")


def main(
    minutes: float = typer.Option(8.0, min=0.0, help="Train for so long, the start included; packing comes after."),
    out: Path | None = typer.Option(None, help="Folder for what is to come back; without it nothing is packed."),
    resume: list[Path] = typer.Option([], help="Folder that came back from an earlier call; may be given again."),
    families: str = typer.Option("", help="Families with commas; without it those of the queue that are not done."),
    together: int = typer.Option(4, min=1, help="Families that train side by side."),
    settings: Path | None = typer.Option(None, help="File of --export-settings, instead of reading the study."),
    config: Path = typer.Option(Path("config.yaml"), help="The study."),
    scale: str = typer.Option("paper", help="Its scale."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    tasks: int | None = typer.Option(None, min=1, help="Tasks to see instead of the study's: a rehearsal."),
    queue: Path = typer.Option(QUEUE_FILE, help="The queue."),
    models: Path | None = typer.Option(None, help="Parent of the models; results/<scale>/models without it."),
    work: Path = typer.Option(Path("work"), help="Parent of the resumable states."),
    room: float = typer.Option(60.0, min=0.0, help="MiB that may come back."),
    export_settings: Path | None = typer.Option(None, help="Write the settings of all families to this file, and end."),
    collect: Path | None = typer.Option(None, help="Take over what came back in this folder, and end."),
    update: bool = typer.Option(False, "--update-queue", help="Rewrite the rows of the queue."),
) -> None:
    """Train from the queue, or prepare or collect such a call."""
    end = time.monotonic() + 60 * minutes
    place = Workplace(
        family_settings(settings, config, scale, tasks), models or Path("results") / scale / "models", work
    )
    if export_settings is not None:
        write_json(export_settings, place.settings)
        typer.echo(f"settings of {len(place.settings)} families -> {export_settings}")
        return
    lines = Queue(queue)
    if collect is not None:
        results, call = unpack(collect, place, lines)
        print_table(results, call)
        if update:
            update_queue(lines, results, call, place)
        return
    for folder in resume:
        unpack(folder, place, lines)
    chosen = chosen_families(families, lines, place)
    from tgmm.cli.compute import leased

    with leased(device) as torch_device:
        results, call, code = train_families(chosen, place, torch_device, end, together)
        if out is not None:
            results = pack(results, call, place, out, round(room * MIB), torch_device)
    print_table(results, call)
    if update:
        update_queue(lines, results, call, place)
    sys.exit(code)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"paper_scale.py: {error}", file=sys.stderr)
        sys.exit(2)
