"""The processes that train one family together, one for each GPU, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from tgmm.errors import UserError


class World:
    """This process among those that train together.

    Attributes
    ----------
    rank, size : its number and how many there are; 0 and 1 for a process on its own.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, reports and writes."""
        return self.rank == 0

    def share(self, tasks: int) -> slice:
        """This process's part of a batch."""
        part = tasks // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def average(self, tensor: Tensor) -> None:
        """Replace a tensor by its mean over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
            tensor /= self.size

    def largest(self, value: float, device: torch.device) -> float:
        """The largest of the processes' values."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.item()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def check(self, batch: int) -> None:
        """Raise a `UserError` for a batch that cannot be shared evenly; the first process says it for all."""
        if batch % self.size:
            if not self.first:
                raise SystemExit(2)
            needed = f"it must be a multiple of {self.size}"
            raise UserError(f"training.batch = {batch} cannot be shared by {self.size} processes; {needed}")


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """The world that torchrun's environment describes, for the length of the block; a process on its own elsewhere."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        # A process that has leased a card sees no other one.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
