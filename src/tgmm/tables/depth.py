"""Depth as iterations: the error after each block of a network, after as many EM steps from the same start, and of
networks that were trained with fewer or more blocks.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tgmm.columns import PROBE_COLUMNS, reads
from tgmm.tables.render import Cell, WideTable, write_number
from tgmm.train.status import HISTORY_COLUMNS

BLOCKS, STEPS, TRAINED, ORACLE = "blocks of one network", "EM steps", "networks of that depth", "EM from the truth"
DEPTH_COLUMNS = ["approach", "depth", "mean", "median", "family", "d", "N", "n_tasks", "seed", "scale"]
SHOWN = 8  # depths of the table for reading, besides the last
VARIANTS = {"network": BLOCKS, "em": STEPS, "oracle": ORACLE}


@reads(summary=PROBE_COLUMNS, tables=(*HISTORY_COLUMNS, "blocks"), written=DEPTH_COLUMNS)
def depth_rows(measured: pd.DataFrame, settings: dict, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row for each approach and depth, averaged over K.

    An estimate of depth 1 is what the network reads out after its first block; EM goes on from there, a step for a
    depth. Networks of another depth have had one budget of tasks each, and are validated on their own tasks.
    """
    errors = measured[measured["quantity"] == "l2_error"]
    keys = ["variant", "layer"]
    averaged = errors.groupby(keys, as_index=False).agg({"mean": "mean", "median": "mean", "n_tasks": "first"})
    same = {name: errors[name].iloc[0] for name in ("family", "d", "N", "seed", "scale")}
    rows = averaged.assign(approach=averaged["variant"].map(VARIANTS), depth=averaged["layer"], **same)
    trained = [
        same | {"approach": TRAINED, "family": family, "depth": int(history["blocks"].iloc[0]), "mean": _last(history)}
        for family, history in tables.items()
    ]
    return pd.concat([rows, pd.DataFrame(trained)], ignore_index=True)[DEPTH_COLUMNS]


def _last(history: pd.DataFrame) -> float:
    """The validation error at the end of a training."""
    return history.dropna(subset="validation_l2_error").sort_values("tasks")["validation_l2_error"].iloc[-1]


def depth_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each depth, a column for each approach, mean / median."""
    approaches = [name for name in (BLOCKS, STEPS, TRAINED) if (rows["approach"] == name).any()]
    every = sorted(set(rows.loc[rows["approach"].isin(approaches), "depth"]))
    depths = [depth for depth in every if depth <= SHOWN or depth == every[-1]]
    by_depth = rows.set_index(["approach", "depth"])
    body = [([str(depth)], [_cell(by_depth, name, depth) for name in approaches]) for depth in depths]
    first = rows.iloc[0]
    notes = [
        "Mean / median over tasks, averaged over K; of networks of that depth the validation error at the end of one "
        "common budget. EM goes on from the estimate after the first block.",
        f"EM from the truth: {write_number(rows.loc[rows['approach'] == ORACLE, 'mean'].iloc[0])}.",
        f"scale {first['scale']} · {first['n_tasks']:.0f} tasks for each K · N = {first['N']} · seed {first['seed']}",
    ]
    return WideTable(["depth"], approaches, body, settings.get("caption") or caption_depth(settings), notes)


def _cell(rows: pd.DataFrame, approach: str, depth: int) -> Cell:
    if (approach, depth) not in rows.index:
        return Cell("–")
    row = rows.loc[(approach, depth)]
    return Cell(write_number(row["mean"]), "" if pd.isna(row["median"]) else write_number(row["median"]))


def caption_depth(settings: dict) -> str:
    """What the table shows."""
    return f"Depth as iterations: ℓ2-error after each block of {settings['families'][0]} beside EM from the same start."
