"""Kind ``evaluator``: the same estimates scored by the corrected evaluator and by the reference evaluator.

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
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from tgmm.figures import style
from tgmm.figures.cells import (
    FAILED,
    GAP,
    OK,
    UNDEFINED,
    failure_reasons,
    is_oracle,
    mark_undefined,
    provenance,
    select_cells,
)
from tgmm.figures.footnotes import fill
from tgmm.figures.frame import Frame, legend_of, make_frame
from tgmm.figures.palette import INK, NEUTRAL, method_style
from tgmm.figures.vertical_axis import FEW_DECADES

LEFT, RIGHT, GAP_ACROSS, GAP_DOWN = 1.02, 0.6, 0.67, 0.6
ROW, ENDS = 0.155, 0.08
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


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """For every dimension a row of panels for the error and one for the log-likelihood, a column for each K."""
    tables = {name: _cells(summary, settings, name) for pair in PAIRS for name in (pair.corrected, pair.reference)}
    dropped = _cells(summary, settings, "dropped_reference")
    first = tables[PAIRS[0].corrected]
    methods = list(dict.fromkeys(first["method"]))
    dimensions, counts = sorted(first["d"].unique()), sorted(first["K"].unique())
    lines = _footer(first)
    frame = make_frame(
        2 * len(dimensions) * len(counts), len(counts), ROW * len(methods) + ENDS, legend_rows=1,
        footer_rows=len(lines), share_x="row", left=LEFT, right=RIGHT, gap_across=GAP_ACROSS, gap_down=GAP_DOWN,
    )  # fmt: skip
    rows = np.array(frame.panels, dtype=object).reshape(-1, len(counts))
    for number, (dimension, pair) in enumerate((d, pair) for d in dimensions for pair in PAIRS):
        for panel, count in zip(rows[number], counts, strict=True):
            cells = [
                table[(table["d"] == dimension) & (table["K"] == count)].set_index("method")
                for table in (tables[pair.corrected], tables[pair.reference], dropped)
            ]
            _draw_panel(panel, pair, methods, *cells)
            if pair.logarithmic:
                panel.set_title(f"K = {count}" if len(dimensions) == 1 else f"d = {dimension}, K = {count}")
        _scale_axis(rows[number], pair)
        _label_row(frame, rows[number], pair)
    legend = legend_of(_handles())
    frame.add_legend(legend.handles, legend.columns)
    frame.add_footer(lines)
    return frame.figure


def _cells(summary: pd.DataFrame, settings: dict, metric: str) -> pd.DataFrame:
    return mark_undefined(select_cells(summary, settings | {"metric": metric}))


def _draw_panel(
    panel: Axes, pair: Pair, methods: list[str], right: pd.DataFrame, wrong: pd.DataFrame, dropped: pd.DataFrame
) -> None:
    """A row for each method: filled marker, open marker, what joins them, and the texts on the right."""
    ranks = _ranks(right, wrong)
    for place, method in enumerate(methods):
        true, mimicked = right.loc[method], wrong.loc[method]
        if true["status"] != OK:
            panel.text(0.04, place, WHY[true["status"]], transform=panel.get_yaxis_transform(), **_small())
            continue
        _draw_pair(panel, place, method, true, mimicked)
        if not pair.logarithmic:
            _write(panel, place, SHARE_AT, _percent(dropped.loc[method, "mean"]))
        elif mimicked["status"] == OK:
            _write(panel, place, FACTOR_AT, _factor(mimicked["mean"] / true["mean"]))
            before, after = ranks.get(method, (0, 0))
            if before:
                changed = before != after
                _write(panel, place, RANK_AT, f"{before}→{after}" if changed else f"{before}", bold=changed)
    panel.set_yticks(range(len(methods)), [method_style(method).short for method in methods])
    panel.set_ylim(len(methods) - 0.5 + ENDS / ROW / 2, -0.5 - ENDS / ROW / 2)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")
    for name, at in (("×", FACTOR_AT), ("rank", RANK_AT)) if pair.logarithmic else (("dropped", RANK_AT),):
        _write(panel, -0.75 - ENDS / ROW / 2, at, name)


def _draw_pair(panel: Axes, place: int, method: str, true: pd.Series, mimicked: pd.Series) -> None:
    look = method_style(method)
    marker = {"marker": look.marker or "o", "markersize": look.size, "color": look.color, "linestyle": ""}
    filled = {"markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 4}
    panel.plot([true["mean"]], [place], gid=f"corrected {method}", **marker, **filled)
    panel.hlines(place, true["low"], true["high"], color=look.color, linewidth=2.6, alpha=0.35, zorder=3)
    if mimicked["status"] != OK:
        return
    ends = [true["mean"], mimicked["mean"]]
    panel.plot(ends, [place, place], color=look.color, linewidth=0.8, zorder=2)
    panel.hlines(place, mimicked["low"], mimicked["high"], color=look.color, linewidth=2.6, alpha=0.35, zorder=3)
    hollow = {"markerfacecolor": "white", "markeredgewidth": 0.9, "zorder": 3.5}
    panel.plot(ends[1:], [place], gid=f"reference {method}", **marker, **hollow)


def _ranks(right: pd.DataFrame, wrong: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Method -> its rank by the corrected and by the reference evaluator, among those that both have a value for."""
    both = [name for name in right.index if right.at[name, "status"] == wrong.at[name, "status"] == OK]
    both = [name for name in both if not is_oracle(name)]
    before, after = (table.loc[both, "mean"].rank(method="first").astype(int) for table in (right, wrong))
    return {name: (before[name], after[name]) for name in both}


