"""`tgmm answers`: sentences whose numbers are those of the tables, in a file and checked."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from tgmm.answers import QUESTIONS, answers, complexity, floor, separation
from tgmm.cli import app, register_commands

register_commands()


def rows(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns)


FLOOR = pd.concat([
    rows(d=d, K=5, method=["em-oracle", "tgmm-components", "bayes", "cramer-rao"], median=[0.1, 0.15, None, 0.1])
    for d in (2, 8)
])  # fmt: skip


def test_ratios_to_the_bound_are_those_of_the_table(tmp_path):
    told = floor(FLOOR, tmp_path)
    assert told.count("TGMM components 1.50") == 2
    assert "EM from the truth 1.00" in told
    assert "Bayes" not in told  # it has no value
    assert "bound .100" in told


@pytest.mark.parametrize(("largest", "words"), [(4096, "up to N = 4096"), (0, "within 1.2 times the floor at every N")])
def test_slopes_have_their_intervals_and_the_floor_is_left_where_the_table_says(tmp_path, largest, words):
    table = rows(
        d=[2, 8], K=5, method="tgmm-components", slope=[-0.5, -0.75], low=[-0.6, -0.8], high=[-0.4, -0.7],
        largest_N_above_floor=largest,
    )  # fmt: skip
    told = complexity(table, tmp_path)
    assert "d = 8: TGMM components -0.75 [-0.80, -0.70]" in told
    assert words in told


def test_the_first_distance_needs_intervals_apart(tmp_path):
    table = pd.concat([
        rows(K=3, shift_value=value, method=["sample-mean", "em-restarts", "tgmm-components"],
             low=[0.09, low, 0.2], high=[0.11, high, 0.3])
        for value, low, high in ((1.0, 0.2, 0.3), (2.0, 0.07, 0.1), (3.0, 0.01, 0.02))
    ])  # fmt: skip
    assert "K = 3: EM, 10 starts 3." in separation(table, tmp_path)


def test_what_was_not_made_is_said(tmp_path):
    lines = answers(tmp_path)
    assert len(lines) == 2 * len(QUESTIONS) - 1
    assert all("is not there: `snakemake -- reviewers`" in line for line in lines[::2])


def test_a_file_is_written_and_checked(tmp_path):
    (tmp_path / "results" / "laptop" / "tables").mkdir(parents=True)
    FLOOR.to_csv(tmp_path / "results" / "laptop" / "tables" / "tab-floor.csv", index=False)
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- answers:begin -->\nold\n<!-- answers:end -->\nbelow\n")
    command = ["answers", "--root", str(tmp_path), "--into", str(page)]
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 1
    assert CliRunner().invoke(app, command).exit_code == 0
    assert "1.50" in page.read_text()
    assert "old" not in page.read_text()
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 0
    assert "1.50" in CliRunner().invoke(app, command[:3]).output
