"""Whether a network was still learning when its training ended."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgmm.errors import UserError
from tgmm.train.history import late_gain, still_learning


def history(*errors: float) -> pd.DataFrame:
    return pd.DataFrame({"tasks": [100 * (row + 1) for row in range(len(errors))], "validation_l2_error": errors})


def test_the_gain_is_that_of_the_best_error_over_the_last_third():
    assert late_gain(history(4.0, 2.0, 1.0, 1.0, 1.0, 0.9)) == pytest.approx(0.1)
    assert late_gain(history(4.0, 0.5, 1.0, 1.0, 0.9, 0.8)) == 0.0
    assert late_gain(history(1.0, 0.4, 1.0, math.nan, 0.3, math.nan)) == pytest.approx(0.25)


def test_five_per_cent_is_the_limit():
    assert still_learning(history(2.0, 1.0, 0.94))
    assert not still_learning(history(2.0, 1.0, 0.96))


def test_without_an_early_validation_nothing_is_known_to_have_ended():
    assert late_gain(history(math.nan, math.nan, 0.5)) == 1.0
    with pytest.raises(UserError, match="no validation"):
        late_gain(history(math.nan, math.nan))


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=12))
def test_the_gain_is_a_share(errors):
    assert 0.0 <= late_gain(history(*errors)) < 1.0
    assert late_gain(history(*errors, *[max(errors)] * 2 * len(errors))) == 0.0
