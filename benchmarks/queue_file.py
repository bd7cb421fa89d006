"""The queue of trainings as a Markdown file: a table of families and one of the calls that trained them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from tgmm.errors import UserError
from tgmm.files import write_atomically

STATES = ("queued", "begun", "done")
NONE = "–"
HEADER = "| family | state | tasks seen | l2-error | oracle | device minutes |"
CALLS_HEADER = "| call | device | minutes | families | tasks/s |"
RULE = re.compile(r"\|(-+:?\|)+")


@dataclass(frozen=True)
class Row:
    """A family in the queue.

    Attributes
    ----------
    state : one of ``STATES``.
    tasks : seen so far.
    error, oracle : validation l2-error and that of EM from the truth; None before the first validation.
    minutes : of a device, over all calls.
    """

    family: str
    state: str = "queued"
    tasks: int = 0
    error: float | None = None
    oracle: float | None = None
    minutes: float = 0.0

    def line(self) -> str:
        numbers = [NONE if value is None else f"{value:.4f}" for value in (self.error, self.oracle)]
        cells = [self.family, self.state, f"{self.tasks:,}", *numbers, f"{self.minutes:.2f}"]
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Call:
    """One sitting on a device: when, where, how long, the number of families and all their tasks a second."""

    name: str
    device: str
    minutes: float
    families: int
    speed: float

    def line(self) -> str:
        return f"| {self.name} | {self.device} | {self.minutes:.2f} | {self.families} | {self.speed:,.0f} |"


class Queue:
    """The file's rows, to be read and rewritten in place; what stands around the tables is left alone.

    Raises
    ------
    UserError : the file cannot be read, lacks a table, or has a row that cannot be understood.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self.lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UserError(f"{path}: the queue cannot be read ({error.strerror})") from error
        self.rows = {row.family: row for row in (self._row(number) for number in self._table(HEADER))}
        self.calls = [cells(self.lines[number])[0] for number in self._table(CALLS_HEADER)]

    def update(self, row: Row) -> None:
        """Take over a family's row."""
        self.rows[row.family] = row
        for number in self._table(HEADER):
            if cells(self.lines[number])[0] == row.family:
                self.lines[number] = row.line()

    def spend(self, call: Call, minutes: dict[str, float]) -> None:
        """Note a call and add its minutes to its families; one that is noted already counts once."""
        if call.name in self.calls:
            return
        self.lines.insert(self._table(CALLS_HEADER).stop, call.line())
        self.calls.append(call.name)
        for family, spent in minutes.items():
            self.update(replace(self.rows[family], minutes=self.rows[family].minutes + spent))

    def write(self) -> None:
        """Replace the file, whole or not at all."""
        write_atomically(self.path, "\n".join(self.lines) + "\n")

    def _table(self, header: str) -> range:
        """Numbers of the lines of a table's rows."""
        if header not in self.lines:
            raise UserError(f"{self.path}: lacks the table that begins with '{header}'")
        start = end = self.lines.index(header) + 2
        if start > len(self.lines) or not RULE.fullmatch(self.lines[start - 1]):
            raise UserError(f"{self.path}: line {start}: the table's second line must be |---|---|...")
        while end < len(self.lines) and self.lines[end].startswith("|"):
            end += 1
        return range(start, end)

    def _row(self, number: int) -> Row:
        try:
            family, state, tasks, error, oracle, minutes = cells(self.lines[number])
            if state not in STATES:
                raise ValueError(f"state '{state}', not one of {', '.join(STATES)}")
            errors = [None if text == NONE else float(text) for text in (error, oracle)]
            return Row(family, state, int(tasks.replace(",", "")), *errors, float(minutes.replace(",", "")))
        except ValueError as error:
            raise UserError(f"{self.path}: line {number + 1} is no row of the queue ({error})") from error


def cells(line: str) -> list[str]:
    """The cells of a table's line."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
