"""`tgmm answers`: sentences whose numbers are those of the tables, in a file and checked."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from tgmm.answers import (
    QUESTIONS,
    answers,
    beyond_dimensions,
    complexity,
    contaminated,
    floor,
    losses,
    separation,
)
from tgmm.cli import app, register_commands
from tgmm.errors import UserError

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


def line(**means) -> pd.DataFrame:
    rows_of = [
        rows(K=K, shift_value=value, method=list(means), mean=list(means.values()))
        for K in (2, 3) for value in (1, 2, 3, 4)
    ]  # fmt: skip
    table = pd.concat(rows_of)
    return table.assign(low=0.9 * table["mean"], high=1.1 * table["mean"])


@pytest.mark.parametrize(("em", "cells"), [(0.5, "in every cell"), (0.22, "in 0 of 2 cells"), (0.1, "in 0 of 2 cells")])
def test_the_network_is_alone_where_no_other_interval_reaches_its_own(tmp_path, em, cells):
    told = beyond_dimensions(line(**{"em-restarts": em, "tgmm-spaced": 0.2, "em-oracle": 0.05}), tmp_path)
    assert f"better than every other method {cells}" in told
    assert "at least 2 standard deviations apart" in told
    assert "d = 1, K = 3 EM, 10 starts" in told


def test_the_plane_is_told_beside_the_line(tmp_path):
    (tmp_path / "tables").mkdir()
    names = {"em-restarts": 0.3, "tgmm-components": 0.1, "gradient": 0.01}
    plane = rows(d=2, K=3, method=list(names), mean=list(names.values()), low=list(names.values()),
                 high=list(names.values()))  # fmt: skip
    plane.to_csv(tmp_path / "tables/tab-rivals.csv", index=False)
    told = beyond_dimensions(line(**{"em-restarts": 0.1, "tgmm-spaced": 0.2}), tmp_path)
    assert "d = 2, K = 3 EM, 10 starts .300, TGMM components .100" in told
    assert "in 1 of 3 cells" in told


@pytest.mark.parametrize(("weights", "lesson"), [(0.5, "Better in both: CE × 10"), (2.0, "No other loss is better")])
def test_losses_are_told_as_multiples_of_the_usual_one(tmp_path, weights, lesson):
    table = pd.concat([
        rows(metric=metric, K=K, method=["tgmm-weights-once", "tgmm-weights-ten"], mean=[0.1 * K, 0.1 * K * factor])
        for metric, factor in (("mean_error", 0.8), ("weight_error", weights)) for K in (2, 3)
    ])  # fmt: skip
    told = losses(table, tmp_path)
    assert f"CE × 10 0.80 and {weights:.2f}" in told
    assert lesson in told


def test_contaminated_training_is_told_with_its_cost_on_clean_tasks(tmp_path):
    methods = {"tgmm-components": 0.1, "tgmm-contaminated": 0.12, "em-restarts": 0.09, "em-oracle": 0.05}
    table = pd.concat([
        rows(K=K, shift="outliers", shift_value=value, method=list(methods),
             mean=[mean * (1 + value) for mean in methods.values()], low=0.04, high=[0.2, 0.03 + value, 0.2, 0.06])
        for K in (3, 4) for value in (0.0, 0.1)
    ])  # fmt: skip
    told = contaminated(table, tmp_path)
    assert "K = 4: clean TGMM components .100, TGMM contaminated .120" in told
    assert "10 % outliers TGMM components .110" in told
    assert "degrees of freedom" not in told
    assert "1.20 times the error" in told
    assert told.endswith("with clean.")


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


def test_the_answers_are_written_for_the_supplement(tmp_path):
    (tmp_path / "results" / "laptop" / "tables").mkdir(parents=True)
    FLOOR.to_csv(tmp_path / "results" / "laptop" / "tables" / "tab-floor.csv", index=False)
    out = tmp_path / "answers.json"
    command = ["answers", "--root", str(tmp_path), "--out", str(out)]
    refused = CliRunner().invoke(app, [*command, "--into", str(tmp_path / "page.md")])
    assert isinstance(refused.exception, UserError)
    assert not out.exists()
    assert CliRunner().invoke(app, command).exit_code == 0
    told = json.loads(out.read_text())
    assert list(told) == list(QUESTIONS)
    assert "TGMM components 1.50" in told["How far is all this from the statistical floor?"]
