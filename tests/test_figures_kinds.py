"""Figures against N, against shifts, and grids of metrics: what is drawn where, what is marked, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from synthetic_scores import method_scores
from tgmm.aggregate import summarise
from tgmm.errors import UserError
from tgmm.figures import metric_against_points, metric_against_shift, metric_grid, shift_panels, style
from tgmm.figures.draw import draw_figure
from tgmm.figures.palette import STYLES, method_style
from tgmm.figures.registry import FIGURES

METHODS = ["em", "spectral", "tgmm-components-n32", "tgmm-components", "tgmm-components-standardised", "em-oracle"]
SHIFTS = [
    {"kind": "student-t", "values": [3, 10, math.inf]},
    {"kind": "wrong-k", "values": [-1, 0, 1]},
    {"kind": "scale", "values": [0.5, 1, 2]},
    {"kind": "smallest-weight", "values": [0.1, 0.02]},
]
MEAN = [{"kind": "mean", "values": list(range(11))}]
COMMON = {"scale": "laptop", "methods": METHODS, "dimensions": [8], "n_components": [2, 3], "metric": "l2_error"}
POINTS = COMMON | {
    "id": "fig-points", "kind": "metric-against-points", "taskset": "sample-size", "n_points": [32, 128, 1024],
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


@pytest.fixture(scope="module")
def summary():
    tasksets = {
        "sample-size": {"points": (32, 128, 1024)},
        "mean-shift": {"shifts": MEAN},
        "robustness": {"shifts": SHIFTS},
    }
    parts = [
        method_scores(method, dimensions=(8,), components=(2, 3), tasks=6, taskset=name, **options)
        for name, options in tasksets.items()
        for method in METHODS
        if (method, name) != ("tgmm-components-standardised", "sample-size")
    ]
    return summarise(pd.concat(parts, ignore_index=True), resamples=20)


def drawn(summary, settings):
    with style.applied():
        return FIGURES[settings["kind"]].draw(summary, settings, {})


def texts(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def ticks(panel) -> list[str]:
    return [label.get_text() for label in panel.get_xticklabels()]


def marked(panel) -> dict[str, int]:
    ids = [line.get_gid() for line in panel.lines if str(line.get_gid()).startswith("n/a")]
    return {name: ids.count(name) for name in set(ids)}


def means_of(panel, method: str) -> np.ndarray:
    """The heights of the method's line, from left to right."""
    color = method_style(method).color
    lines = [line for line in panel.lines if line.get_color() == color and line.get_alpha() == 0.75]
    return np.asarray(lines[0].get_ydata(), float)[np.argsort(lines[0].get_xdata())]


def expected(summary, method: str, metric: str = "l2_error", **cell) -> pd.DataFrame:
    rows = summary[(summary["method"] == method) & (summary["metric"] == metric)]
    for column, value in cell.items():
        rows = rows[rows[column] == value]
    return rows


