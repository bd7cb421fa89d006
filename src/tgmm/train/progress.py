"""Training progress: a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LOG_SECONDS = 15.0


class TrainingProgress:
    """Reports tasks a second, loss, validation error and time left.

    Parameters
    ----------
    family : shown in front of every line.
    tasks, done : tasks of the whole training, and those that a resumed state has seen already.
    visible : False for a process that leaves reporting to another one.
    bar : False for lines on a terminal too, as for families side by side.
    """

    def __init__(self, family: str, tasks: int, done: int = 0, visible: bool = True, bar: bool = True):
        self.family, self.tasks, self.visible = family, tasks, visible
        self.started, self.start_done, self.last_line = time.monotonic(), done, 0.0
        self.validation = "-"
        console = Console(stderr=True)
        self.bar = None
        if visible and bar and console.is_terminal:
            columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}")]
            self.bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self.bar_task = self.bar.add_task(family, total=tasks, completed=done, rest="")
            self.bar.start()

    def step(self, done: int, loss: float) -> None:
        """Report after a step; on a log at most one line in 15 seconds."""
        if not self.visible:
            return
        now = time.monotonic()
        speed = (done - self.start_done) / max(now - self.started, 1e-9)
        rest = f"{done:,}/{self.tasks:,} tasks  {speed:,.0f} tasks/s  loss {loss:.3f}  validation {self.validation}"
        if self.bar is not None:
            self.bar.update(self.bar_task, completed=done, rest=rest)
        elif now - self.last_line >= LOG_SECONDS:
            self.last_line = now
            left = (self.tasks - done) / max(speed, 1e-9)
            self.say(f"{rest}  {_clock(left)} left")

    def validated(self, error: float, oracle: float) -> None:
        """Show a validation error beside the oracle's from now on."""
        self.validation = f"{error:.3f} (oracle {oracle:.3f})"

    def say(self, line: str) -> None:
        """A line of its own, above the bar if there is one."""
        if self.bar is not None:
            self.bar.console.print(f"{self.family}: {line}", highlight=False)
        else:
            print(f"{self.family}: {line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
