"""The look of every figure, and what methods, metrics and shifts are called and how their values are written.

Colours are those of Okabe & Ito (2008), made for colour-blind readers, with Tol's wine, olive and indigo and a few
dark ones for variants of a method; no two methods share a marker, and line styles differ as well, so that a figure also
reads in black and white. Tables take the methods' names from here, so the drawing library is imported only where it is
needed.
"""

from __future__ import annotations

import math
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tgmm.columns import ORACLE
from tgmm.errors import refuse_unknown

if TYPE_CHECKING:
    import pandas as pd

BLACK, INK, NEUTRAL, GREY, PALE = "#000000", "#262626", "#4d4d4d", "#8c8c8c", "#c4c4c4"
BLUE, SKY, GREEN, ORANGE = "#0072b2", "#56b4e9", "#009e73", "#e69f00"
VERMILION, PURPLE, WINE = "#d55e00", "#cc79a7", "#882255"
OLIVE, INDIGO, VIOLET, MAGENTA = "#999933", "#332288", "#5e4fa2", "#aa4499"
BROWN, MAROON, GOLD, NAVY = "#7a4b00", "#661100", "#a88700", "#003f7f"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION)  # of numbers of components or dimensions
SERIES_MARKERS = ("o", "s", "^", "D", "v")

WIDTH = 6.6  # inches, the text of an A4 page
SMALL, MEDIUM = 7.0, 8.0  # font sizes in points
RC_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": MEDIUM,
    "axes.labelsize": MEDIUM,
    "axes.titlesize": MEDIUM,
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "ytick.minor.size": 1.2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
    "xtick.minor.width": 0.4,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.0,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "pdf.compression": 9,
    "savefig.dpi": 200,
    "svg.hashsalt": "tgmm",
}
FILLED = {"markeredgecolor": "white", "markeredgewidth": 0.4}
OPEN = {"markerfacecolor": "white", "markeredgewidth": 0.8}


@contextmanager
def applied() -> Iterator[None]:
    """Apply seaborn's theme with ``RC_SETTINGS`` while the block runs; restore the caller's settings afterwards."""
    import matplotlib
    import seaborn

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        seaborn.set_theme(context="paper", style="ticks", rc=RC_SETTINGS)
        yield


@dataclass(frozen=True)
class MethodStyle:
    """The look of a method.

    Attributes
    ----------
    label, short : full name (legends) and short name (heads of tables, narrow places).
    color, marker, line : as matplotlib takes them; no marker for a bound that is drawn as a level.
    size : of the marker, in points.
    """

    label: str
    short: str
    color: str
    marker: str | tuple
    line: str | tuple = "-"
    size: float = 4.0


