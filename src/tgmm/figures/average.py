"""Cells averaged over the numbers of components K."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from tgmm.figures.cells import FAILED, GAP, OK, UNDEFINED

WORST_FIRST = (FAILED, GAP, UNDEFINED, OK)
NOTE = "average over K = {}; intervals combined as independent (half-widths in quadrature)"


def average_over_components(cells: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row for each value of ``keys``, in the order in which they come.

    ``mean`` and ``median`` are averages of those of the cells. Tasks of different K are independent, so the distances
    of ``low`` and ``high`` from the mean add in quadrature. A method without a value at some K has none on average,
    with that cell's ``status``: an average over fewer would flatter a method that fails at the hard ones.

    Parameters
    ----------
    cells : with ``status``, the statistics and the columns in ``keys``, one row for each of their values and K.
    """
    rows = [dict(zip(keys, key, strict=True)) | _average(part) for key, part in cells.groupby(keys, sort=False)]
    return pd.DataFrame(rows)


def _average(cells: pd.DataFrame) -> dict:
    status = next(name for name in WORST_FIRST if (cells["status"] == name).any())
    failed = cells["n_failed"].sum()
    reason = next(iter(cells.loc[cells["status"] == FAILED, "failure_reason"]), "")
    counts = {"status": status, "n_failed": failed, "failure_reason": reason}
    if status != OK:
        return counts | dict.fromkeys(("mean", "median", "low", "high"), math.nan)
    mean = cells["mean"].mean()
    below, above = (_half_width(cells["mean"] - cells["low"]), _half_width(cells["high"] - cells["mean"]))
    return counts | {"mean": mean, "median": cells["median"].mean(), "low": mean - below, "high": mean + above}


def _half_width(half_widths: pd.Series) -> float:
    return float(np.sqrt(np.square(half_widths).sum(skipna=False)) / len(half_widths))
