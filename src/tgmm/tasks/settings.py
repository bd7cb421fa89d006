"""What a task set is drawn from, and how large it may be.

Nothing here needs tensors, so that a study is checked quickly.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tgmm.errors import UserError
from tgmm.settings import Name, Settings
from tgmm.tasks.shifts import MOST_COMPONENTS, Shift, ShiftValues

# Limits of what is drawn or read, so that a file that lies about its size is refused before memory is taken for it.
LARGEST_FILE = 1 << 30  # bytes of parameters; the largest of the study have some 40 MB
LARGEST_TASK = 10_000_000  # coordinates of one task's points
MOST_TASKS = 1_000_000
MOST_CELLS = 10_000


class TaskSetSettings(Settings):
    """What a task set is drawn from."""

    taskset: Name = Field(description="The set's name.")
    covariance: Literal["isotropic", "anisotropic"] = Field(description="Covariance of the tasks.")
    dimension: int = Field(ge=1, le=100_000, description="Dimension d of the points.")
    n_components: tuple[Annotated[int, Field(ge=1, le=MOST_COMPONENTS)], ...] = Field(
        min_length=1, description="Numbers of components K."
    )
    n_points: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, description="Numbers of points N.")
    tasks: int = Field(ge=1, le=MOST_TASKS, description="Tasks for each K.")
    heldout_points: int = Field(ge=1, description="Fresh points of each task, for the held-out likelihood.")
    seed: int = Field(ge=0, le=2**63 - 1, description="Root of the random numbers.")
    shifts: tuple[ShiftValues, ...] = Field((), description="How the tasks differ from those of training.")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """What several keys must be together; a `UserError`."""
        shifts = self.all_shifts()
        least = min(self.n_components) + min(shift.extra_components for shift in shifts)
        if least < 1:
            raise UserError(
                f"shift 'wrong-k': its smallest value leaves methods of K={min(self.n_components)} no component"
            )
        groups = 1 + sum(shift.moves_parameters for shift in shifts)
        numbers = self.tasks * sum(self.n_components) * self.dimension * groups
        if numbers * (2 if self.covariance == "anisotropic" else 1) * 8 > LARGEST_FILE:
            size = f"{self.tasks:,} tasks in d={self.dimension:,}"
            raise UserError(f"{size} make a file above the limit of {LARGEST_FILE:,} bytes; take fewer")
        try:
            for n_points in (*self.n_points, self.heldout_points):
                refuse_size(n_points, self.dimension)
        except ValueError as error:
            raise UserError(str(error)) from None
        return self

    @property
    def name(self) -> str:
        """The name of the file, such as effectiveness-d8."""
        return f"{self.taskset}-d{self.dimension}"

    def all_shifts(self) -> list[Shift]:
        """Every value of every shift; one that shifts nothing where there are none."""
        shifts = [Shift(entry.kind, value, entry.filter) for entry in self.shifts for value in entry.values]
        return shifts or [Shift()]


def refuse_size(n_points: int, dimension: int) -> None:
    """Raise a ValueError where one task's points would be too many for memory."""
    if n_points * dimension > LARGEST_TASK:
        raise ValueError(
            f"N={n_points:,} points in d={dimension:,} are above the limit of {LARGEST_TASK:,} coordinates"
        )
