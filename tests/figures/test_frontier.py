"""Which methods no other one beats in both time and error."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tgmm.figures.frontier import frontier

POSITIVE = st.floats(1e-6, 1e3)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=12, unique=True))
def test_the_frontier_is_what_nothing_beats(points):
    rows = pd.DataFrame(points, columns=["seconds", "mean"]).assign(method=[f"m{i}" for i in range(len(points))])
    found = set(frontier(rows)["method"])
    for row in rows.itertuples():
        beaten = any(
            other.seconds <= row.seconds and other.mean <= row.mean and other.method != row.method
            for other in rows.itertuples()
        )
        assert (row.method in found) == (not beaten)


def test_what_knows_the_truth_is_no_rival():
    rows = pd.DataFrame({"method": ["em-oracle", "em", "bayes"], "seconds": [0.1, 1.0, 5.0], "mean": [0.01, 0.5, 0.02]})
    assert list(frontier(rows)["method"]) == ["em"]
