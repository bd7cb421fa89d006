"""The part of a summary that an artefact shows, as a full grid: what is missing has a row that says so."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from tgmm.columns import ORACLE
from tgmm.errors import UserError, unknown_name
from tgmm.figures.palette import method_style

GRID = ["method", "d", "K", "N", "shift", "shift_value"]
COLUMNS = [*GRID, "scale", "taskset", "seed", "family", "metric", "mean", "median", "low", "high"]
COLUMNS += ["n_tasks", "n_failed", "failure_share", "failure_reason"]
DECLARED = {"d": "dimensions", "K": "n_components", "N": "n_points"}
OK, FAILED, GAP, UNDEFINED = "ok", "failed", "not run", "no finite mean"


def select_cells(summary: pd.DataFrame, settings: dict, free: tuple[str, ...] = ("d", "K")) -> pd.DataFrame:
    """One row for every method and cell of the artefact, in the artefact's order, with its ``status``.

    Parameters
    ----------
    summary : the summary of the scores.
    settings : the artefact's: ``taskset``, ``metric``, ``methods``; optionally the task set's ``dimensions``,
        ``n_components``, ``n_points`` and ``shifts``; and ``d``, ``K``, ``N``, ``shift`` or ``shift_value``, one value
        or a list, for a part of the cells. Where the task set has several values of a column, the settings must name
        one unless it is among ``free``.
    free : the columns that the artefact spreads over axes and panels, of those in ``GRID``.

    Returns
    -------
    DataFrame with ``status`` "ok", "failed" (every task of the cell failed) or "not run" (no scores, as for a family
    that this scale does not train).
    """
    here = _rows_of_taskset(summary, settings)
    levels = [_levels(here, column, settings, free) for column in DECLARED]
    conditions = _conditions(here, settings, free)
    rows = _rows_of_methods(here, settings)
    _refuse_repeats(rows)
    methods = settings.get("methods") or list(dict.fromkeys(rows["method"]))
    keys = [(*key[:-1], *key[-1]) for key in itertools.product(methods, *levels, conditions)]
    grid = pd.MultiIndex.from_tuples(keys, names=GRID)
    cells = rows.set_index(GRID)[[column for column in COLUMNS if column not in GRID]].reindex(grid).reset_index()
    cells = cells.assign(status=[_status(*pair) for pair in zip(cells["n_tasks"], cells["n_failed"], strict=True)])
    if (cells["status"] == GAP).all():
        raise _no_scores(settings)
    return cells


def _rows_of_taskset(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    tasksets = sorted(summary["taskset"].unique())
    if settings["taskset"] not in tasksets:
        raise unknown_name("task set", settings["taskset"], tasksets)
    return summary[summary["taskset"] == settings["taskset"]]


def _rows_of_methods(rows: pd.DataFrame, settings: dict) -> pd.DataFrame:
    metrics = sorted(rows["metric"].unique())
    if settings["metric"] not in metrics:
        raise unknown_name("metric", settings["metric"], metrics)
    rows = rows[rows["metric"] == settings["metric"]]
    rows = rows if settings.get("methods") is None else rows[rows["method"].isin(settings["methods"])]
    if rows.empty:
        raise _no_scores(settings)
    return rows


def _no_scores(settings: dict) -> UserError:
    methods = ", ".join(settings.get("methods") or ["any"])
    return UserError(f"no scores of the methods {methods} on task set '{settings['taskset']}'")


def _levels(rows: pd.DataFrame, column: str, settings: dict, free: tuple[str, ...]) -> list:
    """The values of d, K or N: those declared for the task set, or else those that it has, as far as they are wanted.

    A declared d or K without scores makes a gap; N is one only where some method was scored at it.
    """
    seen = sorted(rows[column].unique().tolist())
    declared = sorted(settings.get(DECLARED[column]) or seen)
    values = [value for value in declared if column != "N" or value in seen] or seen
    wanted = [value for value in values if value in _as_list(settings.get(column, values))]
    return _refuse_choice(wanted, values, column, settings, free)


def _conditions(rows: pd.DataFrame, settings: dict, free: tuple[str, ...]) -> list[tuple[str, float]]:
    """(shift, value) of every condition: kinds in the task set's order, values ascending."""
    seen = sorted(set(zip(rows["shift"], rows["shift_value"], strict=True)))
    declared = [(entry["kind"], float(value)) for entry in settings.get("shifts") or () for value in entry["values"]]
    pairs = [pair for pair in seen if pair in declared] or seen
    order = list(dict.fromkeys([kind for kind, _ in declared] + [kind for kind, _ in pairs]))
    kinds = sorted({kind for kind, _ in pairs}, key=order.index)
    wanted = _as_list(settings.get("shift", kinds))
    for name in wanted:
        if name not in kinds:
            raise unknown_name("kind of shift", name, kinds)
    chosen = _refuse_choice([kind for kind in kinds if kind in wanted], kinds, "shift", settings, free)
    values = sorted({value for kind, value in pairs if kind in chosen})
    some = [float(value) for value in _as_list(settings.get("shift_value", values))]
    some = _refuse_choice([value for value in values if value in some], values, "shift_value", settings, free)
    return [(kind, value) for kind in chosen for value in some if (kind, value) in pairs]


def _as_list(value: object) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def _refuse_choice(wanted: list, values: list, column: str, settings: dict, free: tuple[str, ...]) -> list:
    """The wanted values, unless there are none, or several where the artefact shows one."""
    if not wanted or (len(wanted) > 1 and column not in free):
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


def mark_undefined(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with ``status`` "no finite mean" where tasks were scored but the metric's mean is no number."""
    undefined = (cells["status"] == OK) & ~np.isfinite(cells["mean"].astype(float))
    return cells.assign(status=cells["status"].mask(undefined, UNDEFINED))


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
