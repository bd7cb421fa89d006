"""Which processor a command runs on, and a lease that keeps two jobs off the same GPU.

Nothing here imports torch before the lease is taken: CUDA_VISIBLE_DEVICES counts only if it is set first.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tgmm.errors import UserError, unknown_name

DEVICES = ("auto", "cpu", "cuda")
TRAINING_CORES_BESIDE_GPU = 4
POLL_SECONDS = 1.0


def count_gpus() -> int:
    """Number of NVIDIA devices of this machine, without importing torch."""
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def training_threads(gpus: int = 1) -> int:
    """Cores for a training job: a few for each GPU; where there is none one core, and families side by side.

    The small networks that a CPU can train gain little from a second thread, while two families on two cores finish
    in about half the time; and with one thread a result does not depend on the number of cores.
    """
    return max(1, TRAINING_CORES_BESIDE_GPU * training_gpus(gpus))


def training_gpus(gpus: int = 1) -> int:
    """GPUs that a training job claims from ``--resources gpu=N``: as many as it wants and this machine has."""
    return min(gpus, count_gpus())


def trains_on_cpu(device: str) -> bool:
    """Whether training on this machine runs on its processor: told so, or left to choose where there is no GPU."""
    return device == "cpu" or (device == "auto" and not count_gpus())


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle_threads() -> None:
    """Let idle OpenMP threads sleep, so that jobs side by side do not slow each other; call before importing torch."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def resolve_device(device: str = "auto") -> str:
    """The device to use: `cpu` or `cuda`.

    Parameters
    ----------
    device : `auto` takes a GPU if torch sees one; `cuda` insists on it.

    Raises
    ------
    UserError : an unknown name, or no GPU where one is insisted on.
    """
    if device not in DEVICES:
        raise unknown_name("device", device, DEVICES)
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UserError("device 'cuda': torch sees no GPU here (use auto or cpu)")
    return "cpu"


@contextmanager
def lease_device(device: str = "auto", gpus: int = 1) -> Iterator[str]:
    """Hold GPUs for as long as the block runs, waiting for them to become free, and give the device to use.

    Under Slurm, or where CUDA_VISIBLE_DEVICES is set already, the choice has been made and is left alone. Call it
    before torch is imported.

    Parameters
    ----------
    device : `auto`, `cpu` or `cuda`; nothing is held for the processor.
    gpus : number of GPUs that the block uses together.

    Raises
    ------
    UserError : an unknown device, or more GPUs than there are.
    """
    if device not in DEVICES:
        raise unknown_name("device", device, DEVICES)
    chosen = "CUDA_VISIBLE_DEVICES" in os.environ or "SLURM_JOB_ID" in os.environ
    if device == "cpu" or chosen or not count_gpus():
        kind = resolve_device(device)
        if device != "cpu" and gpus > 1:
            refuse_missing(gpus, visible_gpus())
        yield kind
        return
    refuse_missing(gpus, count_gpus())
    with free_gpus(gpus, count_gpus()) as indices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, indices))
        try:
            yield resolve_device(device)
        finally:
            del os.environ["CUDA_VISIBLE_DEVICES"]


def visible_gpus() -> int:
    """Number of GPUs that torch sees."""
    import torch

    return torch.cuda.device_count()


def refuse_missing(wanted: int, present: int) -> None:
    """Raise a `UserError` where more GPUs are wanted than there are."""
    if wanted > present:
        raise UserError(
            f"{wanted} GPUs are wanted and there are {present}: lower --gpus (the study's gpus_per_family), or let "
            "--device cpu train in so many processes"
        )


@contextmanager
def free_gpus(wanted: int, n_gpus: int, folder: Path | None = None) -> Iterator[list[int]]:
    """Indices of GPUs that no other process of this machine has leased, in order; waits until there are enough.

    A job takes all that it wants or none, one job choosing at a time, so that two that wait never hold what the other
    waits for. The kernel frees a lost lease. Processes that are started with ``close_fds=False`` share the lease and
    keep it if this one is killed.
    """
    folder = folder or Path(tempfile.gettempdir())
    waiting = False
    while True:
        leases = take_gpus(wanted, n_gpus, folder)
        if leases is not None:
            try:
                yield list(leases)
            finally:
                close_all(leases.values())
            return
        if not waiting:
            number = "one" if wanted == 1 else str(wanted)
            print(f"waiting for {number} of {n_gpus} GPU(s) to become free", flush=True)
            waiting = True
        time.sleep(POLL_SECONDS)


def take_gpus(wanted: int, n_gpus: int, folder: Path) -> dict[int, IO[str]] | None:
    """Open locks of so many free GPUs by their index, the first ones; None, and nothing held, if too few are free."""
    with open_lock(folder / "tgmm-gpu-choice.lock") as choosing:
        fcntl.flock(choosing, fcntl.LOCK_EX)
        leases: dict[int, IO[str]] = {}
        for index in range(n_gpus):
            lease = try_lock(folder / f"tgmm-gpu-{index}.lock")
            if lease is not None:
                leases[index] = lease
            if len(leases) == wanted:
                for taken in leases.values():
                    os.set_inheritable(taken.fileno(), True)
                return leases
        close_all(leases.values())
        return None


def close_all(files: Iterable[IO[str]]) -> None:
    """Close files, and so give their locks back."""
    for file in files:
        file.close()


def try_lock(path: Path) -> IO[str] | None:
    """An open file that holds the lock at `path` until it is closed; None if another process holds it."""
    handle = open_lock(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def open_lock(path: Path) -> IO[str]:
    """A lock file, made if it is not there; another user's is enough, which can be read but not written."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    return os.fdopen(descriptor, "r")
