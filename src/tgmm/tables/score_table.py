"""Kind ``score-table``: mean, 95 % interval, median and failures of every method in every cell, oracle beside."""

from __future__ import annotations

import pandas as pd

from tgmm.figures.cells import FAILED, GAP, OK, failure_reasons, is_oracle, provenance, select_cells
from tgmm.figures.metric_text import metric_text
from tgmm.figures.palette import method_style
from tgmm.tables.numbers import write_number, write_percent
from tgmm.tables.render import Cell, WideTable

CSV_COLUMNS = [
    "d",
    "K",
    "N",
    "shift_value",
    "method",
    "label",
    "short",
    "metric",
    "status",
    "mean",
    "low",
    "high",
    "median",
]
CSV_COLUMNS += ["n_tasks", "n_failed", "failure_share", "failure_reason"]


def long_table(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a cell and method, for machines; methods without a value have a row whose status says why."""
    cells = select_cells(summary, settings, free=("d", "K"))
    cells = cells.sort_values(["d", "K"], kind="stable").reset_index(drop=True)
    looks = [method_style(method) for method in cells["method"]]
    cells = cells.assign(label=[look.label for look in looks], short=[look.short for look in looks])
    counts = {name: cells[name].astype("Int64") for name in ("n_tasks", "n_failed")}
    return cells.assign(**counts, metric=settings["metric"], failure_reason=cells["failure_reason"].fillna(""))


def wide_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each d and K, a column for each method, the oracle last."""
    methods = sorted(rows["method"].unique(), key=is_oracle)
    methods = [name for name in settings["methods"] if name in methods and not is_oracle(name)]
    methods += [name for name in settings["methods"] if is_oracle(name)]
    body = []
    for (dimension, count), cell in rows.groupby(["d", "K"], sort=True):
        by_method = cell.set_index("method")
        best = _best(by_method, settings["metric"])
        cells = [_cell(by_method.loc[method], method in best) for method in methods]
        body.append(([str(dimension), str(count)], cells))
    heads = [method_style(method).short for method in methods]
    notes = [*_notes(rows), provenance(rows)]
    return WideTable(["d", "K"], heads, body, settings.get("caption") or caption(settings), notes)


def _best(by_method: pd.DataFrame, metric: str) -> set[str]:
    """The methods with the best mean as written, the oracle aside."""
    means = by_method.loc[[not is_oracle(method) for method in by_method.index], "mean"].dropna()
    if means.empty:
        return set()
    best = means.min() if metric_text(metric).less_is_better else means.max()
    written = write_number(best)
    return {method for method, mean in means.items() if write_number(mean) == written}


def _cell(row: pd.Series, best: bool) -> Cell:
    if row["status"] == GAP:
        return Cell("–")
    if row["status"] == FAILED:
        return Cell("fails")
    failures = f"{write_percent(row['failure_share'])} failed" if row["n_failed"] else ""
    interval = f"[{write_number(row['low'])}, {write_number(row['high'])}]"
    return Cell(write_number(row["mean"]), write_number(row["median"]), interval, failures, best)


def _notes(rows: pd.DataFrame) -> list[str]:
    notes = ["Each entry: mean / median over the tasks, [95 % bootstrap interval of the mean]."]
    if (rows["status"] == OK).any():
        notes.append("Bold: best mean apart from EM from the truth, which is the floor.")
    if (rows["status"] == FAILED).any():
        notes.append(f"'fails': failed on every task ({failure_reasons(rows)}).")
    if (rows["status"] == GAP).any():
        notes.append("'–': not trained or not run at this scale.")
    return notes


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    name = metric_text(settings["metric"]).name
    return f"{name[0].upper()}{name[1:]} of every method on the task set '{settings['taskset']}'."
