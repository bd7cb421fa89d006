"""Kind ``recipe-table``: the recipe study in numbers, a row for each dimension and change."""

from __future__ import annotations

import pandas as pd

from tgmm.recipe_study.comparison import COLUMNS, COMPARED, compare
from tgmm.study.recipe_study import BASELINE
from tgmm.tables.numbers import write_number
from tgmm.tables.render import Cell, WideTable

__all__ = ["COLUMNS", "COMPARED", "caption", "long_table", "wide_table"]

HEADS = ["tasks seen", "processor seconds", "ℓ2-error", "ratio", "after 20 EM steps", "ratio"]


def long_table(study: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The comparison: means over seeds with their ranges, in the order of the ratio over all dimensions."""
    return compare(study, settings.get("changes"))


def wide_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """A row for each d and change; the baseline among the others, in the order of the errors."""
    body = [([str(row["d"]), row["label"]], _cells(row)) for _, row in rows.iterrows()]
    text = settings.get("caption") or caption(settings)
    return WideTable(["d", "change"], list(HEADS), body, text, _notes(rows, settings), columns=("r", "l", *"cccccc"))


def _cells(row: pd.Series) -> list[Cell]:
    tasks = "–" if pd.isna(row["tasks"]) else f"{int(row['tasks']):,}".replace(",", " ")
    lost = f"{row['n_diverged']} of {row['n_seeds']} diverged" if row["n_diverged"] else ""
    errors = [_ranged(row, name) for name in ("error", "ratio", "error_em20", "ratio_em20")]
    first = errors[0]
    errors[0] = Cell(first.mean, interval=first.interval, failures=lost, best=bool(row["best"]))
    return [Cell(tasks), _ranged(row, "processor_seconds"), *errors]


def _ranged(row: pd.Series, name: str) -> Cell:
    """A value over the seeds with its range, if there are several seeds and they differ."""
    if pd.isna(row[name]):
        return Cell("–")
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = f"[{write_number(low)}, {write_number(high)}]" if low < high else ""
    return Cell(write_number(row[name]), interval=interval)


def _notes(rows: pd.DataFrame, settings: dict) -> list[str]:
    levels = [
        f"d = {d}: EM from the truth {write_number(cell['oracle'].iloc[0])}, EM with 10 k-means++ starts "
        f"{write_number(cell['em_restarts'].iloc[0])}."
        for d, cell in rows.groupby("d")
    ]
    base = rows[rows["change"] == BASELINE]["parameters"].max()
    parameters = f" of {int(base):,} parameters".replace(",", " ") if pd.notna(base) else ""
    seeds = int(rows["n_seeds"].max())
    return [
        f"One change at a time from the recipe {settings.get('recipe', '')}{parameters}, at equal processor time.",
        f"Each entry: mean over {seeds} seed{'s' * (seeds > 1)}, [smallest, largest]. Ratio: error by the baseline's "
        "with the same seed, geometric mean.",
        "ℓ2-error: of the network alone on validation tasks, averaged over K; the smallest ratio of each d in bold.",
        *levels,
        f"scale {settings.get('scale', '')}"
        + (
            f" · {settings['validation_tasks']} validation tasks for each K." if "validation_tasks" in settings else "."
        ),
    ]


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    return "What one change of the recipe does to the error, at equal processor time of training."
