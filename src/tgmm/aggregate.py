"""From scores, one row a task and method, to the summary that figures, tables and the paper read.

The summary has one row a cell, method and metric: mean and median over the tasks that did not fail, a 95 % bootstrap
percentile interval of the mean, and the share of tasks that failed.

Networks that stand for a recipe have further rows, in which ``mean`` is the ratio of their mean error to that of
another method on the same tasks and ``low`` and ``high`` a paired bootstrap interval of it; where a recipe was trained
with several seeds, over tasks and trainings.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from pydantic import Field

from tgmm.columns import (
    BASELINES,
    CELL,
    COMPLETE,
    COMPLETE_CELLS,
    DEFICIT,
    LIKELIHOODS,
    METHOD,
    METRICS,
    NOT_APPLICABLE,
    ORACLE,
    REFERENCE,
    ROLES,
    SCORE_COLUMNS,
    SUMMARY_COLUMNS,
    TEXTS,
    TRANSFORMER,
    WHOLE,
    over,
    over_seeds,
)
from tgmm.errors import UserError, shown
from tgmm.files import check_outputs, refuse_large_table, write_json, write_parquet
from tgmm.settings import MOST_RESAMPLES, Name, Seed, Settings, several

Recipes = Mapping[str, Mapping[str, Sequence[str]]]
COMPARED = ["l2_error", "l2_error_reference"]  # what networks are compared by
# Headline number -> metric and statistic of the summary.
HEADLINE = {
    "l2_error_mean": ("l2_error", "mean"),
    "l2_error_median": ("l2_error", "median"),
    "l2_error_reference_mean": ("l2_error_reference", "mean"),
    "accuracy_mean": ("accuracy", "mean"),
    "log_likelihood_heldout_mean": ("log_likelihood_heldout", "mean"),
    "failure_share": ("l2_error", "failure_share"),
}


class SummarySettings(Settings):
    """What `tgmm aggregate` is told by the study."""

    scale: Name | Literal[""] = Field("", description="The scale of the study.")
    bootstrap: int = Field(1000, ge=1, le=MOST_RESAMPLES, description="Bootstrap resamples behind an interval.")
    seed: Seed = Field(2505, description="Seed of the bootstrap.")
    recipes: dict[Literal[tuple(ROLES)], dict[Name, several(Name)]] = Field(
        {}, description="Role of a network -> recipe -> the methods that stand for it, one a training seed."
    )


def aggregate(
    paths: Iterable[str | Path],
    summary_path: str | Path,
    headline_path: str | Path,
    *,
    resamples: int = 1000,
    seed: int = 2505,
    recipes: Recipes | None = None,
    scale: str = "",
) -> pd.DataFrame:
    """Read score files, write ``summary_path`` (parquet) and ``headline_path`` (JSON), return the summary.

    Raises
    ------
    UserError : for files that are no scores, of several scales, or of another scale than the one named.
    """
    check_outputs(summary_path, headline_path)
    summary = summarise(read_scores(paths, scale), resamples=resamples, seed=seed, recipes=recipes)
    write_parquet(summary_path, summary)
    write_json(headline_path, plain(headline(summary)))
    return summary


# --- reading -------------------------------------------------------------------------------------------------------


def read_scores(paths: Iterable[str | Path], scale: str = "") -> pd.DataFrame:
    """All rows of the score files; a file that lacks a column, has no row or repeats a task is refused by name.

    So are scores of several scales, or of another than ``scale`` where one is named.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise UserError("no score file given")
    scores = pd.concat([read_table(file, SCORE_COLUMNS).assign(file=str(file)) for file in files], ignore_index=True)
    other = scores[scores["scale"] != (scale or scores["scale"].iloc[0])]
    if len(other):
        row, wanted = other.iloc[0], scale or scores["scale"].iloc[0]
        raise UserError(f"{row['file']}: scores of scale '{row['scale']}' among those of scale '{wanted}'")
    _refuse_duplicates(scores)
    _refuse_silent_failures(scores)
    return scores.drop(columns="file")


