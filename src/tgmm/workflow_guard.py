"""Frees a working directory that a killed Snakemake left locked.

Every Snakemake holds a shared lock on a file for as long as it lives; the kernel drops the lock however the process
ends. Whoever gets the lock for itself alone knows that Snakemake's own lock files are left-overs.
"""

from __future__ import annotations

from pathlib import Path

from tgmm.locks import FileLock

LOCK_FILE = "tgmm.lock"
_held: list[FileLock] = []


def guard_workdir(folder: str | Path = ".snakemake") -> bool:
    """Remove left-over lock files, then hold the shared lock until the process ends.

    Parameters
    ----------
    folder : Snakemake's own folder in the working directory.

    Returns
    -------
    Whether this process was alone. False also where the file system knows no locks; then nothing is removed.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    _held.append(lock)
    try:
        alone = lock.acquire()
        for path in (folder / "locks").glob("*") if alone else ():
            path.unlink(missing_ok=True)
        lock.acquire(shared=True, wait=True)
    except OSError:
        return False
    return alone
