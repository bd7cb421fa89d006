"""Two folders of results side by side: which numbers of their summaries moved beyond their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tgmm.aggregate import read_table
from tgmm.columns import CELL, METHOD, METRICS, SUMMARY_COLUMNS
from tgmm.errors import UserError, unknown_name

# What tells the numbers of a summary apart; the scale may differ, for two scales may be compared.
KEYS = [name for name in [*CELL, *METHOD] if name not in ("scale", "seed", "family")]
COLUMNS = [*KEYS, "metric", "before", "low_before", "high_before", "after", "low_after", "high_after", "ratio"]


def read_summary(folder: Path) -> pd.DataFrame:
    """The summary of a folder of results, or the file itself."""
    path = folder / "summary.parquet" if folder.is_dir() else folder
    if not path.is_file():
        raise UserError(f"{path}: not there; give a folder of results, such as results/laptop")
    return read_table(path, SUMMARY_COLUMNS)


def compare_summaries(before: pd.DataFrame, after: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """The numbers that both summaries have, one row each, with ``moved`` and ``ratio`` (after / before).

    A number moved where each mean lies outside of the other's 95 % interval, or where one of the two has no value. With
    the same test tasks in both that is a cautious rule: the intervals are over tasks, which both share.

    Raises
    ------
    UserError : for a metric that no summary has, or summaries without a number in common.
    """
    metrics = list(metrics)
    for metric in metrics:
        if metric not in {*before["metric"], *after["metric"]}:
            raise unknown_name("metric", metric, METRICS)
    columns = [*KEYS, "metric", "mean", "low", "high"]
    parts = [table.loc[table["metric"].isin(metrics), columns] for table in (before, after)]
    joined = parts[0].merge(parts[1], on=[*KEYS, "metric"], suffixes=("_before", "_after"))
    if joined.empty:
        raise UserError("the two results have no number in common: no cell, method and metric is in both")
    joined = joined.rename(columns={"mean_before": "before", "mean_after": "after"})
    outside = [
        (joined[here] < joined[f"low_{there}"]) | (joined[here] > joined[f"high_{there}"])
        for here, there in (("after", "before"), ("before", "after"))
    ]
    one_missing = joined["before"].isna() != joined["after"].isna()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = joined["after"] / joined["before"]
    return joined.assign(ratio=ratio)[COLUMNS].assign(moved=(outside[0] & outside[1]) | one_missing)


def only_in_one(before: pd.DataFrame, after: pd.DataFrame, metrics: Iterable[str]) -> tuple[int, int]:
    """How many numbers only the first summary has, and only the second."""
    keys = [
        set(table.loc[table["metric"].isin(list(metrics)), [*KEYS, "metric"]].itertuples(index=False, name=None))
        for table in (before, after)
    ]
    return len(keys[0] - keys[1]), len(keys[1] - keys[0])


def lines(compared: pd.DataFrame, most: int) -> Iterable[str]:
    """The numbers that moved, farthest first, in lines of at most 80 characters."""
    moved = compared[compared["moved"]]
    yield f"{len(moved)} of {len(compared)} numbers moved beyond their intervals"
    if moved.empty:
        return
    distance = np.log(moved["ratio"].where(moved["ratio"] > 0)).abs().fillna(np.inf)
    shown = moved.loc[distance.sort_values(ascending=False, kind="stable").index].head(most)
    yield f"{'cell':32} {'method':22} {'before':>8} {'after':>8} {'ratio':>6}"
    for row in shown.to_dict("records"):
        yield f"{_cell(row):32.32} {row['method']:22.22} {row['before']:8.3g} {row['after']:8.3g} {row['ratio']:6.3g}"
    if len(moved) > most:
        yield f"and {len(moved) - most} more; --out writes all of them"


def _cell(row: dict) -> str:
    shift = "" if row["shift"] == "none" else f" {row['shift']} {row['shift_value']:g}"
    metric = "" if row["metric"] == "l2_error" else f" {row['metric']}"
    return f"{row['taskset']} d{row['d']} K{row['K']} N{row['N']}{shift}{metric}"
