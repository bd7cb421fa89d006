"""A family's validation tasks, apart from every test task, and the floor beside every error: EM from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tgmm.counter_random import derive_seed
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.methods.transformer import estimate_tgmm
from tgmm.metrics import l2_error
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.train.settings import TrainingSettings


@dataclass(frozen=True)
class ValidationCell:
    """The validation tasks of one K at N = N0."""

    truth: Mixture
    points: Tensor


class ValidationSet:
    """Validation tasks of a family; the same for every recipe of the same tasks.

    Attributes
    ----------
    cells : the tasks by K.
    oracle : mean l2-error of EM started from the truth, by K.
    """

    def __init__(self, settings: TrainingSettings, device: torch.device | str = "cpu"):
        self.cells: dict[int, ValidationCell] = {}
        self.oracle: dict[int, float] = {}
        index = torch.arange(settings.validation_tasks)
        for count in settings.n_components:
            seed = derive_seed(settings.seed, "validation", settings.covariance, settings.dimension, count)
            truth = sample_mixtures(seed, index, count, settings.dimension, settings.covariance)
            points, _ = sample_points(truth, seed, index, settings.longest)
            oracle = estimate_em(
                points, count, EMSettings(start="truth", covariance=settings.covariance),
                seed=seed, index=index, truth=truth,
            )  # fmt: skip
            self.oracle[count] = l2_error(oracle.mixture, truth).mean().item()
            self.cells[count] = ValidationCell(truth.to(device), points.to(device))

    def errors(self, network: nn.Module, em_steps: int = 0) -> dict[int, float]:
        """Mean l2-error of the network's estimates, after so many EM steps, by K."""
        return {
            count: l2_error(estimate_tgmm(network, cell.points, count, em_steps).mixture, cell.truth).mean().item()
            for count, cell in self.cells.items()
        }
