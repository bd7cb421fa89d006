"""What the tasks of the broad prior are; :mod:`tgmm.tasks.prior` draws them. Free of torch, for the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from tgmm.settings import Settings

SHAPES = ("unknown", "spherical", "diag", "tied", "full")
# Kinds of covariance that are drawn, with the shapes of scikit-learn that hold each (indices of SHAPES; own one first).
KINDS = ("equal spheres", "spheres", "diagonal", "full", "tied", "inverse Wishart")
HOLDERS = ((1, 2, 3, 4), (1, 2, 4, 4), (2, 2, 4, 4), (4, 4, 4, 4), (3, 3, 4, 4), (4, 4, 4, 4))
Chance = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1, le=10**6)]


class PriorSettings(Settings):
    """What the tasks are, each entry a choice that a step of training draws from."""

    kinds: tuple[Chance, ...] = Field(
        (0.18, 0.13, 0.19, 0.23, 0.13, 0.14), description=f"Shares of the covariances: {', '.join(KINDS)}."
    )
    dimensions: tuple[Positive, ...] = Field(
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
