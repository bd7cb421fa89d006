"""What the record of a training says of it: whether the network had stopped learning when its tasks were used up."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tgmm.errors import UserError

HISTORY_COLUMNS = ("tasks", "validation_l2_error")
STILL_LEARNING = 0.05  # relative gain of the best validation error over the last third of the tasks


def late_gain(history: pd.DataFrame) -> float:
    """Return by which share the best validation error fell over the last third of the tasks.

    Parameters
    ----------
    history : rows of ``history.csv`` with ``HISTORY_COLUMNS``; the error is missing in rows without a validation.

    Returns
    -------
    Number from 0 to 1; 1 where nothing was validated before the last third.

    Raises
    ------
    UserError : for a history without any validation.
    """
    tasks, errors = (history[name].to_numpy(float) for name in HISTORY_COLUMNS)
    validated = ~np.isnan(errors)
    if not validated.any():
        raise UserError("a training history holds no validation")
    early = errors[validated & (tasks <= tasks.max() * 2 / 3)]
    if not len(early):
        return 1.0
    return float(max(0.0, 1.0 - errors[validated].min() / early.min())) if early.min() > 0 else 0.0


def still_learning(history: pd.DataFrame) -> bool:
    """Return whether the best validation error fell by more than 5 % over the last third of the tasks."""
    return late_gain(history) > STILL_LEARNING
