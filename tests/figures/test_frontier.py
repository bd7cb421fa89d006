"""Which methods no other one beats in both time and error."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from tgmm.figures import style
from tgmm.figures.frontier import draw_error_against_error, draw_error_against_seconds, frontier, trade_offs

POSITIVE = st.floats(1e-6, 1e3)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=12, unique=True))
def test_the_frontier_is_what_nothing_beats(points):
    rows = pd.DataFrame(points, columns=["x", "mean"]).assign(method=[f"m{i}" for i in range(len(points))])
    found = set(frontier(rows)["method"])
    for row in rows.itertuples():
        beaten = any(
            other.x <= row.x and other.mean <= row.mean and other.method != row.method for other in rows.itertuples()
        )
        assert (row.method in found) == (not beaten)


def test_what_knows_the_truth_is_no_rival():
    rows = pd.DataFrame({"method": ["em-oracle", "em", "bayes"], "x": [0.1, 1.0, 5.0], "mean": [0.01, 0.5, 0.02]})
    assert list(frontier(rows)["method"]) == ["em"]


LOSSES = {
    "taskset": "effectiveness", "metrics": ["weight_error", "mean_error"],
    "methods": ["em", "tgmm-matched", "tgmm-components", "em-oracle"], "dimensions": [2, 8], "d": [2, 8],
    "n_components": [2, 3], "n_points": [128],
}  # fmt: skip


def test_a_trade_off_has_both_metrics_of_every_method(effectiveness):
    points = trade_offs(effectiveness, LOSSES)
    assert len(points) == 4 * 4
    for row in points.itertuples():
        cell = (effectiveness["d"] == row.d) & (effectiveness["K"] == row.K) & (effectiveness["method"] == row.method)
        for metric, value in (("weight_error", row.x), ("mean_error", row.mean)):
            assert effectiveness.loc[cell & (effectiveness["metric"] == metric), "mean"].item() == value


@pytest.mark.parametrize(
    ("draw", "settings", "label"),
    [
        (draw_error_against_error, LOSSES, "error of the weights"),
        (draw_error_against_seconds, LOSSES | {"metric": "l2_error"}, "seconds a task"),
    ],
)
def test_a_panel_for_each_cell_has_a_marker_for_each_method(effectiveness, draw, settings, label):
    with style.applied():
        figure = draw(effectiveness, settings, {})
    panels = [ax for ax in figure.axes if ax.get_title("left")]
    assert [ax.get_title("left") for ax in panels] == [f"d = {d}, K = {K}" for d in (2, 8) for K in (2, 3)]
    assert all(len(ax.containers) == 4 for ax in panels)
    assert label in " ".join(text.get_text() for text in figure.findobj(Text))
