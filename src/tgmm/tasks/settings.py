"""What tasks are drawn from: a task set, with limits of its size, and the broad prior of the assignment network.

Nothing here needs tensors, so that a study is checked quickly.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

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
        shifts = [shift for entry in self.shifts for shift in entry.shifts]
        return shifts or [Shift()]


def refuse_size(n_points: int, dimension: int) -> None:
    """Raise a ValueError where one task's points would be too many for memory."""
    if n_points * dimension > LARGEST_TASK:
        raise ValueError(
            f"N={n_points:,} points in d={dimension:,} are above the limit of {LARGEST_TASK:,} coordinates"
        )


# --- the broad prior, whose tasks tgmm.tasks.prior draws ---------------------------------------------------------


SHAPES = ("unknown", "spherical", "diag", "tied", "full")
# Kinds of covariance that are drawn, with the shapes of scikit-learn that hold each (indices of SHAPES; own one first).
KINDS = ("equal spheres", "spheres", "diagonal", "full", "tied", "inverse Wishart")
HOLDERS = ((1, 2, 3, 4), (1, 2, 4, 4), (2, 2, 4, 4), (4, 4, 4, 4), (3, 3, 4, 4), (4, 4, 4, 4))
Chance = Annotated[float, Field(ge=0, le=1)]


class PriorSettings(Settings):
    """What the tasks are, each entry a choice that a step of training draws from."""

    kinds: tuple[Chance, ...] = Field(
        (0.18, 0.13, 0.19, 0.23, 0.13, 0.14), description=f"Shares of the covariances: {', '.join(KINDS)}."
    )
    dimensions: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] = Field(
        (1, 2, 2, 2, 3, 4, 4, 5, 6, 8, 8, 12), min_length=1, description="d of a batch."
    )
    components: tuple[Annotated[int, Field(ge=1, le=10)], ...] = Field(
        tuple(range(1, 11)), min_length=2, description="K of a task."
    )
    sizes: tuple[Annotated[int, Field(ge=12, le=10**5)], ...] = Field(
        (32, 48, 64, 64, 96, 128, 128, 192, 256), min_length=1, description="N of a batch, mostly."
    )
    large_sizes: tuple[Annotated[int, Field(ge=12, le=10**5)], ...] = Field(
        (384, 512, 1024), min_length=1, description="N of a few batches, which hold fewer tasks."
    )
    large: Chance = Field(0.06, description="Chance of a large batch.")
    nearest: float = Field(
        1.5, gt=0, le=1e3, description="Smallest mean distance of two means, in root mean variances."
    )
    farthest: float = Field(12.0, gt=0, le=1e3, description="Largest one; between the two it is log-uniform.")
    concentrations: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        (0.8, 2.0, 5.0, 20.0), min_length=1, description="Of the Dirichlet distribution of the weights."
    )
    heavy_tails: Chance = Field(0.1, description="Chance of Student noise with five degrees of freedom.")
    outliers: Chance = Field(0.12, description="Chance that up to 5 % of the points belong to no component.")
    noise_columns: Chance = Field(0.15, description="Chance that some columns have the same mean everywhere.")
    own_units: Chance = Field(0.25, description="Chance that columns have units of their own (not for spheres).")

    @field_validator("kinds")
    @classmethod
    def _one_of_each(cls, kinds: tuple[float, ...]) -> tuple[float, ...]:
        if len(kinds) != len(KINDS) or not sum(kinds) > 0:
            raise ValueError(f"must hold {len(KINDS)} shares that are not all zero: {', '.join(KINDS)}")
        return kinds

    @field_validator("components")
    @classmethod
    def _with_two(cls, components: tuple[int, ...]) -> tuple[int, ...]:
        if 2 not in components:
            raise ValueError("must hold 2, which every N and d allows")
        return components
