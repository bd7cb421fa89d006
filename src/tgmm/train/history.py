"""What a training's history says: its validations, and whether the network was still learning when it ended.

Free of torch, so that figures and tables read histories without it.
"""

from __future__ import annotations

import pandas as pd

from tgmm.errors import UserError

HISTORY_COLUMNS = ("tasks", "validation_l2_error", "validation_l2_error_oracle")
LAST_PART, LEAST_GAIN = 1 / 3, 0.05


def validations(history: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the rows of a history at which the network was validated.

    Parameters
    ----------
    history : ``history.csv`` as written by a training, with ``HISTORY_COLUMNS``.
    family : named in the error.

    Raises
    ------
    UserError : where there is none.
    """
    rows = history.dropna(subset=["validation_l2_error"])
    rows = rows[rows["tasks"] > 0]
    if rows.empty:
        raise UserError(f"the training history of family '{family}' holds no validation")
    return rows


def still_learning(history: pd.DataFrame) -> bool:
    """Return whether the best validation error fell by more than 5 % over the last third of the tasks seen.

    A history without a validation in its first two thirds shows no end of learning and counts as still learning.

    Parameters
    ----------
    history : with ``tasks`` and ``validation_l2_error``, empty or NaN where there was no validation; any order.
    """
    rows = history.dropna(subset=["validation_l2_error"])
    before = rows["tasks"] <= (1 - LAST_PART) * history["tasks"].max()
    if not before.any():
        return True
    earlier, best = rows.loc[before, "validation_l2_error"].min(), rows["validation_l2_error"].min()
    return bool(best < (1 - LEAST_GAIN) * earlier)
