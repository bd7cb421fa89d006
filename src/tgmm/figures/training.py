"""Figures of training: validation error against tasks seen, and what the size of the network buys."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from seaborn import color_palette

from tgmm.errors import UserError
from tgmm.figures.data import fill, split_family, untrained_note
from tgmm.figures.layout import Legend, grid_layout, in_columns, legend_handle, plain_numbers
from tgmm.figures.style import FILLED, INK, ORACLE, method_style

HISTORY_COLUMNS = ("tasks", "validation_l2_error", "validation_l2_error_oracle")
SCALE_COLUMNS = (*HISTORY_COLUMNS, "parameters", "flops", "width", "blocks")


def validations(histories: dict[str, pd.DataFrame], family: str) -> pd.DataFrame:
    """Return the rows of a family's history at which it was validated."""
    if family not in histories:
        raise UserError(f"no training history was given for family '{family}' (--history {family}=history.csv)")
    rows = histories[family].dropna(subset=["validation_l2_error"])
    rows = rows[rows["tasks"] > 0]
    if rows.empty:
        raise UserError(f"the training history of family '{family}' holds no validation")
    return rows


def _draw_oracle(ax: Axes, error: float) -> None:
    look = method_style(ORACLE)
    ax.axhline(error, color=look.color, linestyle=look.line, zorder=2, gid="oracle")


