"""Kind ``recipe-study``: what one change of a recipe at a time does to the error, at equal processor time.

Reads the table that ``tgmm recipe-study merge`` writes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from tgmm.recipe_study import comparison
from tgmm.recipe_study.comparison import COLUMNS, PLAIN, RESTARTS, compare, final_rows
from tgmm.study.recipe_study import BASELINE

from tgmm.figures import style
from tgmm.figures.footnotes import fill
from tgmm.figures.frame import AXIS_ROOM, FOOTER_ROW, LEGEND_ROW, RIGHT, TOP, Frame, legend_handle, legend_of
from tgmm.figures.palette import INK, NEUTRAL, ORACLE, VERMILION, MethodStyle, method_style

__all__ = ["COLUMNS", "caption", "draw"]

LEFT, GAP_ACROSS, GAP_DOWN, CURVES_HEIGHT, ROW_HEIGHT = 1.52, 0.16, 0.56, 1.7, 0.148
GREY = "#c4c4c4"
MOST_RATIO = 4.0  # beyond it a mark stands at the edge, with its value
TICKS, MORE_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0), (0.6, 0.8, 1.2)
NARROW = 2.6  # below this ratio of the limits there is room for more ticks
APART = 0.19  # of a row, between the plain error and the one after EM steps
LOOKS = {"ratio": method_style("tgmm-components"), "ratio_em20": method_style("tgmm-components-em20")}
LABELS = {"ratio": "network alone", "ratio_em20": "after 20 EM steps"}


def draw(study: pd.DataFrame, settings: dict, histories: dict | None = None) -> Figure:
    """A column for each d. Above: error over processor seconds. Below: the final error's ratio to the baseline's."""
    compared = compare(study, settings.get("changes"))
    dimensions = sorted(int(d) for d in compared["d"].unique())
    order = [change for change in compared["change"].drop_duplicates() if change != BASELINE]
    handles = _handles()
    legend = legend_of(handles, most=3)
    lines = fill(_footer(study, settings))
    frame = _frame(len(dimensions), len(order), legend.rows, len(lines))
    final = final_rows(study)
    limits = _ratio_limits(final)
    for number, d in enumerate(dimensions):
        rows = compared[compared["d"] == d].set_index("change")
        _draw_curves(frame.panels[number], study[study["d"] == d], rows)
        frame.panels[number].set_title(f"d = {d}")
        below = frame.panels[len(dimensions) + number]
        _draw_ratios(below, final[final["d"] == d], rows, order, limits)
        below.set_yticks(
            range(len(order)), [rows["label"].get(change, change) for change in order] if number == 0 else []
        )
    first = study[study["change"] == BASELINE].groupby(["d", "seed"])[PLAIN].first().max()
    _share_limits(frame.panels[: len(dimensions)], MOST_RATIO * first)
    _label(frame, len(dimensions))
    frame.add_legend(legend.handles, legend.columns)
    frame.add_footer(lines)
    return frame.figure


def _frame(columns: int, rows: int, legend_rows: int, footer_rows: int) -> Frame:
    """Two rows of panels; the lower ones as high as their changes need."""
    low = max(2, rows + 1) * ROW_HEIGHT
    below = AXIS_ROOM + legend_rows * LEGEND_ROW + footer_rows * FOOTER_ROW + 0.1
    height = TOP + CURVES_HEIGHT + GAP_DOWN + low + below
    width = (style.WIDTH - LEFT - RIGHT - (columns - 1) * GAP_ACROSS) / columns
    figure = Figure(figsize=(style.WIDTH, height))
    panels = []
    for bottom, size in ((below + low + GAP_DOWN, CURVES_HEIGHT), (below, low)):
        for column in range(columns):
            left = LEFT + column * (width + GAP_ACROSS)
            box = (left / style.WIDTH, bottom / height, width / style.WIDTH, size / height)
            panels.append(figure.add_axes(box))
    return Frame(figure, panels, below, LEFT)


def _draw_curves(panel: Axes, study: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Means over seeds, a line for each change; the baseline and the best change stand out and are named."""
    looks = {name: {"color": GREY, "linewidth": 0.7, "zorder": 2} for name in rows.index}
    best = [name for name in rows.index[rows["best"]] if name != BASELINE]
    for name in best:
        looks[name] = {"color": VERMILION, "linewidth": 1.6, "zorder": 5, "label": f"best: {rows['label'][name]}"}
    if BASELINE in looks:
        looks[BASELINE] = {"color": INK, "linewidth": 1.6, "zorder": 4, "label": "baseline"}
        if rows["best"][BASELINE]:
            looks[BASELINE]["label"] = "baseline, the best"
    for name, look in looks.items():
        curve = study[(study["change"] == name) & study[PLAIN].notna()].groupby("tasks")
        panel.plot(curve["processor_seconds"].mean(), curve[PLAIN].mean(), gid=name, **look)
    for column, method in ((comparison.ORACLE, ORACLE), (RESTARTS, "em-restarts")):
        look = method_style(method)
        panel.axhline(study[column].mean(), color=look.color, linestyle=look.line, zorder=3, gid=method)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlim(left=0)
    panel.grid()
    handles, labels = panel.get_legend_handles_labels()
    order = np.argsort([not label.startswith("baseline") for label in labels], kind="stable")
    panel.legend([handles[i] for i in order], [labels[i] for i in order], loc="lower right", bbox_to_anchor=(1, 1),
                 ncols=2, handlelength=1.2, columnspacing=1.0, borderpad=0.1, borderaxespad=0.2)  # fmt: skip


