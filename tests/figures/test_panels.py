"""Panels: methods side by side, open markers for failures, the band of markers where a method has no value."""

from __future__ import annotations

import numpy as np
import pytest
from figure_checks import artist, drawn, missing, segments_of, texts

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
    assert "not trained, not run at this scale, or not applicable" in texts(figure)


def test_missing_markers_do_not_overlap(figure):
    for ax in figure.axes:
        width = ax.get_position().width * figure.get_size_inches()[0] / 3  # inches between two values of the axis
        places = sorted(line.get_xdata()[0] for line in ax.lines if str(line.get_gid()).startswith("n/a"))
        assert np.diff(places).min() * width >= 4.0 / 72


def test_the_band_of_missing_values_stands_above_the_data(figure):
    ax = figure.axes[1]
    band = ax.patches[0].get_y()
    heights = [segments_of(ax, f"interval {method}")[:, 1, 1].max() for method in METHODS if method != "em-oracle"]
    assert max(heights) < band


def test_there_is_no_band_where_nothing_is_missing(effectiveness):
    whole = drawn(KIND, effectiveness, SETTINGS | {"methods": ["em", "em-oracle"]})
    assert not missing(whole.axes[0])
    assert not whole.axes[0].patches
    assert "n/a" not in texts(whole)


def test_methods_stand_side_by_side_around_their_tick(figure):
    shown = [method for method in METHODS if method != "em-oracle"]
    starts = [artist(figure.axes[0], f"curve {method}").get_xdata()[0] for method in shown]
    np.testing.assert_allclose(starts, [dodge(method, list(METHODS)) for method in shown])
    assert np.all(np.diff(starts) > 0)
    assert sum(starts) == pytest.approx(0)


@pytest.mark.parametrize("count", [2, 7, 12])
def test_methods_stand_nearer_to_their_own_tick_than_to_another_method_at_the_next(count):
    """However many methods there are, the gap between two values of the axis is wider than the group at one."""
    methods = [f"em-{number}" for number in range(count)]
    places = [dodge(method, methods) for method in methods]
    assert max(places) - min(places) < 1 - (max(places) - min(places))


def test_bounds_take_no_place_beside_the_methods():
    methods = ["em", "em-oracle", "spectral", "bayes", "sample-mean"]
    assert [dodge(method, methods) for method in ("em-oracle", "bayes", "sample-mean")] == [0.0, 0.0, 0.0]
    assert dodge("em", methods) == -dodge("spectral", methods) != 0


def test_partly_failed_cells_have_an_open_marker(effectiveness):
    partly = effectiveness.copy()
    partly.loc[(partly["method"] == "em") & (partly["d"] == 8), "n_failed"] = 3
    figure = drawn(KIND, partly, SETTINGS)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    hollow = [line for line in hollow if not line.get_gid().startswith("n/a")]
    mean = partly[(partly["method"] == "em") & (partly["metric"] == "l2_error") & (partly["d"] == 8)]["mean"].iloc[0]
    assert [(line.get_gid(), *line.get_ydata()) for line in hollow] == [("partly failed em", pytest.approx(mean))]
    assert "open marker on a line: some tasks failed" in texts(figure)


def test_the_bands_label_gives_way_to_markers(shifted):
    """It stands beside the first panel where a marker stands near the left edge."""
    settings = {"taskset": "mean-shift", "metric": "l2_error", "methods": ["em", "em-oracle"], "shift": "mean"}
    lost = shifted.copy()
    here = (lost["method"] == "em") & (lost["taskset"] == "mean-shift")
    lost.loc[here & (lost["shift_value"] == 5), ["n_failed", "failure_reason"]] = [6, "lost"]
    labels = _labels(drawn("metric-against-shift", lost, settings))
    assert [text.get_position()[0] for text in labels] == [-0.47, -0.47]
    lost.loc[here & (lost["shift_value"] == 0), ["n_failed", "failure_reason"]] = [6, "lost"]
    figure = drawn("metric-against-shift", lost, settings)
    (label,) = _labels(figure)
    assert label.axes is figure.axes[0]
    assert label.get_transform() == figure.axes[0].transAxes
    assert (label.get_position()[0], label.get_ha()) == (-0.02, "right")


def _labels(figure) -> list:
    return [text for ax in figure.axes for text in ax.texts if text.get_text() == "n/a"]