def _write_counts() -> FuncFormatter:
    """Return a formatter that writes a large number with its unit: 20k, 1.5M."""

    def write(value: float, _) -> str:
        for size, unit in ((1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:g}{unit}"
        return f"{value:g}"

    return FuncFormatter(write)


# --- training-curves -----------------------------------------------------------------------------------------------


def draw_training_curves(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw validation ℓ2-error against tasks seen on logarithmic axes, a panel for each d, a line for each recipe."""
    panels: dict[int, dict[str, pd.DataFrame]] = {}
    for family in settings["families"]:
        parts = split_family(family)
        panels.setdefault(int(parts["d"]), {})[parts["recipe"]] = validations(tables, family)
    recipes = list(dict.fromkeys(recipe for curves in panels.values() for recipe in curves))
    columns = len(panels) if len(panels) <= 4 else 3
    lines = fill(_curves_footer(summary, settings))
    layout = grid_layout(len(panels), columns, 1.9, legend_rows=1, footer_rows=len(lines))
    for ax, (dimension, curves) in zip(layout.axes, sorted(panels.items()), strict=True):
        _draw_curves(ax, curves)
        ax.set_title(f"d = {dimension}")
    layout.label_axes("training tasks seen", r"validation $\ell_2$-error, mean over K")
    handles = [legend_handle(method_style(f"tgmm-{recipe}")) for recipe in recipes]
    handles.append(legend_handle(method_style(ORACLE)))
    layout.add_legend(Legend(handles, len(handles), 1))
    layout.add_footer(lines)
    return layout.figure


def _draw_curves(ax: Axes, curves: dict[str, pd.DataFrame]) -> None:
    _draw_oracle(ax, float(np.nanmean([rows["validation_l2_error_oracle"].iloc[-1] for rows in curves.values()])))
    for recipe, rows in curves.items():
        look = method_style(f"tgmm-{recipe}")
        every = max(1, len(rows) // 10)
        marker = {"marker": look.marker, "markersize": look.size, "markevery": (every - 1, every)}
        line = {"color": look.color, "linestyle": look.line, "zorder": 3}
        ax.plot(rows["tasks"], rows["validation_l2_error"], **line, **marker, **FILLED)
    ax.grid()
    ax.set(xscale="log", yscale="log")
    ax.yaxis.set_major_formatter(plain_numbers())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(_write_counts())
    ax.xaxis.set_minor_locator(NullLocator())


def _curves_footer(summary: pd.DataFrame, settings: dict) -> list[str]:
    count = settings.get("validation_tasks")
    seeds = ", ".join(str(seed) for seed in sorted(summary["seed"].unique()))
    tasks = f"{count} validation tasks · " if count else ""
    return [*untrained_note(settings), f"scale {settings['scale']} · {tasks}seed {seeds}"]


def caption_training_curves(settings: dict) -> str:
    """Return one sentence on what is shown."""
    return (
        "Validation ℓ2-error, averaged over K, against the number of training tasks seen, for each recipe and "
        "dimension; the dashed level is EM started from the truth on the same validation tasks."
    )


# --- backbone-scale ------------------------------------------------------------------------------------------------

PANEL_HEIGHT, MANY_DECADES = 2.3, 300.0
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))


def draw_backbone_scale(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the final validation error against the parameters, and the error against the computation so far.

    Colours tell the widths apart, markers and lines the numbers of blocks.
    """
    curves = {family: _sized_curve(tables, family) for family in settings["families"]}
    _refuse_different_tasks(curves)
    last = pd.DataFrame([rows.iloc[-1] for rows in curves.values()])
    looks = _SizeLooks(last)
    legend = looks.legend()
    lines = fill(_scale_footer(settings, last))
    layout = grid_layout(2, 2, PANEL_HEIGHT, legend_rows=legend.rows, footer_rows=len(lines), share_x=False)
    left, right = layout.axes
    for blocks, rows in last.sort_values("parameters").groupby("blocks", sort=True):
        left.plot(rows["parameters"], rows["validation_l2_error"], color=INK, **looks.line(blocks), zorder=2)
    for _, row in last.iterrows():
        left.plot(row["parameters"], row["validation_l2_error"], **looks.marker(row), zorder=3, gid="final")
    for rows in curves.values():
        row = rows.iloc[-1]
        right.plot(rows["flops"], rows["validation_l2_error"], color=looks.color(row), **looks.line(row["blocks"]))
        right.plot(row["flops"], row["validation_l2_error"], **looks.marker(row), zorder=3, gid="final")
    for ax, label in ((left, "number of parameters"), (right, "training compute (floating-point operations)")):
        _draw_oracle(ax, last["validation_l2_error_oracle"].mean())
        ax.set_xlabel(label)
    _scale_size_axes(left, right, last["parameters"])
    layout.figure.align_xlabels(layout.axes)
    layout.label_axes("", r"validation $\ell_2$-error, mean over K")
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def _sized_curve(histories: dict[str, pd.DataFrame], family: str) -> pd.DataFrame:
    rows = validations(histories, family)
    if not (np.isfinite(rows["flops"]) & (rows["flops"] > 0) & (rows["parameters"] > 0)).all():
        raise UserError(f"the training history of family '{family}' lacks 'parameters' or 'flops' at some validation")
    return rows


def _refuse_different_tasks(curves: dict[str, pd.DataFrame]) -> None:
    """Refuse families of different tasks, whose errors are not comparable, and a size that comes twice."""
    parts = {family: split_family(family) for family in curves}
    first = next(iter(parts))
    sizes: dict[tuple, str] = {}
    for family, part in parts.items():
        if any(part[key] != parts[first][key] for key in ("covariance", "d", "N")):
            raise UserError(f"families '{first}' and '{family}' are of different tasks; choose one covariance, d and N")
        row = curves[family].iloc[-1]
        size = (int(row["width"]), int(row["blocks"]))
        if size in sizes:
            raise UserError(f"families '{sizes[size]}' and '{family}' both have width {size[0]} and {size[1]} blocks")
        sizes[size] = family


class _SizeLooks:
    """A colour for each width, dark for wide, and a marker and a line for each number of blocks."""

    def __init__(self, last: pd.DataFrame):
        self.widths = sorted({int(width) for width in last["width"]})
        self.depths = sorted({int(blocks) for blocks in last["blocks"]})
        colors = color_palette("viridis_r", 256)
        places = np.linspace(0.3, 0.97, len(self.widths)) if len(self.widths) > 1 else [0.6]
        self.colors = [to_hex(colors[int(255 * place)]) for place in places]

    def color(self, row: pd.Series) -> str:
        return self.colors[self.widths.index(int(row["width"]))]

    def line(self, blocks: float) -> dict:
        number = self.depths.index(int(blocks))
        return {"linestyle": LINES[number % len(LINES)], "linewidth": 0.9}

    def marker(self, row: pd.Series) -> dict:
        number = self.depths.index(int(row["blocks"]))
        return {"marker": MARKERS[number % len(MARKERS)], "markersize": 5.0, "color": self.color(row), **FILLED}

    def legend(self) -> Legend:
        """Return a legend with the widths in the first row, the numbers of blocks and the floor in the second."""
        widths = [
            Line2D([], [], color=color, linewidth=2.4, label=f"width {width}")
            for width, color in zip(self.widths, self.colors, strict=True)
        ]
        depths = [
            Line2D([], [], color=INK, marker=MARKERS[number % len(MARKERS)], markersize=4.4, **FILLED,
                   label=f"{blocks} block{'s' * (blocks > 1)}", **self.line(blocks))
            for number, blocks in enumerate(self.depths)
        ]  # fmt: skip
        columns = max(len(widths), len(depths) + 1)
        blank = [Line2D([], [], linestyle="", label=" ")] * (columns - len(widths))
        more = [Line2D([], [], linestyle="", label=" ")] * (columns - len(depths) - 1)
        handles = [*widths, *blank, *depths, legend_handle(method_style(ORACLE)), *more]
        return Legend(in_columns(handles, columns), columns, 2)


def _scale_size_axes(left: Axes, right: Axes, parameters: pd.Series) -> None:
    for ax in (left, right):
        ax.set(xscale="log", yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(plain_numbers())
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid()
    many = parameters.max() / parameters.min() > MANY_DECADES
    left.xaxis.set_major_locator(LogLocator(subs=(1, 3) if many else (1, 2, 5)))
    left.xaxis.set_major_formatter(_write_counts())
    left.xaxis.set_minor_locator(NullLocator())
    right.xaxis.set_minor_formatter(NullFormatter())


def _scale_footer(settings: dict, last: pd.DataFrame) -> list[str]:
    part = split_family(settings["families"][0])
    tasks = ", ".join(f"{int(count):,}".replace(",", " ") for count in sorted(last["tasks"].unique()))
    notes = [f"scale {settings['scale']}", f"{part['covariance']}, d = {part['d']}, N up to {part['N']}"]
    notes.append(f"{tasks} training tasks")
    if settings.get("validation_tasks"):
        notes.append(f"{settings['validation_tasks']} validation tasks for each K")
    if "seed" in settings:
        notes.append(f"seed {settings['seed']}")
    return [*untrained_note(settings), " · ".join(notes)]


def caption_backbone_scale(settings: dict) -> str:
    """Return two sentences on what is shown."""
    return (
        "Validation ℓ2-error, averaged over K, of networks of several widths and numbers of blocks: at the end of "
        "training against the number of parameters, and along the training against its cumulative cost in "
        "floating-point operations. The dashed level is EM started from the truth on the same validation tasks."
    )
