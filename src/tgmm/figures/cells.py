"""The part of a summary that an artefact shows, as a full grid: what is missing has a row that says so."""

from __future__ import annotations

import pandas as pd

from tgmm.aggregate import ORACLE
from tgmm.errors import UserError, unknown_name
from tgmm.figures.palette import method_style

GRID = ["method", "d", "K", "N", "shift_value"]
AXES = ["N", "shift_value"]
COLUMNS = [*GRID, "scale", "taskset", "seed", "metric", "mean", "median", "low", "high"]
COLUMNS += ["n_tasks", "n_failed", "failure_share", "failure_reason"]
OK, FAILED, GAP = "ok", "failed", "not run"


def select_cells(summary: pd.DataFrame, settings: dict, free: tuple[str, ...] = ("d", "K")) -> pd.DataFrame:
    """One row for every method and cell of the artefact, in the artefact's order, with its ``status``.

    Parameters
    ----------
    summary : the summary of the scores.
    settings : the artefact's: ``taskset``, ``metric``, ``methods``; optionally ``dimensions``, ``n_components`` and a
        value for ``N`` or ``shift_value`` where the task set has several and they are not among ``free``.
    free : the columns that the artefact spreads over axes and panels.

    Returns
    -------
    DataFrame with ``status`` "ok", "failed" (every task of the cell failed) or "not run" (no scores, as for a family
    that this scale does not train).
    """
    rows = _rows_of_taskset(summary, settings)
    for column in AXES:
        if column not in free:
            rows = rows[rows[column] == _only_value(rows, column, settings)]
    _refuse_repeats(rows)
    methods = settings.get("methods") or list(dict.fromkeys(rows["method"]))
    values = {"d": settings.get("dimensions"), "K": settings.get("n_components")}
    levels = [sorted(values.get(column) or rows[column].unique()) for column in GRID[1:]]
    grid = pd.MultiIndex.from_product([methods, *levels], names=GRID)
    cells = rows.set_index(GRID)[[column for column in COLUMNS if column not in GRID]].reindex(grid).reset_index()
    return cells.assign(status=[_status(*pair) for pair in zip(cells["n_tasks"], cells["n_failed"], strict=True)])


def _rows_of_taskset(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    tasksets = sorted(summary["taskset"].unique())
    if settings["taskset"] not in tasksets:
        raise unknown_name("task set", settings["taskset"], tasksets)
    rows = summary[summary["taskset"] == settings["taskset"]]
    metrics = sorted(rows["metric"].unique())
    if settings["metric"] not in metrics:
        raise unknown_name("metric", settings["metric"], metrics)
    methods = settings.get("methods")
    rows = rows[rows["metric"] == settings["metric"]]
    rows = rows if methods is None else rows[rows["method"].isin(methods)]
    if rows.empty:
        raise UserError(f"no scores of the methods {', '.join(methods)} on task set '{settings['taskset']}'")
    return rows


def _only_value(rows: pd.DataFrame, column: str, settings: dict):
    values = sorted(rows[column].unique().tolist())
    wanted = settings.get(column, values[0] if len(values) == 1 else None)
    if wanted not in values:
        raise UserError(
            f"artefact '{settings.get('id', '')}' needs '{column}' to be one of {', '.join(map(str, values))}"
        )
    return wanted


def _refuse_repeats(rows: pd.DataFrame) -> None:
    repeated = rows[rows.duplicated(GRID)]
    if len(repeated):
        row = repeated.iloc[0]
        raise UserError(f"the summary has several rows for method '{row['method']}' at d={row['d']}, K={row['K']}")


def _status(n_tasks: float, n_failed: float) -> str:
    if pd.isna(n_tasks):
        return GAP
    return FAILED if n_failed == n_tasks else OK


def provenance(cells: pd.DataFrame) -> str:
    """What every artefact says of itself: scale, number of tasks a cell, seed."""
    present = cells[cells["status"] != GAP]

    def listed(column: str) -> str:
        return ", ".join(str(value) for value in sorted(present[column].unique()))

    tasks = sorted({int(count) for count in present["n_tasks"]})
    seeds = ", ".join(str(int(seed)) for seed in sorted(present["seed"].unique()))
    points = ", ".join(str(int(count)) for count in sorted(present["N"].unique()))
    return f"scale {listed('scale')} · {', '.join(map(str, tasks))} tasks a cell · N = {points} · seed {seeds}"


def failure_reasons(cells: pd.DataFrame) -> str:
    """Why methods failed on every task of some cells: the head of each method's first reason, up to a colon."""
    reasons = []
    for method, rows in cells[cells["status"] == FAILED].groupby("method", sort=True):
        heads = [str(reason).split(":")[0] for reason in rows["failure_reason"].unique()]
        reasons.append(f"{method_style(method).short}: {heads[0]}{' and the like' if len(set(heads)) > 1 else ''}")
    return "; ".join(reasons)


def is_oracle(method: str) -> bool:
    """Whether the method knows the truth and so marks the floor."""
    return method == ORACLE
