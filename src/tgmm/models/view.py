"""The coordinates in which a network sees a task's points."""

from __future__ import annotations

import math

from torch import Tensor

from tgmm.models.estimate import LogEstimate
from tgmm.models.principal import principal_axes, sorted_coordinates
from tgmm.models.settings import NetworkSettings


class View:
    """Axes of the data's own: rotations of a task then look the same, and many dimensions become few.

    Isotropic tasks are seen in the leading principal axes of their points. Diagonal covariances would not stay diagonal
    under a rotation, so anisotropic tasks keep their coordinates, brought into a common order and direction.

    Attributes
    ----------
    dimension : number of coordinates that the network sees.
    """

    def __init__(self, settings: NetworkSettings):
        self.anisotropic = settings.covariance == "anisotropic"
        self.used = settings.axes > 0
        few = self.used and not self.anisotropic
        self.dimension = min(settings.axes, settings.dimension) if few else settings.dimension
        # Means of length sqrt(d) get the length that they would have in as many dimensions as the network sees.
        self.scale = math.sqrt(self.dimension / settings.dimension)

    def axes(self, points: Tensor, hidden: Tensor | None) -> Tensor | None:
        """The axes of tasks, (B, d, dimension), orthonormal columns; None where coordinates stay as they are."""
        if not self.used:
            return None
        if self.anisotropic:
            return sorted_coordinates(points, hidden)
        return principal_axes(points, self.dimension, hidden)

    def look(self, points: Tensor, axes: Tensor | None) -> Tensor:
        """Points (B, N, d) as the network sees them, (B, N, dimension)."""
        return points if axes is None else self.scale * (points @ axes)

    def restore(self, estimate: LogEstimate, axes: Tensor | None) -> LogEstimate:
        """An estimate in the coordinates of the points."""
        if axes is None:
            return estimate
        scales = estimate.standard_deviations
        return LogEstimate(
            estimate.log_weights,
            estimate.means @ axes.mT / self.scale,
            None if scales is None else scales @ axes.mT.abs(),  # the axes of scales are signed coordinates
        )
