"""Frees a working directory that a killed Snakemake left locked.

Every Snakemake holds a shared lock on a file for as long as it lives; the kernel drops the lock however the process
ends. Whoever gets the lock for itself alone knows that Snakemake's own lock files are left-overs.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK_FILE = "tgmm.lock"
_held: list[int] = []


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
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    _held.append(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
        for path in (folder / "locks").glob("*"):
            path.unlink(missing_ok=True)
    except OSError:
        alone = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        return False
    return alone
