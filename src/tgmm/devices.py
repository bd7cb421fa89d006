"""Which processor a command runs on, and a lease that keeps two jobs off the same GPU.

Nothing here imports torch before the lease is taken: CUDA_VISIBLE_DEVICES counts only if it is set first.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tgmm import slurm
from tgmm.errors import UserError, refuse_unknown
from tgmm.files import FileLock

DEVICES = ("auto", "cpu", "cuda")
POLL_SECONDS = 1.0


def count_gpus() -> int:
    """Number of NVIDIA devices of this machine, without importing torch."""
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def training_gpus(device: str, cluster: bool = False) -> int:
    """GPUs that a training job claims: one where it is to run on one, as the configuration's `device` says.

    `auto` takes one if there is any: in this machine, or on some node of the cluster that jobs are sent to. Threads are
    no matter of the device: a training has one everywhere, so that its numbers do not depend on where it runs, and
    several families run at once.
    """
    if device == "auto":
        return int(slurm.has_gpus() if cluster else count_gpus() > 0)
    return int(device == "cuda")


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle_threads() -> None:
    """Let idle OpenMP threads sleep, so that jobs side by side do not slow each other; call before importing torch."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def resolve_device(device: str = "auto") -> str:
    """The device to use, `cpu` or `cuda`: `auto` takes a GPU if torch sees one, `cuda` insists on it.

    An unknown name, or no GPU where one is insisted on, is a `UserError`.
    """
    refuse_unknown("device", device, DEVICES)
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
    """Hold a GPU for as long as the block runs, waiting for one to become free, and give the device to use.

    Under Slurm, or where CUDA_VISIBLE_DEVICES is set already, the choice has been made and is left alone; nothing is
    held for the processor. Call it before torch is imported. An unknown device is a `UserError`.
    """
    refuse_unknown("device", device, DEVICES)
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
    """Index of the first of so many GPUs that no other process of this machine has leased; waits until there is one.

    The lock files are in ``folder``, or in the system's temporary folder.
    """
    folder = folder or Path(tempfile.gettempdir())
    waiting = False
    while True:
        for index in range(n_gpus):
            with FileLock(folder / f"tgmm-gpu-{index}.lock") as lease:
                if lease.acquire():
                    yield index
                    return
        if not waiting:
            print(f"waiting for one of {n_gpus} GPU(s) to become free", flush=True)
            waiting = True
        time.sleep(POLL_SECONDS)
