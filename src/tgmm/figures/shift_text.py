"""What each kind of shift is called, on which axis it is read and how its values are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tgmm.errors import unknown_name


def write_number(value: float) -> str:
    """A value as it is, infinity as its sign."""
    return "∞" if math.isinf(value) else f"{value:g}"


def write_percent(value: float) -> str:
    """A share as per cent."""
    return f"{100 * value:g} %"


def write_count(value: float) -> str:
    """A number of components relative to the true one."""
    return "K" if value == 0 else f"K{value:+g}".replace("-", "−")


@dataclass(frozen=True)
class ShiftText:
    """A kind of shift's name, its axis label (may hold mathtext), how a value is written, whether the axis runs from
    large to small values, and the value at which nothing is shifted (None: there is none)."""

    name: str
    label: str
    write: Callable[[float], str] = write_number
    descending: bool = False
    unshifted: float | None = None


SHIFT_TEXTS = {
    "mean": ShiftText("perturbed means", r"spread of the perturbation of the means $\sigma_p$", unshifted=0.0),
    "smallest-weight": ShiftText("unequal weights", "weight of the lightest component", descending=True),
    "location": ShiftText("moved data", "added to every coordinate", unshifted=0.0),
    "scale": ShiftText("other units", "units: data multiplied by", unshifted=1.0),
    "student-t": ShiftText(
        "heavier tails", r"degrees of freedom $\nu$ of Student's t", descending=True, unshifted=math.inf
    ),
    "outliers": ShiftText("outliers", "points replaced by uniform ones", write_percent, unshifted=0.0),
    "wrong-k": ShiftText("wrong number of components", "components asked for", write_count, unshifted=0.0),
}


def shift_text(kind: str) -> ShiftText:
    """The shift's texts; an unknown kind is refused with the nearest valid one."""
    if kind not in SHIFT_TEXTS:
        raise unknown_name("kind of shift", kind, SHIFT_TEXTS)
    return SHIFT_TEXTS[kind]
