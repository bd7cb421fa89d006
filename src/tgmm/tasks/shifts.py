"""Departures of test tasks from the tasks that networks are trained on, one value of one kind at a time.

Every kind leaves the rest of a task as it is: the tasks of a cell share their random numbers with the same tasks at any
other value, so that what changes along a shift is the shift alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tgmm.errors import unknown_name
from tgmm.mixture import Mixture
from tgmm.tasks.points import sample_points
from tgmm.tasks.sampler import sample_mixtures
from tgmm.tasks.shift_values import refuse_value

FILTERS = ("before", "after")


@dataclass(frozen=True)
class Shift:
    """One value of one kind of shift.

    Attributes
    ----------
    kind :
        "none";
        "mean": normal noise of standard deviation ``value`` is added to the accepted means (the paper's sigma_p);
        "smallest-weight": the lightest component gets the weight ``value``, the others share the rest in proportion;
        "location": the data are delivered with ``value`` added to every coordinate;
        "scale": the data are delivered multiplied by ``value``, as in another unit of measurement;
        "student-t": the noise is multivariate Student t with ``value`` degrees of freedom and unit covariance;
        "outliers": each point is replaced, with probability ``value``, by one that is uniform on [-10, 10]^d;
        "wrong-k": methods are asked for K + ``value`` components.
    value : see ``kind``.
    filter : for "mean": the cosine filter is applied "before" the perturbation (the paper) or before and "after" it
        (the authors' newest code, which so changes the distribution that it tests on).
    """

    kind: str = "none"
    value: float = 0.0
    filter: str = "before"

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise unknown_name("filter", self.filter, FILTERS)
        refuse_value(self.kind, self.value)

    @property
    def name(self) -> str:
        """Part of a cell's name, empty where nothing is shifted."""
        return "" if self.kind == "none" else f"-{self.kind}{self.value:+g}"

    @property
    def moves_parameters(self) -> bool:
        """Whether the true parameters differ from those of the unshifted tasks, and not the points alone."""
        return self.kind in ("mean", "smallest-weight")

    @property
    def extra_components(self) -> int:
        """How many components too many a method is asked for."""
        return int(self.value) if self.kind == "wrong-k" else 0

    @property
    def units(self) -> tuple[float, float]:
        """(factor, offset): data are delivered as factor x + offset."""
        return (self.value if self.kind == "scale" else 1.0, self.value if self.kind == "location" else 0.0)


def sample_shifted_mixtures(
    shift: Shift, seed: int, index: Tensor, n_components: int, dimension: int, covariance: str
) -> Mixture:
    """True parameters of the tasks under a shift; arguments as for :func:`tgmm.tasks.sampler.sample_mixtures`."""
    if shift.kind == "mean":
        again = shift.filter == "after"
        return sample_mixtures(
            seed, index, n_components, dimension, covariance, perturbation=shift.value, filter_again=again
        )
    mixture = sample_mixtures(seed, index, n_components, dimension, covariance)
    if shift.kind == "smallest-weight":
        # Weights are sorted: the first is the lightest.
        rest = mixture.weights[:, 1:]
        rest = rest * ((1.0 - shift.value) / sum(rest.unbind(1)))[:, None]
        lightest = torch.full_like(mixture.weights[:, :1], shift.value)
        return replace(mixture, weights=torch.cat([lightest, rest], dim=1))
    return mixture


def sample_shifted_points(
    shift: Shift, mixture: Mixture, seed: int, index: Tensor, n_points: int, *, heldout: bool = False
) -> tuple[Tensor, Tensor]:
    """Points and labels in the mixture's own units; arguments as for :func:`tgmm.tasks.points.sample_points`.

    Held-out points carry no outliers: they are there to judge the estimate of the mixture, which has none.
    """
    freedom = float(shift.value) if shift.kind == "student-t" else math.inf
    share = shift.value if shift.kind == "outliers" and not heldout else 0.0
    return sample_points(
        mixture, seed, index, n_points, heldout=heldout, degrees_of_freedom=freedom, outliers=share
    )  # fmt: skip