def _factor(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"


def _percent(share: float) -> str:
    """A share in whole per cent, but never rounded to none or to all."""
    if not 0 < share < 1:
        return f"{100 * share:.0f} %"
    return "<1 %" if share < 0.01 else ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _small(bold: bool = False) -> dict:
    look = {"fontsize": style.SMALL, "va": "center", "color": INK if bold else NEUTRAL}
    return look | ({"fontweight": "bold"} if bold else {})


def _write(panel: Axes, place: float, at: float, text: str, bold: bool = False) -> None:
    """A text right of the panel that ends so many inches from its edge."""
    width = panel.get_position().width * panel.figure.get_size_inches()[0]
    panel.text(1 + at / width, place, text, transform=panel.get_yaxis_transform(), ha="right", **_small(bold))


def _scale_axis(panels: np.ndarray, pair: Pair) -> None:
    panel = panels[0]
    if pair.logarithmic:
        values = [x for one in panels for line in one.lines for x in np.asarray(line.get_xdata(), float)]
        values = [value for value in values if value > 0]
        if values:
            panel.set_xscale("log")
            few = max(values) / min(values) < FEW_DECADES
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 3) if few else (1,), numticks=4))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.xaxis.set_major_locator(MaxNLocator(3))
        panel.xaxis.set_minor_locator(NullLocator())
    panel.margins(x=0.08)
    if not any(len(one.lines) for one in panels):
        panel.set_xticks([])


def _label_row(frame: Frame, panels: np.ndarray, pair: Pair) -> None:
    """The axis label, centred below a row of panels."""
    height = frame.figure.get_size_inches()[1]
    boxes = [panel.get_position() for panel in panels]
    middle = (boxes[0].x0 + boxes[-1].x1) / 2
    frame.figure.text(middle, boxes[0].y0 - 0.3 / height, pair.label, ha="center", va="center")


def _handles() -> list[Line2D]:
    marker = {"linestyle": "", "marker": "o", "markersize": 4.0, "color": INK}
    return [
        Line2D([], [], label="corrected evaluator", markeredgecolor="white", markeredgewidth=0.4, **marker),
        Line2D([], [], label="reference evaluator", markerfacecolor="white", markeredgewidth=0.9, **marker),
        Line2D([], [], label="95 % bootstrap interval", color=INK, linewidth=2.6, alpha=0.35),
    ]


def _footer(cells: pd.DataFrame) -> list[str]:
    notes = []
    if (cells["status"] == FAILED).any():
        notes.append(f"fails: on every task ({failure_reasons(cells)})")
    notes.append("×: reference over corrected error; rank by the corrected → by the reference error, floor aside")
    notes.append("dropped: tasks that the reference evaluator leaves out; its means are over the others")
    single = [f"d = {cells['d'].iloc[0]}"] if cells["d"].nunique() == 1 else []
    return fill([*notes, *single, provenance(cells)])


def caption(settings: dict) -> str:
    """Two sentences on what is shown."""
    return (
        "The same estimates scored twice: by the corrected evaluator (filled) and by the reference evaluator (open), "
        "which applies the inverse of the best permutation, sums the likelihood over points where components are meant "
        "and drops tasks below −100 without a word. Above, the ℓ2-error, with the factor between the two and the "
        "method's rank by each; below, the log-likelihood, with the share of dropped tasks."
    )
