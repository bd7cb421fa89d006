"""Only one trainer works on a family at a time, also when a killed workflow has left one running."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tgmm.errors import UserError
from tgmm.train.interrupt import InterruptRequest

POLL_SECONDS = 1.0


@contextmanager
def exclusive(folder: Path, say=print, request: InterruptRequest | None = None) -> Iterator[None]:
    """Hold the folder's lock for the block; wait, and say so, while another process holds it.

    The lock is the kernel's (flock), so it ends with its process, however that ends.

    Raises
    ------
    UserError : for a folder that cannot be written, or a request to stop that comes while it waits.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        _wait(handle, folder, say, request)
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


def _wait(handle: int, folder: Path, say, request: InterruptRequest | None) -> None:
    said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not said:
                holder = os.pread(handle, 32, 0).decode() or "unknown"
                say(f"{folder}: another trainer (process {holder}) is at work on this family; waiting for it")
                said = True
            time.sleep(POLL_SECONDS)
            if request:
                raise UserError(f"{folder}: told to stop while waiting for the other trainer") from None
