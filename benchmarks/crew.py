"""A contestant of a benchmark in processes of its own, several at once where it uses a processor's cores that way."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import torch


class Contestant(Protocol):
    """Something that trains for so many seconds and says how many steps it took."""

    def train(self, seconds: float) -> int: ...


class Crew:
    """The same training so many times at once; its speed is that of all together.

    Parameters
    ----------
    build : makes a contestant in its process, given a folder; it and its work must be importable.
    processes, threads : number of processes, and torch's threads in each.
    """

    def __init__(self, build: Callable[[Path], Contestant], processes: int, threads: int):
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            context.Process(target=_work, args=(build, threads, theirs), daemon=True).start()
            self.pipes.append(ours)
        for pipe in self.pipes:
            pipe.recv()  # built

    def train(self, seconds: float) -> int:
        """Train in all processes for so long; the number of steps taken in all."""
        for pipe in self.pipes:
            pipe.send(seconds)
        return sum(pipe.recv() for pipe in self.pipes)


def _work(build: Callable[[Path], Contestant], threads: int, pipe: Connection) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        contestant = build(Path(folder))
        pipe.send("ready")
        while True:
            try:
                pipe.send(contestant.train(pipe.recv()))
            except EOFError:  # the benchmark has ended
                return
