"""Figures: every method in every panel or marked as missing, one look everywhere, the same bytes again."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from synthetic_scores import METHODS, history, write_scores
from tgmm.aggregate import aggregate, read_table
from tgmm.errors import UserError
from tgmm.figures import metric_against_dimension, style, training_curves
from tgmm.figures.draw import draw_figure
from tgmm.figures.palette import STYLES, method_style

SETTINGS = {
    "id": "fig-effectiveness", "kind": "metric-against-dimension", "taskset": "effectiveness", "metric": "l2_error",
    "methods": list(METHODS), "scale": "laptop", "dimensions": [2, 8, 32], "n_components": [2, 3],
}  # fmt: skip
FAMILIES = ["isotropic-d2-n128-components", "isotropic-d2-n128-matched", "isotropic-d8-n128-components"]
CURVES = {"id": "fig-training", "kind": "training-curves", "families": FAMILIES, "scale": "laptop"}


@pytest.fixture(scope="module")
def summary_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    files = write_scores(folder / "scores", dimensions=(2, 8, 32), components=(2, 3), tasks=32)
    aggregate(files, folder / "summary.parquet", folder / "summary.json", resamples=100)
    return folder / "summary.parquet"


@pytest.fixture(scope="module")
def summary(summary_path):
    return pd.read_parquet(summary_path)


@pytest.fixture(scope="module")
def figure(summary):
    with style.applied():
        return metric_against_dimension.draw(summary, SETTINGS, {})


def texts(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def marked(panel) -> dict[str, int]:
    ids = [line.get_gid() for line in panel.lines if str(line.get_gid()).startswith("n/a")]
    return {name: ids.count(name) for name in set(ids)}


def test_panel_for_each_number_of_components(figure):
    assert [panel.get_title("left") for panel in figure.axes] == ["K = 2", "K = 3"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2", "8", "32"]
    assert figure.axes[0].get_yscale() == "log"


def test_methods_without_a_value_are_marked(figure):
    assert marked(figure.axes[0]) == {"n/a not run": 2}  # matched and reference at d = 32
    assert marked(figure.axes[1]) == {"n/a not run": 2, "n/a failed": 1}  # and spectral at d = 2, K = 3
    assert "n/a" in [text.get_text() for text in figure.axes[0].texts]
    assert "failed on every task (Spectral" in texts(figure)
    assert "not trained or not run" in texts(figure)


def test_marks_stand_above_the_data(figure):
    panel = figure.axes[1]
    strip = panel.patches[0].get_y() if panel.patches else None
    values = [line.get_ydata() for line in panel.lines if line.get_gid() is None and len(line.get_xdata())]
    assert strip is not None
    assert max(np.max(value) for value in values if np.max(value) != 1) < strip


def test_strip_is_left_out_where_nothing_is_missing(summary):
    with style.applied():
        whole = metric_against_dimension.draw(summary, SETTINGS | {"methods": ["em", "em-oracle"]}, {})
    assert not marked(whole.axes[0])
    assert "n/a" not in texts(whole)


def test_means_are_where_the_summary_says(figure, summary):
    rows = summary[(summary.method == "em") & (summary.metric == "l2_error") & (summary.K == 3)].sort_values("d")
    color = method_style("em").color
    lines = [line for line in figure.axes[1].lines if line.get_color() == color and len(line.get_xdata()) == 3]
    np.testing.assert_allclose(lines[0].get_ydata(), rows["mean"])
    segments = [c.get_segments() for c in figure.axes[1].collections if len(c.get_segments()) == 3]
    ends = np.sort(np.array([segment[:, 1] for segment in segments[0]]))
    np.testing.assert_allclose(ends, rows[["low", "high"]])


def test_methods_stand_side_by_side(figure):
    starts = {line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() != "None"}
    assert len(starts) >= len(METHODS) - 1


def test_partly_failed_cells_have_an_open_marker(summary):
    partly = summary.copy()
    partly.loc[(partly.method == "em") & (partly.d == 8), "n_failed"] = 3
    with style.applied():
        drawn = metric_against_dimension.draw(partly, SETTINGS, {})
    hollow = [line for line in drawn.axes[0].lines if line.get_markerfacecolor() == "white" and line.get_gid() is None]
    assert sum(len(line.get_xdata()) for line in hollow) == 1
    assert "open marker on a line: some tasks failed" in texts(drawn)


def test_footer_says_scale_tasks_and_seed(figure):
    assert "scale laptop · 32 tasks a cell · N = 128 · seed 2505" in texts(figure)


def test_fonts_are_readable_and_nothing_leaves_the_page(figure):
    sizes = [text.get_fontsize() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_fontsize"))]
    assert min(sizes) >= 7
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts] + [
        figure.legends[0].get_window_extent(renderer)
    ]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
    legend, footer = boxes[-1], max(boxes[2:-1], key=lambda box: box.y1)
    assert legend.y0 >= footer.y1


@pytest.mark.parametrize(
    "metric",
    ["accuracy", "log_likelihood_heldout", "log_likelihood_heldout_deficit", "log_likelihood_deficit", "seconds"],
)
def test_other_metrics_are_drawn(summary, metric):
    with style.applied():
        drawn = metric_against_dimension.draw(summary, SETTINGS | {"metric": metric}, {})
    assert len(drawn.axes) == 2


def test_settings_may_show_a_part_of_the_dimensions(summary):
    with style.applied():
        part = metric_against_dimension.draw(summary, SETTINGS | {"dimensions": [2, 8]}, {})
        same = metric_against_dimension.draw(summary, SETTINGS | {"d": [2, 8]}, {})
    assert [label.get_text() for label in part.axes[0].get_xticklabels()] == ["2", "8"]
    assert [label.get_text() for label in same.axes[0].get_xticklabels()] == ["2", "8"]


def test_label_of_the_strip_gives_way_to_marks(summary):
    lost = summary.copy()
    lost.loc[(lost.method == "em") & (lost.d == 2), ["n_failed", "failure_reason"]] = [32, "lost"]
    with style.applied():
        drawn = metric_against_dimension.draw(lost, SETTINGS, {})
    labels = [[text for text in panel.texts if text.get_text() == "n/a"] for panel in drawn.axes]
    assert [len(found) for found in labels] == [1, 0]
    assert labels[0][0].get_position()[0] < 0
    assert labels[0][0].get_ha() == "right"


def test_looks_differ_in_colour_and_in_shape():
    shown = [look for name, look in STYLES.items() if name != "em-oracle"]
    assert len({look.color for look in STYLES.values()}) == len(STYLES)
    assert len({look.marker for look in shown}) == len(shown)
    assert len({look.label for look in STYLES.values()}) == len(STYLES)


def test_unknown_methods_get_a_look_of_their_kind():
    assert method_style("tgmm-mamba") == method_style("tgmm-mamba")
    assert method_style("tgmm-mamba").label == "TGMM mamba"
    assert method_style("gradient-adam").color not in {look.color for look in STYLES.values()}


def test_training_curves_have_the_oracle_as_a_level(summary):
    histories = {family: history(family) for family in FAMILIES}
    with style.applied():
        drawn = training_curves.draw(summary, CURVES, histories)
    assert [panel.get_title("left") for panel in drawn.axes] == ["d = 2", "d = 8"]
    levels = [line for line in drawn.axes[0].lines if line.get_gid() == "oracle"]
    np.testing.assert_allclose(levels[0].get_ydata(), 0.05)
    curves = [line for line in drawn.axes[0].lines if line.get_gid() is None]
    expected = histories[FAMILIES[0]].dropna(subset="validation_l2_error")
    np.testing.assert_allclose(curves[0].get_ydata(), expected["validation_l2_error"])
    np.testing.assert_allclose(curves[0].get_xdata(), expected["tasks"])


def test_same_input_gives_the_same_bytes(summary_path, tmp_path):
    """Drawn here and in a process with another hash seed and another date."""
    ours = draw_figure(SETTINGS, summary_path, tmp_path / "ours")
    code = (
        "import sys; from tgmm.figures.draw import draw_figure; "
        f"draw_figure({SETTINGS!r}, {str(summary_path)!r}, {str(tmp_path / 'theirs')!r})"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "86400"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    for path in ours:
        other = tmp_path / f"theirs{path.suffix}"
        assert path.read_bytes() == other.read_bytes()
        assert path.stat().st_size > 10_000


def test_bad_input_is_refused_by_name(summary_path, tmp_path, summary):
    empty = tmp_path / "empty.parquet"
    summary.iloc[:0].to_parquet(empty)
    lacking = tmp_path / "lacking.parquet"
    summary.drop(columns="median").to_parquet(lacking)
    csv = tmp_path / "history.csv"
    history(FAMILIES[0]).drop(columns="tasks").to_csv(csv, index=False)
    for settings, path, histories, message in [
        (SETTINGS, empty, {}, "empty.parquet: no rows"),
        (SETTINGS, lacking, {}, "lacking.parquet: missing column median"),
        (CURVES, summary_path, {FAMILIES[0]: csv}, "history.csv: missing column tasks"),
        (CURVES, summary_path, {}, f"no training history was given for family '{FAMILIES[0]}'"),
        (CURVES | {"families": ["nonsense"]}, summary_path, {}, "family 'nonsense'"),
        (SETTINGS | {"kind": "metric-against-dimensions"}, summary_path, {}, "did you mean 'metric-against-dimension'"),
    ]:
        with pytest.raises(UserError, match=message):
            draw_figure(settings, path, tmp_path / "x", histories)
    assert not list(tmp_path.glob("x.*"))


def test_several_sample_sizes_need_a_choice(summary):
    several = pd.concat([summary, summary.assign(N=64)])
    with pytest.raises(UserError, match="needs 'N' to be one of 64, 128"):
        metric_against_dimension.draw(several, SETTINGS, {})
    with style.applied():
        assert metric_against_dimension.draw(several, SETTINGS | {"N": 64}, {}).axes


def test_columns_are_checked_before_drawing(summary_path):
    assert list(read_table(summary_path, ("seed",)).columns) == ["seed"]
