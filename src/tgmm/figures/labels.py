"""What metrics and shifts are called, on which axis they are read and how their values are written.

Shared by figures and tables; free of the drawing library.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from tgmm.errors import unknown_name

NARROW = 19  # characters of a line of an axis label beside a low panel


# --- metrics -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricText:
    """The texts of a metric.

    Attributes
    ----------
    name : for running text.
    label : of an axis; may hold mathtext.
    scale : of its axis: "log", "linear" or "symlog".
    less_is_better : whether a smaller value is a better one.
    lines : the axis label in lines, for a low panel where ``label`` itself would break badly.
    """

    name: str
    label: str
    scale: str = "log"
    less_is_better: bool = True
    lines: str = ""

    @property
    def narrow(self) -> str:
        """The axis label in short lines."""
        return self.lines or "\n".join(textwrap.wrap(self.label, NARROW, break_on_hyphens=False))

    @property
    def headline(self) -> str:
        """The name as the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]


METRIC_TEXTS = {
    "l2_error": MetricText("ℓ2-error", r"$\ell_2$-error"),
    "l2_error_reference": MetricText(
        "ℓ2-error as the reference code computes it",
        r"$\ell_2$-error, reference evaluator",
        lines="$\\ell_2$-error,\nreference evaluator",
    ),
    "mean_error": MetricText("error of the means", "error of the means"),
    "weight_error": MetricText("error of the weights", "error of the weights"),
    "scale_error": MetricText("error of the scales", "error of the scales"),
    "weight_cross_entropy": MetricText("cross-entropy of the weights", "cross-entropy of the weights", "linear"),
    "accuracy": MetricText("clustering accuracy", "clustering accuracy", "linear", less_is_better=False),
    "log_likelihood": MetricText("log-likelihood a point", "log-likelihood a point", "linear", less_is_better=False),
    "log_likelihood_heldout": MetricText(
        "held-out log-likelihood a point", "held-out log-likelihood a point", "linear", less_is_better=False
    ),
    "log_likelihood_deficit": MetricText(
        "log-likelihood a point below the oracle's, in sample (nats)",
        "log-likelihood below the oracle's, in sample (nats a point)",
        "symlog",
        lines="in-sample log-lik.\nbelow the oracle's\n(nats a point)",
    ),
    "log_likelihood_heldout_deficit": MetricText(
        "held-out log-likelihood a point below the oracle's (nats)",
        "held-out log-likelihood below the oracle's (nats a point)",
        "symlog",
        lines="held-out log-lik.\nbelow the oracle's\n(nats a point)",
    ),
    "log_likelihood_reference": MetricText(
        "log-likelihood as the reference code computes it",
        "log-likelihood, reference evaluator",
        "linear",
        less_is_better=False,
    ),
    "dropped_reference": MetricText(
        "share of tasks that the reference evaluator drops", "share of tasks dropped by the reference", "linear"
    ),
    "seconds": MetricText("seconds a task", "seconds a task"),
    "iterations": MetricText("iterations a task", "iterations a task"),
}


def metric_text(metric: str) -> MetricText:
    """Return the metric's texts; refuse an unknown metric with the nearest valid one."""
    if metric not in METRIC_TEXTS:
        raise unknown_name("metric", metric, METRIC_TEXTS)
    return METRIC_TEXTS[metric]


# --- shifts --------------------------------------------------------------------------------------------------------


def write_number(value: float) -> str:
    """Write a value as it is, infinity as its sign."""
    return "∞" if math.isinf(value) else f"{value:g}"


def write_percent(value: float) -> str:
    """Write a share as per cent."""
    return f"{100 * value:g} %"


def write_count(value: float) -> str:
    """Write a number of components relative to the true one."""
    return "K" if value == 0 else f"K{value:+g}".replace("-", "−")


@dataclass(frozen=True)
class ShiftText:
    """The texts of a kind of shift.

    Attributes
    ----------
    name : for running text.
    label : of an axis; may hold mathtext.
    write : how a value is written.
    descending : whether the axis runs from large to small values.
    unshifted : the value at which nothing is shifted; None where there is none.
    """

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
    """Return the shift's texts; those of a kind without any are made of its name."""
    name = kind.replace("-", " ")
    return SHIFT_TEXTS.get(kind) or ShiftText(name, f"size of the shift: {name}")


# --- horizontal axes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HorizontalAxis:
    """A column of the summary as a categorical axis.

    Attributes
    ----------
    column, label : the column and the axis label.
    name : for running text.
    write : how a value is written at its tick.
    descending : whether the largest value stands on the left.
    unshifted : the value at which the tasks are those of the training distribution, None if there is none.
    """

    column: str
    label: str
    name: str
    write: Callable[[float], str] = "{:g}".format
    descending: bool = False
    unshifted: float | None = None

    def levels(self, rows: pd.DataFrame) -> list:
        """Return the column's values from left to right."""
        return sorted(rows[self.column].unique(), reverse=self.descending)


AXES = {
    "d": HorizontalAxis("d", "dimension d", "the dimension d"),
    "N": HorizontalAxis("N", "number of points N", "the number of points N"),
    "shift_value": HorizontalAxis("shift_value", "size of the shift", "the size of the shift"),
}


def axis_of(column: str, rows: pd.DataFrame) -> HorizontalAxis:
    """Return the axis of a column of ``AXES``; that of a shift is the one of the rows' kind of shift."""
    if column not in AXES:
        raise unknown_name("axis", column, AXES)
    return shift_axis(rows["shift"].iloc[0]) if column == "shift_value" else AXES[column]


def shift_axis(kind: str) -> HorizontalAxis:
    """Return the axis of a kind of shift: mildest value first, or ascending where the shift has two sides."""
    text = shift_text(kind)
    return HorizontalAxis("shift_value", text.label, text.name, text.write, text.descending, text.unshifted)
