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

from tgmm.columns import reads
from tgmm.errors import UserError
from tgmm.figures.data import fill, untrained_note
from tgmm.figures.layout import Legend, grid_layout, in_columns, label_log_axis, legend_handle, legend_of
from tgmm.figures.style import FILLED, INK, OPEN, ORACLE, MethodStyle, method_style
from tgmm.train.status import HISTORY_COLUMNS, still_learning, validations

SCALE_COLUMNS = (*HISTORY_COLUMNS, "parameters", "flops", "width", "blocks")
LEARNING = "still learning"
LEARNING_NOTE = "still learning: the best error fell by more than 5 % over the last third of the tasks"


def _validated(tables: dict[str, pd.DataFrame], family: str) -> pd.DataFrame:
    """Return the rows of a family's history at which it was validated."""
    if family not in tables:
        raise UserError(f"no training history was given for family '{family}' (--history {family}=history.csv)")
    return validations(tables[family], family)


def _trained_on(settings: dict, family: str) -> dict:
    """Return covariance, d, N and recipe of a family, as the study gives them."""
    if family not in settings.get("trained_on", {}):
        raise UserError(f"settings of the figure: 'trained_on' lacks family '{family}'")
    return settings["trained_on"][family]


def _effort_sentence(settings: dict) -> str:
    """Return what each training took, of the families whose record is given."""
    efforts = []
    for family, record in settings.get("records", {}).items():
        parts = _trained_on(settings, family)
        name = f"{method_style('tgmm-' + parts['recipe']).short}, d = {parts['d']}"
        numbers = (record["tasks_seen"], record["steps"], record["processor_seconds"])
        tasks, steps, seconds = (f"{number:,.0f}".replace(",", " ") for number in numbers)
        efforts.append(f"{name}: {tasks} tasks in {steps} steps and {seconds} processor seconds")
    return f" Trainings: {'; '.join(efforts)}." if efforts else ""


def _draw_oracle(ax: Axes, error: float) -> None:
    look = method_style(ORACLE)
    ax.axhline(error, color=look.color, linestyle=look.line, zorder=2, gid="oracle")


def _write_count(value: float) -> str:
    """Write a large number with its unit: 20k, 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


# --- training-curves -----------------------------------------------------------------------------------------------

CURVES_HEIGHT = 1.9


@reads(summary=(), tables=HISTORY_COLUMNS)
def draw_training_curves(summary: None, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw validation ℓ2-error against tasks seen on logarithmic axes, a panel for each d, a line for each recipe."""
    panels: dict[int, dict[str, pd.DataFrame]] = {}
    for family in settings["families"]:
        parts = _trained_on(settings, family)
        panels.setdefault(parts["d"], {})[parts["recipe"]] = _validated(tables, family)
    recipes = list(dict.fromkeys(recipe for curves in panels.values() for recipe in curves))
    learning = any(still_learning(rows) for curves in panels.values() for rows in curves.values())
    lines = fill(_curves_footer(settings, learning))
    legend = _curves_legend([*(f"tgmm-{recipe}" for recipe in recipes), ORACLE], learning)
    columns = len(panels) if len(panels) <= 4 else 3
    layout = grid_layout(len(panels), columns, CURVES_HEIGHT, legend_rows=legend.rows, footer_rows=len(lines))
    for ax, (dimension, curves) in zip(layout.axes, sorted(panels.items()), strict=True):
        _draw_curves(ax, curves)
        ax.set_title(f"d = {dimension}")
    label_log_axis(layout.axes[0].yaxis, np.divide(*layout.axes[0].get_ylim()[::-1]))
    layout.label_axes("training tasks seen", r"validation $\ell_2$-error, mean over K")
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def _curves_legend(methods: list[str], learning: bool) -> Legend:
    handles = [legend_handle(method_style(method)) for method in methods]
    if learning:
        marker = _open_end(method_style("tgmm-components")) | {"color": INK}
        handles.append(Line2D([], [], label=f"end of a curve: {LEARNING}", **marker))
    return legend_of(handles, most=4 if len(handles) <= 4 else 3)


def _draw_curves(ax: Axes, curves: dict[str, pd.DataFrame]) -> None:
    _draw_oracle(ax, float(np.nanmean([rows["validation_l2_error_oracle"].iloc[-1] for rows in curves.values()])))
    for recipe, rows in curves.items():
        look = method_style(f"tgmm-{recipe}")
        every = max(1, len(rows) // 10)
        marker = {"marker": look.marker, "markersize": look.size, "markevery": (every - 1, every)}
        line = {"color": look.color, "linestyle": look.line, "zorder": 3, "gid": f"curve {recipe}"}
        ax.plot(rows["tasks"], rows["validation_l2_error"], **line, **marker, **FILLED)
        if still_learning(rows):
            end = rows.sort_values("tasks").iloc[[-1]]
            ax.plot(end["tasks"], end["validation_l2_error"], gid=f"{LEARNING} {recipe}", **_open_end(look))
    ax.grid()
    ax.set(xscale="log", yscale="log")
    ax.margins(y=0.12)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _write_count(value)))
    ax.xaxis.set_minor_locator(NullLocator())


def _open_end(look: MethodStyle) -> dict:
    """Return the marker at the end of a curve that still falls."""
    return {"linestyle": "", "marker": look.marker, "markersize": look.size, "color": look.color, "zorder": 4, **OPEN}


