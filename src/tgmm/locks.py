"""Locks between processes: the kernel's (flock), so that a lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self


class FileLock:
    """A lock on a file, which is made if it is not there; the lock is given back when the file is closed.

    Parameters
    ----------
    path : the file. Another user's is enough, which can be read but not written.
    create : make the file if it is missing.

    Raises
    ------
    OSError : for a file that cannot be opened.
    """

    def __init__(self, path: Path, *, create: bool = True):
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
        except PermissionError:
            self.descriptor = os.open(path, os.O_RDONLY)

    def acquire(self, *, shared: bool = False, wait: bool = False) -> bool:
        """Take the lock, or turn the one that is held into this kind; False where another process holds it.

        Parameters
        ----------
        shared : several processes may hold a shared lock, none beside an exclusive one.
        wait : until it is free.

        Raises
        ------
        OSError : where the file system knows no locks.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read(self) -> str:
        """What stands in the file."""
        return os.pread(self.descriptor, 4096, 0).decode(errors="replace")

    def write(self, text: str) -> None:
        """Replace what stands in the file."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def close(self) -> None:
        """Close the file, and so give the lock back."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_locked(path: Path) -> bool:
    """Whether a process holds the exclusive lock on a file; no file is made, and no lock taken away.

    A shared lock is asked for without waiting and given back at once. Whoever asks for the exclusive one in those
    microseconds is refused, and gets it when it asks again.
    """
    try:
        with FileLock(path, create=False) as lock:
            return not lock.acquire(shared=True)
    except OSError:
        return False
