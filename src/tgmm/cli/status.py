"""The command that shows how far training is: status."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgmm.cli.common import ScaleOption
from tgmm.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tgmm.train.status import FamilyStatus, StudyStatus

POLL_SECONDS = 0.1
WATCH_SECONDS = 3.0
COLUMNS = ("family", "state", "steps", "tasks", "error/oracle", "tasks/s", "left", "age", "note")
TEXT_COLUMNS = ("family", "state", "note")
STYLES = {"training": "bold", "damaged": "red", "queued": "dim"}


def status(
    watch: Annotated[bool, typer.Option("--watch", help="On a terminal: refresh until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    work: Annotated[Path, typer.Option(help="Folder of resumable states.")] = Path("work"),
    config: Annotated[Path, typer.Option(help="The study.")] = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Show how far every family is: steps, validation l2-error, speed and time left, without disturbing a trainer.

    Numbers are those of the last state, which a trainer writes every minute; the error and the oracle's are the last
    validation's, the age is the state's. States and models of other settings, or of other code, do not count.
    """
    from rich.console import Console

    from tgmm.study import load_study
    from tgmm.train.status import StudyStatus

    if watch and as_json:
        raise UserError("--json prints once; leave out --watch")
    reader = StudyStatus(load_study(config, scale), work)
    console = Console()
    if as_json:
        families = [asdict(family) for family in reader.read()]
        print(json.dumps({"scale": reader.study.scale, "families": families}, indent=2))
    elif not console.is_terminal:
        sys.stdout.writelines(plain_lines(reader.read()))
    elif watch:
        _watch(reader, console)
    else:
        console.print(_table(reader))


def _watch(reader: StudyStatus, console: Console) -> None:
    """A table that stays in place until Ctrl-C.

    The signal sets a request, for an exception may get lost where Python cannot raise one, as in a finaliser.
    """
    from rich.live import Live

    from tgmm.train.progress import deferred_signals

    with deferred_signals() as request, Live(console=console, auto_refresh=False) as live:
        while not request:
            live.update(_table(reader), refresh=True)
            end = time.monotonic() + WATCH_SECONDS
            while not request and time.monotonic() < end:
                time.sleep(min(WATCH_SECONDS, POLL_SECONDS))


def _table(reader: StudyStatus) -> Table:
    """The table for a terminal, with the notes below; a narrow one folds the names of the families."""
    from rich.table import Table

    from tgmm.train.status import STATES

    families = reader.read()
    counts = Counter(family.state for family in families)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
    title = f"{reader.study.scale}: {summary} ({time.strftime('%H:%M:%S')})"
    caption = "\n".join(f"{note}: {', '.join(names)}" for note, names in _notes(families).items()) or None
    left = {"title_justify": "left", "caption_justify": "left"}
    table = Table(title=title, caption=caption, box=None, padding=(0, 1, 0, 0), pad_edge=False, **left)
    header, *rows = table_rows(families)
    table.add_column(header[0], min_width=18, overflow="fold")
    for name in header[1:-1]:
        table.add_column(name.replace("/o", "/\no"), justify="left" if name in TEXT_COLUMNS else "right")
    for row in rows:
        table.add_row(*row[:-1], style=STYLES.get(row[1]))
    return table


def _notes(families: list[FamilyStatus]) -> dict[str, list[str]]:
    """Every note and the families that it belongs to."""
    notes = dict.fromkeys(family.note for family in families if family.note)
    return {note: [family.family for family in families if family.note == note] for note in notes}


def plain_lines(families: list[FamilyStatus]) -> list[str]:
    """The same table as aligned text, for a pipe or a log."""
    rows = table_rows(families)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if name in TEXT_COLUMNS else ">" for name in COLUMNS]
    aligned = [[f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)] for row in rows]
    return [f"{'  '.join(cells).rstrip()}\n" for cells in aligned]


def table_rows(families: list[FamilyStatus]) -> list[tuple[str, ...]]:
    """Header and cells; what trains stands first, as a low terminal cuts off the end of a table that it watches."""
    from tgmm.train.status import STATES

    return [COLUMNS, *map(_cells, sorted(families, key=lambda family: STATES.index(family.state)))]


def _cells(family: FamilyStatus) -> tuple[str, ...]:
    error, oracle = family.validation_l2_error, family.validation_l2_error_oracle
    speed = family.tasks_per_second
    return (
        family.family,
        family.state,
        f"{family.step:,}/{family.steps:,}",
        f"{family.tasks:,}",
        "–" if error is None else f"{error:.3f}/{oracle:.3f}",
        "–" if speed is None else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}",
        duration(family.seconds_left),
        duration(family.state_age),
        family.note or "",
    )


def duration(seconds: float | None) -> str:
    """A time in one unit; a dash where there is none."""
    if seconds is None:
        return "–"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