def overlapping(figure) -> list[tuple[str, str]]:
    """Pairs of texts of the figure whose boxes overlap, tick labels included, and texts that leave the page."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = [text for text in figure.texts if text.get_text().strip()]
    for panel in figure.axes:
        if panel.get_visible():
            labels = [*panel.get_xticklabels(), *panel.get_yticklabels(), panel.title, panel._left_title]
            found += [text for text in [*labels, panel.xaxis.label, *panel.texts] if _shows(text, panel)]
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-1.0)) for text in found]
    boxes += [("legend", legend.get_window_extent(renderer)) for legend in figure.legends]
    page = figure.bbox
    outside = [
        (name, "page") for name, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > page.x1 or box.y1 > page.y1
    ]
    pairs = [
        (one, other)
        for number, (one, box) in enumerate(boxes)
        for other, beside in boxes[:number]
        if box.overlaps(beside)
    ]
    return outside + pairs


def _shows(text, panel) -> bool:
    if not (text.get_visible() and text.get_text().strip()):
        return False
    if text in panel.get_yticklabels():
        return panel.get_ylim()[0] <= text.get_position()[1] <= panel.get_ylim()[1]
    return True


ALL = [POINTS, SHIFT, PANELS, GRID]
ALL += [GRID | {"taskset": "sample-size", "axis": "N", "n_points": [32, 128, 1024], "methods": ["tgmm-x", *METHODS]}]


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: f"{settings['kind']}-{settings['taskset']}")
def test_texts_are_readable_and_apart(summary, settings):
    figure = drawn(summary, settings)
    assert overlapping(figure) == []
    sizes = [text.get_fontsize() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_fontsize"))]
    assert min(sizes) >= style.SMALL
    assert figure.get_size_inches()[0] == style.WIDTH


def test_points_stand_on_the_axis(summary):
    figure = drawn(summary, POINTS)
    assert [panel.get_title("left") for panel in figure.axes] == ["K = 2", "K = 3"]
    assert ticks(figure.axes[0]) == ["32", "128", "1024"]
    for panel, count in zip(figure.axes, (2, 3), strict=True):
        rows = expected(summary, "em", taskset="sample-size", K=count).sort_values("N")
        np.testing.assert_allclose(means_of(panel, "em"), rows["mean"])
    assert marked(figure.axes[0]) == {"n/a not run": 3}
    assert "number of points N" in texts(figure)
    assert "d = 8" in texts(figure)
    assert "N = 32, 128, 1024 ·" in texts(figure)


def test_footer_says_at_how_many_points_networks_were_trained(summary):
    assert "trained at N up to 32 (TGMM, N = 32), 128 (TGMM components)" in texts(drawn(summary, POINTS))
    only = POINTS | {"methods": ["em", "em-oracle"]}
    assert "trained at" not in texts(drawn(summary, only))


def test_several_dimensions_make_rows_of_panels(summary):
    both = pd.concat([summary, summary.assign(d=2)])
    figure = drawn(both, POINTS | {"dimensions": [2, 8]})
    titles = [panel.get_title("left") for panel in figure.axes]
    assert titles == ["d = 2, K = 2", "d = 2, K = 3", "d = 8, K = 2", "d = 8, K = 3"]


def test_shift_stands_on_the_axis_and_the_unshifted_value_is_shaded(summary):
    figure = drawn(summary, SHIFT)
    assert ticks(figure.axes[0]) == [str(value) for value in range(11)]
    shades = [patch for patch in figure.axes[0].patches if patch.get_gid() == "unshifted"]
    assert [patch.get_x() for patch in shades] == [-0.5]
    rows = expected(summary, "tgmm-components", taskset="mean-shift", K=3).sort_values("shift_value")
    np.testing.assert_allclose(means_of(figure.axes[1], "tgmm-components"), rows["mean"])
    assert r"$\sigma_p$" in texts(figure)
    assert "shaded: unshifted" in texts(figure)


def test_heavy_tails_run_from_the_normal_to_the_heaviest(summary):
    settings = PANELS | {"kind": "metric-against-shift", "shift": "student-t"}
    figure = drawn(summary, settings)
    assert ticks(figure.axes[0]) == ["∞", "10", "3"]
    rows = expected(summary, "em", taskset="robustness", shift="student-t", K=2)
    np.testing.assert_allclose(means_of(figure.axes[0], "em"), rows.sort_values("shift_value")["mean"][::-1])
    with pytest.raises(UserError, match="needs 'shift' to be one of student-t, wrong-k, scale, smallest-weight"):
        drawn(summary, PANELS | {"kind": "metric-against-shift"})


def test_a_panel_for_each_shift_shows_the_average_over_components(summary):
    figure = drawn(summary, PANELS)
    assert [panel.get_title("left") for panel in figure.axes] == [
        "heavier tails", "wrong number of components", "other units", "unequal weights",
    ]  # fmt: skip
    assert ticks(figure.axes[0]) == ["∞", "10", "3"]
    assert ticks(figure.axes[1]) == ["K−1", "K", "K+1"]
    assert ticks(figure.axes[3]) == ["0.1", "0.02"]
    rows = expected(summary, "em", taskset="robustness", shift="scale")
    average = rows.groupby("shift_value")["mean"].mean()
    np.testing.assert_allclose(means_of(figure.axes[2], "em"), average)
    wide = rows.assign(square=((rows["mean"] - rows["low"]) / 2) ** 2).groupby("shift_value")["square"].sum() ** 0.5
    bars = [bar for bar in figure.axes[2].collections if to_hex(bar.get_color()[0]) == method_style("em").color]
    np.testing.assert_allclose([segment[0][1] for segment in bars[0].get_segments()], average - wide)
    assert "average over K = 2, 3; intervals combined as independent (half-widths in quadrature)" in texts(figure)
    assert [panel.get_xlabel() for panel in figure.axes][2] == "units: data multiplied by"


def test_shifts_keep_the_summarys_order_without_settings(summary):
    settings = {key: value for key, value in PANELS.items() if key != "shifts"}
    titles = [panel.get_title("left") for panel in drawn(summary, settings).axes]
    assert titles[0] == "other units"
    assert len(titles) == len(SHIFTS)


def test_an_average_with_a_failed_or_missing_cell_is_marked(summary):
    broken = summary.copy()
    lost = (broken["method"] == "em") & (broken["K"] == 3) & (broken["shift"] == "scale")
    broken.loc[lost & (broken["shift_value"] == 2), "n_failed"] = 6
    broken.loc[lost & (broken["shift_value"] == 2), ["mean", "failure_reason"]] = [math.nan, "it broke: badly"]
    broken = broken[~((broken["method"] == "tgmm-components") & (broken["K"] == 2) & (broken["shift"] == "wrong-k"))]
    figure = drawn(broken, PANELS)
    assert marked(figure.axes[2]) == {"n/a failed": 1}
    assert marked(figure.axes[1]) == {"n/a not run": 3}
    assert len(means_of(figure.axes[2], "em")) == 2
    assert "failed on every task (EM: it broke)" in texts(figure)


def test_a_grid_has_a_row_for_each_metric_and_a_column_for_each_k(summary):
    figure = drawn(summary, GRID)
    rows = np.array(figure.axes, dtype=object).reshape(6, 2)
    assert [panel.get_title("left") for panel in rows[0]] == ["K = 2", "K = 3"]
    assert {panel.get_title("left") for panel in rows[1:].flat} == {""}
    scales = ["log", "log", "linear", "linear", "symlog", "symlog"]
    assert [panel.get_yscale() for panel in rows[:, 0]] == scales
    for row, metric in zip(rows, GRID["metrics"], strict=True):
        assert row[0].get_ylim() == row[1].get_ylim()
        values = expected(summary, "em", metric, taskset="mean-shift", K=3).sort_values("shift_value")
        np.testing.assert_allclose(means_of(row[1], "em"), values["mean"])
    assert figure.get_size_inches()[1] < 9.3  # with its caption on an A4 page
    assert "error of the\nweights" in texts(figure)


def test_close_levels_are_labelled_in_part(summary):
    assert ticks(drawn(summary, SMALL).axes[0]) == [str(value) for value in range(11)]
    more = pd.concat([summary, summary.assign(K=summary["K"] + 2)])
    labels = ticks(drawn(more, SMALL | {"n_components": [2, 3, 4, 5]}).axes[0])
    assert labels == [str(value) if value % 2 == 0 else "" for value in range(11)]


def test_zero_stands_on_the_lower_edge_of_a_logarithmic_axis(summary):
    zero = summary.copy()
    here = (zero["metric"] == "weight_error") & (zero["method"] == "em") & (zero["shift_value"] == 4)
    zero.loc[here, ["mean", "median", "low", "high"]] = 0.0
    figure = drawn(zero, GRID | {"metrics": ["weight_error"]})
    panel = figure.axes[0]
    assert panel.get_yscale() == "log"
    edge = [line for line in panel.lines if line.get_gid() == "zero"]
    np.testing.assert_allclose(edge[0].get_ydata(), panel.get_ylim()[0])
    assert "marker on the lower edge: zero" in texts(figure)
    assert "lower edge" not in texts(drawn(summary, SMALL))


def test_means_that_are_no_numbers_are_marked(summary):
    odd = summary.copy()
    here = (odd["metric"] == "weight_cross_entropy") & (odd["method"] == "em") & (odd["K"] == 2)
    odd.loc[here & (odd["shift_value"] == 1), "mean"] = math.inf
    odd.loc[here & (odd["shift_value"] == 2), ["mean", "low", "high", "median"]] = math.nan
    figure = drawn(odd, GRID | {"metrics": ["weight_cross_entropy"]})
    assert marked(figure.axes[0]) == {"n/a no finite mean": 2}
    assert not marked(figure.axes[1])
    assert "n/a –: no finite mean" in texts(figure)
    assert overlapping(figure) == []


@pytest.mark.parametrize("settings", [POINTS, SHIFT, PANELS, SMALL], ids=lambda settings: settings["kind"])
def test_where_nothing_worked_the_figure_says_so(summary, settings):
    failed = summary.assign(n_failed=summary["n_tasks"], failure_reason="it broke: badly")
    failed[["mean", "median", "low", "high"]] = math.nan
    figure = drawn(failed, settings)
    for panel in figure.axes:
        assert "no method has a value" in [text.get_text() for text in panel.texts]
        assert marked(panel).get("n/a failed")
    with pytest.raises(UserError, match="no scores of the methods tgmm-x"):
        drawn(summary, settings | {"methods": ["tgmm-x"]})


def test_scale_error_of_isotropic_tasks_is_a_gap_not_a_crash(summary):
    figure = drawn(summary, GRID | {"metrics": ["scale_error", "l2_error"]})
    assert marked(figure.axes[0])["n/a no finite mean"] == 11 * len(METHODS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": []}, r"'fig-metrics': 'metrics' must be a list of metrics, not \[\]"),
        ({"metrics": "accuracy"}, "'metrics' must be a list of metrics, not 'accuracy'"),
        ({"metrics": ["acuracy"]}, "did you mean 'accuracy'"),
        ({"axis": "K"}, "'axis' must be one of d, N, shift_value, not 'K'"),
        ({"axis": "d"}, "needs 'shift_value' to be one of 0.0, 1.0"),
        ({"taskset": "robustness", "shifts": SHIFTS}, "needs 'shift' to be one of"),
    ],
)
def test_grids_refuse_what_they_cannot_show(summary, change, message):
    with pytest.raises(UserError, match=message):
        drawn(summary, GRID | change)


def test_shift_panels_need_a_shift(summary):
    with pytest.raises(UserError, match="task set 'sample-size' has no shift"):
        drawn(summary, COMMON | {"kind": "shift-panels", "taskset": "sample-size", "n_points": [128]})


def test_one_number_of_components_makes_one_column(summary):
    for settings in (POINTS, SHIFT, SMALL):
        figure = drawn(summary, settings | {"n_components": [3]})
        assert figure.axes[0].get_title("left") == "K = 3"
        assert len(figure.axes) == len(settings.get("metrics", [1]))
        assert overlapping(figure) == []


def test_every_method_at_once_has_a_legend_that_fits(summary):
    methods = list(STYLES)
    crowd = pd.concat([summary[summary["method"] == "em"].assign(method=name) for name in methods])
    for settings in (PANELS, SMALL):
        figure = drawn(crowd, settings | {"methods": methods})
        assert [entry.get_text() for entry in figure.legends[0].get_texts()].count("Spectral") == 1
        assert len(figure.legends[0].get_texts()) == len(methods)
        assert overlapping(figure) == []


@pytest.mark.parametrize("settings", [PANELS, SMALL], ids=lambda settings: settings["kind"])
def test_same_input_gives_the_same_bytes(summary, settings, tmp_path):
    summary.to_parquet(tmp_path / "summary.parquet")
    shuffled = summary.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "shuffled.parquet")
    ours = draw_figure(settings, tmp_path / "summary.parquet", tmp_path / "ours")
    theirs = draw_figure(settings, tmp_path / "shuffled.parquet", tmp_path / "theirs")
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (metric_against_points, POINTS, ["ℓ2-error", "number of points N", "'sample-size'"]),
        (metric_against_shift, SHIFT, ["ℓ2-error", "perturbed means", "'mean-shift'"]),
        (shift_panels, PANELS, ["averaged over", "'robustness'"]),
        (metric_grid, GRID, ["Error of the means,", "and held-out log-likelihood", "the size of the shift"]),
    ],
)
def test_captions_say_what_is_shown(kind, settings, words):
    text = kind.caption(settings)
    assert all(word in text for word in words)
    assert text.endswith(".")
