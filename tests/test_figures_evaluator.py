"""The figure of the two evaluators: pairs of marks, factors, ranks, shares of dropped tasks."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from synthetic_scores import method_scores
from tgmm.aggregate import summarise
from tgmm.errors import UserError
from tgmm.figures import evaluator, style
from tgmm.figures.draw import draw_figure

METHODS = ["em", "spectral", "tgmm-reference", "em-oracle"]
SETTINGS = {
    "id": "fig-evaluator", "kind": "evaluator", "taskset": "effectiveness", "methods": METHODS, "scale": "laptop",
    "dimensions": [8], "n_components": [2, 3],
}  # fmt: skip


@pytest.fixture(scope="module")
def summary():
    parts = [method_scores(name, dimensions=(2, 8), components=(2, 3), tasks=12) for name in METHODS]
    return summarise(pd.concat(parts, ignore_index=True), resamples=50)


@pytest.fixture(scope="module")
def figure(summary):
    with style.applied():
        return evaluator.draw(summary, SETTINGS, {})


def draw(summary, **changes):
    with style.applied():
        return evaluator.draw(summary, SETTINGS | changes, {})


def put(summary, metric, values: dict, **cell):
    """The summary with other means of a metric, for methods and a cell."""
    changed = summary.copy()
    for method, mean in values.items():
        rows = (changed["metric"] == metric) & (changed["method"] == method)
        for column, value in cell.items():
            rows &= changed[column] == value
        changed.loc[rows, ["mean", "low", "high"]] = mean
    return changed


def written(panel) -> list[str]:
    return [text.get_text() for text in panel.texts]


def placed(panel, name: str) -> tuple[float, float]:
    line = next(line for line in panel.lines if line.get_gid() == name)
    return float(line.get_xdata()[0]), float(line.get_ydata()[0])


def mean_of(summary, method, metric, count):
    rows = summary[(summary["method"] == method) & (summary["metric"] == metric) & (summary["d"] == 8)]
    return rows.set_index("K")["mean"][count]


def test_both_evaluators_stand_in_the_methods_row(figure, summary):
    assert [panel.get_title("left") for panel in figure.axes] == ["K = 2", "K = 3", "", ""]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:2] == ["EM", "Spectral"]
    pairs = {0: ("l2_error", "l2_error_reference"), 1: ("log_likelihood", "log_likelihood_reference")}
    for number, panel in enumerate(figure.axes):
        for place, method in enumerate(METHODS):
            for name, metric in zip(("corrected", "reference"), pairs[number // 2], strict=True):
                expected = (pytest.approx(mean_of(summary, method, metric, 2 + number % 2)), place)
                assert placed(panel, f"{name} {method}") == expected
    assert [panel.get_xscale() for panel in figure.axes] == ["log", "log", "linear", "linear"]
    filled, hollow = (
        next(line for line in figure.axes[0].lines if line.get_gid() == f"{name} em")
        for name in ("corrected", "reference")
    )
    assert to_hex(filled.get_markerfacecolor()) == "#d55e00"
    assert hollow.get_markerfacecolor() == "white"


def test_factors_and_ranks_are_those_of_the_means(summary):
    cell = {"d": 8, "K": 3}
    known = put(summary, "l2_error", {"em": 1.2, "spectral": 0.05, "tgmm-reference": 4.0, "em-oracle": 0.02}, **cell)
    reference = {"em": 6.0, "spectral": 5.0, "tgmm-reference": 4.4, "em-oracle": 0.02}
    texts = written(draw(put(known, "l2_error_reference", reference, **cell)).axes[1])
    assert texts == ["5.0", "2→3", "100", "1→2", "1.1", "3→1", "1.0", "×", "rank"]


def test_unchanged_ranks_have_no_arrow(figure):
    assert "1" in written(figure.axes[0])
    weights = {text.get_text(): text.get_fontweight() for panel in figure.axes for text in panel.texts}
    assert all((weight == "bold") == ("→" in text) for text, weight in weights.items())


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.001, "<1 %"), (0.28, "28 %"), (0.997, ">99 %"), (1.0, "100 %")]
)
def test_the_share_of_dropped_tasks_is_written(summary, share, text):
    shown = put(summary, "dropped_reference", {"em": share}, d=8, K=2)
    assert written(draw(shown).axes[2])[0] == text


def test_failed_missing_and_wholly_dropped_methods_are_named(summary):
    odd = summary[~((summary["method"] == "tgmm-reference") & (summary["K"] == 3))].copy()
    odd.loc[(odd["method"] == "spectral"), "n_failed"] = 12
    odd.loc[(odd["method"] == "spectral"), ["mean", "failure_reason"]] = [math.nan, "K exceeds d: really"]
    odd = put(odd, "l2_error_reference", {"em": math.nan}, K=3)
    panel = draw(odd).axes[1]
    assert [text for text in written(panel) if text in ("fails", "not run")] == ["fails", "not run"]
    ids = {line.get_gid() for line in panel.lines}
    assert "corrected em" in ids
    assert "reference em" not in ids
    footer = "\n".join(text.get_text() for text in draw(odd).texts)
    assert "fails: on every task (Spectral: K exceeds d)" in footer


def test_nothing_but_failures_is_drawn_as_such(summary):
    failed = summary.assign(n_failed=summary["n_tasks"], failure_reason="it broke", mean=math.nan)
    panel = draw(failed).axes[0]
    assert written(panel)[: len(METHODS)] == ["fails"] * len(METHODS)
    assert len(panel.get_xticks()) == 0


def test_two_dimensions_stand_below_each_other(summary):
    both = draw(summary, dimensions=[2, 8])
    titles = [panel.get_title("left") for panel in both.axes]
    assert titles == ["d = 2, K = 2", "d = 2, K = 3", "", "", "d = 8, K = 2", "d = 8, K = 3", "", ""]
    renderer = FigureCanvasAgg(both).get_renderer()
    both.draw(renderer)
    labels = [text.get_window_extent(renderer) for text in both.texts]
    heads = [panel._left_title.get_window_extent(renderer) for panel in both.axes]
    assert not any(label.overlaps(head) for label in labels for head in heads if head.width)


def test_texts_beside_the_panels_are_apart(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer).padded(-1.0) for panel in figure.axes for text in panel.texts]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    names = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    assert min(box.x0 for box in names) >= 0


def test_a_summary_without_the_reference_evaluator_is_refused(summary):
    old = summary[summary["metric"] != "dropped_reference"]
    with pytest.raises(UserError, match="unknown metric 'dropped_reference'"):
        draw(old)


def test_same_input_gives_the_same_bytes(summary, tmp_path):
    summary.to_parquet(tmp_path / "summary.parquet")
    first = draw_figure(SETTINGS, tmp_path / "summary.parquet", tmp_path / "first")
    second = draw_figure(SETTINGS, tmp_path / "summary.parquet", tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_caption_names_both_evaluators():
    assert "corrected evaluator (filled)" in evaluator.caption(SETTINGS)
    assert "reference evaluator (open)" in evaluator.caption(SETTINGS)
