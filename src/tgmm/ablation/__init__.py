"""What the ablation says: the final error of every change beside the baseline's of the same seed.

Seeds are compared in pairs, since all changes of a seed share their stream of tasks, their validation tasks and, where
the network is the same, their first weights.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tgmm.config import BASELINE
from tgmm.errors import UserError

PLAIN, REFINED = "validation_l2_error", "validation_l2_error_em20"
ORACLE, RESTARTS = "validation_l2_error_oracle", "validation_l2_error_em_restarts"
COLUMNS = (
    "d", "change", "seed", "tasks", "processor_seconds", "seconds", PLAIN, ORACLE, "parameters", REFINED, RESTARTS,
    "diverged",
)  # fmt: skip
ERRORS = {"error": PLAIN, "error_em20": REFINED}
COMPARED = (
    "d", "change", "label", "n_seeds", "n_diverged", "tasks", "parameters",
    *(f"processor_seconds{part}" for part in ("", "_low", "_high")),
    *(f"{name}{part}" for name in ERRORS for part in ("", "_low", "_high")),
    *(f"ratio{name.removeprefix('error')}{part}" for name in ERRORS for part in ("", "_low", "_high")),
    "ratio_over_d", "oracle", "em_restarts", "best", "best_over_d",
)  # fmt: skip


def merge_parts(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The parts of the ablation, one a dimension, seed and change, as one table in the order of d and seed.

    EM from many starts is measured beside the baseline, and told beside every change of the same d and seed.

    Raises
    ------
    UserError : if a change of a dimension and seed comes twice.
    """
    part, change = ["d", "seed"], ["d", "seed", "change"]
    keys = pd.concat([table[change].drop_duplicates() for table in parts])
    if keys.duplicated().any():
        twice = keys[keys.duplicated()].iloc[0]
        raise UserError(f"the ablation of d = {twice['d']}, seed {twice['seed']}: '{twice['change']}' is given twice")
    table = pd.concat(parts, ignore_index=True).sort_values(part, kind="stable", ignore_index=True)
    last = ~table.duplicated(change, keep="last")
    measured = table.groupby(part)[RESTARTS].transform("max")
    return table.assign(**{RESTARTS: measured.where(last)})


def final_rows(study: pd.DataFrame) -> pd.DataFrame:
    """The last row of every change, dimension and seed, with the ratios of its errors to the baseline's.

    The columns `ratio` and `ratio_em20` are NaN where one of the two trainings diverged. A change without a baseline of
    its dimension and seed is a `UserError`.
    """
    last = study.groupby(["d", "change", "seed"], sort=False).tail(1)
    base = last[last["change"] == BASELINE].set_index(["d", "seed"])
    keys = pd.MultiIndex.from_frame(last[["d", "seed"]])
    missing = keys[~keys.isin(base.index)]
    if len(missing):
        raise UserError(f"the ablation has no '{BASELINE}' for d = {missing[0][0]}, seed {missing[0][1]}")
    pairs = base.loc[keys]
    ratios = {
        f"ratio{name.removeprefix('error')}": last[column].to_numpy(float) / pairs[column].to_numpy(float)
        for name, column in ERRORS.items()
    }
    return last.assign(**ratios)


def compare(study: pd.DataFrame, labels: dict[str, str] | None = None) -> pd.DataFrame:
    """A row with `COMPARED` for each dimension and change, the best change of all first.

    Errors are means over the seeds, ratios geometric means of the ratios to the baseline's error of the same seed;
    `_low` and `_high` are the smallest and the largest of a seed. `ratio_over_d` is the geometric mean of `ratio` over
    the dimensions. The best change, of a dimension or over all, is the one of smallest ratio among those that never
    diverged. ``labels`` says what changes are called; without one its name.
    """
    labels = labels or {}
    final = final_rows(study)
    rows = [_compared(d, change, cell, labels) for (d, change), cell in final.groupby(["d", "change"], sort=False)]
    table = pd.DataFrame(rows)
    table["ratio_over_d"] = table.groupby("change")["ratio"].transform(_geometric_mean)
    never = table.groupby("change")["n_diverged"].transform("sum") == 0
    table["best"] = table["ratio"].where(table["n_diverged"] == 0)
    table["best"] = table["best"] == table.groupby("d")["best"].transform("min")
    table["best_over_d"] = table["ratio_over_d"] == table["ratio_over_d"].where(never).min()
    return table.sort_values(["d", "ratio_over_d"], kind="stable", ignore_index=True)[list(COMPARED)]


def _compared(d: int, change: str, cell: pd.DataFrame, labels: dict[str, str]) -> dict:
    row = {"d": d, "change": change, "label": labels.get(change) or change, "n_seeds": len(cell)}
    row |= {
        "n_diverged": int(cell["diverged"].sum()),
        "tasks": cell["tasks"].max(),
        "parameters": cell["parameters"].max(),
    }
    for name, column in {"processor_seconds": "processor_seconds", **ERRORS}.items():
        row |= {name: cell[column].mean(), f"{name}_low": cell[column].min(), f"{name}_high": cell[column].max()}
    for name in ("ratio", "ratio_em20"):
        row |= {name: _geometric_mean(cell[name]), f"{name}_low": cell[name].min(), f"{name}_high": cell[name].max()}
    return row | {"oracle": cell[ORACLE].mean(), "em_restarts": cell[RESTARTS].mean()}


def _geometric_mean(values: pd.Series) -> float:
    """Over the values that there are; NaN if there are none."""
    there = values.to_numpy(float)
    there = there[np.isfinite(there)]
    return float(np.exp(np.log(there).mean())) if len(there) else float("nan")
