"""Which processor a command runs on, and a lease that keeps two jobs off the same GPU.

Nothing here imports torch before the lease is taken: CUDA_VISIBLE_DEVICES counts only if it is set first.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tgmm.errors import UserError, unknown_name

DEVICES = ("auto", "cpu", "cuda")
TRAINING_CORES_BESIDE_GPU = 4
POLL_SECONDS = 1.0


def count_gpus() -> int:
    """Number of NVIDIA devices of this machine, without importing torch."""
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def training_threads() -> int:
    """Cores for a training job: a few that feed a GPU; where there is none one core, and families side by side.

    The small networks that a CPU can train gain little from a second thread, while two families on two cores finish
    in about half the time; and with one thread a result does not depend on the number of cores.
    """
    return TRAINING_CORES_BESIDE_GPU if count_gpus() else 1


def training_gpus() -> int:
    """GPUs that a training job claims from ``--resources gpu=N``: none on a machine that has none."""
    return min(1, count_gpus())


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
def lease_device(device: str = "auto") -> Iterator[str]:
    """Hold one GPU for as long as the block runs, waiting for one to become free, and give the device to use.

    Under Slurm, or where CUDA_VISIBLE_DEVICES is set already, the choice has been made and is left alone. Call it
    before torch is imported.
    """
    if device not in DEVICES:
        raise unknown_name("device", device, DEVICES)
    chosen = "CUDA_VISIBLE_DEVICES" in os.environ or "SLURM_JOB_ID" in os.environ
    if device == "cpu" or chosen or not count_gpus():
        yield resolve_device(device)
        return
    with free_gpu(count_gpus()) as index:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(index)
        try:
            yield resolve_device(device)
        finally:
            del os.environ["CUDA_VISIBLE_DEVICES"]


@contextmanager
def free_gpu(n_gpus: int, folder: Path | None = None) -> Iterator[int]:
    """Index of a GPU that no other process of this machine has leased; waits for one. The kernel frees a lost lease."""
    folder = folder or Path(tempfile.gettempdir())
    waiting = False
    while True:
        for index in range(n_gpus):
            handle = try_lock(folder / f"tgmm-gpu-{index}.lock")
            if handle is not None:
                with handle:
                    yield index
                return
        if not waiting:
            print(f"waiting for one of {n_gpus} GPU(s) to become free", flush=True)
            waiting = True
        time.sleep(POLL_SECONDS)


def try_lock(path: Path):
    """An open file that holds the lock at `path` until it is closed; None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    handle = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle
