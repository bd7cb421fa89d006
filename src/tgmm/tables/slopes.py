"""How fast errors fall with the number of points: slopes in logarithms, and where a method leaves the floor."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from tgmm.columns import ORACLE, reads
from tgmm.figures.data import OK, mark_undefined, select_summary
from tgmm.figures.style import method_style, metric_text
from tgmm.tables.render import Cell, WideTable

LEAVES = 1.2  # times the floor
NORMAL = 1.959964  # of a 95 % interval
SLOPE_COLUMNS = [
    "d", "K", "method", "label", "short", "metric", "slope", "low", "high", "largest_N_above_floor", "n_tasks", "scale",
    "seed", "N",
]  # fmt: skip


@reads(written=SLOPE_COLUMNS)
def slope_rows(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row for each d, K and method: the slope of log error in log N, and the largest N that it is off the floor at.

    The slope is a least-squares fit weighted by the cells' intervals; its own interval takes the cells as independent.
    Tasks at different N share their first points, which makes it rather too wide than too narrow.
    """
    cells = mark_undefined(select_summary(summary, settings, free=("d", "K", "N")))
    rows = []
    for (d, K, method), own in cells.groupby(["d", "K", "method"], sort=False):
        usable = own[(own["status"] == OK) & (own["mean"] > 0)]
        if len(usable) < 3:
            continue
        floor = cells[(cells["d"] == d) & (cells["K"] == K) & (cells["method"] == ORACLE)].set_index("N")["mean"]
        above = own.loc[~(own["mean"] <= LEAVES * own["N"].map(floor)), "N"]
        slope, error = fit_slope(usable)
        look = method_style(method)
        rows.append({
            "d": d, "K": K, "method": method, "label": look.label, "short": look.short, "metric": settings["metric"],
            "slope": slope, "low": slope - NORMAL * error, "high": slope + NORMAL * error,
            "largest_N_above_floor": int(above.max()) if len(above) else 0,
            "n_tasks": int(usable["n_tasks"].iloc[0]), "scale": usable["scale"].iloc[0],
            "seed": int(usable["seed"].iloc[0]), "N": f"{int(own['N'].min())}…{int(own['N'].max())}",
        })  # fmt: skip
    return pd.DataFrame(rows, columns=SLOPE_COLUMNS)


def fit_slope(cells: pd.DataFrame) -> tuple[float, float]:
    """The slope of log mean in log N by weighted least squares, and its standard error.

    Parameters
    ----------
    cells : with ``N``, ``mean``, ``low`` and ``high``; at least two different N.
    """
    x, y = np.log(cells["N"].to_numpy(float)), np.log(cells["mean"].to_numpy(float))
    errors = (cells["high"] - cells["low"]).to_numpy(float) / (2 * NORMAL * cells["mean"].to_numpy(float))
    weights = 1 / np.maximum(errors, 1e-6) ** 2
    x = x - np.average(x, weights=weights)
    spread = float((weights * x**2).sum())
    return float((weights * x * y).sum() / spread), 1 / math.sqrt(spread)


def slope_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each d and K, a column for each method."""
    methods = list(dict.fromkeys(rows["method"]))
    body = []
    for (d, K), part in rows.groupby(["d", "K"], sort=True):
        own = part.set_index("method")
        body.append(([str(d), str(K)], [_cell(own.loc[name]) if name in own.index else Cell("–") for name in methods]))
    notes = [
        f"In brackets the 95 % interval; behind the slope the largest N at which the error is above {LEAVES:g} times "
        "that of EM from the truth (– where it never is).",
        " · ".join([
            f"scale {rows['scale'].iloc[0]}", f"{rows['n_tasks'].iloc[0]} tasks a cell", f"N = {rows['N'].iloc[0]}",
            f"seed {rows['seed'].iloc[0]}",
        ]),
    ]  # fmt: skip
    heads = [method_style(method).short for method in methods]
    return WideTable(["d", "K"], heads, body, settings.get("caption") or caption_slope(settings), notes)


def _cell(row: pd.Series) -> Cell:
    leaves = f"N ≤ {row['largest_N_above_floor']}" if row["largest_N_above_floor"] else "–"
    return Cell(f"{row['slope']:.2f}", leaves, f"[{row['low']:.2f}, {row['high']:.2f}]")


def caption_slope(settings: dict) -> str:
    """What the table shows."""
    return (
        f"Slope of the logarithm of the {metric_text(settings['metric']).name} in the logarithm of the number of "
        f"points N on the task set '{settings['taskset']}'; −1 is the rate of a regular estimator."
    )
