"""Metrics against d, N and shifts, and grids of metrics: what is drawn where, what is marked, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from figure_checks import (
    MEAN,
    SHIFTED_METHODS,
    SHIFTS,
    artist,
    drawn,
    expected,
    means_of,
    missing,
    overlapping,
    segments_of,
    smallest_font,
    texts,
    ticks,
    titles,
)

from synthetic_scores import METHODS
from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.metrics import (
    caption_metric_against_points,
    caption_metric_against_shift,
    caption_metric_grid,
    caption_shift_panels,
)
from tgmm.figures.style import STYLES

DIMENSION = {
    "id": "fig-effectiveness", "kind": "metric-against-dimension", "taskset": "effectiveness", "metric": "l2_error",
    "methods": list(METHODS), "scale": "laptop", "dimensions": [2, 8, 32], "n_components": [2, 3],
}  # fmt: skip
COMMON = {
    "scale": "laptop",
    "methods": list(SHIFTED_METHODS),
    "dimensions": [8],
    "n_components": [2, 3],
    "metric": "l2_error",
}
POINTS = COMMON | {
    "id": "fig-points", "kind": "metric-against-points", "taskset": "sample-size", "n_points": [32, 128, 1024],
    "trained_N": {"tgmm-components-n32": 32, "tgmm-components": 128},
}  # fmt: skip
SHIFT = COMMON | {
    "id": "fig-shift", "kind": "metric-against-shift", "taskset": "mean-shift", "shift": "mean", "shifts": MEAN,
}  # fmt: skip
PANELS = COMMON | {"id": "fig-shifts", "kind": "shift-panels", "taskset": "robustness", "shifts": SHIFTS}
GRID = COMMON | {
    "id": "fig-metrics", "kind": "metric-grid", "taskset": "mean-shift", "axis": "shift_value", "shifts": MEAN,
    "metrics": ["mean_error", "weight_error", "weight_cross_entropy", "accuracy", "log_likelihood_deficit",
                "log_likelihood_heldout_deficit"],
}  # fmt: skip
SMALL = GRID | {"metrics": ["accuracy"]}


def draw(summary, settings):
    return drawn(settings["kind"], summary, settings)


@pytest.fixture(scope="module")
def figures(effectiveness, shifted):
    """The figure of every kind, drawn once."""
    return {
        settings["kind"]: draw(effectiveness if settings is DIMENSION else shifted, settings)
        for settings in (DIMENSION, POINTS, SHIFT, PANELS, GRID)
    }


# --- metric-against-dimension --------------------------------------------------------------------------------------


def test_a_panel_for_each_number_of_components(figures):
    figure = figures["metric-against-dimension"]
    assert titles(figure) == ["K = 2", "K = 3"]
    assert ticks(figure.axes[0]) == ["2", "8", "32"]
    assert figure.axes[0].get_yscale() == "log"


def test_means_and_intervals_are_the_summarys(figures, effectiveness):
    for number, count in enumerate((2, 3)):
        ax = figures["metric-against-dimension"].axes[number]
        rows = expected(effectiveness, "em", K=count).sort_values("d")
        np.testing.assert_allclose(means_of(ax, "em"), rows["mean"])
        np.testing.assert_allclose(segments_of(ax, "interval em")[:, :, 1], rows[["low", "high"]])


def test_medians_and_the_floor_are_drawn_as_levels(figures, effectiveness):
    ax = figures["metric-against-dimension"].axes[0]
    floor, em = (expected(effectiveness, name, K=2).sort_values("d") for name in ("em-oracle", "em"))
    np.testing.assert_allclose(segments_of(ax, "level em-oracle")[:, 0, 1], floor["mean"])
    np.testing.assert_allclose(segments_of(ax, "level em-oracle")[:, :, 0].mean(axis=1), [0, 1, 2])
    np.testing.assert_allclose(segments_of(ax, "median em")[:, 0, 1], em["median"])


def test_the_footer_says_scale_tasks_and_seed(figures):
    assert "scale laptop · 16 tasks a cell · N = 128 · seed 2505" in texts(figures["metric-against-dimension"])


@pytest.mark.parametrize(
    ("metric", "scale"),
    [("accuracy", "linear"), ("log_likelihood_heldout_deficit", "symlog"), ("seconds", "log")],
)
def test_a_metric_has_an_axis_of_its_own(effectiveness, metric, scale):
    figure = draw(effectiveness, DIMENSION | {"metric": metric, "methods": ["em", "em-oracle"]})
    assert figure.axes[0].get_yscale() == scale
    rows = expected(effectiveness, "em", metric, K=2).sort_values("d")
    np.testing.assert_allclose(means_of(figure.axes[0], "em"), rows["mean"])


@pytest.mark.parametrize("part", [{"dimensions": [2, 8]}, {"d": [2, 8]}], ids=str)
def test_settings_may_show_a_part_of_the_dimensions(effectiveness, part):
    figure = draw(effectiveness, DIMENSION | {"methods": ["em"]} | part)
    assert ticks(figure.axes[0]) == ["2", "8"]


def test_several_sample_sizes_need_a_choice(effectiveness):
    several = pd.concat([effectiveness, effectiveness.assign(N=64)])
    with pytest.raises(UserError, match="needs 'N' to be one of 64, 128"):
        draw(several, DIMENSION)


# --- points, shifts and grids --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["metric-against-dimension", "metric-against-points", "metric-against-shift",
                                  "shift-panels", "metric-grid"])  # fmt: skip
def test_texts_are_readable_and_apart(figures, kind):
    assert overlapping(figures[kind]) == []
    assert smallest_font(figures[kind]) >= style.SMALL
    assert figures[kind].get_size_inches()[0] == style.WIDTH


def test_a_grid_with_missing_methods_is_readable(shifted):
    points = {"taskset": "sample-size", "axis": "N", "n_points": [32, 128, 1024]}
    assert overlapping(draw(shifted, SMALL | points | {"methods": ["tgmm-x", *SHIFTED_METHODS]})) == []


def test_points_stand_on_the_axis(figures, shifted):
    figure = figures["metric-against-points"]
    assert titles(figure) == ["K = 2", "K = 3"]
    assert ticks(figure.axes[0]) == ["32", "128", "1024"]
    for ax, count in zip(figure.axes, (2, 3), strict=True):
        rows = expected(shifted, "em", taskset="sample-size", K=count).sort_values("N")
        np.testing.assert_allclose(means_of(ax, "em"), rows["mean"])
    assert missing(figure.axes[0]) == {"not run": 3}
    assert "number of points N" in texts(figure)
    assert "d = 8" in texts(figure)
    assert "N = 32, 128, 1024 ·" in texts(figure)


def test_footer_says_at_how_many_points_networks_were_trained(figures, shifted):
    points = figures["metric-against-points"]
    assert "trained at N up to 32 (TGMM, N = 32), 128 (TGMM components)" in texts(points)
    only = POINTS | {"methods": ["em", "em-oracle"]}
    assert "trained at" not in texts(draw(shifted, only))


def test_several_dimensions_make_rows_of_panels(shifted):
    both = pd.concat([shifted, shifted.assign(d=2)])
    figure = draw(both, POINTS | {"dimensions": [2, 8]})
    assert titles(figure) == ["d = 2, K = 2", "d = 2, K = 3", "d = 8, K = 2", "d = 8, K = 3"]


def test_shift_stands_on_the_axis_and_the_unshifted_value_is_shaded(figures, shifted):
    figure = figures["metric-against-shift"]
    assert ticks(figure.axes[0]) == [str(value) for value in range(11)]
    shades = [patch for patch in figure.axes[0].patches if patch.get_gid() == "unshifted"]
    assert [patch.get_x() for patch in shades] == [-0.5]
    rows = expected(shifted, "tgmm-components", taskset="mean-shift", K=3).sort_values("shift_value")
    np.testing.assert_allclose(means_of(figure.axes[1], "tgmm-components"), rows["mean"])
    assert r"$\sigma_p$" in texts(figure)
    assert "shaded: unshifted" in texts(figure)


def test_heavy_tails_run_from_the_normal_to_the_heaviest(shifted):
    settings = PANELS | {"kind": "metric-against-shift", "shift": "student-t"}
    figure = draw(shifted, settings)
    assert ticks(figure.axes[0]) == ["∞", "10", "3"]
    rows = expected(shifted, "em", taskset="robustness", shift="student-t", K=2)
    np.testing.assert_allclose(means_of(figure.axes[0], "em"), rows.sort_values("shift_value")["mean"][::-1])
    with pytest.raises(UserError, match="needs 'shift' to be one of student-t, wrong-k, scale, smallest-weight"):
        draw(shifted, PANELS | {"kind": "metric-against-shift"})


def test_a_panel_for_each_shift_shows_the_average_over_components(figures, shifted):
    figure = figures["shift-panels"]
    assert titles(figure) == [
        "heavier tails", "wrong number of components", "other units", "unequal weights",
    ]  # fmt: skip
    assert ticks(figure.axes[0]) == ["∞", "10", "3"]
    assert ticks(figure.axes[1]) == ["K−1", "K", "K+1"]
    assert ticks(figure.axes[3]) == ["0.1", "0.02"]
    rows = expected(shifted, "em", taskset="robustness", shift="scale")
    average = rows.groupby("shift_value")["mean"].mean()
    np.testing.assert_allclose(means_of(figure.axes[2], "em"), average)
    wide = rows.assign(square=((rows["mean"] - rows["low"]) / 2) ** 2).groupby("shift_value")["square"].sum() ** 0.5
    np.testing.assert_allclose(segments_of(figure.axes[2], "interval em")[:, 0, 1], average - wide)
    assert "average over K = 2, 3; intervals combined as independent (half-widths in quadrature)" in texts(figure)
    assert [ax.get_xlabel() for ax in figure.axes][2] == "units: data multiplied by"


def test_shifts_keep_the_summarys_order_without_settings(shifted):
    settings = {key: value for key, value in PANELS.items() if key != "shifts"}
    found = titles(draw(shifted, settings))
    assert found[0] == "other units"
    assert len(found) == len(SHIFTS)


def test_an_average_over_a_failed_or_missing_cell_is_marked(shifted):
    broken = shifted.copy()
    lost = (broken["method"] == "em") & (broken["K"] == 3) & (broken["shift"] == "scale")
    broken.loc[lost & (broken["shift_value"] == 2), "n_failed"] = 6
    broken.loc[lost & (broken["shift_value"] == 2), ["mean", "failure_reason"]] = [math.nan, "it broke: badly"]
    broken = broken[~((broken["method"] == "tgmm-components") & (broken["K"] == 2) & (broken["shift"] == "wrong-k"))]
    figure = draw(broken, PANELS)
    assert missing(figure.axes[2]) == {"failed": 1}
    assert missing(figure.axes[1]) == {"not run": 3}
    assert len(means_of(figure.axes[2], "em")) == 2
    assert "failed on every task (EM: it broke)" in texts(figure)


def test_a_grid_has_a_row_for_each_metric_and_a_column_for_each_k(figures, shifted):
    figure = figures["metric-grid"]
    rows = np.array(figure.axes, dtype=object).reshape(6, 2)
    assert titles(figure) == ["K = 2", "K = 3"] + [""] * 10
    scales = ["log", "log", "linear", "linear", "symlog", "symlog"]
    assert [ax.get_yscale() for ax in rows[:, 0]] == scales
    for row, metric in zip(rows, GRID["metrics"], strict=True):
        assert row[0].get_ylim() == row[1].get_ylim()
        values = expected(shifted, "em", metric, taskset="mean-shift", K=3).sort_values("shift_value")
        np.testing.assert_allclose(means_of(row[1], "em"), values["mean"])
    assert figure.get_size_inches()[1] < 9.3  # with its caption on an A4 page
    assert "error of the\nweights" in texts(figure)


def test_close_levels_are_labelled_in_part(shifted):
    assert ticks(draw(shifted, SMALL).axes[0]) == [str(value) for value in range(11)]
    more = pd.concat([shifted, shifted.assign(K=shifted["K"] + 2)])
    labels = ticks(draw(more, SMALL | {"n_components": [2, 3, 4, 5]}).axes[0])
    assert labels == [str(value) if value % 2 == 0 else "" for value in range(11)]


def test_zero_stands_on_the_lower_edge_of_a_logarithmic_axis(shifted):
    zero = shifted.copy()
    here = (zero["metric"] == "weight_error") & (zero["method"] == "em") & (zero["shift_value"] == 4)
    zero.loc[here, ["mean", "median", "low", "high"]] = 0.0
    figure = draw(zero, GRID | {"metrics": ["weight_error"]})
    ax = figure.axes[0]
    assert ax.get_yscale() == "log"
    np.testing.assert_allclose(artist(ax, "zero em").get_ydata(), ax.get_ylim()[0])
    assert "marker on the lower edge: zero" in texts(figure)
    assert "lower edge" not in texts(draw(shifted, SMALL))


def test_means_that_are_no_numbers_are_marked(shifted):
    odd = shifted.copy()
    here = (odd["metric"] == "weight_cross_entropy") & (odd["method"] == "em") & (odd["K"] == 2)
    odd.loc[here & (odd["shift_value"] == 1), "mean"] = math.inf
    odd.loc[here & (odd["shift_value"] == 2), ["mean", "low", "high", "median"]] = math.nan
    figure = draw(odd, GRID | {"metrics": ["weight_cross_entropy"]})
    assert missing(figure.axes[0]) == {"no finite mean": 2}
    assert not missing(figure.axes[1])
    assert "–: no finite mean" in texts(figure)
    assert overlapping(figure) == []


@pytest.mark.parametrize("settings", [POINTS, PANELS, SMALL], ids=lambda settings: settings["kind"])
def test_where_nothing_worked_the_figure_says_so(shifted, settings):
    failed = shifted.assign(n_failed=shifted["n_tasks"], failure_reason="it broke: badly")
    failed[["mean", "median", "low", "high"]] = math.nan
    figure = draw(failed, settings)
    for ax in figure.axes:
        assert "no method has a value" in [text.get_text() for text in ax.texts]
        assert missing(ax).get("failed")
    with pytest.raises(UserError, match="no scores of the methods tgmm-x"):
        draw(shifted, settings | {"methods": ["tgmm-x"]})


def test_scale_error_of_isotropic_tasks_is_a_gap_not_a_crash(shifted):
    figure = draw(shifted, GRID | {"metrics": ["scale_error", "l2_error"]})
    assert missing(figure.axes[0])["no finite mean"] == 11 * len(SHIFTED_METHODS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["acuracy"]}, "did you mean 'accuracy'"),
        ({"axis": "d"}, "needs 'shift_value' to be one of 0.0, 1.0"),
        ({"taskset": "robustness", "shifts": SHIFTS}, "needs 'shift' to be one of"),
    ],
)
def test_grids_refuse_what_they_cannot_show(shifted, change, message):
    with pytest.raises(UserError, match=message):
        draw(shifted, GRID | change)


def test_shift_panels_need_a_shift(shifted):
    with pytest.raises(UserError, match="task set 'sample-size' has no shift"):
        draw(shifted, COMMON | {"kind": "shift-panels", "taskset": "sample-size", "n_points": [128]})


def test_one_number_of_components_makes_one_column(shifted):
    for settings in (POINTS, SMALL):
        figure = draw(shifted, settings | {"n_components": [3]})
        assert figure.axes[0].get_title("left") == "K = 3"
        assert len(figure.axes) == len(settings.get("metrics", [1]))
        assert overlapping(figure) == []


@pytest.mark.slow
def test_every_method_at_once_has_a_legend_that_fits(shifted):
    methods = list(STYLES)
    crowd = pd.concat([shifted[shifted["method"] == "em"].assign(method=name) for name in methods])
    figure = draw(crowd, PANELS | {"methods": methods, "shift": "scale"})
    assert [entry.get_text() for entry in figure.legends[0].get_texts()].count("Spectral") == 1
    assert len(figure.legends[0].get_texts()) == len(methods)
    assert overlapping(figure) == []


@pytest.mark.parametrize(
    ("caption", "settings", "words"),
    [
        (caption_metric_against_points, POINTS, ["ℓ2-error", "number of points N", "'sample-size'"]),
        (caption_metric_against_shift, SHIFT, ["ℓ2-error", "perturbed means", "'mean-shift'"]),
        (caption_shift_panels, PANELS, ["averaged over", "'robustness'"]),
        (caption_metric_grid, GRID, ["Error of the means,", "and held-out log-likelihood", "the size of the shift"]),
    ],
)
def test_captions_say_what_is_shown(caption, settings, words):
    text = caption(settings)
    assert all(word in text for word in words)
    assert text.endswith(".")