STYLES = {
    "em": MethodStyle("EM, one start", "EM", VERMILION, "s", "-"),
    "em-restarts": MethodStyle("EM, 10 k-means++ starts", "EM, 10 starts", ORANGE, "D", (0, (5, 1.5))),
    "em-restarts-standardised": MethodStyle(
        "EM, 10 starts, standardised data", "EM, 10 starts, standardised", BROWN, "p", (0, (5, 1.2, 1, 1.2)), 4.6
    ),
    "em-restarts-floor": MethodStyle(
        "EM, 10 starts + variance floor", "EM, 10 starts, floor", GOLD, (4, 1, 0), (0, (3, 1.2)), 6.0
    ),
    ORACLE: MethodStyle("EM from the truth (floor)", "EM from the truth", INK, "", (0, (2.2, 1.6))),
    "bayes": MethodStyle("Bayes estimate (MCMC)", "Bayes", BLACK, "", "-"),
    "cramer-rao": MethodStyle("Cramér-Rao bound", "Cramér-Rao", INK, "", (0, (4, 1, 1, 1))),
    "truth": MethodStyle("the truth itself", "truth", BLACK, "", (0, (1, 1))),
    "sample-mean": MethodStyle("sample mean (trivial)", "sample mean", GREY, "", (0, (0.8, 1.1))),
    "spectral": MethodStyle("Spectral", "Spectral", GREEN, "^", (0, (1, 1.2))),
    "spectral-em": MethodStyle("Spectral + EM", "Spectral + EM", OLIVE, "v", (0, (5, 1.5)), 4.8),
    "em-two-rounds": MethodStyle("Two-round EM", "Two-round EM", WINE, "*", (0, (1, 1.2)), 6.4),
    "em-lookahead": MethodStyle("EM, one lookahead start", "EM, lookahead", BROWN, "<", (0, (5, 1.2, 1, 1.2)), 4.8),
    "em-lookahead-10": MethodStyle("EM, 10 lookahead starts", "EM, 10 lookahead", GOLD, ">", "-", 4.8),
    "gradient": MethodStyle("Adam on the likelihood, one start", "Adam", MAGENTA, "d", (0, (1, 1.2)), 4.8),
    "gradient-10": MethodStyle("Adam on the likelihood, 10 starts", "Adam, 10 starts", VIOLET, "h", "-", 4.6),
    "variational": MethodStyle("Variational Bayes", "Var. Bayes", INDIGO, "p", (0, (5, 1.5)), 4.6),
    "moments": MethodStyle("Denoised method of moments", "Moments", GREEN, (3, 0, 60), (0, (3, 1.2)), 5.2),
    "tgmm-components": MethodStyle("TGMM components", "TGMM components", BLUE, "o", "-"),
    "tgmm-components-em20": MethodStyle("TGMM components + 20 EM steps", "TGMM + EM", SKY, "P", (0, (5, 1.5)), 5.0),
    "tgmm-components-standardised": MethodStyle(
        "TGMM components, standardised data", "TGMM standardised", INDIGO, "X", (0, (5, 1.2, 1, 1.2)), 4.8
    ),
    "tgmm-components-n32": MethodStyle(
        "TGMM components, trained at N = 32", "TGMM, N = 32", MAGENTA, "<", (0, (1, 1.2)), 4.4
    ),
    "tgmm-components-n64": MethodStyle(
        "TGMM components, trained at N = 64", "TGMM, N = 64", VIOLET, ">", (0, (5, 1.5)), 4.4
    ),
    "tgmm-components-no-axes": MethodStyle(
        "TGMM components without axes", "TGMM, no axes", NAVY, (6, 1, 0), (0, (3, 1.2)), 5.6
    ),
    "tgmm-matched": MethodStyle("TGMM matched", "TGMM matched", PURPLE, "v", (0, (5, 1.2, 1, 1.2))),
    "tgmm-reference": MethodStyle("TGMM reference", "TGMM reference", WINE, "*", (0, (1, 1.2)), 6.4),
    "tgmm-mamba2": MethodStyle("TGMM Mamba2, both directions", "TGMM Mamba2", OLIVE, "h", "-", 4.6),
    "tgmm-mamba2-causal": MethodStyle(
        "TGMM Mamba2, one direction", "TGMM Mamba2, causal", MAROON, "d", (0, (5, 1.5)), 4.8
    ),
}
# Networks of the answers to the reviewers, and the looks that they share with no other method of their figures.
STYLES |= {
    "tgmm-close": MethodStyle("TGMM, close components in training", "TGMM close", PURPLE, "v", (0, (5, 1.2, 1, 1.2))),
    "tgmm-contaminated": MethodStyle(
        "TGMM, contaminated training", "TGMM contaminated", PURPLE, "v", (0, (5, 1.2, 1, 1.2))
    ),
    "tgmm-spaced": MethodStyle("TGMM components, one dimension", "TGMM, d = 1", BLUE, "o", "-"),
    "tgmm-spaced-em20": MethodStyle(
        "TGMM components, one dimension, + 20 EM steps", "TGMM, d = 1, + EM", SKY, "P", (0, (5, 1.5)), 5.0
    ),
    "tgmm-weights-tenth": MethodStyle("cross-entropy × 0.1", "CE × 0.1", VIOLET, ">", "-", 4.4),
    "tgmm-weights-once": MethodStyle("cross-entropy × 1 (as elsewhere)", "CE × 1", BLUE, "o", "-"),
    "tgmm-weights-ten": MethodStyle("cross-entropy × 10", "CE × 10", MAGENTA, "<", "-", 4.4),
    "tgmm-weights-hundred": MethodStyle("cross-entropy × 100", "CE × 100", WINE, "*", "-", 6.4),
    "tgmm-likelihood": MethodStyle("likelihood of the points", "likelihood", OLIVE, "h", "-", 4.6),
    "tgmm-likelihood-heldout": MethodStyle("likelihood of held-out points", "held-out", MAROON, "d", "-", 4.8),
    "tgmm-both": MethodStyle("matched error + likelihood", "both", NAVY, "p", "-", 4.6),
}
FALLBACK_COLORS = {"em": "#b8560b", "spectral": "#44aa99", "tgmm": "#7f3c8d", "": "#7f7f7f"}
FALLBACK_MARKERS = ("H", "8", (3, 1, 0), (8, 1, 0), (5, 0, 36), (4, 0, 22.5))
FALLBACK_LINES = ["-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2))]


def method_style(method: str) -> MethodStyle:
    """Return the method's look; a method without an entry gets one from its name, the same in every figure."""
    if method in STYLES:
        return STYLES[method]
    kind = method.split("-")[0]
    number = zlib.crc32(method.encode())
    return MethodStyle(
        label=_readable(method),
        short=_readable(method),
        color=FALLBACK_COLORS.get(kind, FALLBACK_COLORS[""]),
        marker=FALLBACK_MARKERS[number % len(FALLBACK_MARKERS)],
        line=FALLBACK_LINES[number // len(FALLBACK_MARKERS) % len(FALLBACK_LINES)],
    )


def _readable(method: str) -> str:
    kind, *rest = method.split("-")
    head = {"em": "EM", "tgmm": "TGMM"}.get(kind, kind.capitalize())
    return " ".join([head, *rest])


def is_floor(method: str) -> bool:
    """Return whether the method is a bound from below rather than a competitor."""
    return method in (ORACLE, "bayes", "truth", "cramer-rao")


def is_level(method: str) -> bool:
    """Return whether the method is drawn as a level, not as markers."""
    return not method_style(method).marker


def in_legend_order(methods: Iterable[str]) -> list[str]:
    """Return methods in the order of the figures' legends, further ones after them by name, and levels last."""
    order = {method: place for place, method in enumerate(STYLES)}
    return sorted(methods, key=lambda method: (is_level(method), order.get(method, len(order)), method))


# --- what metrics and shifts are called --------------------------------------------------------------------------


NARROW = 19  # characters of a line of an axis label beside a low panel


# --- metrics -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricText:
    """The texts of a metric.

    Attributes
    ----------
    head : of a column of a table.
    name : for running text.
    label : of an axis; may hold mathtext.
    scale : of its axis: "log", "linear" or "symlog".
    less_is_better : whether a smaller value is a better one.
    lines : the axis label in lines, for a low panel where ``label`` itself would break badly.
    """

    head: str
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
    "l2_error": MetricText("ℓ2-error", "ℓ2-error", r"$\ell_2$-error"),
    "l2_error_reference": MetricText(
        "ℓ2-error, reference", "ℓ2-error as the reference code computes it", r"$\ell_2$-error, reference evaluator",
        lines="$\\ell_2$-error,\nreference evaluator",
    ),
    "mean_error": MetricText("means", "error of the means", "error of the means"),
    "weight_error": MetricText("weights", "error of the weights", "error of the weights"),
    "scale_error": MetricText("scales", "error of the scales", "error of the scales"),
    "weight_cross_entropy": MetricText(
        "cross-entropy", "cross-entropy of the weights", "cross-entropy of the weights", "linear"
    ),
    "accuracy": MetricText("accuracy", "clustering accuracy", "clustering accuracy", "linear", False),
    "log_likelihood": MetricText(
        "log-likelihood", "log-likelihood a point", "log-likelihood a point", "linear", False
    ),
    "log_likelihood_heldout": MetricText(
        "held out", "held-out log-likelihood a point", "held-out log-likelihood a point", "linear", False
    ),
    "log_likelihood_deficit": MetricText(
        "below oracle", "log-likelihood a point below the oracle's, in sample (nats)",
        "log-likelihood below the oracle's, in sample (nats a point)", "symlog",
        lines="in-sample log-lik.\nbelow the oracle's\n(nats a point)",
    ),
    "log_likelihood_heldout_deficit": MetricText(
        "held out, below oracle", "held-out log-likelihood a point below the oracle's (nats)",
        "held-out log-likelihood below the oracle's (nats a point)", "symlog",
        lines="held-out log-lik.\nbelow the oracle's\n(nats a point)",
    ),
    "log_likelihood_reference": MetricText(
        "log-likelihood, reference", "log-likelihood as the reference code computes it",
        "log-likelihood, reference evaluator", "linear", False,
    ),
    "dropped_reference": MetricText(
        "dropped, reference", "share of tasks that the reference evaluator drops",
        "share of tasks dropped by the reference", "linear",
    ),
    "seconds": MetricText("seconds", "seconds a task", "seconds a task"),
    "iterations": MetricText("iterations", "iterations a task", "iterations a task"),
}  # fmt: skip


def metric_text(metric: str) -> MetricText:
    """Return the metric's texts; refuse an unknown metric with the nearest valid one."""
    refuse_unknown("metric", metric, METRIC_TEXTS)
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
    "spaced": ShiftText("means kept apart", "smallest distance between the means, in standard deviations"),
    "separation": ShiftText("regular simplex", "distance between the means, in standard deviations"),
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
    refuse_unknown("axis", column, AXES)
    return shift_axis(rows["shift"].iloc[0]) if column == "shift_value" else AXES[column]


def shift_axis(kind: str) -> HorizontalAxis:
    """Return the axis of a kind of shift: mildest value first, or ascending where the shift has two sides."""
    text = shift_text(kind)
    return HorizontalAxis("shift_value", text.label, text.name, text.write, text.descending, text.unshifted)
