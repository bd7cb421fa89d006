"""Tables of scores: one metric of every method in every cell, to be read, and every metric, to be looked up."""

from __future__ import annotations

import pandas as pd

from tgmm.columns import reads
from tgmm.figures.data import FAILED, GAP, OK, failure_reasons, provenance, select_summary
from tgmm.figures.style import SHIFT_TEXTS, is_floor, method_style, metric_text
from tgmm.figures.style import write_number as write_value
from tgmm.tables.render import Cell, WideTable, write_number, write_percent

# The columns that name a cell, and their heads, in the order of a wide table's heads.
HEADS = {"shift": "shift", "d": "d", "K": "K", "N": "N", "shift_value": "value"}
UNSHIFTED = "none"


def taskset_cells(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row for every cell and method, cells in the order of ``HEADS`` and methods in that of the settings.

    Parameters
    ----------
    summary : the summary of the scores.
    settings : as for :func:`tgmm.figures.data.select_summary`; without ``shift``, every kind of shift is there.

    Returns
    -------
    DataFrame with ``status`` and the methods' ``label`` and ``short`` beside the summary's columns.
    """
    cells = select_summary(summary, settings, free=tuple(HEADS))
    kinds = list(dict.fromkeys(cells["shift"]))
    cells["order"] = cells["shift"].map(kinds.index)
    cells = cells.sort_values(["order", "d", "K", "N", "shift_value"], kind="stable").drop(columns="order")
    looks = [method_style(method) for method in cells["method"]]
    counts = {name: cells[name].astype("Int64") for name in ("n_tasks", "n_failed")}
    cells = cells.assign(label=[look.label for look in looks], short=[look.short for look in looks], **counts)
    cells = cells.assign(metric=settings["metric"], failure_reason=cells["failure_reason"].fillna(""))
    return cells.reset_index(drop=True)


def varying(rows: pd.DataFrame) -> list[str]:
    """The columns of ``HEADS`` that have several values, or d and K if none has."""
    return [column for column in HEADS if rows[column].nunique() > 1] or ["d", "K"]


def write_labels(cell: pd.Series, columns: list[str]) -> list[str]:
    """The labels of a row: the values of its cell in the columns that are shown."""
    text = SHIFT_TEXTS.get(cell["shift"])
    labels = {column: str(cell[column]) for column in ("d", "K", "N")}
    labels["shift"] = _shift_name(cell["shift"])
    labels["shift_value"] = (text.write if text else write_value)(cell["shift_value"])
    return [labels[column] for column in columns]


def constants(rows: pd.DataFrame) -> list[str]:
    """A note on what is the same in every row; N stands in the line on provenance."""
    heads = varying(rows)
    fixed = [f"{column} = {rows[column].iloc[0]}" for column in ("d", "K") if column not in heads]
    kind = rows["shift"].iloc[0]
    if "shift" not in heads and kind != UNSHIFTED:
        fixed.append(f"shift: {_shift_name(kind)}")
    return [f"In every row {', '.join(fixed)}."] if fixed else []


def shift_phrase(settings: dict) -> str:
    """What a caption says of the kind of shift, if the settings name one."""
    return f", shift: {_shift_name(settings['shift'])}" if settings.get("shift") else ""


def _shift_name(kind: str) -> str:
    return SHIFT_TEXTS[kind].name if kind in SHIFT_TEXTS else kind


# --- mean, 95 % interval, median and failures of every method in every cell, oracle beside ---------------------------


TABLE_COLUMNS = [
    "d", "K", "N", "shift", "shift_value", "method", "label", "short", "metric", "status", "mean", "low", "high",
    "median", "n_tasks", "n_failed", "failure_share", "failure_reason",
]  # fmt: skip


@reads(written=TABLE_COLUMNS)
def score_rows(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a cell and method, for machines; methods without a value have a row whose status says why."""
    return taskset_cells(summary, settings)


def score_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each cell, a column for each method, the oracle last."""
    methods = sorted(settings["methods"], key=is_floor)
    columns = varying(rows)
    body = []
    for _, cell in rows.groupby(columns, sort=False):
        by_method = cell.set_index("method")
        best = _best(by_method, settings["metric"])
        cells = [_cell(by_method.loc[method], method in best) for method in methods]
        body.append((write_labels(cell.iloc[0], columns), cells))
    heads = [method_style(method).short for method in methods]
    notes = [*_score_notes(rows), *constants(rows), provenance(rows)]
    row_heads = [HEADS[column] for column in columns]
    return WideTable(row_heads, heads, body, settings.get("caption") or caption_score(settings), notes)


def _best(by_method: pd.DataFrame, metric: str) -> set[str]:
    """The methods with the best mean as written, the oracle aside."""
    means = by_method.loc[[not is_floor(method) for method in by_method.index], "mean"].dropna()
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


def _score_notes(rows: pd.DataFrame) -> list[str]:
    notes = ["Each entry: mean / median over the tasks, [95 % bootstrap interval of the mean]."]
    if (rows["status"] == OK).any():
        notes.append("Bold: best mean apart from EM from the truth, which is the floor.")
    if (rows["status"] == FAILED).any():
        notes.append(f"'fails': failed on every task ({failure_reasons(rows)}).")
    if (rows["status"] == GAP).any():
        notes.append("'–': not trained, not run at this scale, or not applicable.")
    if ((rows["status"] == OK) & rows["mean"].isna()).any():
        notes.append("'–' also where the metric is not defined.")
    return notes


def caption_score(settings: dict) -> str:
    """One sentence on what is shown."""
    name = metric_text(settings["metric"]).name
    return (
        f"{name[0].upper()}{name[1:]} of every method on the task set '{settings['taskset']}'{shift_phrase(settings)}."
    )


# --- every metric of every method in every cell ----------------------------------------------------------------------


FULL_COLUMNS = list(TABLE_COLUMNS)
FULL_COLUMNS.insert(FULL_COLUMNS.index("median") + 1, "quantile_90")
FULL_KEY = ["d", "K", "N", "shift", "shift_value", "method", "metric"]


@reads(written=FULL_COLUMNS)
def full_rows(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a cell, method and metric; what has no value has a row whose status says why."""
    parts = [taskset_cells(summary, settings | {"metric": metric}) for metric in dict.fromkeys(settings["metrics"])]
    rows = pd.concat(parts, ignore_index=True)
    shown = (summary["taskset"] == settings["taskset"]) & summary["method"].isin(rows["method"])
    quantiles = summary.loc[shown, [*FULL_KEY, "quantile_90"]]
    return rows.drop(columns="quantile_90", errors="ignore").merge(quantiles, on=FULL_KEY, how="left", validate="1:1")


def full_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each cell and method, a column for the mean of each metric."""
    metrics = list(dict.fromkeys(rows["metric"]))
    columns = varying(rows)
    body = [
        ([*write_labels(part.iloc[0], columns), part["short"].iloc[0]], _entries(part.set_index("metric"), metrics))
        for _, part in rows.groupby([*columns, "method"], sort=False)
    ]
    row_heads = [*(HEADS[column] for column in columns), "method"]
    heads = [metric_text(metric).head for metric in metrics]
    return WideTable(
        row_heads,
        [*heads, "failed"],
        body,
        settings.get("caption") or caption_full(settings),
        [*_full_notes(rows, metrics), *constants(rows), provenance(rows)],
        columns=("r",) * len(columns) + ("l",) + ("r",) * (len(heads) + 1),
        long=True,
    )


def _entries(by_metric: pd.DataFrame, metrics: list[str]) -> list[Cell]:
    """The means in the metrics' order, then the share of failed tasks."""
    status = by_metric["status"].iloc[0]
    if status == FAILED:
        return [*(Cell("fails") for _ in metrics), Cell("100 %")]
    if status == GAP:
        return [Cell("–")] * (len(metrics) + 1)
    means = [by_metric.at[metric, "mean"] for metric in metrics]
    failed = write_percent(by_metric["failure_share"].iloc[0])
    return [Cell("–" if pd.isna(mean) else write_number(mean)) for mean in means] + [Cell(failed)]


def _full_notes(rows: pd.DataFrame, metrics: list[str]) -> list[str]:
    texts = [metric_text(metric) for metric in metrics]
    heads = "; ".join(f"{text.head}: {text.name}" for text in texts if text.head != text.name)
    notes = ["Each entry: mean over the tasks that did not fail.", *([f"Columns: {heads}."] if heads else [])]
    if (rows["status"] == FAILED).any():
        notes.append(f"'fails': failed on every task ({failure_reasons(rows)}).")
    if (rows["status"] == GAP).any() or rows["mean"].isna().any():
        notes.append("'–': not trained, not run at this scale, not applicable, or not defined.")
    return notes


def caption_full(settings: dict) -> str:
    """One sentence on what is shown."""
    return f"Every metric of every method on the task set '{settings['taskset']}'{shift_phrase(settings)}."
