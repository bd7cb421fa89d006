"""What a training's history says: when it was validated, and whether it had come to an end."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgmm.errors import UserError
from tgmm.train.status import still_learning, validations


def history(errors: list[float], tasks: list[int] | None = None) -> pd.DataFrame:
    """A history that is validated at even steps, with a row that is no validation after each."""
    tasks = tasks or [100 * (number + 1) for number in range(len(errors))]
    rows = pd.DataFrame({"tasks": tasks, "validation_l2_error": errors})
    between = rows.assign(tasks=rows["tasks"] - 50, validation_l2_error=np.nan)
    return pd.concat([between, rows]).sort_values("tasks", ignore_index=True)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([3.0, 2.0, 1.0], True),
        ([3.0, 1.0, 0.951], False),
        ([3.0, 1.0, 0.949], True),
        ([3.0, 1.0, 1.2], False),  # worse at the end is no gain
        ([0.5, 1.0, 0.9], False),  # the best counts, not the last
        ([1.0] * 9, False),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 4.0, 4.0, 3.0], True),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 4.0, 4.0, 3.9], False),  # 2.5 % over the last three of nine
    ],
)
def test_a_gain_of_five_per_cent_over_the_last_third_is_learning(errors, expected):
    assert still_learning(history(errors)) is expected


def test_the_thirds_are_of_tasks_not_of_rows():
    errors, tasks = [4.0, 1.0, 0.9, 0.8], [100, 200, 300, 3000]
    assert still_learning(history(errors, tasks))  # from .9 at 300 tasks to .8 at 3,000
    assert still_learning(history([1.0, 0.5], [2900, 3000]))  # nothing is known of the first two thirds


@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=12), st.floats(0.1, 10), st.randoms())
def test_units_and_the_order_of_rows_do_not_matter(errors, unit, random):
    rows = history(errors)
    learning = still_learning(rows)
    shuffled = rows.sample(frac=1, random_state=random.randint(0, 1000))
    assert still_learning(shuffled) == learning
    scaled = rows.assign(validation_l2_error=rows["validation_l2_error"] * 2.0 ** round(unit))
    assert still_learning(scaled) == learning


def test_validations_leave_out_the_start_and_other_rows():
    rows = history([3.0, 2.0])
    rows.loc[len(rows)] = [0, 9.0]
    assert validations(rows, "f")["validation_l2_error"].tolist() == [3.0, 2.0]
    with pytest.raises(UserError, match="the training history of family 'f' holds no validation"):
        validations(rows.assign(validation_l2_error=np.nan), "f")


def test_histories_are_read_without_torch():
    code = "import sys, tgmm.train.status; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