def _curves_footer(settings: dict, learning: bool) -> list[str]:
    count = settings.get("validation_tasks")
    tasks = f"{count} validation tasks for each K · " if count else ""
    provenance = f"scale {settings['scale']} · {tasks}seed {settings.get('seed', 0)}"
    return [*untrained_note(settings), *([LEARNING_NOTE] if learning else []), *_effort_notes(settings), provenance]


def _effort_notes(settings: dict) -> list[str]:
    """Return a note for each d on what its trainings took, of the families whose record is given."""
    by_dimension: dict[int, list[str]] = {}
    for family, record in settings.get("records", {}).items():
        parts = _trained_on(settings, family)
        numbers = (_write_count(record["tasks_seen"]), str(record["steps"]), f"{record['processor_seconds']:.0f}")
        text = f"{method_style('tgmm-' + parts['recipe']).short} {' / '.join(numbers)}"
        by_dimension.setdefault(parts["d"], []).append(text)
    notes = [f"d = {d}: {', '.join(texts)}" for d, texts in by_dimension.items()]
    return ["tasks / steps / processor seconds of training", *notes] if notes else []


def caption_training_curves(settings: dict) -> str:
    """Return what is shown and what it took to train."""
    return (
        "Validation ℓ2-error, averaged over K, against the number of training tasks seen, for each recipe and "
        "dimension; the dashed level is EM started from the truth on the same validation tasks. A curve whose best "
        "error fell by more than 5 % over the last third of its tasks is marked as still learning."
    ) + _effort_sentence(settings)


# --- backbone-scale ------------------------------------------------------------------------------------------------

PANEL_HEIGHT, MANY_DECADES = 2.3, 300.0
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))


@reads(summary=(), tables=SCALE_COLUMNS)
def draw_backbone_scale(summary: pd.DataFrame, settings: dict, tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the final validation error against the parameters, and the error against the computation so far.

    Colours tell the widths apart, markers and lines the numbers of blocks.
    """
    curves = {family: _sized_curve(tables, family) for family in settings["families"]}
    _refuse_different_tasks(curves, {family: _trained_on(settings, family) for family in curves})
    last = pd.DataFrame([rows.iloc[-1] for rows in curves.values()])
    looks = _SizeLooks(last)
    legend = looks.legend()
    lines = fill(_scale_footer(settings, last, sum(map(still_learning, curves.values()))))
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
    left.set_title("at the end of training")
    right.set_title("along the training")
    _scale_size_axes(left, right, last["parameters"])
    layout.figure.align_xlabels(layout.axes)
    layout.label_axes("", r"validation $\ell_2$-error, mean over K")
    layout.add_legend(legend)
    layout.add_footer(lines)
    return layout.figure


def _sized_curve(tables: dict[str, pd.DataFrame], family: str) -> pd.DataFrame:
    rows = _validated(tables, family)
    if not (np.isfinite(rows["flops"]) & (rows["flops"] > 0) & (rows["parameters"] > 0)).all():
        raise UserError(f"the training history of family '{family}' lacks 'parameters' or 'flops' at some validation")
    return rows


def _refuse_different_tasks(curves: dict[str, pd.DataFrame], trained_on: dict[str, dict]) -> None:
    """Refuse families of different tasks, whose errors are not comparable, and a size that comes twice."""
    first = next(iter(curves))
    sizes: dict[tuple, str] = {}
    for family in curves:
        if any(trained_on[family][key] != trained_on[first][key] for key in ("covariance", "d", "N")):
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
        label_log_axis(ax.yaxis, np.divide(*ax.get_ylim()[::-1]))
        ax.grid()
    many = parameters.max() / parameters.min() > MANY_DECADES
    left.xaxis.set_major_locator(LogLocator(subs=(1, 3) if many else (1, 2, 5)))
    left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _write_count(value)))
    left.xaxis.set_minor_locator(NullLocator())
    right.xaxis.set_minor_formatter(NullFormatter())


def _scale_footer(settings: dict, last: pd.DataFrame, n_learning: int) -> list[str]:
    part = _trained_on(settings, settings["families"][0])
    tasks = ", ".join(f"{int(count):,}".replace(",", " ") for count in sorted(last["tasks"].unique()))
    notes = [f"scale {settings['scale']}", f"{part['covariance']}, d = {part['d']}, N up to {part['N']}"]
    notes.append(f"{tasks} training tasks")
    seconds = [record["processor_seconds"] for record in settings.get("records", {}).values()]
    if seconds:
        notes.append(f"{min(seconds):.0f} to {max(seconds):.0f} processor seconds")
    if settings.get("validation_tasks"):
        notes.append(f"{settings['validation_tasks']} validation tasks for each K")
    if "seed" in settings:
        notes.append(f"seed {settings['seed']}")
    learning = [f"{LEARNING_NOTE}: {n_learning} of {len(last)} networks"] if n_learning else []
    return [*untrained_note(settings), *notes, *learning]


def caption_backbone_scale(settings: dict) -> str:
    """Return what is shown and what it took to train."""
    return (
        "Validation ℓ2-error, averaged over K, of networks of several widths and numbers of blocks: at the end of "
        "training against the number of parameters, and along the training against its cumulative cost in "
        "floating-point operations. The dashed level is EM started from the truth on the same validation tasks."
    ) + _effort_sentence(settings)
