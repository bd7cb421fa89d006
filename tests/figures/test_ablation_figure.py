"""The figure of the ablation: curves over processor time, ratios to the baseline, what diverged."""

from __future__ import annotations

import numpy as np
import pandas as pd
from figure_checks import drawn, overlapping, smallest_font, texts, titles
from matplotlib.colors import to_hex

from synthetic_ablation import CHANGES, LABELS, SETTINGS, ablation
from tgmm.ablation.compare import compare
from tgmm.figures import style
from tgmm.figures.style import VERMILION, method_style


def draw(study: pd.DataFrame):
    return drawn("ablation", study, SETTINGS)


def test_curves_run_over_processor_seconds():
    study = ablation()
    figure = draw(study)
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


def test_dots_are_the_ratios_sorted_over_all_dimensions():
    study = ablation()
    lower = draw(study).axes[2:]
    table = compare(study)
    order = [change for change in table.change.drop_duplicates() if change != "baseline"]
    labels = [text.get_text() for text in lower[0].get_yticklabels()]
    assert labels == [LABELS[change] for change in order]
    for d, ax in zip((2, 8), lower, strict=True):
        rows = table[table.d == d].set_index("change").loc[order]
        means = [line for line in ax.lines if line.get_gid() == "mean"]
        for column, method in (("ratio", "tgmm-components"), ("ratio_em20", "tgmm-components-em20")):
            color = method_style(method).color
            marks = [line for line in means if to_hex(line.get_color()) == color]
            marks.sort(key=lambda line: np.ravel(line.get_ydata())[0])
            np.testing.assert_allclose([np.ravel(line.get_xdata())[0] for line in marks], rows[column])
        seeds = [line for line in ax.lines if line.get_gid() == "seed"]
        assert sum(len(line.get_xdata()) for line in seeds) == 2 * 3 * len(order)


def test_what_diverged_or_lies_beyond_the_axis_is_written_there():
    study = ablation(diverged=[(2, "muon", 1)])
    wild = study.change == "constant-schedule"
    study.loc[wild, ["validation_l2_error", "validation_l2_error_em20"]] *= 20
    ax = draw(study).axes[2]
    entries = [text.get_text() for text in ax.texts]
    assert "1 of 3 diverged" in entries
    table = compare(study).set_index(["d", "change"])
    assert f"{table.ratio[2, 'constant-schedule']:.2g}" in entries
    assert ax.get_xlim()[1] < 5


def test_a_baseline_that_none_beats_is_called_the_best():
    study = ablation()
    study.loc[study.change == "baseline", "validation_l2_error"] *= 0.1
    legend = draw(study).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["baseline, the best"]


def test_a_study_of_one_seed_and_few_changes_is_drawn():
    study = ablation(dimensions=(8,), seeds=(1,), changes=("baseline", "muon"))
    figure = draw(study)
    assert len(figure.axes) == 2
    assert "seed 1" in texts(figure)


def test_texts_are_readable_and_apart():
    figure = draw(ablation())
    assert smallest_font(figure) >= style.SMALL
    assert overlapping(figure) == []
