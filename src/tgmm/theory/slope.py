"""The power law in a table of measurements: light enough for a figure to import."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

ROUNDING = 1e-12


def fitted_slope(measurements: pd.DataFrame, smallest_width: int = 1024) -> float:
    """The slope of log(difference) in log W, by least squares with a level of its own for every cell.

    The difference is the median over tasks; cells where it is rounding at any width (the start is already EM's fixed
    point) are left out, and so are narrower networks, where terms of higher order still count. NaN if fewer than two
    widths remain.
    """
    rows = measurements[~measurements["exact"] & (measurements["W"] >= smallest_width)]
    table = rows.pivot(index=["mixtures", "d", "K", "L", "copies"], columns="W", values="median")
    table = table[(table > ROUNDING).all(axis=1)]
    if table.shape[1] < 2 or table.empty:
        return math.nan
    widths, levels = np.log(table.columns.to_numpy(dtype=float)), np.log(table.to_numpy()).mean(axis=0)
    return float(np.polyfit(widths, levels, 1)[0])
