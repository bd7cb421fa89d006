"""Sizes, measurements and commands of the theorems."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tgmm.cli.theory import app
from tgmm.errors import UserError
from tgmm.figures.theorems import EM_COLUMNS, POWER_COLUMNS, fitted_slope
from tgmm.theory.em import measure_em
from tgmm.theory.power import measure_power, network_sizes


def test_sizes_follow_the_claims():
    table = network_sizes((2, 4, 8), (2, 4), (1, 3), units=16)
    first, second = table[table["theorem"] == 1], table[table["theorem"] == 2]
    assert (first["layers"] == 2 * first["L"]).all()
    assert set(first["heads"]) == {3}
    assert (first["layers_he_2025"] == first["K"] * first["L"]).all()
    assert (second["layers"] == second["L"]).all()
    assert (second["heads"] == second["d"]).all()
    assert (table["nonzero_weights"] <= table["weights"]).all()
    cell = first[(first["K"] == 2) & (first["L"] == 1)]
    slope = np.polyfit(np.log(cell["d"]), np.log(cell["nonzero_weights"]), 1)[0]
    assert slope < 1.2  # polynomial in d: here, linear


def test_measurements_of_theorem_1():
    table = measure_em((2, 3), (2, 3), (1, 3), (256, 512), n_tasks=2, n_points=32)
    assert list(table.columns.difference(EM_COLUMNS)) == []
    assert len(table) == 2 * 2 * 2 * (2 * 2 + 2 * 1 + 2)
    assert table.loc[table["exact"], "largest"].max() < 1e-12
    assert (table["median"] <= table["largest"]).all()


def test_the_fitted_slope_is_that_of_a_power_law():
    rows = [
        {"mixtures": "separated", "d": d, "K": 2, "L": 1, "copies": 8, "exact": False, "W": W, "median": d * W**-2.0}
        for d in (2, 8)
        for W in (512, 1024, 2048, 4096)
    ]
    assert fitted_slope(pd.DataFrame(rows)) == pytest.approx(-2.0)


def test_measurements_of_theorem_2():
    table = measure_power((2, 3), (4,), n_tasks=2)
    exact = table[(table["measure"].isin(["iteration", "decomposition"])) & (table["method"] == "network")]
    assert exact["largest"].max() < 1e-12
    assert table.loc[table["measure"] == "spectral", "largest"].max() < 1e-10
    assert set(POWER_COLUMNS) <= set(table.columns)


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_commands_print_both_estimates_and_their_difference():
    output = run("em", "--d", 2, "--k", 3, "--steps", 5, "--width", 512)
    assert "transformer of 10 blocks, at most 3 heads" in output
    assert float(output.split("largest difference:")[1]) < 1e-3
    assert float(run("em", "--exact", "--overlapping").split("largest difference:")[1]) < 1e-12
    output = run("power", "--d", 4, "--k", 2, "--points", 500)
    assert [float(part.split()[0]) < 1e-10 for part in output.split("largest difference:")[1:]] == [True, True]


@pytest.mark.slow
def test_measure_writes_a_table(tmp_path):
    run("measure", "em", "--out", tmp_path / "em.csv", "--tasks", 1, "--widths", "512")
    assert set(EM_COLUMNS) <= set(pd.read_csv(tmp_path / "em.csv").columns)


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match="unknown measurement 'pwer'; did you mean 'power'"):
        run("measure", "pwer", "--out", "x.csv")
    with pytest.raises(UserError, match="K <= d"):
        run("power", "--d", 2, "--k", 3)
    with pytest.raises(UserError, match="two means"):
        run("em", "--d", 1, "--k", 3)
    with pytest.raises(UserError, match="too small"):
        run("em", "--width", 30)
