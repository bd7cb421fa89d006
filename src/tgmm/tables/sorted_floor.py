"""Kind ``sorted-floor-table``: the error that the sorted, unmatched loss leaves in its own minimiser."""

from __future__ import annotations

import pandas as pd

from tgmm.tables.numbers import write_number, write_percent
from tgmm.tables.render import Cell, WideTable

COLUMNS = (
    "d", "K", "N", "n_tasks", "seed", "approach", "mean", "median", "low", "high", "mean_error", "weight_error",
    "oracle_mean", "oracle_median", "effective_samples", "few_samples", "sorted_loss", "oracle_sorted_loss",
    "oracle_matched_loss",
)  # fmt: skip
KNOWN, SAMPLED = "known labels", "importance sampling"
HEADS = [KNOWN, SAMPLED, "EM from the truth", "ratio"]


def long_table(measured: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The measurement as it is: a row for each cell and approach."""
    return measured[list(COLUMNS)]


def wide_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """A row for each d and K (and N, if there are several): both approaches, EM from the truth, and the ratio."""
    labels = ["d", "K", *(["N"] if rows["N"].nunique() > 1 else [])]
    body = [
        ([str(cell[name].iloc[0]) for name in labels], _cells(cell.set_index("approach")))
        for _, cell in rows.groupby(["d", "K", "N"], sort=True)
    ]
    return WideTable(labels, list(HEADS), body, settings.get("caption") or caption(settings), _notes(rows))


def _cells(cell: pd.DataFrame) -> list[Cell]:
    first = cell.iloc[0]
    oracle = Cell(write_number(first["oracle_mean"]), write_number(first["oracle_median"]))
    ratio = "–"
    if SAMPLED in cell.index:
        ratio = write_number(cell.loc[SAMPLED, "mean"] / first["oracle_mean"])
    return [_floor(cell, KNOWN), _floor(cell, SAMPLED), oracle, Cell(ratio)]


def _floor(cell: pd.DataFrame, approach: str) -> Cell:
    if approach not in cell.index:
        return Cell("–")
    row = cell.loc[approach]
    interval = f"[{write_number(row['low'])}, {write_number(row['high'])}]"
    samples = ""
    if approach == SAMPLED:
        samples = f"{row['effective_samples']:.0f} samples"
        if row["few_samples"]:
            samples += f", {write_percent(row['few_samples'])} of tasks below 50"
    return Cell(write_number(row["mean"]), write_number(row["median"]), interval, samples)


def _notes(rows: pd.DataFrame) -> list[str]:
    constant = [f"N={rows['N'].iloc[0]}"] if rows["N"].nunique() == 1 else []
    constant += [f"{rows['n_tasks'].iloc[0]} tasks a cell", f"seed {rows['seed'].iloc[0]}"]
    return [
        "Each entry: mean / median of the ℓ2-error over the tasks, [95 % bootstrap interval of the mean].",
        "Known labels: the clusters are given, and only which of them is the k-th lightest is open.",
        "Importance sampling: the points alone are given; below the interval, the median effective sample size. Tasks "
        "with few samples understate the floor.",
        "Ratio: importance sampling's mean over that of EM from the truth, the statistical floor, on the same tasks.",
        f"{' · '.join(constant)}.",
    ]


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    return "The floor of the sorted, unmatched loss: ℓ2-error, after matching, of the estimate that minimises it."
