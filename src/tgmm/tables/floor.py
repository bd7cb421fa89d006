"""The statistical floor: scores beside the Cramér-Rao bound of the same tasks."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tgmm.columns import reads
from tgmm.figures.data import OK
from tgmm.figures.style import method_style
from tgmm.tables.render import WideTable
from tgmm.tables.scores import TABLE_COLUMNS, score_table, taskset_cells

BOUND = "cramer-rao"
BOUND_COLUMNS = ("d", "K", "N", "n_tasks", "seed", "mean", "median", "low", "high")


@reads(tables=BOUND_COLUMNS, written=TABLE_COLUMNS)
def floor_rows(summary: pd.DataFrame, settings: dict, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The scores' rows, and behind each cell's the bound as a method of its own."""
    cells = taskset_cells(summary, settings)
    look = method_style(BOUND)
    shown = cells[["d", "K", "N", "shift", "shift_value", "scale", "taskset"]].drop_duplicates()
    bounds = shown.merge(tables[BOUND][list(BOUND_COLUMNS)], on=["d", "K", "N"]).assign(
        method=BOUND, label=look.label, short=look.short, metric=settings["metric"], status=OK, n_failed=0,
        failure_share=0.0, failure_reason="",
    )  # fmt: skip
    return pd.concat([cells, bounds], ignore_index=True).sort_values(["d", "K"], kind="stable", ignore_index=True)


def floor_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each d and K, the bound last."""
    named = {"methods": [*settings["methods"], BOUND], "caption": settings.get("caption") or caption_floor(settings)}
    return score_table(rows, settings | named)


def caption_floor(settings: dict) -> str:
    """What the table shows."""
    return (
        f"Error of the means on the task set '{settings['taskset']}' beside the Cramér-Rao bound of the same tasks: no "
        "unbiased estimate has less, on average over data; an estimate that uses the prior may."
    )