def read_table(path: str | Path, columns: Iterable[str]) -> pd.DataFrame:
    """The named columns of a parquet or CSV file, which must have them and at least one row."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    refuse_large_table(path)
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read as {path.suffix[1:] or 'a table'} ({reason})") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    if table.empty:
        raise UserError(f"{path}: no rows")
    if not table.columns.is_unique:
        raise UserError(f"{path}: column {shown(table.columns[table.columns.duplicated()][0])} stands there twice")
    table = table[list(columns)]
    for column in table:
        _check_column(path, table[column], COMPLETE | (COMPLETE_CELLS if "taskset" in table else set()))
    return table


def _check_column(path: Path, values: pd.Series, complete: set[str]) -> None:
    """Refuse a column that does not hold what its name says: text, whole numbers or numbers."""
    column, present = values.name, values[values.notna()]
    if column in TEXTS:
        wanted = "text"
        right = pd.Series(True, present.index)
        if pd.api.types.infer_dtype(present, skipna=False) not in ("string", "empty"):
            right = present.map(lambda value: isinstance(value, str)).astype(bool)
    else:
        wanted = "whole numbers" if column in WHOLE else "numbers"
        truth = pd.api.types.infer_dtype(present) == "boolean"
        numbers = present if truth or is_numeric_dtype(present) else pd.Series(math.nan, present.index)
        right = numbers.notna() & (numbers.dtype.kind != "c")
        if column in WHOLE and right.all():
            right = numbers.astype(float).map(math.isfinite) & (numbers.astype(float) % 1 == 0) & (numbers >= 0)
    if not right.all():
        raise UserError(f"{path}: column '{column}' must hold {wanted}, not {shown(_worst(present, right))}")
    if column in complete and len(present) < len(values):
        raise UserError(f"{path}: column '{column}' lacks a value in {len(values) - len(present):,} rows")


def _worst(values: pd.Series, right: pd.Series) -> object:
    """The first value that is wrong: of text among numbers, the first that is no number."""
    wrong = values[~right]
    text = wrong[pd.to_numeric(wrong, errors="coerce").isna()]
    value = (text if len(text) else wrong).iloc[0]
    return value.item() if hasattr(value, "item") else value


def _refuse_duplicates(scores: pd.DataFrame) -> None:
    repeated = scores.duplicated([*CELL, "task_id", *METHOD])
    if repeated.any():
        row = scores[repeated].iloc[0]
        shift = "" if row["shift"] == "none" else f" {row['shift']} {row['shift_value']:g}"
        cell = f"{row['taskset']}-d{row['d']} k{row['K']}-n{row['N']}{shift}"
        raise UserError(f"{row['file']}: task {row['task_id']} of {cell} is scored twice for method '{row['method']}'")


def _refuse_silent_failures(scores: pd.DataFrame) -> None:
    if scores["failed"].isna().any():
        raise UserError(f"{scores['file'][scores['failed'].isna()].iloc[0]}: column 'failed' lacks a value")
    silent = scores["l2_error"].isna() & ~scores["failed"].astype(bool)
    if silent.any():
        row = scores[silent].iloc[0]
        raise UserError(
            f"{row['file']}: task {row['task_id']} of method '{row['method']}' has no l2_error and is not marked failed"
        )


# --- summarising ---------------------------------------------------------------------------------------------------


def summarise(
    scores: pd.DataFrame, *, resamples: int = 1000, seed: int = 2505, recipes: Recipes | None = None
) -> pd.DataFrame:
    """One row a cell, method and metric, sorted, then one a comparison; see the module's text for the columns.

    Parameters
    ----------
    scores : rows of ``SCORE_COLUMNS``.
    resamples, seed : of the bootstrap.
    recipes : role -> recipe -> the methods that stand for it, one a training seed, the main one first. Each main method
        is compared with the ``BASELINES``, and those of other roles with the transformers besides.
    """
    summary = _summarise_metrics(scores, resamples, seed)
    compared = [] if not recipes else compare_networks(scores, recipes, resamples, seed)
    return pd.concat([summary, pd.DataFrame(compared, columns=SUMMARY_COLUMNS)]) if compared else summary


def _summarise_metrics(scores: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    scores = add_deficits(scores)
    metrics = [*METRICS, *(name + DEFICIT for name in LIKELIHOODS)]
    groups = scores.groupby([*CELL, *METHOD], sort=True, dropna=False).ngroup().to_numpy()
    failed = scores["failed"].to_numpy(bool)
    first = np.unique(groups, return_index=True)[1]
    table = scores.iloc[first][[*CELL, *METHOD]].reset_index(drop=True)
    table["n_tasks"] = np.bincount(groups)
    table["n_failed"] = np.bincount(groups[failed], minlength=len(table))
    table["failure_share"] = table["n_failed"] / table["n_tasks"]
    table["failure_reason"] = _commonest(scores.loc[failed, "failure_reason"], groups[failed], len(table))
    table = table.loc[np.repeat(table.index, len(metrics))].reset_index(drop=True)
    statistics = _statistics_of_groups(scores, metrics, groups, failed, resamples, seed)
    table = table.assign(metric=metrics * len(first), **statistics)
    return table[SUMMARY_COLUMNS]


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


def _commonest(texts: pd.Series, groups: np.ndarray, n_groups: int) -> list[str]:
    """The text that occurs most often in each group, the first by alphabet of several; "" for a group without any."""
    counts = pd.DataFrame({"group": groups, "text": texts.to_numpy()}).groupby(["group", "text"]).size()
    counts = counts.reset_index(name="count").sort_values(["group", "count", "text"], ascending=[True, False, True])
    chosen = counts.drop_duplicates("group").set_index("group")["text"]
    return [str(chosen.get(group, "")) for group in range(n_groups)]


def _statistics_of_groups(
    scores: pd.DataFrame, metrics: list[str], groups: np.ndarray, failed: np.ndarray, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Statistic -> array (groups * metrics,), over the tasks that did not fail.

    The reference evaluator's own metrics are over those tasks that it did not drop besides.
    """
    values = scores[metrics].to_numpy(float)
    of_reference = np.isin(metrics, REFERENCE)
    kept = (scores["dropped_reference"] != 1.0).to_numpy()
    n_groups = groups.max() + 1
    table = np.full((5, n_groups, len(metrics)), math.nan)
    for columns, usable in ((~of_reference, ~failed), (of_reference, ~failed & kept)):
        for members, rows in _groups_by_size(groups, usable, n_groups):
            samples = values[rows][:, :, columns].swapaxes(1, 2)  # group, metric, task
            found = _statistics(samples.reshape(-1, rows.shape[1]), resamples, seed)
            table[np.ix_(range(5), members, columns)] = found.reshape(5, *samples.shape[:2])
    return {
        name: plane.ravel() for name, plane in zip(("mean", "median", "quantile_90", "low", "high"), table, strict=True)
    }