def _share_limits(panels: list[Axes], most: float) -> None:
    """The same vertical limits for all, labelled at the left alone; a curve far above the others may leave them."""
    limits = np.array([panel.get_ylim() for panel in panels])
    for panel in panels:
        panel.set_ylim(limits[:, 0].min(), np.nanmin([limits[:, 1].max(), most]))
        panel.tick_params(labelleft=panel is panels[0])


def _ratio_limits(final: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold the ratios of all dimensions, as far as they are not beyond the axis."""
    values = final[["ratio", "ratio_em20"]].to_numpy(float)
    values = np.append(values[np.isfinite(values)], 1.0)
    return values.min() / 1.08, min(values.max(), MOST_RATIO) * 1.08


def _draw_ratios(
    panel: Axes, final: pd.DataFrame, rows: pd.DataFrame, order: list[str], limits: tuple[float, float]
) -> None:
    """Small dots for the seeds, a large one for their geometric mean; the change of lowest error on top."""
    panel.set_xscale("log")
    panel.axvline(1.0, color=INK, linewidth=0.8, zorder=1)
    low, high = limits
    shown = final[final["change"].isin(order)]
    for place, change in enumerate(order):
        for column, side in (("ratio", -APART), ("ratio_em20", APART)):
            look, seeds = LOOKS[column], shown.loc[shown["change"] == change, column].to_numpy(float)
            seeds = seeds[np.isfinite(seeds)]
            inside = seeds[seeds <= MOST_RATIO]
            panel.plot(inside, np.full(len(inside), place + side), linestyle="", marker="o", markersize=2.0,
                       color=look.color, alpha=0.55, markeredgewidth=0, zorder=2, gid="seed")  # fmt: skip
            if change in rows.index and np.isfinite(rows.loc[change, column]):
                _draw_mean(panel, rows.loc[change, column], place + side, look, high)
        if change in rows.index and rows.loc[change, "n_diverged"]:
            text = f"{rows.loc[change, 'n_diverged']} of {rows.loc[change, 'n_seeds']} diverged"
            panel.text(high, place, text, ha="right", va="center", fontsize=style.SMALL, color=NEUTRAL)
    panel.set_xlim(low, high)
    panel.set_ylim(len(order) - 0.4, -0.6)
    ticks = sorted((*TICKS, *(MORE_TICKS if high / low < NARROW else ())))
    panel.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.tick_params(axis="y", length=0)
    panel.grid()


def _draw_mean(panel: Axes, value: float, place: float, look: MethodStyle, high: float) -> None:
    """The mean, or where it lies beyond the axis an arrow at the edge with its value."""
    beyond = value > MOST_RATIO
    marker = ">" if beyond else look.marker
    panel.plot(high if beyond else value, place, marker=marker, **_large(look), zorder=4, clip_on=False, gid="mean")
    if beyond:
        away = -5 if look is LOOKS["ratio"] else -26  # side by side, as the rows are close to each other
        panel.annotate(f"{value:.2g}", (high, round(place)), xytext=(away, 0), textcoords="offset points", ha="right",
                       va="center", fontsize=style.SMALL, color=look.color)  # fmt: skip


def _large(look: MethodStyle) -> dict:
    """Colour, edge and size of a mean's mark."""
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    return {"color": look.color, "markersize": look.size + 0.8, **edge}


def _label(frame: Frame, columns: int) -> None:
    """Labels of the axes; those of the upper row stand between the rows."""
    height = frame.figure.get_size_inches()[1]
    middle = (LEFT + style.WIDTH - RIGHT) / 2 / style.WIDTH
    upper = frame.panels[0].get_position()
    frame.figure.text(middle, upper.y0 - 0.3 / height, "processor seconds of training", ha="center", va="center")
    frame.figure.text(middle, (frame.below - 0.3) / height, "final error as a multiple of the baseline's, same seed",
                      ha="center", va="center")  # fmt: skip
    error = "validation $\\ell_2$-error,\nmean over K"
    frame.figure.text((LEFT - 0.42) / style.WIDTH, (upper.y0 + upper.y1) / 2, error, ha="center", va="center",
                      rotation=90, ma="center")  # fmt: skip


def _handles() -> list[Line2D]:
    dots = [
        Line2D([], [], linestyle="", marker=LOOKS[name].marker, label=label, **_large(LOOKS[name]))
        for name, label in LABELS.items()
    ]
    others = Line2D([], [], color=GREY, linewidth=1.2, label="other changes")
    return [others, legend_handle(method_style("em-restarts")), legend_handle(method_style(ORACLE)), *dots]


def _footer(study: pd.DataFrame, settings: dict) -> list[str]:
    base = study[study["change"] == BASELINE]
    last = study.groupby(["d", "change", "seed"]).tail(1)
    seeds = ", ".join(str(seed) for seed in sorted(study["seed"].unique()))
    times = last["processor_seconds"].dropna()
    notes = [f"scale {settings['scale']}"]
    if {"recipe", "covariance", "N"} <= settings.keys():
        notes.append(f"recipe {settings['recipe']}, {settings['covariance']}, N up to {settings['N']}")
    notes.append(f"baseline: {int(base['tasks'].max()):,} training tasks".replace(",", " "))
    if settings.get("validation_tasks"):
        notes.append(f"{settings['validation_tasks']} validation tasks for each K")
    notes.append(f"seed{'s' * (study['seed'].nunique() > 1)} {seeds}")
    notes.append(f"{times.min():.3g} to {times.max():.3g} processor seconds")
    return [*notes, "small dots: seeds; large: geometric mean", "best: lowest error of the network alone"]


def caption(settings: dict) -> str:
    """What is computed, whatever comes out."""
    return (
        "One change of the recipe at a time, at equal processor time. Above: validation ℓ2-error, averaged over K and "
        "seeds, against the processor time of training. Below: the error at the end as a multiple of the baseline's "
        "with the same seed, of the network alone and after 20 EM steps; a small dot for each seed, a large one for "
        "the geometric mean. Changes are in the order of that mean over all d."
    )
