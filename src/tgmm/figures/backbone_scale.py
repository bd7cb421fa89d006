"""Kind ``backbone-scale``: what the size of the network buys, from the records of training alone."""

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
from tgmm.figures import training_curves
from tgmm.figures.footnotes import fill, untrained_note
from tgmm.figures.frame import Legend, in_columns, legend_handle, make_frame
from tgmm.figures.palette import INK, ORACLE, method_style
from tgmm.figures.training_curves import split_family, thousands, validations

HISTORY_COLUMNS = (*training_curves.HISTORY_COLUMNS, "parameters", "flops", "width", "blocks")
PANEL_HEIGHT, MANY_DECADES = 2.3, 300.0
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
FILLED = {"markeredgecolor": "white", "markeredgewidth": 0.4}


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """Left: the final validation error against the parameters. Right: the error against the computation so far.

    Colours tell the widths apart, markers and lines the numbers of blocks.
    """
    curves = {family: _curve(histories, family) for family in settings["families"]}
    _refuse_mixture(curves)
    last = pd.DataFrame([rows.iloc[-1] for rows in curves.values()])
    looks = _Looks(last)
    legend = looks.legend()
    lines = fill(_footer(settings, last))
    frame = make_frame(2, 2, PANEL_HEIGHT, legend_rows=legend.rows, footer_rows=len(lines), share_x=False)
    left, right = frame.panels
    for blocks, rows in last.sort_values("parameters").groupby("blocks", sort=True):
        left.plot(rows["parameters"], rows["validation_l2_error"], color=INK, **looks.line(blocks), zorder=2)
    for _, row in last.iterrows():
        left.plot(row["parameters"], row["validation_l2_error"], **looks.marker(row), zorder=3, gid="final")
    for rows in curves.values():
        row = rows.iloc[-1]
        right.plot(rows["flops"], rows["validation_l2_error"], color=looks.color(row), **looks.line(row["blocks"]))
        right.plot(row["flops"], row["validation_l2_error"], **looks.marker(row), zorder=3, gid="final")
    for panel, label in ((left, "number of parameters"), (right, "training compute (floating-point operations)")):
        oracle = method_style(ORACLE)
        floor = last["validation_l2_error_oracle"].mean()
        panel.axhline(floor, color=oracle.color, linestyle=oracle.line, zorder=2, gid="oracle")
        panel.set_xlabel(label)
    _scale_axes(left, right, last["parameters"])
    frame.figure.align_xlabels(frame.panels)
    frame.label_axes("", r"validation $\ell_2$-error, mean over K")
    frame.add_legend(legend.handles, legend.columns)
    frame.add_footer(lines)
    return frame.figure


def _curve(histories: dict[str, pd.DataFrame], family: str) -> pd.DataFrame:
    rows = validations(histories, family)
    if not (np.isfinite(rows["flops"]) & (rows["flops"] > 0) & (rows["parameters"] > 0)).all():
        raise UserError(f"the training history of family '{family}' lacks 'parameters' or 'flops' at some validation")
    return rows


def _refuse_mixture(curves: dict[str, pd.DataFrame]) -> None:
    """Errors are comparable on the same tasks only, and a size that comes twice could not be told apart."""
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


class _Looks:
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
        """The widths in the first row, the numbers of blocks and the floor in the second."""
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


def _scale_axes(left: Axes, right: Axes, parameters: pd.Series) -> None:
    for panel in (left, right):
        panel.set(xscale="log", yscale="log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid()
    many = parameters.max() / parameters.min() > MANY_DECADES
    left.xaxis.set_major_locator(LogLocator(subs=(1, 3) if many else (1, 2, 5)))
    left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    left.xaxis.set_minor_locator(NullLocator())
    right.xaxis.set_minor_formatter(NullFormatter())


def _footer(settings: dict, last: pd.DataFrame) -> list[str]:
    part = split_family(settings["families"][0])
    tasks = ", ".join(f"{int(count):,}".replace(",", " ") for count in sorted(last["tasks"].unique()))
    notes = [f"scale {settings['scale']}", f"{part['covariance']}, d = {part['d']}, N up to {part['N']}"]
    notes.append(f"{tasks} training tasks")
    if settings.get("validation_tasks"):
        notes.append(f"{settings['validation_tasks']} validation tasks for each K")
    if "seed" in settings:
        notes.append(f"seed {settings['seed']}")
    return [*untrained_note(settings), " · ".join(notes)]


def caption(settings: dict) -> str:
    """Two sentences on what is shown."""
    return (
        "Validation ℓ2-error, averaged over K, of networks of several widths and numbers of blocks: at the end of "
        "training against the number of parameters, and along the training against its cumulative cost in "
        "floating-point operations. The dashed level is EM started from the truth on the same validation tasks."
    )
