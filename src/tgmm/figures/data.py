"""What an artefact shows: the selected part of a summary as a full grid, its averages over K, and its footnotes.

A method without a value in some cell has a row that says so. Shared by figures and tables; free of the drawing library.
"""

from __future__ import annotations

import itertools
import math
import textwrap

import numpy as np
import pandas as pd

from tgmm.aggregate import not_applicable
from tgmm.columns import SUMMARY_COLUMNS
from tgmm.errors import UserError, refuse_unknown
from tgmm.figures.style import HorizontalAxis, method_style, shift_axis, shift_text

SUMMARY = tuple(SUMMARY_COLUMNS)
GRID = ["method", "d", "K", "N", "shift", "shift_value"]
COLUMNS = [*GRID, "scale", "taskset", "seed", "family", "metric", "mean", "median", "low", "high"]
COLUMNS += ["n_tasks", "n_failed", "failure_share", "failure_reason"]
DECLARED = {"d": "dimensions", "K": "n_components", "N": "n_points"}
OK, FAILED, GAP, UNDEFINED = "ok", "failed", "not run", "no finite mean"
WORST_FIRST = (FAILED, GAP, UNDEFINED, OK)
AVERAGE_NOTE = "average over K = {}; intervals combined as independent (half-widths in quadrature)"
NOTE_LENGTH = 118  # characters of a line of footnotes


# --- selection -----------------------------------------------------------------------------------------------------


def select_summary(summary: pd.DataFrame, settings: dict, free: tuple[str, ...] = ("d", "K")) -> pd.DataFrame:
    """Return one row for every method and cell of the artefact, in the artefact's order, with its ``status``.

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
    that this scale does not train, or a method that is not applicable in the cell).

    Raises
    ------
    UserError : for an unknown task set, metric or shift, a choice that is missing, or methods without any score.
    """
    here = _rows_of_taskset(summary, settings)
    levels = [_levels(here, column, settings, free) for column in DECLARED]
    conditions = _conditions(here, settings, free)
    rows = _rows_of_methods(here, settings)
    _refuse_repeats(rows)
    methods = settings.get("methods") or list(dict.fromkeys(rows["method"]))
    keys = [(*key[:-1], *key[-1]) for key in itertools.product(methods, *levels, conditions)]
    grid = pd.MultiIndex.from_tuples(keys, names=GRID)
    selection = rows.set_index(GRID)[[column for column in COLUMNS if column not in GRID]].reindex(grid).reset_index()
    selection = selection.assign(status=_statuses(selection))
    if (selection["status"] == GAP).all():
        raise _no_scores(settings)
    return selection


def _rows_of_taskset(summary: pd.DataFrame, settings: dict) -> pd.DataFrame:
    tasksets = sorted(summary["taskset"].unique())
    refuse_unknown("task set", settings["taskset"], tasksets)
    return summary[summary["taskset"] == settings["taskset"]]


def _rows_of_methods(rows: pd.DataFrame, settings: dict) -> pd.DataFrame:
    metrics = sorted(rows["metric"].unique())
    refuse_unknown("metric", settings["metric"], metrics)
    rows = rows[rows["metric"] == settings["metric"]]
    rows = rows if settings.get("methods") is None else rows[rows["method"].isin(settings["methods"])]
    if rows.empty:
        raise _no_scores(settings)
    return rows


def _no_scores(settings: dict) -> UserError:
    methods = ", ".join(settings.get("methods") or ["any"])
    return UserError(f"no scores of the methods {methods} on task set '{settings['taskset']}'")


def _levels(rows: pd.DataFrame, column: str, settings: dict, free: tuple[str, ...]) -> list:
    """Return the values of d, K or N: those declared for the task set, or else those that it has, as far as wanted.

    A declared d or K without scores makes a gap; N is one only where some method was scored at it.
    """
    seen = sorted(rows[column].unique().tolist())
    declared = sorted(settings.get(DECLARED[column]) or seen)
    values = [value for value in declared if column != "N" or value in seen] or seen
    wanted = [value for value in values if value in _as_list(settings.get(column, values))]
    return _refuse_choice(wanted, values, column, settings, free)


def _conditions(rows: pd.DataFrame, settings: dict, free: tuple[str, ...]) -> list[tuple[str, float]]:
    """Return (shift, value) of every condition: kinds in the task set's order, values ascending."""
    seen = sorted(set(zip(rows["shift"], rows["shift_value"], strict=True)))
    declared = [(entry["kind"], float(value)) for entry in settings.get("shifts") or () for value in entry["values"]]
    pairs = [pair for pair in seen if pair in declared] or seen
    order = list(dict.fromkeys([kind for kind, _ in declared] + [kind for kind, _ in pairs]))
    kinds = sorted({kind for kind, _ in pairs}, key=order.index)
    wanted = _as_list(settings.get("shift", kinds))
    for name in wanted:
        refuse_unknown("kind of shift", name, kinds)
    chosen = _refuse_choice([kind for kind in kinds if kind in wanted], kinds, "shift", settings, free)
    values = sorted({value for kind, value in pairs if kind in chosen})
    some = [float(value) for value in _as_list(settings.get("shift_value", values))]
    some = _refuse_choice([value for value in values if value in some], values, "shift_value", settings, free)
    return [(kind, value) for kind in chosen for value in some if (kind, value) in pairs]


