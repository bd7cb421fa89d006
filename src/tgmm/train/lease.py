"""One trainer a work folder, on whichever node of a cluster: a lock, and a lease that its holder keeps renewing.

The kernel's lock ends with its process, so on one machine it says all. Between nodes it may say nothing: some shared
file systems keep it to the node, or know none, and a node that is gone gives nothing back. There the lease decides,
whose holder counts up in a file: a count that has stood still for long means that nobody is at work any more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgmm.errors import UserError
from tgmm.files import FileLock, is_locked

if TYPE_CHECKING:
    from tgmm.train.progress import InterruptRequest

LOCK_FILE, LEASE_FILE = "lock", "lease.json"
POLL_SECONDS = 1.0
RENEW_SECONDS = 10.0
LAPSE_SECONDS = 60.0  # without renewal, after which a lease counts for nothing


@contextmanager
def exclusive(
    folder: Path, report: Callable[[str], None] = print, request: InterruptRequest | None = None
) -> Iterator[None]:
    """Hold a work folder for the block; wait, and report it, while another trainer holds it, here or on another node.

    A killed workflow may have left one running. Where another node takes the folder over in the meantime, because this
    one was out of reach for so long, this process is told to stop as by SIGTERM.

    Raises
    ------
    UserError : for a folder that cannot be written, or a request to stop that comes while it waits.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    with lock:
        waiting = Waiting(folder, report, request)
        locks_work = _wait_for_lock(lock, waiting)
        lease = Lease(folder)
        lease.take(locks_work, waiting)
        try:
            yield
        finally:
            lease.give_back()


def is_held(folder: Path) -> bool:
    """Whether a trainer is at work in a folder: it holds the lock, or on another node has renewed its lease of late."""
    lease = Lease(folder)
    return is_locked(folder / LOCK_FILE) or (lease.is_elsewhere() and lease.age() < LAPSE_SECONDS)


class Waiting:
    """Says once that another trainer is at work, and ends the wait where this one is told to stop."""

    def __init__(self, folder: Path, report: Callable[[str], None], request: InterruptRequest | None):
        self.folder, self.report, self.request, self.said = folder, report, request, False

    def for_(self, holder: str) -> None:
        if not self.said:
            self.report(f"{self.folder}: another trainer ({holder}) is at work on this family; waiting for it")
            self.said = True
        time.sleep(POLL_SECONDS)
        if self.request:
            raise UserError(f"{self.folder}: told to stop while waiting for the other trainer")


def _wait_for_lock(lock: FileLock, waiting: Waiting) -> bool:
    """Take the kernel's lock; False where the file system has none, and the lease alone has to do."""
    try:
        while not lock.acquire():
            waiting.for_(f"process {lock.read() or 'unknown'}")
        lock.write(str(os.getpid()))
    except OSError:
        return False
    return True


class Lease:
    """A file that says who holds a folder, renewed by a thread for as long as it is held."""

    def __init__(self, folder: Path):
        self.path, self.count = folder / LEASE_FILE, 0
        self.holder = {"node": node_name(), "process": os.getpid(), "id": uuid.uuid4().hex}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True)

    def take(self, locks_work: bool, waiting: Waiting) -> None:
        """Write the lease as soon as no other one counts, and keep renewing it.

        Parameters
        ----------
        locks_work : whether this process holds the kernel's lock. A lease of this node then has no holder any more.
        """
        seen, since = self._read(), time.monotonic()
        while not self._is_mine(seen):
            stale = time.monotonic() - since > LAPSE_SECONDS
            if not seen or stale or (locks_work and not self.is_elsewhere()):
                self._write()
                time.sleep(0.0 if not seen and locks_work else 2 * POLL_SECONDS)
                seen, since = self._read(), time.monotonic()
                continue
            waiting.for_(f"process {seen.get('process')} on {seen.get('node')}")
            latest = self._read()
            if latest != seen:
                seen, since = latest, time.monotonic()
        self.thread.start()

    def is_elsewhere(self) -> bool:
        """Whether the lease, if there is one, belongs to another node."""
        return self._read().get("node", self.holder["node"]) != self.holder["node"]

    def age(self) -> float:
        """Seconds since the lease was written, by the clock of the file system."""
        try:
            return time.time() - self.path.stat().st_mtime
        except OSError:
            return float("inf")

    def give_back(self) -> None:
        """Remove the lease, if it still is this process's."""
        self.ended.set()
        self.thread.join()
        if self._is_mine(self._read()):
            self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self.ended.wait(RENEW_SECONDS):
            seen = self._read()
            if seen and not self._is_mine(seen):
                print(f"{self.path}: taken over by process {seen.get('process')} on {seen.get('node')}", flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._write()

    def _is_mine(self, content: dict[str, Any]) -> bool:
        return content.get("id") == self.holder["id"]

    def _read(self) -> dict[str, Any]:
        """Who holds the folder; nothing where nobody does, or the file cannot be read."""
        try:
            content = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self) -> None:
        self.count += 1
        temporary = self.path.with_name(f".{self.holder['id']}.tmp")
        temporary.write_text(json.dumps(self.holder | {"count": self.count}))
        temporary.replace(self.path)


def node_name() -> str:
    """Name of this node: Slurm's, else that of the machine."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
