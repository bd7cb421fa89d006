"""From scores, one row a task and method, to the summary that figures, tables and the paper read.

The summary has one row a cell, method and metric: mean and median over the tasks that did not fail, a 95 % bootstrap
percentile interval of the mean (Efron & Tibshirani 1993, chapter 13), and the share of tasks that failed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tgmm.errors import UserError
from tgmm.files import atomic_path, write_json

CELL = ["scale", "taskset", "covariance", "d", "K", "N", "shift", "shift_value"]
METHOD = ["method", "family", "recipe", "seed"]
METRICS = [
    "mean_error",
    "weight_error",
    "scale_error",
    "l2_error",
    "l2_error_reference",
    "weight_cross_entropy",
    "accuracy",
    "log_likelihood",
    "log_likelihood_heldout",
    "log_likelihood_reference",
    "dropped_reference",
    "seconds",
    "iterations",
]
SCORE_COLUMNS = [*CELL, "task_id", *METHOD, *METRICS, "failed", "failure_reason"]
STATISTICS = ["mean", "median", "low", "high", "quantile_90", "n_tasks", "n_failed", "failure_share", "failure_reason"]
SUMMARY_COLUMNS = [*CELL, *METHOD, "metric", *STATISTICS]
ORACLE = "em-oracle"
DEFICIT = "_deficit"
LIKELIHOODS = ["log_likelihood", "log_likelihood_heldout"]
# Averages of the reference evaluator are over the tasks that it keeps.
REFERENCE = ["l2_error_reference", "log_likelihood_reference"]
CONFIDENCE = 0.95


def aggregate(
    paths: Iterable[str | Path],
    summary_path: str | Path,
    headline_path: str | Path,
    *,
    resamples: int = 1000,
    seed: int = 2505,
) -> pd.DataFrame:
    """Read score files, write ``summary_path`` (parquet) and ``headline_path`` (JSON), return the summary."""
    summary = summarise(read_scores(paths), resamples=resamples, seed=seed)
    with atomic_path(summary_path) as temporary:
        summary.to_parquet(temporary, index=False)
    write_json(headline_path, plain(headline(summary)))
    return summary


# --- reading -------------------------------------------------------------------------------------------------------


def read_scores(paths: Iterable[str | Path]) -> pd.DataFrame:
    """All rows of the score files; a file that lacks a column, has no row or repeats a task is refused by name."""
    files = [Path(path) for path in paths]
    if not files:
        raise UserError("no score file given")
    scores = pd.concat([read_table(file, SCORE_COLUMNS).assign(file=str(file)) for file in files], ignore_index=True)
    _refuse_duplicates(scores)
    _refuse_silent_failures(scores)
    return scores.drop(columns="file")


def read_table(path: str | Path, columns: Iterable[str]) -> pd.DataFrame:
    """The named columns of a parquet or CSV file, which must have them and at least one row."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read as {path.suffix[1:] or 'a table'} ({reason})") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    if table.empty:
        raise UserError(f"{path}: no rows")
    return table[list(columns)]


def _refuse_duplicates(scores: pd.DataFrame) -> None:
    repeated = scores.duplicated([*CELL, "task_id", *METHOD])
    if repeated.any():
        row = scores[repeated].iloc[0]
        shift = "" if row["shift"] == "none" else f" {row['shift']} {row['shift_value']:g}"
        cell = f"{row['taskset']}-d{row['d']} k{row['K']}-n{row['N']}{shift}"
        raise UserError(f"{row['file']}: task {row['task_id']} of {cell} is scored twice for method '{row['method']}'")


def _refuse_silent_failures(scores: pd.DataFrame) -> None:
    silent = scores["l2_error"].isna() & ~scores["failed"].astype(bool)
    if silent.any():
        row = scores[silent].iloc[0]
        raise UserError(
            f"{row['file']}: task {row['task_id']} of method '{row['method']}' has no l2_error and is not marked failed"
        )


# --- summarising ---------------------------------------------------------------------------------------------------


def summarise(scores: pd.DataFrame, *, resamples: int = 1000, seed: int = 2505) -> pd.DataFrame:
    """One row a cell, method and metric, sorted; see the module's text for the columns."""
    scores = add_deficits(scores)
    metrics = [*METRICS, *(name + DEFICIT for name in LIKELIHOODS)]
    parts = []
    for key, rows in scores.groupby([*CELL, *METHOD], sort=True, dropna=False):
        part = _summarise_cell(rows, metrics, resamples, seed)
        parts.append(part.assign(**dict(zip([*CELL, *METHOD], key, strict=True))))
    return pd.concat(parts, ignore_index=True)[SUMMARY_COLUMNS]


