"""The same estimates scored by the corrected evaluator and by the reference evaluator.

The reference evaluator mimics what the authors' code does: it reorders the components by the inverse of the best
permutation, sums the likelihood over points where components are meant, and leaves out tasks without a word where that
"likelihood" is below -100 or not a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from tgmm.columns import reads
from tgmm.figures import style
from tgmm.figures.data import (
    FAILED,
    GAP,
    OK,
    UNDEFINED,
    failure_reasons,
    fill,
    mark_undefined,
    provenance,
    select_summary,
)
from tgmm.figures.layout import Layout, grid_layout, legend_of, plain_numbers
from tgmm.figures.style import FILLED, INK, NEUTRAL, is_floor, method_style

LEFT, RIGHT, GAP_ACROSS, GAP_DOWN = 1.02, 0.6, 0.67, 0.6
ROW, ENDS = 0.155, 0.08
FEW_DECADES = 30.0  # below this ratio of the limits there are labels between powers of ten
FACTOR_AT, RANK_AT, SHARE_AT = 0.26, 0.56, 0.45  # inches right of a panel where the texts end
WHY = {FAILED: "fails", GAP: "not run", UNDEFINED: "no finite mean"}


@dataclass(frozen=True)
class Pair:
    """A metric and its counterpart of the reference evaluator; whether the axis is logarithmic; the axis label."""

    corrected: str
    reference: str
    logarithmic: bool
    label: str


PAIRS = (
    Pair("l2_error", "l2_error_reference", True, r"$\ell_2$-error"),
    Pair("log_likelihood", "log_likelihood_reference", False, "log-likelihood a point"),
)


@reads()
def draw_evaluator(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw for every d a row of panels for the error and one for the log-likelihood, a column for each K."""
    names = [name for pair in PAIRS for name in (pair.corrected, pair.reference)] + ["dropped_reference"]
    selections = {name: mark_undefined(select_summary(summary, settings | {"metric": name})) for name in names}
    first = selections[PAIRS[0].corrected]
    methods = list(dict.fromkeys(first["method"]))
    dimensions, counts = sorted(first["d"].unique()), sorted(first["K"].unique())
    lines = _footer(first)
    layout = grid_layout(
        2 * len(dimensions) * len(counts), len(counts), ROW * len(methods) + ENDS, legend_rows=1,
        footer_rows=len(lines), share_x="row", left=LEFT, right=RIGHT, gap_across=GAP_ACROSS, gap_down=GAP_DOWN,
    )  # fmt: skip
    rows = np.array(layout.axes, dtype=object).reshape(-1, len(counts))
    for number, (dimension, pair) in enumerate((d, pair) for d in dimensions for pair in PAIRS):
        for ax, count in zip(rows[number], counts, strict=True):
            shown = [
                selection[(selection["d"] == dimension) & (selection["K"] == count)].set_index("method")
                for selection in (selections[name] for name in (pair.corrected, pair.reference, "dropped_reference"))
            ]
            _draw_panel(ax, pair, methods, *shown)
            if pair.logarithmic:
                ax.set_title(f"K = {count}" if len(dimensions) == 1 else f"d = {dimension}, K = {count}")
        _scale_axis(rows[number], pair)
        _label_row(layout, rows[number], pair)
    layout.add_legend(legend_of(_handles()))
    layout.add_footer(lines)
    return layout.figure


def _draw_panel(
    ax: Axes, pair: Pair, methods: list[str], right: pd.DataFrame, wrong: pd.DataFrame, dropped: pd.DataFrame
) -> None:
    """Draw a row for each method: filled and open marker, the line that joins them, and the texts on the right."""
    ranks = _ranks(right, wrong)
    for place, method in enumerate(methods):
        true, mimicked = right.loc[method], wrong.loc[method]
        if true["status"] != OK:
            ax.text(0.04, place, WHY[true["status"]], transform=ax.get_yaxis_transform(), **_small())
            continue
        _draw_pair(ax, place, method, true, mimicked)
        if not pair.logarithmic:
            _write(ax, place, SHARE_AT, _percent(dropped.loc[method, "mean"]))
        elif mimicked["status"] == OK:
            _write(ax, place, FACTOR_AT, _factor(mimicked["mean"] / true["mean"]))
            before, after = ranks.get(method, (0, 0))
            if before:
                changed = before != after
                _write(ax, place, RANK_AT, f"{before}→{after}" if changed else f"{before}", bold=changed)
    ax.set_yticks(range(len(methods)), [method_style(method).short for method in methods])
    ax.set_ylim(len(methods) - 0.5 + ENDS / ROW / 2, -0.5 - ENDS / ROW / 2)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    for name, at in (("×", FACTOR_AT), ("rank", RANK_AT)) if pair.logarithmic else (("dropped", RANK_AT),):
        _write(ax, -0.75 - ENDS / ROW / 2, at, name)


