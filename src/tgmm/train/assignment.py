"""Train the assignment network by the clock: ``python -m tgmm.train.assignment FOLDER --minutes 100``.

Every step draws a batch of tasks from the broad prior (:mod:`tgmm.tasks.prior`), new ones each time. The loss is the
cross-entropy of the responsibilities with the true labels under the best permutation, earlier blocks counting 0.3; in
some batches K is withheld, and the cross-entropy of K is added. The learning rate falls to zero as the minutes pass.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.models.assignment import AssignmentNetwork, AssignmentSettings, canonical_view
from tgmm.tasks.prior import PriorSettings, draw_tasks, tell_shapes

WITHHELD = 0.25  # share of the batches in which the network is not told K
EARLIER = 0.3  # what the loss of an earlier block counts
POINTS = 32 * 192  # that a batch holds at most


@dataclass
class Progress:
    """What a training has done; it becomes the record beside the weights."""

    minutes: float
    tasks: int = 0
    steps: int = 0
    done_minutes: float = 0.0
    losses: dict[str, deque] = field(
        default_factory=lambda: {key: deque(maxlen=800) for key in ("known", "withheld", "K")}
    )

    def line(self) -> str:
        """The state in one line."""
        means = ", ".join(f"{key} {np.mean(values):.4f}" for key, values in self.losses.items() if values)
        return f"{self.tasks:,} tasks, {self.done_minutes:.1f} min, cross-entropy: {means}"


def matched_cross_entropy(outputs: list[Tensor], labels: Tensor) -> tuple[Tensor, float]:
    """The loss of all blocks, and the cross-entropy of the last one, under the last block's best permutation.

    Parameters
    ----------
    outputs : log-responsibilities (B, N, K) after every block.
    labels : int64 Tensor (B, N); -1 does not count.
    """
    K = outputs[-1].shape[-1]
    counted = labels >= 0
    labels = labels.clamp_min(0)
    with torch.no_grad():
        truth = F.one_hot(labels, K).float() * counted[..., None]
        costs = -(truth.mT @ outputs[-1]).cpu().numpy()
        order = torch.tensor(np.stack([linear_sum_assignment(cost)[1] for cost in costs]))
        target = order.gather(1, labels)[..., None]
    share = counted / counted.sum()
    losses = [-(output.gather(2, target)[..., 0] * share).sum() for output in outputs]
    return losses[-1] + EARLIER * sum(losses[:-1]), losses[-1].item()


def draw_batch(prior: PriorSettings, rng: np.random.Generator, generator: torch.Generator, batch: int):
    """Tasks and the K that the network is told (0: withheld)."""
    d = int(rng.choice(prior.dimensions))
    N = int(rng.choice(prior.large_sizes if rng.random() < prior.large else prior.sizes))
    B = min(batch, max(4, POINTS // N))
    choices = [K for K in prior.components if max(2, N // 6) >= K]
    if withheld := rng.random() < WITHHELD:
        n_components = torch.tensor(rng.choice(choices, B))
    else:
        choices = [K for K in choices if K > 1 and (d > 1 or K <= 6)]
        n_components = torch.full((B,), int(rng.choice(choices)))
    tasks = draw_tasks(prior, n_components, d, N, generator)
    return tasks, 0 if withheld else int(n_components[0])


def take_step(network: nn.Module, optimiser, tasks, K: int, shapes: Tensor, progress: Progress) -> None:
    """One step of the optimiser."""
    outputs, logits = network(canonical_view(tasks.points, shapes), shapes, K)
    loss, last = matched_cross_entropy(outputs, tasks.labels)
    if K == 0:
        of_size = F.cross_entropy(logits, tasks.n_components - 1)
        loss = loss + of_size
        progress.losses["K"].append(of_size.item())
    progress.losses["known" if K else "withheld"].append(last)
    optimiser.zero_grad()
    loss.backward()
    if torch.isfinite(nn.utils.clip_grad_norm_(network.parameters(), 1.0)):
        optimiser.step()
    progress.tasks, progress.steps = progress.tasks + len(tasks.points), progress.steps + 1


def save(folder: Path, network: AssignmentNetwork, prior: PriorSettings, progress: Progress) -> None:
    """Write the weights, then their record; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "settings": network.settings.plain(),
        "prior": prior.plain(),
        "tasks": progress.tasks,
        "steps": progress.steps,
        "minutes": round(progress.done_minutes, 1),
        "of_minutes": progress.minutes,
        "cross_entropy": {key: round(float(np.mean(values)), 4) for key, values in progress.losses.items() if values},
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    partial = folder / "assignment.safetensors.partial"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, partial)
    os.replace(partial, folder / "assignment.safetensors")
    partial = folder / "assignment.json.partial"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(partial, folder / "assignment.json")


def processor() -> str:
    """The processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def train(folder: Path, minutes: float, *, batch: int = 32, peak: float = 2e-3, seed: int = 0, compiled: bool = False):
    """Train a network for so many minutes and save it every 500 steps."""
    torch.manual_seed(seed)
    prior, network = PriorSettings(), AssignmentNetwork(AssignmentSettings())
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed + 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    run = torch.compile(network, dynamic=True) if compiled else network
    progress, started = Progress(minutes), time.monotonic()
    while (passed := (time.monotonic() - started) / 60) < minutes:
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1, (progress.steps + 1) / 300) * (1 - passed / minutes)
        tasks, K = draw_batch(prior, rng, generator, batch)
        take_step(run, optimiser, tasks, K, tell_shapes(tasks.kinds, generator), progress)
        progress.done_minutes = passed
        if progress.steps % 500 == 0:
            print(progress.line(), flush=True)
            save(folder, network, prior, progress)
    save(folder, network, prior, progress)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Gets assignment.safetensors and assignment.json, its record.")
    parser.add_argument("--minutes", type=float, default=100.0, help="How long it trains.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of weights and tasks.")
    parser.add_argument("--compile", action="store_true", help="Fuse operations; takes a C++ compiler and a minute.")
    given = parser.parse_args()
    if not 0 < given.minutes < math.inf:
        parser.error(f"--minutes must be above 0, not {given.minutes:g}")
    torch.set_num_threads(given.threads)
    train(given.folder, given.minutes, seed=given.seed, compiled=given.compile)


if __name__ == "__main__":
    main()
