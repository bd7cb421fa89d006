"""Slopes of errors in the number of points."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tgmm.columns import ORACLE
from tgmm.tables.slopes import fit_slope, slope_rows, slope_table

SIZES = np.array([16, 32, 64, 128, 256])
SETTINGS = {"taskset": "sizes", "metric": "mean_error", "methods": ["em", ORACLE], "id": "tab-sizes"}


def summary(errors: dict[str, np.ndarray], width: float = 0.1) -> pd.DataFrame:
    """A summary of one d and K with an error for each method and N."""
    rows = [
        {
            "scale": "test", "taskset": "sizes", "d": 2, "K": 3, "N": int(N), "shift": "none", "shift_value": 0.0,
            "method": method, "family": "", "metric": "mean_error", "mean": mean, "median": mean,
            "low": mean * (1 - width), "high": mean * (1 + width), "n_tasks": 32, "n_failed": 0, "failure_share": 0.0,
            "failure_reason": "", "seed": 1, "covariance": "isotropic",
        }
        for method, values in errors.items()
        for N, mean in zip(SIZES, values, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.0])
def test_a_power_of_n_has_its_exponent_as_slope(slope):
    rows = summary({"em": 3 * SIZES**slope})
    found, error = fit_slope(rows)
    assert found == pytest.approx(slope, abs=1e-9)
    assert 0 < error < 0.1


def test_the_slope_is_that_of_weighted_least_squares():
    rng = np.random.default_rng(0)
    rows = summary({"em": np.exp(rng.normal(size=5))})
    widths = rng.uniform(0.05, 0.3, 5)
    rows["low"], rows["high"] = rows["mean"] * (1 - widths), rows["mean"] * (1 + widths)
    found, error = fit_slope(rows)
    sigma = widths / 1.959964
    coefficients, covariance = np.polyfit(np.log(SIZES), np.log(rows["mean"]), 1, w=1 / sigma, cov="unscaled")
    assert found == pytest.approx(coefficients[0], rel=1e-6)
    assert error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-6)


def test_where_a_method_leaves_the_floor_is_said():
    floor = 8 / SIZES
    rows = slope_rows(summary({"em": floor * np.array([5, 3, 1.5, 1.1, 1.0]), ORACLE: floor}), SETTINGS)
    above = rows.set_index("method")["largest_N_above_floor"]
    assert above["em"] == 64
    assert above[ORACLE] == 0
    table = slope_table(rows, SETTINGS)
    assert table.body[0][0] == ["2", "3"]
    assert table.body[0][1][0].median == "N ≤ 64"
    assert "32 tasks a cell" in table.notes[1]
