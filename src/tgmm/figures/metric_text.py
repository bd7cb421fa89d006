"""What each metric is called and on which axis it is read; shared by figures and tables."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from tgmm.errors import unknown_name

NARROW = 19


@dataclass(frozen=True)
class MetricText:
    """A metric's name for text, its axis label (may hold mathtext), axis scale and whether less is better; and its
    label in lines for the axis of a low panel, where the label itself would break badly."""

    name: str
    label: str
    scale: str = "log"
    less_is_better: bool = True
    lines: str = ""

    @property
    def narrow(self) -> str:
        """The axis label in short lines."""
        return self.lines or "\n".join(textwrap.wrap(self.label, NARROW, break_on_hyphens=False))


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
    """The metric's texts; an unknown metric is refused with the nearest valid one."""
    if metric not in METRIC_TEXTS:
        raise unknown_name("metric", metric, METRIC_TEXTS)
    return METRIC_TEXTS[metric]