def add_deficits(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with columns: nats a point by which each log-likelihood lies below the oracle's on the same task.

    The difference is taken task by task, so that its interval is not blurred by the spread between tasks, and the
    entropy of the mixture, which grows with d and hides every difference, cancels. NaN without the oracle's row.
    """
    task = [*CELL, "task_id"]
    oracle = scores.loc[(scores["method"] == ORACLE) & ~scores["failed"].astype(bool)]
    reference = oracle.drop_duplicates(task).set_index(task)[LIKELIHOODS]
    aligned = reference.reindex(pd.MultiIndex.from_frame(scores[task])).to_numpy(float)
    differences = aligned - scores[LIKELIHOODS].to_numpy(float)
    return scores.assign(**{name + DEFICIT: differences[:, column] for column, name in enumerate(LIKELIHOODS)})


def _summarise_cell(rows: pd.DataFrame, metrics: list[str], resamples: int, seed: int) -> pd.DataFrame:
    failed = rows["failed"].to_numpy(bool)
    usable = rows.loc[~failed, metrics]
    table = _statistics(usable, resamples, seed)
    kept = (usable["dropped_reference"] != 1.0).to_numpy()
    if not kept.all():
        others = table[~table["metric"].isin(REFERENCE)]
        parts = [others, _statistics(usable.loc[kept, REFERENCE], resamples, seed)]
        table = pd.concat(parts, ignore_index=True).set_index("metric").loc[metrics].reset_index()
    reasons = rows.loc[failed, "failure_reason"].mode()
    return table.assign(
        n_tasks=len(rows),
        n_failed=int(failed.sum()),
        failure_share=float(failed.mean()),
        failure_reason=str(reasons.iloc[0]) if len(reasons) else "",
    )


def _statistics(table: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """One row a column of the table: mean, median, 90 % quantile and the interval of the mean."""
    values = table.to_numpy(float)
    low, high = bootstrap_interval(values, resamples, seed)
    columns = {"metric": list(table.columns), "low": low, "high": high}
    for name, statistic in {"mean": _mean, "median": _quantile(0.5), "quantile_90": _quantile(0.9)}.items():
        columns[name] = [statistic(column) for column in values.T]
    return pd.DataFrame(columns)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _quantile(share: float):
    """The share's quantile with pandas' interpolation, except that infinite neighbours give infinity, not NaN."""

    def statistic(values: np.ndarray) -> float:
        if len(values) == 0 or np.isnan(values).any():
            return math.nan
        return float(np.quantile(values, share, method="linear" if np.isfinite(values).all() else "higher"))

    return statistic


def bootstrap_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % bootstrap percentile interval of the mean of every column, as one matrix product.

    Parameters
    ----------
    values : array (n, m), one row a task. Columns with a value that is not finite have no interval (NaN).
    resamples : number of bootstrap samples.
    seed : the resamples depend on it and on n only, so a method's interval does not change with its company, and
        methods on the same tasks see the same resamples.

    Returns
    -------
    low, high : arrays (m,).
    """
    low, high = np.full((2, values.shape[1]), math.nan)
    finite = np.isfinite(values).all(axis=0) & (len(values) > 0)
    if finite.any():
        means = _resample_shares(len(values), resamples, seed) @ values[:, finite]
        tail = (1 - CONFIDENCE) / 2
        low[finite], high[finite] = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


@functools.lru_cache(maxsize=4)
def _resample_shares(n: int, resamples: int, seed: int) -> np.ndarray:
    """Array (resamples, n): the share of each task in each bootstrap sample; rows sum to one."""
    generator = np.random.default_rng([seed, n])
    return generator.multinomial(n, np.full(n, 1.0 / n), size=resamples) / n


# --- headline numbers ----------------------------------------------------------------------------------------------


def headline(summary: pd.DataFrame) -> dict:
    """Headline numbers as a nested dict: task set → dimension → method → statistics, averaged over K.

    An average over K is given only where the method has a value at every K of that dimension: an average over fewer
    would flatter a method that fails at the hard ones.
    """
    numbers: dict = {"meta": _meta(summary)}
    for taskset, rows in summary.groupby("taskset", sort=True):
        cells = numbers.setdefault(str(taskset), {})
        for key, cell in rows.groupby(["d", "N", "shift", "shift_value"], sort=True):
            cells[_cell_name(key, rows)] = {
                str(method): _average_over_components(part, cell["K"].nunique())
                for method, part in cell.groupby("method", sort=True)
            }
    return numbers


def _meta(summary: pd.DataFrame) -> dict:
    return {
        "scale": _listed(summary["scale"]),
        "seed": _listed(summary["seed"]),
        "tasks_per_cell": _listed(summary["n_tasks"]),
        "n_components": _listed(summary["K"]),
        "methods": int(summary["method"].nunique()),
    }


def _listed(column: pd.Series):
    """The column's one value, or its values as a text."""
    values = sorted(column.unique().tolist())
    return values[0] if len(values) == 1 else ", ".join(map(str, values))


def _cell_name(key: tuple, rows: pd.DataFrame) -> str:
    """``d8``; with ``-n64`` or ``-mean3`` where the task set has several sample sizes or is shifted."""
    dimension, points, shift, value = key
    name = f"d{dimension}"
    if rows["N"].nunique() > 1:
        name += f"-n{points}"
    if shift != "none":
        name += f"-{shift}{value:g}"
    return name


def _average_over_components(rows: pd.DataFrame, n_cells: int) -> dict:
    def average(metric: str, statistic: str) -> float:
        values = rows.loc[rows["metric"] == metric, statistic]
        return float(values.mean(skipna=False)) if len(values) >= n_cells else math.nan

    return {
        "l2_error_mean": average("l2_error", "mean"),
        "l2_error_median": average("l2_error", "median"),
        "l2_error_reference_mean": average("l2_error_reference", "mean"),
        "accuracy_mean": average("accuracy", "mean"),
        "log_likelihood_heldout_mean": average("log_likelihood_heldout", "mean"),
        "failure_share": average("l2_error", "failure_share"),
    }


def plain(value):
    """A nested dict for JSON: six significant digits; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