def _draw_pair(ax: Axes, place: int, method: str, true: pd.Series, mimicked: pd.Series) -> None:
    look = method_style(method)
    marker = {"marker": look.marker or "o", "markersize": look.size, "color": look.color, "linestyle": ""}
    ax.plot([true["mean"]], [place], gid=f"corrected {method}", zorder=4, **marker, **FILLED)
    ax.hlines(place, true["low"], true["high"], color=look.color, linewidth=2.6, alpha=0.35, zorder=3)
    if mimicked["status"] != OK:
        return
    ends = [true["mean"], mimicked["mean"]]
    ax.plot(ends, [place, place], color=look.color, linewidth=0.8, zorder=2)
    ax.hlines(place, mimicked["low"], mimicked["high"], color=look.color, linewidth=2.6, alpha=0.35, zorder=3)
    hollow = {"markerfacecolor": "white", "markeredgewidth": 0.9, "zorder": 3.5}
    ax.plot(ends[1:], [place], gid=f"reference {method}", **marker, **hollow)


def _ranks(right: pd.DataFrame, wrong: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return each method's rank by the corrected and by the reference error, among those that have both."""
    both = [name for name in right.index if right.at[name, "status"] == wrong.at[name, "status"] == OK]
    both = [name for name in both if not is_floor(name)]
    before, after = (table.loc[both, "mean"].rank(method="first").astype(int) for table in (right, wrong))
    return {name: (before[name], after[name]) for name in both}


def _factor(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"


def _percent(share: float) -> str:
    """Write a share in whole per cent, but never rounded to none or to all."""
    if not 0 < share < 1:
        return f"{100 * share:.0f} %"
    return "<1 %" if share < 0.01 else ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _small(bold: bool = False) -> dict:
    look = {"fontsize": style.SMALL, "va": "center", "color": INK if bold else NEUTRAL}
    return look | ({"fontweight": "bold"} if bold else {})


def _write(ax: Axes, place: float, at: float, text: str, bold: bool = False) -> None:
    """Write a text right of the panel that ends so many inches from its edge."""
    width = ax.get_position().width * ax.figure.get_size_inches()[0]
    ax.text(1 + at / width, place, text, transform=ax.get_yaxis_transform(), ha="right", **_small(bold))


def _scale_axis(axes: np.ndarray, pair: Pair) -> None:
    ax = axes[0]
    if pair.logarithmic:
        values = [x for one in axes for line in one.lines for x in np.asarray(line.get_xdata(), float)]
        values = [value for value in values if value > 0]
        if values:
            ax.set_xscale("log")
            few = max(values) / min(values) < FEW_DECADES
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3) if few else (1,), numticks=4))
        ax.xaxis.set_major_formatter(plain_numbers())
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)
    if not any(len(one.lines) for one in axes):
        ax.set_xticks([])


def _label_row(layout: Layout, axes: np.ndarray, pair: Pair) -> None:
    """Write the axis label, centred below a row of panels."""
    boxes = [ax.get_position() for ax in axes]
    middle = (boxes[0].x0 + boxes[-1].x1) / 2
    layout.figure.text(middle, boxes[0].y0 - 0.3 / layout.height, pair.label, ha="center", va="center")


def _handles() -> list[Line2D]:
    marker = {"linestyle": "", "marker": "o", "markersize": 4.0, "color": INK}
    return [
        Line2D([], [], label="corrected evaluator", **marker, **FILLED),
        Line2D([], [], label="reference evaluator", markerfacecolor="white", markeredgewidth=0.9, **marker),
        Line2D([], [], label="95 % bootstrap interval", color=INK, linewidth=2.6, alpha=0.35),
    ]


def _footer(selection: pd.DataFrame) -> list[str]:
    notes = []
    if (selection["status"] == FAILED).any():
        notes.append(f"fails: on every task ({failure_reasons(selection)})")
    notes.append("×: reference over corrected error; rank by the corrected → by the reference error, floor aside")
    notes.append("dropped: tasks that the reference evaluator leaves out; its means are over the others")
    single = [f"d = {selection['d'].iloc[0]}"] if selection["d"].nunique() == 1 else []
    return fill([*notes, *single, provenance(selection)])


def caption_evaluator(settings: dict) -> str:
    """Return two sentences on what is shown."""
    return (
        "The same estimates scored twice: by the corrected evaluator (filled) and by the reference evaluator (open), "
        "which applies the inverse of the best permutation, sums the likelihood over points where components are meant "
        "and drops tasks below −100 without a word. Above, the ℓ2-error, with the factor between the two and the "
        "method's rank by each; below, the log-likelihood, with the share of dropped tasks."
    )
