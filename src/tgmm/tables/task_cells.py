"""Every cell of a task set with every method, and what tells the cells of a table apart."""

from __future__ import annotations

import pandas as pd

from tgmm.figures.data import select_summary
from tgmm.figures.style import method_style
from tgmm.figures.labels import SHIFT_TEXTS, write_number

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
    labels["shift_value"] = (text.write if text else write_number)(cell["shift_value"])
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
