"""Figure of the ablation: what one change of a recipe at a time does to the error, at equal processor time.

Reads the table that ``tgmm ablation merge`` writes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from tgmm import ablation as comparison
from tgmm.ablation import PLAIN, RESTARTS, compare, final_rows
from tgmm.columns import reads
from tgmm.config import BASELINE
from tgmm.figures import style
from tgmm.figures.data import fill
from tgmm.figures.layout import Layout, legend_handle, legend_of, plain_numbers, stacked_layout
from tgmm.figures.style import FILLED, INK, NEUTRAL, ORACLE, PALE, VERMILION, MethodStyle, method_style

LEFT, GAP_ACROSS, GAP_DOWN, CURVES_HEIGHT, ROW_HEIGHT = 1.52, 0.16, 0.56, 1.7, 0.148
MOST_RATIO = 4.0  # beyond it a mark stands at the edge, with its value
TICKS, MORE_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0), (0.6, 0.8, 1.2)
NARROW = 2.6  # below this ratio of the limits there is room for more ticks
APART = 0.19  # of a row, between the plain error and the one after EM steps
LOOKS = {"ratio": method_style("tgmm-components"), "ratio_em20": method_style("tgmm-components-em20")}
LABELS = {"ratio": "network alone", "ratio_em20": "after 20 EM steps"}


@reads(summary=comparison.COLUMNS)
def draw_ablation(study: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw a column for each d: above, error over processor seconds; below, final errors over the baseline's."""
    compared = compare(study, settings.get("changes"))
    dimensions = sorted(int(d) for d in compared["d"].unique())
    order = [change for change in compared["change"].drop_duplicates() if change != BASELINE]
    legend = legend_of(_handles(), most=3)
    lines = fill(_footer(study, settings))
    heights = [CURVES_HEIGHT, max(2, len(order) + 1) * ROW_HEIGHT]
    layout = stacked_layout(heights, [GAP_DOWN], len(dimensions), legend_rows=legend.rows, footer_rows=len(lines),
                            left=LEFT, gap_across=GAP_ACROSS)  # fmt: skip
    upper, lower = layout.axes[: len(dimensions)], layout.axes[len(dimensions) :]
    final = final_rows(study)
    limits = _ratio_limits(final)
    for number, d in enumerate(dimensions):
        rows = compared[compared["d"] == d].set_index("change")
        _draw_curves(upper[number], study[study["d"] == d], rows)
        upper[number].set_title(f"d = {d}")
        _draw_ratios(lower[number], final[final["d"] == d], rows, order, limits)
        labels = [rows["label"].get(change, change) for change in order] if number == 0 else []
        lower[number].set_yticks(range(len(order)), labels)
    first = study[study["change"] == BASELINE].groupby(["d", "seed"])[PLAIN].first().max()
    _share_limits(upper, MOST_RATIO * first)
    _label(layout, upper[0])
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def _draw_curves(ax: Axes, study: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Draw means over seeds, a line for each change; the baseline and the best change stand out and are named."""
    looks = {name: {"color": PALE, "linewidth": 0.7, "zorder": 2} for name in rows.index}
    best = [name for name in rows.index[rows["best"]] if name != BASELINE]
    for name in best:
        looks[name] = {"color": VERMILION, "linewidth": 1.6, "zorder": 5, "label": f"best: {rows['label'][name]}"}
    if BASELINE in looks:
        looks[BASELINE] = {"color": INK, "linewidth": 1.6, "zorder": 4, "label": "baseline"}
        if rows["best"][BASELINE]:
            looks[BASELINE]["label"] = "baseline, the best"
    for name, look in looks.items():
        curve = study[(study["change"] == name) & study[PLAIN].notna()].groupby("tasks")
        ax.plot(curve["processor_seconds"].mean(), curve[PLAIN].mean(), gid=name, **look)
    for column, method in ((comparison.ORACLE, ORACLE), (RESTARTS, "em-restarts")):
        look = method_style(method)
        ax.axhline(study[column].mean(), color=look.color, linestyle=look.line, zorder=3, gid=method)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(plain_numbers())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(left=0)
    ax.grid()
    handles, labels = ax.get_legend_handles_labels()
    order = np.argsort([not label.startswith("baseline") for label in labels], kind="stable")
    inside = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2, "handlelength": 1.2, "columnspacing": 1.0}
    ax.legend([handles[i] for i in order], [labels[i] for i in order], borderpad=0.1, borderaxespad=0.2, **inside)


def _share_limits(axes: list[Axes], most: float) -> None:
    """Set the same vertical limits for all, labelled at the left alone; a curve far above the others may leave them."""
    limits = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(limits[:, 0].min(), np.nanmin([limits[:, 1].max(), most]))
        ax.tick_params(labelleft=ax is axes[0])


def _ratio_limits(final: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold the ratios of all dimensions, as far as they are not beyond the axis."""
    values = final[["ratio", "ratio_em20"]].to_numpy(float)
    values = np.append(values[np.isfinite(values)], 1.0)
    return values.min() / 1.08, min(values.max(), MOST_RATIO) * 1.08


def _draw_ratios(
    ax: Axes, final: pd.DataFrame, rows: pd.DataFrame, order: list[str], limits: tuple[float, float]
) -> None:
    """Draw small dots for the seeds, a large one for their geometric mean; the change of lowest error on top."""
    ax.set_xscale("log")
    ax.axvline(1.0, color=INK, linewidth=0.8, zorder=1)
    low, high = limits
    shown = final[final["change"].isin(order)]
    for column, side in (("ratio", -APART), ("ratio_em20", APART)):
        seeds = shown[shown[column] <= MOST_RATIO]
        places = [order.index(change) + side for change in seeds["change"]]
        dots = {"linestyle": "", "marker": "o", "markersize": 2.0, "alpha": 0.55, "markeredgewidth": 0, "zorder": 2}
        ax.plot(seeds[column], places, color=LOOKS[column].color, gid=f"seeds {column}", **dots)
        means = rows[column].reindex(order)
        _draw_means(ax, column, means, np.arange(len(order)) + side, high)
    for place, change in enumerate(order):
        if change in rows.index and rows.loc[change, "n_diverged"]:
            text = f"{rows.loc[change, 'n_diverged']} of {rows.loc[change, 'n_seeds']} diverged"
            ax.text(high, place, text, ha="right", va="center", fontsize=style.SMALL, color=NEUTRAL)
    ax.set_xlim(low, high)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ticks = sorted((*TICKS, *(MORE_TICKS if high / low < NARROW else ())))
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(plain_numbers())
    ax.tick_params(axis="y", length=0)
    ax.grid()


def _draw_means(ax: Axes, column: str, means: pd.Series, places: np.ndarray, high: float) -> None:
    """Draw the means, or where one lies beyond the axis an arrow at the edge with its value."""
    look = LOOKS[column]
    inside, beyond = (means <= MOST_RATIO).to_numpy(), (means > MOST_RATIO).to_numpy()
    marks = {"linestyle": "", "zorder": 4, "clip_on": False, **_large(look)}
    ax.plot(means[inside], places[inside], marker=look.marker, gid=f"means {column}", **marks)
    ax.plot(np.full(beyond.sum(), high), places[beyond], marker=">", gid=f"beyond {column}", **marks)
    away = -5 if column == "ratio" else -26  # side by side, as the rows are close to each other
    text = {"textcoords": "offset points", "ha": "right", "va": "center", "fontsize": style.SMALL}
    for value, place in zip(means[beyond], places[beyond], strict=True):
        ax.annotate(f"{value:.2g}", (high, round(place)), xytext=(away, 0), color=look.color, **text)


def _large(look: MethodStyle) -> dict:
    """Return colour, edge and size of a mean's mark."""
    return {"color": look.color, "markersize": look.size + 0.8, **FILLED}


def _label(layout: Layout, first: Axes) -> None:
    """Label the axes; the labels of the upper row stand between the rows."""
    box = first.get_position()
    layout.label_below("processor seconds of training", box.y0 * layout.height)
    layout.label_below("final error as a multiple of the baseline's, same seed", layout.below)
    error = "validation $\\ell_2$-error,\nmean over K"
    layout.figure.text((LEFT - 0.42) / style.WIDTH, (box.y0 + box.y1) / 2, error, ha="center", va="center",
                       rotation=90, ma="center")  # fmt: skip


def _handles() -> list[Line2D]:
    dots = [
        Line2D([], [], linestyle="", marker=LOOKS[name].marker, label=label, **_large(LOOKS[name]))
        for name, label in LABELS.items()
    ]
    others = Line2D([], [], color=PALE, linewidth=1.2, label="other changes")
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


def caption_ablation(settings: dict) -> str:
    """Return what is computed, whatever comes out."""
    return (
        "One change of the recipe at a time, at equal processor time. Above: validation ℓ2-error, averaged over K and "
        "seeds, against the processor time of training. Below: the error at the end as a multiple of the baseline's "
        "with the same seed, of the network alone and after 20 EM steps; a small dot for each seed, a large one for "
        "the geometric mean. Changes are in the order of that mean over all d."
    )
