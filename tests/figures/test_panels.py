"""Panels: methods side by side, open markers for failures, the band of markers where a method has no value."""

from __future__ import annotations

import numpy as np
import pytest
from figure_checks import curve_of, drawn, missing, texts

from synthetic_scores import METHODS
from tgmm.figures.panels import dodge

KIND = "metric-against-dimension"
SETTINGS = {
    "id": "fig-effectiveness", "taskset": "effectiveness", "metric": "l2_error", "methods": list(METHODS),
    "scale": "laptop", "dimensions": [2, 8, 32], "n_components": [2, 3],
}  # fmt: skip


@pytest.fixture(scope="module")
def figure(effectiveness):
    return drawn(KIND, effectiveness, SETTINGS)


def test_methods_without_a_value_are_marked(figure):
    assert missing(figure.axes[0]) == {"not run": 2}  # matched and reference at d = 32
    assert missing(figure.axes[1]) == {"not run": 2, "failed": 1}  # and spectral at d = 2, K = 3
    assert "n/a" in [text.get_text() for text in figure.axes[0].texts]
    assert "failed on every task (Spectral" in texts(figure)
    assert "not trained or not run" in texts(figure)


def test_the_band_of_missing_values_stands_above_the_data(figure):
    ax = figure.axes[1]
    band = ax.patches[0].get_y()
    means = [curve_of(ax, method).get_ydata() for method in METHODS if method != "em-oracle"]
    assert max(np.max(heights) for heights in means if len(heights)) < band


def test_there_is_no_band_where_nothing_is_missing(effectiveness):
    whole = drawn(KIND, effectiveness, SETTINGS | {"methods": ["em", "em-oracle"]})
    assert not missing(whole.axes[0])
    assert not whole.axes[0].patches
    assert "n/a" not in texts(whole)


def test_methods_stand_side_by_side_around_their_tick(figure):
    shown = [method for method in METHODS if method != "em-oracle"]
    starts = [curve_of(figure.axes[0], method).get_xdata()[0] for method in shown]
    np.testing.assert_allclose(starts, [dodge(method, list(METHODS)) for method in shown])
    assert np.all(np.diff(starts) > 0)
    assert sum(starts) == pytest.approx(0)


def test_partly_failed_cells_have_an_open_marker(effectiveness):
    partly = effectiveness.copy()
    partly.loc[(partly["method"] == "em") & (partly["d"] == 8), "n_failed"] = 3
    figure = drawn(KIND, partly, SETTINGS)
    lines = [line for line in figure.axes[0].lines if line.get_gid() is None]
    hollow = [line for line in lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    mean = partly[(partly["method"] == "em") & (partly["metric"] == "l2_error") & (partly["d"] == 8)]["mean"].iloc[0]
    assert [list(line.get_ydata()) for line in hollow] == [[pytest.approx(mean)]]
    assert "open marker on a line: some tasks failed" in texts(figure)


def test_the_bands_label_gives_way_to_markers(effectiveness):
    lost = effectiveness.copy()
    lost.loc[(lost["method"] == "em") & (lost["d"] == 2), ["n_failed", "failure_reason"]] = [16, "lost"]
    figure = drawn(KIND, lost, SETTINGS)
    labels = [[text for text in ax.texts if text.get_text() == "n/a"] for ax in figure.axes]
    assert [len(found) for found in labels] == [1, 0]
    assert labels[0][0].get_position()[0] < 0
    assert labels[0][0].get_ha() == "right"
