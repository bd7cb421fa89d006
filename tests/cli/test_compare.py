"""`tgmm compare`: what counts as moved, what is reported, what is refused."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from synthetic_scores import METHODS, method_scores
from tgmm.aggregate import summarise
from tgmm.cli import app, register_commands
from tgmm.compare import compare_summaries, lines, only_in_one, read_summary
from tgmm.errors import UserError

register_commands()


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    parts = [method_scores(name, dimensions=(2, 8), components=(2, 3), tasks=32) for name in METHODS]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def summary(scores) -> pd.DataFrame:
    return summarise(scores, resamples=100)


def test_nothing_moves_between_equal_results(summary):
    compared = compare_summaries(summary, summary, ["l2_error", "accuracy"])
    assert len(compared) > 20
    assert not compared["moved"].any()
    assert next(iter(lines(compared, 5))).startswith("0 of ")


def test_what_was_changed_is_what_moved(scores, summary):
    worse = scores.copy()
    chosen = (worse["method"] == "em-oracle") & (worse["d"] == 8)
    worse.loc[chosen, "l2_error"] *= 3
    worse.loc[worse["method"] == "tgmm-components", "l2_error"] *= 1.0001  # within every interval
    compared = compare_summaries(summary, summarise(worse, resamples=100), ["l2_error"])
    moved = compared[compared["moved"]]
    assert set(moved["method"]) == {"em-oracle"}
    assert set(moved["d"]) == {8}
    assert moved["ratio"].tolist() == pytest.approx([3.0, 3.0])
    shown = list(lines(compared, 1))
    assert shown[0].startswith("2 of ")
    assert "em-oracle" in shown[2]
    assert shown[-1].startswith("and 1 more")
    assert all(len(line) <= 80 for line in shown)


def test_a_number_that_is_lost_has_moved(scores, summary):
    lost = scores.copy()
    chosen = (lost["method"] == "em") & (lost["d"] == 2) & (lost["K"] == 2)
    lost.loc[chosen, "l2_error"] = float("nan")
    lost.loc[chosen, "failed"] = True
    lost.loc[chosen, "failure_reason"] = "it failed"
    moved = compare_summaries(summary, summarise(lost, resamples=100), ["l2_error"]).query("moved")
    assert moved[["method", "d", "K"]].to_numpy().tolist() == [["em", 2, 2]]


def test_numbers_of_one_side_alone_are_counted(scores, summary):
    fewer = summarise(scores[scores["method"] != "em"], resamples=100)
    assert only_in_one(summary, fewer, ["l2_error"]) == (4, 0)


def test_the_command_reads_folders_and_writes_all_numbers(tmp_path, summary):
    folder = tmp_path / "results" / "laptop"
    folder.mkdir(parents=True)
    summary.to_parquet(folder / "summary.parquet")
    out = tmp_path / "compared.csv"
    arguments = ["compare", str(folder), str(folder / "summary.parquet"), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("0 of ")
    assert len(pd.read_csv(out)) == int(result.output.split()[2])


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path, summary):
    with pytest.raises(UserError, match=r"summary\.parquet: not there; give a folder of results"):
        read_summary(tmp_path)
    with pytest.raises(UserError, match="unknown metric 'l2_eror'; did you mean 'l2_error'"):
        compare_summaries(summary, summary, ["l2_eror"])
    with pytest.raises(UserError, match="no number in common"):
        compare_summaries(summary, summary.assign(taskset="other"), ["l2_error"])
