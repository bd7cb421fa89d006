"""Kind ``full-table``: every metric of every method in every cell."""

from __future__ import annotations

import pandas as pd

from tgmm.errors import UserError
from tgmm.figures.data import FAILED, GAP, failure_reasons, provenance
from tgmm.figures.labels import metric_text
from tgmm.tables.numbers import write_number, write_percent
from tgmm.tables.render import Cell, WideTable
from tgmm.tables.score_table import CSV_COLUMNS as SCORE_COLUMNS
from tgmm.tables.task_cells import HEADS, constants, shift_phrase, taskset_cells, varying, write_labels

CSV_COLUMNS = list(SCORE_COLUMNS)
CSV_COLUMNS.insert(CSV_COLUMNS.index("median") + 1, "quantile_90")
KEY = ["d", "K", "N", "shift", "shift_value", "method", "metric"]
# Heads short enough for a dozen columns; a metric without one is headed by its name in words.
METRIC_HEADS = {
    "l2_error": "ℓ2-error",
    "l2_error_reference": "ℓ2-error, reference",
    "mean_error": "means",
    "weight_error": "weights",
    "scale_error": "scales",
    "weight_cross_entropy": "cross-entropy",
    "accuracy": "accuracy",
    "log_likelihood": "log-likelihood",
    "log_likelihood_heldout": "held out",
    "log_likelihood_reference": "log-likelihood, reference",
    "log_likelihood_deficit": "below oracle",
    "log_likelihood_heldout_deficit": "held out, below oracle",
    "dropped_reference": "dropped, reference",
    "seconds": "seconds",
    "iterations": "iterations",
}


def long_table(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """One row a cell, method and metric; what has no value has a row whose status says why."""
    metrics = settings["metrics"]
    if not isinstance(metrics, list | tuple) or not metrics:
        raise UserError(f"artefact '{settings.get('id', '')}': 'metrics' must be a list of metrics, not {metrics!r}")
    parts = [taskset_cells(summary, settings | {"metric": metric}) for metric in dict.fromkeys(metrics)]
    rows = pd.concat(parts, ignore_index=True)
    shown = (summary["taskset"] == settings["taskset"]) & summary["method"].isin(rows["method"])
    quantiles = summary.loc[shown, [*KEY, "quantile_90"]]
    return rows.drop(columns="quantile_90", errors="ignore").merge(quantiles, on=KEY, how="left", validate="1:1")


def wide_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each cell and method, a column for the mean of each metric."""
    metrics = list(dict.fromkeys(rows["metric"]))
    columns = varying(rows)
    body = [
        ([*write_labels(part.iloc[0], columns), part["short"].iloc[0]], _entries(part.set_index("metric"), metrics))
        for _, part in rows.groupby([*columns, "method"], sort=False)
    ]
    row_heads = [*(HEADS[column] for column in columns), "method"]
    heads = [METRIC_HEADS.get(metric) or metric_text(metric).name for metric in metrics]
    return WideTable(
        row_heads,
        [*heads, "failed"],
        body,
        settings.get("caption") or caption(settings),
        [*_notes(rows, metrics), *constants(rows), provenance(rows)],
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


def _notes(rows: pd.DataFrame, metrics: list[str]) -> list[str]:
    names = {METRIC_HEADS[metric]: metric_text(metric).name for metric in metrics if metric in METRIC_HEADS}
    heads = "; ".join(f"{head}: {name}" for head, name in names.items() if head != name)
    notes = ["Each entry: mean over the tasks that did not fail.", *([f"Columns: {heads}."] if heads else [])]
    if (rows["status"] == FAILED).any():
        notes.append(f"'fails': failed on every task ({failure_reasons(rows)}).")
    if (rows["status"] == GAP).any() or rows["mean"].isna().any():
        notes.append("'–': not trained or not run at this scale, or not defined.")
    return notes


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    return f"Every metric of every method on the task set '{settings['taskset']}'{shift_phrase(settings)}."
