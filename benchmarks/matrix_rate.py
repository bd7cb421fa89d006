"""How fast a device multiplies matrices: the yardstick for the FLOP/s of a training."""

from __future__ import annotations

import time

import torch

SIZES = {"cpu": (256, 512, 1024), "cuda": (2048, 4096, 8192)}
DTYPES = {"cpu": ("float32",), "cuda": ("float32", "bfloat16")}


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: str, seconds: float) -> float:
    """The largest rate of single products of square matrices, FLOP/s, over a few sizes.

    Parameters
    ----------
    dtype : name of the type of the numbers, such as "float32".
    seconds : time for all sizes together; every size is multiplied twice at least.
    """
    best = 0.0
    for size in SIZES[device.type]:
        factor = torch.randn(size, size, device=device).to(getattr(torch, dtype))
        product = factor @ factor  # the first call sets up libraries
        synchronise(device)
        begin, now = time.perf_counter(), -1.0
        while now < begin + seconds / len(SIZES[device.type]):
            start = time.perf_counter()
            torch.matmul(factor, factor, out=product)
            synchronise(device)
            now = time.perf_counter()
            best = max(best, 2.0 * size**3 / (now - start))
    return best
