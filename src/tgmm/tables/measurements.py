"""Tables of other measurements: the sorted loss's floor, sizes of the theorems' networks, the ablation."""

from __future__ import annotations

import pandas as pd

from tgmm.ablation import COLUMNS, COMPARED, compare
from tgmm.columns import reads
from tgmm.config import BASELINE
from tgmm.tables.render import Cell, WideTable, write_number, write_percent

# --- the error that the sorted, unmatched loss leaves in its own minimiser -------------------------------------------


SORTED_FLOOR_COLUMNS = (
    "d", "K", "N", "n_tasks", "seed", "approach", "mean", "median", "low", "high", "mean_error", "weight_error",
    "oracle_mean", "oracle_median", "effective_samples", "few_samples", "sorted_loss", "oracle_sorted_loss",
    "oracle_matched_loss",
)  # fmt: skip
KNOWN, SAMPLED = "known labels", "importance sampling"
FLOOR_HEADS = [KNOWN, SAMPLED, "EM from the truth", "ratio"]


@reads(summary=SORTED_FLOOR_COLUMNS, written=SORTED_FLOOR_COLUMNS)
def sorted_floor_rows(measured: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The measurement as it is: a row for each cell and approach."""
    return measured[list(SORTED_FLOOR_COLUMNS)]


def sorted_floor_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """A row for each d and K (and N, if there are several): both approaches, EM from the truth, and the ratio."""
    labels = ["d", "K", *(["N"] if rows["N"].nunique() > 1 else [])]
    body = [
        ([str(cell[name].iloc[0]) for name in labels], _floor_cells(cell.set_index("approach")))
        for _, cell in rows.groupby(["d", "K", "N"], sort=True)
    ]
    return WideTable(
        labels, list(FLOOR_HEADS), body, settings.get("caption") or caption_sorted_floor(settings), _floor_notes(rows)
    )


def _floor_cells(cell: pd.DataFrame) -> list[Cell]:
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


def _floor_notes(rows: pd.DataFrame) -> list[str]:
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


def caption_sorted_floor(settings: dict) -> str:
    """One sentence on what is shown."""
    return "The floor of the sorted, unmatched loss: ℓ2-error, after matching, of the estimate that minimises it."


# --- sizes of the constructed transformers beside what the theorems claim --------------------------------------------


SIZE_COLUMNS = (
    "theorem", "d", "K", "L", "layers", "layers_claimed", "layers_he_2025", "heads", "heads_claimed", "token_width",
    "hidden_width", "weights", "nonzero_weights",
)  # fmt: skip
SIZE_HEADS = {
    "layers": "layers",
    "layers_claimed": "claimed",
    "layers_he_2025": "He et al. 2025",
    "heads": "heads",
    "heads_claimed": "claimed",
    "token_width": "token width",
    "hidden_width": "hidden width",
    "nonzero_weights": "non-zero weights",
}


@reads(summary=SIZE_COLUMNS, written=SIZE_COLUMNS)
def theorem_sizes_rows(sizes: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The measured sizes as they are."""
    return sizes[list(SIZE_COLUMNS)]


def theorem_sizes_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """A row for each network: its theorem, d, K and steps L, then its sizes beside the claims."""
    body = [
        (
            [_write_size(row[name]) for name in ("theorem", "d", "K", "L")],
            [Cell(_write_size(row[name])) for name in SIZE_HEADS],
        )
        for _, row in rows.iterrows()
    ]
    notes = [
        "Claimed: 2 L layers and O(1) heads for L steps of EM (Theorem 1), d heads for a power iteration (Theorem 2).",
        "He et al. 2025: K L layers, the order of their construction for EM.",
    ]
    text = settings.get("caption") or caption_theorem_sizes(settings)
    return WideTable(["theorem", "d", "K", "L"], list(SIZE_HEADS.values()), body, text, notes)


def _write_size(value: object) -> str:
    if pd.isna(value):
        return "–"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def caption_theorem_sizes(settings: dict) -> str:
    """One sentence on what is shown."""
    return "Sizes of the transformers constructed for the theorems."


# --- one change of the recipe at a time ------------------------------------------------------------------------------


RECIPE_HEADS = ["tasks seen", "processor seconds", "ℓ2-error", "ratio", "after 20 EM steps", "ratio"]


@reads(summary=COLUMNS, written=COMPARED)
def ablation_rows(study: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The comparison: means over seeds with their ranges, in the order of the ratio over all dimensions."""
    return compare(study, settings.get("changes"))


def ablation_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """A row for each d and change; the baseline among the others, in the order of the errors."""
    body = [([str(row["d"]), row["label"]], _recipe_cells(row)) for _, row in rows.iterrows()]
    text = settings.get("caption") or caption_ablation(settings)
    return WideTable(
        ["d", "change"], list(RECIPE_HEADS), body, text, _recipe_notes(rows, settings), columns=("r", "l", *"cccccc")
    )


def _recipe_cells(row: pd.Series) -> list[Cell]:
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


def _recipe_notes(rows: pd.DataFrame, settings: dict) -> list[str]:
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


def caption_ablation(settings: dict) -> str:
    """One sentence on what is shown."""
    return "What one change of the recipe does to the error, at equal processor time of training."
