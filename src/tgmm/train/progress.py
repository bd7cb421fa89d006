"""What a training reports while it runs, a live bar on a terminal or lines in a log, and how it is stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LOG_SECONDS = 15.0
LOOK_SECONDS = 1.0  # between two looks at whether the workflow is still there
WORKFLOW = b"snakemake"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingProgress:
    """Reports tasks a second, loss, validation error and time left, in front of them the family; nothing if not
    visible.

    ``tasks`` are those of the whole training, ``done`` those that a resumed state has seen.
    """

    def __init__(self, family: str, tasks: int, done: int = 0, visible: bool = True):
        self.family, self.tasks, self.visible = family, tasks, visible
        self.started, self.start_done, self.last_line = time.monotonic(), done, 0.0
        self.validation = "-"
        console = Console(stderr=True)
        self.bar = None
        if visible and console.is_terminal:
            columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}")]
            self.bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self.bar_task = self.bar.add_task(family, total=tasks, completed=done, rest="")
            self.bar.start()

    def step(self, done: int, loss: float | None = None) -> None:
        """Report after a step, or before there are any losses; on a log at most one line in 15 seconds."""
        if not self.visible:
            return
        now = time.monotonic()
        speed = (done - self.start_done) / max(now - self.started, 1e-9)
        rest = f"{done:,}/{self.tasks:,} tasks  {speed:,.0f} tasks/s"
        if loss is not None:
            rest += f"  loss {loss:.3f}  validation {self.validation}"
        if self.bar is not None:
            self.bar.update(self.bar_task, completed=done, rest=rest)
        elif now - self.last_line >= LOG_SECONDS:
            self.last_line = now
            left = (self.tasks - done) / max(speed, 1e-9)
            print(f"{self.family}: {rest}  {_clock(left)} left", file=sys.stderr, flush=True)

    def validated(self, error: float, oracle: float) -> None:
        """Show a validation error beside the oracle's from now on."""
        self.validation = f"{error:.3f} (oracle {oracle:.3f})"

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


class InterruptRequest:
    """Which signal asked for a stop, if any; a training answers between two steps.

    The end of the workflow that started this process counts as SIGHUP: killed, it cannot pass a signal on.

    Parameters
    ----------
    shell : the process between the workflow and this one, whose parent is looked at; None where nothing is.
    """

    def __init__(self, shell: int | None = None) -> None:
        self.number: int | None = None
        self.shell, self.looked = shell, time.monotonic()

    def __bool__(self) -> bool:
        if self.number is None and self.shell and time.monotonic() - self.looked >= LOOK_SECONDS:
            self.looked = time.monotonic()
            if not is_workflow(parent_of(self.shell)):
                self.number = signal.SIGHUP
        return self.number is not None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        self.number = number


@contextmanager
def deferred_signals() -> Iterator[InterruptRequest]:
    """Within the block SIGINT and SIGTERM only set the request; afterwards the previous handlers stand again."""
    shell = os.getppid()
    request = InterruptRequest(shell if is_workflow(parent_of(shell)) else None)
    previous = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def parent_of(process: int) -> int:
    """The parent of a process; 0 where the system does not tell it, as anywhere but on Linux."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, LookupError):
        return 0


def is_workflow(process: int) -> bool:
    """Whether a process is Snakemake, by its command."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[:3]
    except OSError:
        return False
    return any(word.rpartition(b"/")[2] == WORKFLOW for word in words)
