"""Kind ``score-table``: mean, 95 % interval, median and failures of every method in every cell, oracle beside."""

from __future__ import annotations

import pandas as pd

from tgmm.figures.data import FAILED, GAP, OK, failure_reasons, provenance
from tgmm.figures.style import is_oracle
from tgmm.figures.labels import metric_text
from tgmm.figures.style import method_style
from tgmm.tables.numbers import write_number, write_percent
from tgmm.tables.render import Cell, WideTable
from tgmm.tables.task_cells import HEADS, constants, shift_phrase, taskset_cells, varying, write_labels

CSV_COLUMNS = [
    "d",
    "K",
    "N",
    "shift",
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
    return taskset_cells(summary, settings)


def wide_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each cell, a column for each method, the oracle last."""
    methods = sorted(settings["methods"], key=is_oracle)
    columns = varying(rows)
    body = []
    for _, cell in rows.groupby(columns, sort=False):
        by_method = cell.set_index("method")
        best = _best(by_method, settings["metric"])
        cells = [_cell(by_method.loc[method], method in best) for method in methods]
        body.append((write_labels(cell.iloc[0], columns), cells))
    heads = [method_style(method).short for method in methods]
    notes = [*_notes(rows), *constants(rows), provenance(rows)]
    row_heads = [HEADS[column] for column in columns]
    return WideTable(row_heads, heads, body, settings.get("caption") or caption(settings), notes)


def _best(by_method: pd.DataFrame, metric: str) -> set[str]:
    """The methods with the best mean as written, the oracle aside."""
    means = by_method.loc[[not is_oracle(method) for method in by_method.index], "mean"].dropna()
    if means.empty:
        return set()
    best = means.min() if metric_text(metric).less_is_better else means.max()
    written = write_number(best)
    return {method for method, mean in means.items() if write_number(mean) == written}


def _cell(row: pd.Series, best: bool) -> Cell:
    if row["status"] == FAILED:
        return Cell("fails")
    if row["status"] == GAP or pd.isna(row["mean"]):
        return Cell("–")
    failures = f"{write_percent(row['failure_share'])} failed" if row["n_failed"] else ""
    interval = "" if pd.isna(row["low"]) else f"[{write_number(row['low'])}, {write_number(row['high'])}]"
    return Cell(write_number(row["mean"]), write_number(row["median"]), interval, failures, best)


def _notes(rows: pd.DataFrame) -> list[str]:
    notes = ["Each entry: mean / median over the tasks, [95 % bootstrap interval of the mean]."]
    if (rows["status"] == OK).any():
        notes.append("Bold: best mean apart from EM from the truth, which is the floor.")
    if (rows["status"] == FAILED).any():
        notes.append(f"'fails': failed on every task ({failure_reasons(rows)}).")
    if (rows["status"] == GAP).any():
        notes.append("'–': not trained or not run at this scale.")
    if ((rows["status"] == OK) & rows["mean"].isna()).any():
        notes.append("'–' also where the metric is not defined.")
    return notes


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    name = metric_text(settings["metric"]).name
    return (
        f"{name[0].upper()}{name[1:]} of every method on the task set '{settings['taskset']}'{shift_phrase(settings)}."
    )
