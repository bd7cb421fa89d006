"""What metrics, shifts and axes are called and how their values are written."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from tgmm.columns import METRICS
from tgmm.errors import UserError
from tgmm.figures.style import METRIC_TEXTS, SHIFT_TEXTS, axis_of, metric_text, shift_axis, shift_text
from tgmm.tasks.shifts import SHIFTS as SHIFTS_OF_TASKS


def test_every_shift_and_metric_has_a_text():
    assert set(SHIFT_TEXTS) == set(SHIFTS_OF_TASKS) - {"none"}
    assert set(METRICS) <= set(METRIC_TEXTS)
    assert all(max(map(len, text.narrow.split("\n"))) <= 22 for text in METRIC_TEXTS.values())
    assert shift_text("missing-values").name == "missing values"
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        metric_text("acuracy")


def test_axes_run_from_mild_to_strong():
    rows = pd.DataFrame({"shift": "student-t", "shift_value": [3.0, math.inf, 5.0], "d": 8, "N": 128})
    axis = axis_of("shift_value", rows)
    assert [axis.write(value) for value in axis.levels(rows)] == ["∞", "5", "3"]
    assert axis.unshifted == math.inf
    assert [shift_axis("wrong-k").write(value) for value in (-1.0, 0.0, 1.0)] == ["K−1", "K", "K+1"]
    assert shift_axis("outliers").write(0.05) == "5 %"
    assert shift_axis("smallest-weight").levels(pd.DataFrame({"shift_value": [0.02, 0.1, 0.05]})) == [0.1, 0.05, 0.02]
    with pytest.raises(UserError, match="unknown axis 'n'"):
        axis_of("n", rows)
