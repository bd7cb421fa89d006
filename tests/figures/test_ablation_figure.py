"""The figure of the ablation: curves over processor time, ratios to the baseline, what diverged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_checks import artist, drawn, overlapping, smallest_font, texts, titles
from matplotlib.colors import to_hex

from synthetic_ablation import CHANGES, LABELS, SETTINGS, ablation
from tgmm.ablation import compare
from tgmm.figures import style
from tgmm.figures.style import VERMILION


def draw(study: pd.DataFrame):
    return drawn("ablation", study, SETTINGS)


@pytest.fixture(scope="module")
def whole():
    """An ablation and its figure."""
    study = ablation()
    return study, draw(study)


def test_curves_run_over_processor_seconds(whole):
    study, figure = whole
    assert titles(figure)[:2] == ["d = 2", "d = 8"]
    for d, ax in zip((2, 8), figure.axes, strict=False):
        lines = {line.get_gid(): line for line in ax.lines}
        assert set(lines) == {*CHANGES, "em-oracle", "em-restarts"}
        rows = study[(study.d == d) & (study.change == "wider")].groupby("tasks")
        np.testing.assert_allclose(lines["wider"].get_xdata(), rows.processor_seconds.mean())
        np.testing.assert_allclose(lines["wider"].get_ydata(), rows.validation_l2_error.mean())
        np.testing.assert_allclose(lines["em-restarts"].get_ydata(), {2: 0.098, 8: 0.041}[d])
        assert ax.get_yscale() == "log"
        entries = [text.get_text() for text in ax.get_legend().get_texts()]
        assert entries == ["baseline", "best: Muon"]
        assert to_hex(lines["muon"].get_color()) == VERMILION
        assert len({to_hex(lines[name].get_color()) for name in CHANGES}) == 3


def test_dots_are_the_ratios_sorted_over_all_dimensions(whole):
    study, figure = whole
    lower = figure.axes[2:]
    table = compare(study)
    order = [change for change in table.change.drop_duplicates() if change != "baseline"]
    labels = [text.get_text() for text in lower[0].get_yticklabels()]
    assert labels == [LABELS[change] for change in order]
    for d, ax in zip((2, 8), lower, strict=True):
        rows = table[table.d == d].set_index("change").loc[order]
        for column, side in (("ratio", -0.19), ("ratio_em20", 0.19)):
            means = artist(ax, f"means {column}")
            np.testing.assert_allclose(means.get_xdata(), rows[column])
            np.testing.assert_allclose(means.get_ydata(), np.arange(len(order)) + side)
            assert len(artist(ax, f"seeds {column}").get_xdata()) == 3 * len(order)


def test_what_diverged_or_lies_beyond_the_axis_is_written_there():
    study = ablation(diverged=[(2, "muon", 1)], changes=("baseline", "muon", "constant-schedule"))
    wild = study.change == "constant-schedule"
    study.loc[wild, ["validation_l2_error", "validation_l2_error_em20"]] *= 20
    ax = draw(study).axes[2]
    entries = [text.get_text() for text in ax.texts]
    assert "1 of 3 diverged" in entries
    table = compare(study).set_index(["d", "change"])
    assert f"{table.ratio[2, 'constant-schedule']:.2g}" in entries
    assert ax.get_xlim()[1] < 5
    assert len(artist(ax, "beyond ratio").get_xdata()) == 1


def test_a_baseline_that_none_beats_is_called_the_best():
    study = ablation(changes=("baseline", "muon", "wider"))
    study.loc[study.change == "baseline", "validation_l2_error"] *= 0.1
    legend = draw(study).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["baseline, the best"]


def test_a_study_of_one_seed_and_few_changes_is_drawn():
    study = ablation(dimensions=(8,), seeds=(1,), changes=("baseline", "muon"))
    figure = draw(study)
    assert len(figure.axes) == 2
    assert "seed 1" in texts(figure)


def test_texts_are_readable_and_apart(whole):
    assert smallest_font(whole[1]) >= style.SMALL
    assert overlapping(whole[1]) == []
