"""SIGINT and SIGTERM become a request that the training loop answers between two steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptRequest:
    """Which signal asked for a stop, if any."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        self.number = number


@contextmanager
def deferred_signals() -> Iterator[InterruptRequest]:
    """Within the block the signals only set the request; afterwards the previous handlers stand again."""
    request = InterruptRequest()
    previous = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
