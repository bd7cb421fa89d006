"""The figure of the two evaluators: pairs of marks, factors, ranks, shares of dropped tasks."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from figure_checks import drawn, overlapping, texts, titles
from matplotlib.colors import to_hex

from synthetic_scores import method_scores
from tgmm.aggregate import summarise
from tgmm.errors import UserError
from tgmm.figures.evaluator import caption_evaluator

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
    return draw(summary)


def draw(summary, **changes):
    return drawn("evaluator", summary, SETTINGS | changes)


def put(summary, metric, values: dict, **cell):
    """The summary with other means of a metric, for methods and a cell."""
    changed = summary.copy()
    for method, mean in values.items():
        rows = (changed["metric"] == metric) & (changed["method"] == method)
        for column, value in cell.items():
            rows &= changed[column] == value
        changed.loc[rows, ["mean", "low", "high"]] = mean
    return changed


def written(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def placed(ax, name: str) -> tuple[float, float]:
    line = next(line for line in ax.lines if line.get_gid() == name)
    return float(line.get_xdata()[0]), float(line.get_ydata()[0])


def mean_of(summary, method, metric, count):
    rows = summary[(summary["method"] == method) & (summary["metric"] == metric) & (summary["d"] == 8)]
    return rows.set_index("K")["mean"][count]


def test_both_evaluators_stand_in_the_methods_row(figure, summary):
    assert titles(figure) == ["K = 2", "K = 3", "", ""]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:2] == ["EM", "Spectral"]
    pairs = {0: ("l2_error", "l2_error_reference"), 1: ("log_likelihood", "log_likelihood_reference")}
    for number, ax in enumerate(figure.axes):
        for place, method in enumerate(METHODS):
            for name, metric in zip(("corrected", "reference"), pairs[number // 2], strict=True):
                expected = (pytest.approx(mean_of(summary, method, metric, 2 + number % 2)), place)
                assert placed(ax, f"{name} {method}") == expected
    assert [ax.get_xscale() for ax in figure.axes] == ["log", "log", "linear", "linear"]
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
    found = written(draw(put(known, "l2_error_reference", reference, **cell)).axes[1])
    assert found == ["5.0", "2→3", "100", "1→2", "1.1", "3→1", "1.0", "×", "rank"]


def test_unchanged_ranks_have_no_arrow(figure):
    assert "1" in written(figure.axes[0])
    weights = {text.get_text(): text.get_fontweight() for ax in figure.axes for text in ax.texts}
    assert all((weight == "bold") == ("→" in text) for text, weight in weights.items())


def test_shares_of_dropped_tasks_are_never_rounded_to_none_or_all(summary):
    shares = dict(zip(METHODS, (0.001, 0.28, 0.997, 1.0), strict=True))
    shown = draw(put(put(summary, "dropped_reference", shares, d=8, K=2), "dropped_reference", {"em": 0.0}, d=8, K=3))
    assert written(shown.axes[2])[:4] == ["<1 %", "28 %", ">99 %", "100 %"]
    assert written(shown.axes[3])[0] == "0 %"


def test_failed_missing_and_wholly_dropped_methods_are_named(summary):
    odd = summary[~((summary["method"] == "tgmm-reference") & (summary["K"] == 3))].copy()
    odd.loc[(odd["method"] == "spectral"), "n_failed"] = 12
    odd.loc[(odd["method"] == "spectral"), ["mean", "failure_reason"]] = [math.nan, "K exceeds d: really"]
    odd = put(odd, "l2_error_reference", {"em": math.nan}, K=3)
    figure = draw(odd)
    ax = figure.axes[1]
    assert [text for text in written(ax) if text in ("fails", "not run")] == ["fails", "not run"]
    ids = {line.get_gid() for line in ax.lines}
    assert "corrected em" in ids
    assert "reference em" not in ids
    assert "fails: on every task (Spectral: K exceeds d)" in texts(figure)


def test_nothing_but_failures_is_drawn_as_such(summary):
    failed = summary.assign(n_failed=summary["n_tasks"], failure_reason="it broke", mean=math.nan)
    ax = draw(failed).axes[0]
    assert written(ax)[: len(METHODS)] == ["fails"] * len(METHODS)
    assert len(ax.get_xticks()) == 0


def test_two_dimensions_stand_below_each_other(summary):
    both = draw(summary, dimensions=[2, 8])
    assert titles(both) == ["d = 2, K = 2", "d = 2, K = 3", "", "", "d = 8, K = 2", "d = 8, K = 3", "", ""]
    assert overlapping(both) == []


def test_texts_beside_the_panels_are_apart(figure):
    assert overlapping(figure) == []


def test_a_summary_without_the_reference_evaluator_is_refused(summary):
    old = summary[summary["metric"] != "dropped_reference"]
    with pytest.raises(UserError, match="unknown metric 'dropped_reference'"):
        draw(old)


def test_the_caption_names_both_evaluators():
    assert "corrected evaluator (filled)" in caption_evaluator(SETTINGS)
    assert "reference evaluator (open)" in caption_evaluator(SETTINGS)