def _groups_by_size(groups: np.ndarray, usable: np.ndarray, n_groups: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The groups with n usable rows, for every n > 0 that occurs, and the places (groups, n) of these rows."""
    order = np.argsort(groups, kind="stable")
    order = order[usable[order]]
    counts = np.bincount(groups[order], minlength=n_groups)
    starts = np.cumsum(counts) - counts
    for size in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == size)
        yield members, order[starts[members, None] + np.arange(size)]


def _statistics(samples: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Mean, median, 90 % quantile and the ends of the mean's interval, array (5, m), of samples (m, n)."""
    middle, upper = _quantiles(samples, [0.5, 0.9])
    return np.stack([samples.mean(axis=1), middle, upper, *bootstrap_interval(samples.T, resamples, seed)])


def _quantiles(samples: np.ndarray, shares: list[float]) -> np.ndarray:
    """Quantiles (shares, m) with pandas' interpolation, except that infinite neighbours give infinity, not NaN."""
    finite = np.isfinite(samples).all(axis=1)
    infinite = ~finite & ~np.isnan(samples).any(axis=1)
    quantiles = np.full((len(shares), len(samples)), math.nan)
    for chosen, method in ((finite, "linear"), (infinite, "higher")):
        if chosen.any():
            quantiles[:, chosen] = np.quantile(samples[chosen], shares, axis=1, method=method)
    return quantiles


def not_applicable(summary: pd.DataFrame) -> pd.Series:
    """Whether a row of the summary is of a cell in which its method has no estimate to give: a gap, no failure."""
    reasons = summary["failure_reason"].astype(object).fillna("")
    return (summary["n_failed"] == summary["n_tasks"]) & reasons.str.startswith(NOT_APPLICABLE)


# --- comparisons ---------------------------------------------------------------------------------------------------


def compare_networks(scores: pd.DataFrame, recipes: Recipes, resamples: int, seed: int) -> list[dict]:
    """Rows of ratios of mean errors, for every cell and both evaluators; parameters as for :func:`summarise`."""
    networks = {tuple(methods): role != TRANSFORMER for role, named in recipes.items() for methods in named.values()}
    partners = [tuple(methods) for methods in recipes.get(TRANSFORMER, {}).values() if methods]
    others = [*((name,) for name in BASELINES), *partners]
    wanted = {name for methods in networks for name in methods} | set(BASELINES)
    rows = []
    scores = scores.loc[
        scores["method"].isin(wanted), [*CELL, *METHOD, "task_id", "failed", "dropped_reference", *COMPARED]
    ]
    scores = scores.astype(dict.fromkeys(["scale", "taskset", "covariance", "shift", *METHOD[:3]], object))
    for _, cell in scores.groupby(CELL, sort=True):
        for metric in COMPARED:
            errors = _CellErrors(cell, metric, resamples, seed)
            for methods, further in networks.items():
                if methods and methods[0] in errors.errors:
                    rivals = others if further else others[: len(BASELINES)]
                    rows += errors.compare(methods, [names for names in rivals if names[0] in errors.errors])
    return rows


class _CellErrors:
    """One error of all methods on the tasks of one cell, NaN where a method failed or was dropped."""

    def __init__(self, cell: pd.DataFrame, metric: str, resamples: int, seed: int):
        unusable = cell["failed"].astype(bool) | ((cell["dropped_reference"] == 1.0) & (metric in REFERENCE))
        table = cell.assign(error=cell[metric].astype(float).mask(unusable))
        table = table.pivot(index="task_id", columns="method", values="error")
        self.errors = {name: table[name].to_numpy() for name in table}
        labels = cell.drop_duplicates("method")[[*CELL, *METHOD]].to_dict("records")
        self.labels = {label["method"]: label for label in labels}
        self.metric, self.resamples, self.seed = metric, resamples, seed
        self.cache: dict[tuple, np.ndarray] = {}

    def compare(self, methods: Sequence[str], others: list[Sequence[str]]) -> list[dict]:
        """Rows of a network beside each of the others, and of its mean over several trainings."""
        ours = self._trainings(methods)
        rows = [] if ours.shape[1] == 1 else [self._row(methods[0], over_seeds(self.metric), ours, np.ones_like(ours))]
        rivals = [names for names in others if names[0] != methods[0]]
        return rows + [
            self._row(methods[0], over(self.metric, names[0]), ours, self._trainings(names)) for names in rivals
        ]

    def _trainings(self, methods: Sequence[str]) -> np.ndarray:
        """Errors (n, S) of those of a recipe's methods that were run."""
        return np.stack([self.errors[name] for name in methods if name in self.errors], axis=1)

    def _row(self, method: str, metric: str, ours: np.ndarray, theirs: np.ndarray) -> dict:
        """Statistics of our errors by theirs; of ours alone where theirs are one."""
        shared = ~(np.isnan(ours).any(axis=1) | np.isnan(theirs).any(axis=1))
        n_failed = int((~shared).sum())
        row = self.labels[method] | {"metric": metric, "n_tasks": len(shared), "n_failed": n_failed}
        row |= {"failure_share": n_failed / len(shared), "failure_reason": ""}
        with np.errstate(divide="ignore", invalid="ignore"):
            value = ours[shared].sum() / ours.shape[1] / (theirs[shared].sum() / theirs.shape[1])
            low, high = percentile_interval(self._sums(ours, shared, 0) / self._sums(theirs, shared, 1))
        return row | {"mean": value, "low": low, "high": high}

    def _sums(self, errors: np.ndarray, shared: np.ndarray, stream: int) -> np.ndarray:
        """Bootstrap sums, kept because many comparisons are of the same errors."""
        counted = np.where(shared[:, None], errors, 0.0)
        key = (counted.tobytes(), stream)
        if key not in self.cache:
            self.cache[key] = resampled_sums(counted, self.resamples, self.seed, stream)
        return self.cache[key]


# --- headline numbers ----------------------------------------------------------------------------------------------


def headline(summary: pd.DataFrame) -> dict:
    """Headline numbers as a nested dict: task set → dimension → method → statistics, averaged over K.

    An average over K is given only where the method has a value at every K of that dimension: an average over fewer
    would flatter a method that fails at the hard ones. Cells in which a method is not applicable are no failures.
    """
    summary = summary[~not_applicable(summary)]
    numbers: dict = {"meta": _meta(summary)}
    for taskset, rows in summary.groupby("taskset", sort=True):
        cells = numbers.setdefault(str(taskset), {})
        for key, cell in rows.groupby(["d", "N", "shift", "shift_value"], sort=True):
            cells[_cell_name(key, rows)] = _averages_over_components(cell)
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


def _averages_over_components(cell: pd.DataFrame) -> dict:
    """Method → statistics of the headline."""
    n_cells = cell["K"].nunique()
    values = defaultdict(list)
    for statistic in ("mean", "median", "failure_share"):
        for method, metric, value in zip(cell["method"], cell["metric"], cell[statistic], strict=True):
            values[method, metric, statistic].append(value)

    def average(*name: str) -> float:
        return float(np.mean(values[name])) if len(values[name]) >= n_cells else math.nan

    return {
        str(method): {name: average(method, *source) for name, source in HEADLINE.items()}
        for method in sorted(cell["method"].unique())
    }


def plain(value):
    """A nested dict for JSON: six significant digits; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


# --- bootstrap percentile intervals of means and of ratios of means (Efron & Tibshirani 1993, chapter 13) --------


CONFIDENCE = 0.95
COLUMNS_AT_A_TIME = 2048  # all resamples of so many means are held in memory


def bootstrap_interval(
    values: np.ndarray, resamples: int, seed: int | Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
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
    finite = np.flatnonzero(np.isfinite(values).all(axis=0) & (len(values) > 0))
    tail = (1 - CONFIDENCE) / 2
    entropy = (seed,) if isinstance(seed, int) else tuple(seed)
    for part in range(0, len(finite), COLUMNS_AT_A_TIME):
        columns = finite[part : part + COLUMNS_AT_A_TIME]
        means = values[:, columns].T @ resample_shares(len(values), resamples, entropy)
        low[columns], high[columns] = np.quantile(means, [tail, 1 - tail], axis=1, overwrite_input=True)
    return low, high


@functools.lru_cache(maxsize=8)
def resample_shares(n: int, resamples: int, entropy: tuple[int, ...]) -> np.ndarray:
    """Array (n, resamples): the share of each task in each bootstrap sample; columns sum to one."""
    generator = np.random.default_rng([*entropy, n])
    return (generator.multinomial(n, np.full(n, 1.0 / n), size=resamples) / n).T


def resampled_sums(values: np.ndarray, resamples: int, seed: int, stream: int = 0) -> np.ndarray:
    """The sum over tasks, averaged over trainings and divided by n, in every bootstrap sample, array (resamples,).

    Trainings are drawn first, then tasks. All trainings are tested on the same tasks, so the tasks that are drawn are
    the same for each of them (Owen 2007, "The pigeonhole bootstrap").

    Parameters
    ----------
    values : array (n, S), one row a task, one column a training of the same recipe with another seed. Zero in tasks
        that do not count: of two sums over the same tasks the ratio is that of the means.
    stream : tells apart the draws of trainings; the draws of tasks depend on ``seed`` and n only, so that sums of two
        methods on the same tasks are paired.
    """
    by_training = values.T @ resample_shares(len(values), resamples, (seed,))
    if len(by_training) == 1:
        return by_training[0]
    return (by_training * resample_shares(len(by_training), resamples, (seed, 1 + stream))).sum(axis=0)


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """The ends of the central 95 % of bootstrap samples (resamples,); NaN if one is not finite."""
    if not np.isfinite(resampled).all():
        return math.nan, math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)
