"""Summaries and drawn figures that the tests of figures share, each made once."""

from __future__ import annotations

import pandas as pd
import pytest
from figure_checks import MEAN, SHIFTED_METHODS, SHIFTS

from synthetic_scores import METHODS, method_scores
from tgmm.aggregate import summarise


@pytest.fixture(scope="session")
def effectiveness() -> pd.DataFrame:
    """A summary of every method at d = 2, 8 and 32; matched and reference have no network at d = 32."""
    parts = [method_scores(name, dimensions=(2, 8, 32), components=(2, 3), tasks=16) for name in METHODS]
    return summarise(pd.concat(parts, ignore_index=True), resamples=50)


@pytest.fixture(scope="session")
def shifted() -> pd.DataFrame:
    """A summary of the task sets with several sample sizes, perturbed means and several shifts, at d = 8."""
    tasksets = {
        "sample-size": {"points": (32, 128, 1024)},
        "mean-shift": {"shifts": MEAN},
        "robustness": {"shifts": SHIFTS},
    }
    parts = [
        method_scores(method, dimensions=(8,), components=(2, 3), tasks=6, taskset=name, **options)
        for name, options in tasksets.items()
        for method in SHIFTED_METHODS
        if (method, name) != ("tgmm-components-standardised", "sample-size")
    ]
    return summarise(pd.concat(parts, ignore_index=True), resamples=20)
