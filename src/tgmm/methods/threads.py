"""One thread for batched small problems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's CPU operations to one thread; a context or, called, a decorator.

    The baselines are thousands of operations of about 0.1 ms. A second thread gains them little, and the barrier
    after each operation costs whole scheduler slices as soon as other processes want the processors: measured on two
    busy cores, 35 times the time for the spectral method. Cells and methods are what to run in parallel.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