def _as_list(value: object) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def _refuse_choice(wanted: list, values: list, column: str, settings: dict, free: tuple[str, ...]) -> list:
    """Return the wanted values, unless there are none, or several where the artefact shows one."""
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


def _statuses(selection: pd.DataFrame) -> np.ndarray:
    failed = selection["n_failed"] == selection["n_tasks"]
    missing = selection["n_tasks"].isna() | not_applicable(selection)
    return np.select([missing, failed], [GAP, FAILED], OK).astype(object)


def mark_undefined(selection: pd.DataFrame) -> pd.DataFrame:
    """Return the selection with ``status`` "no finite mean" where tasks were scored but the mean is no number."""
    undefined = (selection["status"] == OK) & ~np.isfinite(selection["mean"].astype(float))
    return selection.assign(status=selection["status"].mask(undefined, UNDEFINED))


def average_over_components(selection: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return one row for each value of ``keys``, in the order in which they come, averaged over K.

    ``mean`` and ``median`` are averages of those of the cells. Tasks of different K are independent, so the distances
    of ``low`` and ``high`` from the mean add in quadrature. A method without a value at some K has none on average,
    with that cell's ``status``: an average over fewer would flatter a method that fails at the hard ones.

    Parameters
    ----------
    selection : with ``status``, the statistics and the columns in ``keys``, one row for each of their values and K.
    """
    rows = [dict(zip(keys, key, strict=True)) | _average(part) for key, part in selection.groupby(keys, sort=False)]
    return pd.DataFrame(rows)


def _average(rows: pd.DataFrame) -> dict:
    status = next(name for name in WORST_FIRST if (rows["status"] == name).any())
    reason = next(iter(rows.loc[rows["status"] == FAILED, "failure_reason"]), "")
    counts = {"status": status, "n_failed": rows["n_failed"].sum(), "failure_reason": reason}
    if status != OK:
        return counts | dict.fromkeys(("mean", "median", "low", "high"), math.nan)
    mean = rows["mean"].mean()
    below, above = (_half_width(rows["mean"] - rows["low"]), _half_width(rows["high"] - rows["mean"]))
    return counts | {"mean": mean, "median": rows["median"].mean(), "low": mean - below, "high": mean + above}


def _half_width(half_widths: pd.Series) -> float:
    return float(np.sqrt(np.square(half_widths).sum(skipna=False)) / len(half_widths))


# --- footnotes -----------------------------------------------------------------------------------------------------


def provenance(selection: pd.DataFrame) -> str:
    """Return what every artefact says of itself: scale, number of tasks a cell, seed."""
    present = selection[selection["status"] != GAP]
    scales = ", ".join(sorted(present["scale"].unique()))
    tasks, seeds, points = (
        ", ".join(str(int(value)) for value in sorted(present[column].unique())) for column in ("n_tasks", "seed", "N")
    )
    return f"scale {scales} · {tasks} tasks a cell · N = {points} · seed {seeds}"


def failure_reasons(selection: pd.DataFrame) -> str:
    """Return why methods failed on every task of some cells: the head of each method's first reason, up to a colon."""
    reasons = []
    for method, rows in selection[selection["status"] == FAILED].groupby("method", sort=True):
        heads = [str(reason).split(":")[0] for reason in rows["failure_reason"].unique()]
        reasons.append(f"{method_style(method).short}: {heads[0]}{' and the like' if len(set(heads)) > 1 else ''}")
    return "; ".join(reasons)


def untrained_note(settings: dict) -> list[str]:
    """Return a note on the families that an artefact would show if they were trained; none where none is missing."""
    missing = settings.get("untrained", ())
    return [f"n/a, not trained at this scale: {', '.join(missing)}"] if missing else []


def common_note(selection: pd.DataFrame, axis: HorizontalAxis) -> list[str]:
    """Return notes on the dimension and the shift, where they are neither on the axis nor told apart by panels."""
    notes = []
    if axis.column != "d" and selection["d"].nunique() == 1:
        notes.append(f"d = {selection['d'].iloc[0]}")
    kind, value = selection["shift"].iloc[0], selection["shift_value"].iloc[0]
    if axis.column != "shift_value" and kind != "none":
        notes.append(f"{shift_text(kind).name}: {shift_axis(kind).write(value)}")
    return notes


def fill(notes: list[str]) -> list[str]:
    """Return the notes in as few lines as hold them; break one that is longer than a line."""
    lines: list[str] = []
    for note in notes:
        joined = f"{lines[-1]} · {note}" if lines else note
        if lines and len(joined) <= NOTE_LENGTH:
            lines[-1] = joined
        else:
            lines += textwrap.wrap(note, NOTE_LENGTH, break_long_words=False, break_on_hyphens=False)
    return lines
