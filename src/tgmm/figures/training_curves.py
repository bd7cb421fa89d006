"""Kind ``training-curves``: how the networks' validation error falls with the tasks they have seen."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from tgmm.errors import UserError
from tgmm.figures.footnotes import fill, untrained_note
from tgmm.figures.frame import legend_handle, make_frame
from tgmm.figures.palette import ORACLE, method_style

FAMILY = re.compile(r"(?P<covariance>\w+)-d(?P<d>\d+)-n(?P<N>\d+)-(?P<recipe>[\w-]+)")
HISTORY_COLUMNS = ("tasks", "validation_l2_error", "validation_l2_error_oracle")


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """Validation ℓ2-error against tasks seen on logarithmic axes, a panel for each d, a line for each recipe."""
    panels: dict[int, dict[str, pd.DataFrame]] = {}
    for family in settings["families"]:
        parts = split_family(family)
        panels.setdefault(int(parts["d"]), {})[parts["recipe"]] = validations(histories, family)
    recipes = list(dict.fromkeys(recipe for curves in panels.values() for recipe in curves))
    columns = len(panels) if len(panels) <= 4 else 3
    lines = fill([*untrained_note(settings), f"scale {settings['scale']} · {_tasks(settings)}seed {_seed(summary)}"])
    frame = make_frame(len(panels), columns, 1.9, legend_rows=1, footer_rows=len(lines))
    for panel, (dimension, curves) in zip(frame.panels, sorted(panels.items()), strict=True):
        _draw_panel(panel, curves)
        panel.set_title(f"d = {dimension}")
    _scale_axes(frame.panels)
    frame.label_axes("training tasks seen", r"validation $\ell_2$-error, mean over K")
    handles = [legend_handle(method_style(f"tgmm-{recipe}")) for recipe in recipes]
    handles.append(legend_handle(method_style(ORACLE)))
    frame.add_legend(handles, len(handles))
    frame.add_footer(lines)
    return frame.figure


def split_family(family: str) -> dict[str, str]:
    """The parts of a family's name, ``{covariance}-d{d}-n{N}-{recipe}``."""
    match = FAMILY.fullmatch(family)
    if match is None:
        raise UserError(f"family '{family}' is not named covariance-d<d>-n<N>-recipe")
    return match.groupdict()


def validations(histories: dict[str, pd.DataFrame], family: str) -> pd.DataFrame:
    """The rows of a family's history at which it was validated."""
    if family not in histories:
        raise UserError(f"no training history was given for family '{family}' (--history {family}=history.csv)")
    rows = histories[family].dropna(subset=["validation_l2_error"])
    rows = rows[rows["tasks"] > 0]
    if rows.empty:
        raise UserError(f"the training history of family '{family}' holds no validation")
    return rows


def _draw_panel(panel: Axes, curves: dict[str, pd.DataFrame]) -> None:
    floor = float(np.nanmean([rows["validation_l2_error_oracle"].iloc[-1] for rows in curves.values()]))
    look = method_style(ORACLE)
    panel.axhline(floor, color=look.color, linestyle=look.line, zorder=2, gid="oracle")
    for recipe, rows in curves.items():
        look = method_style(f"tgmm-{recipe}")
        every = max(1, len(rows) // 10)
        marks = {"marker": look.marker, "markersize": look.size, "markevery": (every - 1, every)}
        edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
        line = {"color": look.color, "linestyle": look.line, "zorder": 3}
        seaborn.lineplot(rows, x="tasks", y="validation_l2_error", errorbar=None, ax=panel, **line, **marks, **edge)
    panel.set(xlabel="", ylabel="")
    panel.grid()


def _scale_axes(panels: list[Axes]) -> None:
    for panel in panels:
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
        panel.xaxis.set_minor_locator(NullLocator())


def thousands(value: float) -> str:
    """A large number with its unit: 20k, 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _tasks(settings: dict) -> str:
    count = settings.get("validation_tasks")
    return f"{count} validation tasks · " if count else ""


def _seed(summary: pd.DataFrame) -> str:
    return ", ".join(str(seed) for seed in sorted(summary["seed"].unique()))


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    return (
        "Validation ℓ2-error, averaged over K, against the number of training tasks seen, for each recipe and "
        "dimension; the dashed level is EM started from the truth on the same validation tasks."
    )
