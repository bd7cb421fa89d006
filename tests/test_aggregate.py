"""The summary of the scores against pandas, numpy and scipy; refusals of bad files; the headline numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from synthetic_scores import TOO_MANY_COMPONENTS, method_scores, write_scores
from tgmm.aggregate import (
    aggregate,
    bootstrap_interval,
    headline,
    percentile_interval,
    plain,
    read_scores,
    read_table,
    resampled_sums,
    summarise,
)
from tgmm.columns import DEFICIT, LIKELIHOODS, METRICS, REFERENCE, SUMMARY_COLUMNS, over, over_seeds
from tgmm.errors import UserError


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    methods = ["em", "em-oracle", "spectral", "tgmm-components"]
    return pd.concat([method_scores(method, dimensions=(2, 8), components=(2, 3)) for method in methods])


@pytest.fixture(scope="module")
def summary(scores) -> pd.DataFrame:
    return summarise(scores, resamples=400, seed=1)


def rows_of(table: pd.DataFrame, **values) -> pd.DataFrame:
    return table[np.logical_and.reduce([table[name] == value for name, value in values.items()])]


def test_summary_has_one_row_a_cell_method_and_metric(summary, scores):
    assert list(summary.columns) == SUMMARY_COLUMNS
    cells = scores[["method", "d", "K"]].drop_duplicates()
    assert len(summary) == len(cells) * summary["metric"].nunique()
    assert not summary.duplicated(["method", "d", "K", "metric"]).any()


@pytest.mark.parametrize("metric", ["l2_error", "accuracy", "log_likelihood_heldout", "seconds"])
def test_statistics_equal_those_of_pandas(summary, scores, metric):
    expected = scores[~scores.failed].groupby(["method", "d", "K"])[metric].describe(percentiles=[0.5, 0.9])
    found = rows_of(summary, metric=metric).set_index(["method", "d", "K"]).loc[expected.index]
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-12)
    np.testing.assert_allclose(found["median"], expected["50%"], rtol=1e-12)
    np.testing.assert_allclose(found["quantile_90"], expected["90%"], rtol=1e-12)


@pytest.fixture(scope="module")
def random_scores() -> pd.DataFrame:
    """Cells of unlike size with failures, values that are missing or infinite, and tasks dropped by the evaluator."""
    rng = np.random.default_rng(11)
    cells = []
    for cell, tasks in enumerate((1, 7, 7, 40, 40, 40)):
        table = method_scores("em", dimensions=(8,), components=(2 + cell,), tasks=tasks)
        table[METRICS] = rng.lognormal(size=(tasks, len(METRICS)))
        table["dropped_reference"] = rng.choice([0.0, 1.0, np.nan], size=tasks, p=[0.7, 0.2, 0.1])
        table["failed"] = rng.random(tasks) < (0.0, 0.3, 0.0, 1.0, 0.4, 0.1)[cell]
        table["failure_reason"] = np.where(table["failed"], rng.choice(["singular", "diverged"], size=tasks), "")
        table.loc[table["failed"], METRICS[:8]] = np.nan
        table.loc[table.index[-1:], "log_likelihood_heldout"] = np.nan if cell % 2 else -np.inf
        cells.append(table)
    return pd.concat(cells).sample(frac=1, random_state=2, ignore_index=True)


@pytest.fixture(scope="module")
def random_summary(random_scores) -> pd.DataFrame:
    return summarise(random_scores, resamples=300, seed=4)


@pytest.mark.parametrize("metric", METRICS)
def test_summary_equals_a_plain_computation_for_each_cell(random_summary, random_scores, metric):
    summary = rows_of(random_summary, metric=metric).set_index("K")
    assert list(summary.index) == sorted(random_scores["K"].unique())
    for components, found in summary.iterrows():
        rows = rows_of(random_scores, K=components)
        reasons = list(rows.loc[rows.failed, "failure_reason"])
        assert (found.n_tasks, found.n_failed) == (len(rows), len(reasons))
        assert found.failure_share == len(reasons) / len(rows)
        assert found.failure_reason == max(sorted(set(reasons)), key=reasons.count, default="")
        kept = rows[~rows.failed & ~(metric in REFERENCE and rows.dropped_reference == 1)]
        expected = plain_statistics(kept[metric].to_numpy(float), resamples=300, seed=4)
        np.testing.assert_allclose([found[name] for name in expected], list(expected.values()), rtol=1e-12)


def plain_statistics(values: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """Statistics of one sample by numpy and scipy alone."""
    names = ("mean", "median", "quantile_90", "low", "high")
    if len(values) == 0 or np.isnan(values).any():
        return dict.fromkeys(names, np.nan)
    if np.isinf(values).any():
        ordered = np.sort(values)
        median, upper = (ordered[int(np.ceil(share * (len(values) - 1)))] for share in (0.5, 0.9))
        return dict(zip(names, (np.mean(values), median, upper, np.nan, np.nan), strict=True))
    counts = np.random.default_rng([seed, len(values)]).multinomial(
        len(values), np.full(len(values), 1 / len(values)), size=resamples
    )
    means = [np.repeat(values, row).mean() for row in counts]
    low, high = scipy.stats.mstats.mquantiles(means, [0.025, 0.975], alphap=1, betap=1)
    return dict(zip(names, (np.mean(values), np.median(values), np.quantile(values, 0.9), low, high), strict=True))


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(3).lognormal(sigma=1.5, size=(256, 2))
    low, high = bootstrap_interval(values, 20_000, seed=5)
    for column in range(2):
        sample = (values[:, column],)
        reference = scipy.stats.bootstrap(sample, np.mean, n_resamples=20_000, method="percentile", rng=7)
        width = np.subtract(*reference.confidence_interval[::-1])
        np.testing.assert_allclose([low[column], high[column]], reference.confidence_interval, atol=0.03 * width)


def test_interval_is_seeded_and_does_not_depend_on_the_other_columns():
    values = np.random.default_rng(0).exponential(size=(64, 3))
    low, high = bootstrap_interval(values, 300, seed=1)
    alone_low, alone_high = bootstrap_interval(values[:, 1:2], 300, seed=1)
    np.testing.assert_allclose([low[1], high[1]], [alone_low[0], alone_high[0]], rtol=1e-12)
    assert bootstrap_interval(values, 300, seed=2)[0][0] != low[0]


def test_interval_of_few_or_infinite_values():
    low, high = bootstrap_interval(np.array([[2.0, np.inf]]), 50, seed=0)
    assert low[0] == high[0] == pytest.approx(2.0)
    assert np.isnan(low[1])
    assert np.isnan(high[1])
    assert np.isnan(bootstrap_interval(np.empty((0, 2)), 50, seed=0)).all()


def test_cell_in_which_all_tasks_failed(summary):
    row = rows_of(summary, method="spectral", d=2, K=3, metric="l2_error").iloc[0]
    assert np.isnan(row[["mean", "median", "low", "high"]].astype(float)).all()
    assert (row.n_tasks, row.n_failed, row.failure_share) == (64, 64, 1.0)
    assert row.failure_reason == TOO_MANY_COMPONENTS


def test_means_are_over_the_tasks_that_did_not_fail(scores):
    some = rows_of(scores, method="em", d=8, K=3).copy()
    some.loc[some.task_id < 16, ["failed", "failure_reason"]] = [True, "no convergence"]
    some.loc[some.task_id < 16, "l2_error"] = np.nan
    row = rows_of(summarise(some, resamples=10), metric="l2_error").iloc[0]
    assert row["mean"] == pytest.approx(some["l2_error"].dropna().mean())
    assert row.failure_share == 0.25
    assert row.failure_reason == "no convergence"


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_deficits_are_paired_with_the_oracle_task_by_task(summary, scores, likelihood):
    wide = rows_of(scores, d=8, K=3).pivot(index="task_id", columns="method", values=likelihood)
    expected = (wide["em-oracle"] - wide["em"]).mean()
    metric = likelihood + DEFICIT
    assert rows_of(summary, method="em", d=8, K=3, metric=metric)["mean"].item() == pytest.approx(expected)
    assert (rows_of(summary, method="em-oracle", metric=metric)["mean"] == 0).all()


def test_the_reference_evaluator_averages_over_the_tasks_that_it_keeps(scores):
    some = rows_of(scores, method="em", d=8, K=3).copy()
    dropped = some.task_id < 16
    some["dropped_reference"] = dropped.astype(float)
    some.loc[dropped, ["l2_error_reference", "log_likelihood_reference"]] = [1e9, -1e9]
    found = summarise(some, resamples=10).set_index("metric")
    for metric in ("l2_error_reference", "log_likelihood_reference"):
        assert found.loc[metric, "mean"] == pytest.approx(some.loc[~dropped, metric].mean())
        assert found.loc[metric, "low"] <= found.loc[metric, "mean"] <= found.loc[metric, "high"]
    assert found.loc["dropped_reference", "mean"] == 0.25
    assert found.loc["l2_error", "mean"] == pytest.approx(some["l2_error"].mean())


# --- comparisons of networks ---------------------------------------------------------------------------------------

RECIPES = {
    "transformer": {"components": ["tgmm-components", "tgmm-components-s2"], "matched": ["tgmm-matched"]},
    "em-steps": {"components": ["tgmm-components-em20"]},
}


@pytest.fixture(scope="module")
def trainings() -> pd.DataFrame:
    """Scores with a second training of one recipe, and a method that fails on some tasks."""
    parts = [
        method_scores(name, dimensions=(2, 8), components=(3,))
        for name in ("em", "spectral", "tgmm-components", "tgmm-matched", "tgmm-components-em20")
    ]
    again = parts[2].assign(method="tgmm-components-s2", family="isotropic-d8-n128-components-s2")
    again["l2_error"] = parts[2]["l2_error"] * 1.5 + 0.01
    parts[0].loc[parts[0].task_id < 16, ["failed", "l2_error", "failure_reason"]] = [True, np.nan, "no convergence"]
    return pd.concat([*parts, again])


@pytest.fixture(scope="module")
def compared(trainings) -> pd.DataFrame:
    return summarise(trainings, resamples=2000, seed=3, recipes=RECIPES)


def test_comparisons_come_on_top_of_the_summary(compared, trainings):
    plain_rows = summarise(trainings, resamples=2000, seed=3)
    pd.testing.assert_frame_equal(compared.iloc[: len(plain_rows)], plain_rows)
    added = compared.iloc[len(plain_rows) :]
    assert list(added.columns) == SUMMARY_COLUMNS
    assert not added.duplicated(["d", "K", "method", "metric"]).any()
    pairs = set(zip(added["method"], added["metric"], strict=True))
    assert ("tgmm-components-em20", "l2_error / tgmm-matched") in pairs
    assert ("tgmm-matched", "l2_error / em") in pairs
    assert ("tgmm-matched", "l2_error / tgmm-components") not in pairs  # of the first role are compared with baselines
    assert {method for method, _ in pairs} == {"tgmm-components", "tgmm-matched", "tgmm-components-em20"}


def test_a_ratio_is_of_means_over_the_tasks_that_neither_failed(compared, trainings):
    wide = rows_of(trainings, d=8).pivot(index="task_id", columns="method", values="l2_error").dropna(subset=["em"])
    row = rows_of(compared, d=8, method="tgmm-matched", metric=over("l2_error", "em")).iloc[0]
    assert row["mean"] == pytest.approx(wide["tgmm-matched"].mean() / wide["em"].mean())
    assert (row.n_tasks, row.n_failed) == (64, 16)
    sample = (wide["tgmm-matched"].to_numpy(), wide["em"].to_numpy())
    ratio = lambda ours, theirs, axis: ours.mean(axis) / theirs.mean(axis)  # noqa: E731
    reference = scipy.stats.bootstrap(
        sample, ratio, n_resamples=5000, paired=True, method="percentile", rng=1
    ).confidence_interval
    np.testing.assert_allclose([row["low"], row["high"]], reference, rtol=0.1)


def test_a_comparison_is_paired(compared, trainings):
    """After EM steps most errors are those of EM itself; an interval that ignores the pairs would be wider."""
    twin = trainings[trainings.method == "tgmm-matched"].copy()
    twin["l2_error"] = trainings.loc[trainings.method == "spectral", "l2_error"].to_numpy() * 0.9
    found = summarise(pd.concat([trainings[trainings.method == "spectral"], twin]), resamples=200, recipes=RECIPES)
    row = rows_of(found, d=8, metric=over("l2_error", "spectral")).iloc[0]
    np.testing.assert_allclose([row["mean"], row["low"], row["high"]], 0.9, rtol=1e-9)


def test_several_trainings_of_a_recipe_widen_its_intervals(compared, trainings):
    both = ["tgmm-components", "tgmm-components-s2"]
    wide = rows_of(trainings, d=8).pivot(index="task_id", columns="method", values="l2_error")
    row = rows_of(compared, d=8, method="tgmm-components", metric=over_seeds("l2_error")).iloc[0]
    assert row["mean"] == pytest.approx(wide[both].to_numpy().mean())
    assert row["low"] < wide[both[0]].mean() < wide[both[1]].mean() < row["high"]
    one = rows_of(compared, d=8, method="tgmm-components", metric="l2_error").iloc[0]
    assert row["high"] - row["low"] > one["high"] - one["low"]
    ratio = rows_of(compared, d=8, method="tgmm-components", metric=over("l2_error", "spectral")).iloc[0]
    assert ratio["mean"] == pytest.approx(wide[both].to_numpy().mean() / wide["spectral"].mean())
    assert rows_of(compared, metric=over_seeds("l2_error"))["method"].unique().tolist() == ["tgmm-components"]


def test_a_hierarchical_interval_covers_the_mean_of_the_trainings_to_come():
    """Errors with a part of the training, one of the task and noise: in most repetitions their mean is covered."""
    generator, covered = np.random.default_rng(5), []
    for repetition in range(200):
        training, task = generator.normal(0, 1, (1, 6)), generator.normal(0, 4, (64, 1))
        errors = 10 + training + task + generator.normal(0, 1, (64, 6))
        low, high = percentile_interval(resampled_sums(errors, 400, repetition))
        covered.append(low < 10 < high)
    assert 0.85 < np.mean(covered) <= 0.98


def test_a_baseline_that_fails_everywhere_has_no_ratio(compared):
    row = rows_of(compared, d=2, method="tgmm-matched", metric=over("l2_error", "spectral")).iloc[0]
    assert row.n_failed == row.n_tasks
    assert row[["mean", "low", "high"]].isna().all()


# --- headline numbers ----------------------------------------------------------------------------------------------


def test_headline_averages_over_components(summary):
    numbers = headline(summary)
    expected = rows_of(summary, method="em", d=8, metric="l2_error")["mean"].mean()
    assert numbers["effectiveness"]["d8"]["em"]["l2_error_mean"] == pytest.approx(expected)
    assert numbers["meta"]["tasks_per_cell"] == 64
    assert numbers["meta"]["n_components"] == "2, 3"


def test_headline_gives_no_average_over_only_some_components(summary):
    spectral = plain(headline(summary))["effectiveness"]["d2"]["spectral"]
    assert spectral["l2_error_mean"] is None
    assert spectral["failure_share"] == 0.5


def test_headline_names_cells_by_what_varies(summary):
    several = pd.concat([summary, summary.assign(N=64)])
    assert set(headline(several)["effectiveness"]) == {"d2-n64", "d2-n128", "d8-n64", "d8-n128"}


def test_files_are_written_and_the_same_again(tmp_path):
    files = write_scores(tmp_path, ("em", "em-oracle", "spectral"), dimensions=(2,), tasks=16)
    written = []
    for run in range(2):
        folder = tmp_path / f"run{run}"
        aggregate(files, folder / "summary.parquet", folder / "summary.json", resamples=50)
        written.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert len(written[0]) == 2
    assert written[0] == written[1]
    assert "NaN" not in written[0][0].decode()
    json.loads(written[0][0])


def test_a_task_scored_twice_is_refused(tmp_path):
    files = write_scores(tmp_path, ("em",), dimensions=(2,), tasks=4)
    method_scores("em", dimensions=(2,), tasks=4).to_parquet(tmp_path / "again.parquet")
    with pytest.raises(UserError, match=r"again\.parquet: task 0 of effectiveness-d2 k2-n128 is scored twice"):
        read_scores([*files, tmp_path / "again.parquet"])


def test_a_hidden_failure_is_refused(tmp_path):
    hidden = method_scores("em", dimensions=(2,), tasks=4).assign(l2_error=np.nan)
    hidden.to_parquet(tmp_path / "hidden.parquet")
    with pytest.raises(UserError, match=r"hidden\.parquet: task 0 .* not marked failed"):
        read_scores([tmp_path / "hidden.parquet"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="accuracy"), "missing column accuracy"),
        (lambda table: table.drop(columns=["d", "K"]), "missing columns d, K"),
        (lambda table: table.iloc[:0], "no rows"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, change, message):
    path = tmp_path / "bad.parquet"
    change(method_scores("em", dimensions=(2,), tasks=4)).to_parquet(path)
    with pytest.raises(UserError, match=f"bad.parquet: {message}"):
        read_scores([path])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("d", None, "column 'd' lacks a value in 1 rows"),
        ("d", 2.5, "column 'd' must hold whole numbers, not 2.5"),
        ("d", "two", "column 'd' must hold whole numbers, not 'two'"),
        ("K", -1, "column 'K' must hold whole numbers, not -1"),
        ("N", np.inf, "column 'N' must hold whole numbers, not inf"),
        ("shift_value", None, "column 'shift_value' lacks a value in 1 rows"),
        ("l2_error", "small", "column 'l2_error' must hold numbers, not 'small'"),
        ("method", None, "column 'method' lacks a value in 1 rows"),
        ("failed", None, "column 'failed' lacks a value"),
    ],
)
def test_a_column_that_does_not_hold_what_its_name_says_is_refused(tmp_path, column, value, message):
    table = method_scores("em", dimensions=(2,), components=(2,)).reset_index(drop=True)
    table[column] = table[column].astype(object)
    table.loc[0, column] = value
    table.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(UserError, match=r"bad\.csv: ") as caught:
        read_scores([tmp_path / "bad.csv"])
    assert message in str(caught.value)


def test_scores_of_two_scales_are_never_merged(tmp_path):
    table = method_scores("em", dimensions=(2,), components=(2,))
    table.to_parquet(tmp_path / "one.parquet")
    table.assign(scale="paper", method="other").to_parquet(tmp_path / "two.parquet")
    with pytest.raises(UserError, match=r"two\.parquet: scores of scale 'paper' among those of scale 'laptop'"):
        read_scores([tmp_path / "one.parquet", tmp_path / "two.parquet"])
    with pytest.raises(UserError, match=r"one\.parquet: scores of scale 'laptop' among those of scale 'smoke'"):
        read_scores([tmp_path / "one.parquet"], scale="smoke")


def test_an_output_that_cannot_be_is_refused_before_any_is_written(tmp_path):
    method_scores("em", dimensions=(2,), components=(2,)).to_parquet(tmp_path / "em.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: is a folder; an output must be the path of a file"):
        aggregate([tmp_path / "em.parquet"], tmp_path / "summary.parquet", tmp_path / "folder")
    assert not (tmp_path / "summary.parquet").exists()


def test_unreadable_files_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"gone\.parquet: no such file"):
        read_scores([tmp_path / "gone.parquet"])
    for name in ("noise.parquet", "empty.csv"):
        (tmp_path / name).write_bytes(b"" if name == "empty.csv" else b"not parquet at all")
        with pytest.raises(UserError, match=f"{name}: cannot be read") as caught:
            read_table(tmp_path / name, ["a"])
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no score file"):
        read_scores([])


def test_command_line_ends_with_one_line(tmp_path):
    command = [sys.executable, "-m", "tgmm", "aggregate", str(tmp_path / "gone.parquet")]
    command += ["--out", str(tmp_path / "a.parquet"), "--headline", str(tmp_path / "a.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "gone.parquet" in result.stderr
