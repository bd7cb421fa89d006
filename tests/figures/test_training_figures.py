"""Figures of training, from training histories alone: curves over tasks seen, and errors over the networks' sizes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from figure_checks import artist, drawn, overlapping, smallest_font, texts, titles
from matplotlib.colors import to_hex
from PIL import Image

from synthetic_scores import history, trained_on, write_model
from tgmm.artefacts import draw_figure
from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.training import caption_backbone_scale, caption_training_curves

CURVE_FAMILIES = ["isotropic-d2-n128-components", "isotropic-d2-n128-matched", "isotropic-d8-n128-components"]
CURVES = {"id": "fig-training", "kind": "training-curves", "families": CURVE_FAMILIES, "scale": "laptop"}
CURVES |= {"trained_on": trained_on([*CURVE_FAMILIES, "isotropic-d8-n128-matched"])}
SUMMARY = pd.DataFrame({"seed": [2505]})
MISSING = "isotropic-d2-n128-reference"

SIZES = ["w25-b50", "w50-b50", "w50-b100", "w100-b100"]
FAMILIES = [f"isotropic-d8-n128-components-{size}" for size in SIZES]
SCALING = {"id": "fig-scale", "kind": "backbone-scale", "families": FAMILIES, "scale": "laptop", "seed": 2505}


# --- training-curves -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves():
    """The histories, and the figure drawn from them."""
    histories = {family: history(family) for family in CURVE_FAMILIES}
    return histories, drawn("training-curves", SUMMARY, CURVES | {"validation_tasks": 1280, "seed": 2505}, histories)


def test_curves_are_the_validations_of_the_histories(curves):
    histories, figure = curves
    assert titles(figure) == ["d = 2", "d = 8"]
    lines = [artist(figure.axes[0], f"curve {recipe}") for recipe in ("components", "matched")]
    for line, family in zip(lines, CURVE_FAMILIES, strict=False):
        rows = histories[family].dropna(subset="validation_l2_error")
        np.testing.assert_allclose(line.get_xdata(), rows["tasks"])
        np.testing.assert_allclose(line.get_ydata(), rows["validation_l2_error"])


def test_the_oracle_is_a_level(curves):
    for ax, level in zip(curves[1].axes, (0.05, 0.034), strict=True):
        np.testing.assert_allclose(artist(ax, "oracle").get_ydata(), level)


def test_curves_texts_are_on_the_page_and_apart(curves):
    assert overlapping(curves[1]) == []
    assert smallest_font(curves[1]) >= style.SMALL
    assert "scale laptop · 1280 validation tasks for each K · seed 2505" in texts(curves[1])


def test_families_that_are_not_trained_are_named(curves):
    histories, whole = curves
    part = drawn("training-curves", SUMMARY, CURVES | {"untrained": [MISSING]}, histories)
    assert f"n/a, not trained at this scale: {MISSING}" in texts(part)
    assert "not trained" not in texts(whole)


def test_a_curve_that_still_falls_has_an_open_end():
    """Of two networks, one stops falling after half of its tasks."""
    falling, flat = (history(CURVE_FAMILIES[0]) for _ in range(2))
    flat.loc[flat["tasks"] > 16000, "validation_l2_error"] = flat["validation_l2_error"].max()
    families = ["isotropic-d2-n128-components", "isotropic-d2-n128-matched"]
    settings = CURVES | {"families": families}
    figure = drawn("training-curves", SUMMARY, settings, dict(zip(families, (falling, flat), strict=True)))
    ends = [line for line in figure.axes[0].lines if str(line.get_gid()).startswith("still learning")]
    assert [line.get_gid() for line in ends] == ["still learning components"]
    last = falling.dropna(subset="validation_l2_error").iloc[-1]
    np.testing.assert_allclose(ends[0].get_xydata(), [[last["tasks"], last["validation_l2_error"]]])
    assert ends[0].get_markerfacecolor() == "white"
    assert "end of a curve: still learning" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "still learning: the best error fell by more than 5 %" in texts(figure)
    done = drawn("training-curves", SUMMARY, settings, dict.fromkeys(families, flat))
    assert "still learning" not in texts(done)
    assert len(done.legends[0].get_texts()) == 3


def test_records_of_training_are_in_the_footer_and_the_caption(curves):
    record = {"tasks_seen": 1_200_000, "steps": 3750, "processor_seconds": 106.7}
    settings = CURVES | {"records": dict.fromkeys(CURVE_FAMILIES, record)}
    figure = drawn("training-curves", SUMMARY, settings, curves[0])
    assert "d = 2: TGMM components 1.2M / 3750 / 107, TGMM matched 1.2M / 3750 / 107" in texts(figure)
    assert overlapping(figure) == []
    caption = caption_training_curves(settings)
    assert "TGMM components, d = 8: 1 200 000 tasks in 3 750 steps and 107 processor seconds" in caption
    assert "Trainings:" not in caption_training_curves(CURVES)


def test_the_record_beside_a_history_is_read(tmp_path):
    paths = {family: write_model(tmp_path / family, family) / "history.csv" for family in CURVE_FAMILIES}
    summary = tmp_path / "summary.csv"
    SUMMARY.to_csv(summary, index=False)
    _, png = draw_figure(CURVES, summary, tmp_path / "figure", paths)
    with Image.open(png) as image:
        assert "32 000 tasks in 1 000 steps and 140 processor seconds" in image.text["Description"]
    (tmp_path / CURVE_FAMILIES[0] / "config.json").write_text('{"record": {}}')
    with pytest.raises(UserError, match=r"config\.json: not the record of a training \(KeyError: 'tasks_seen'\)"):
        draw_figure(CURVES, summary, tmp_path / "figure", paths)


def test_the_caption_of_the_curves_names_the_floor():
    assert "EM started from the truth" in caption_training_curves(CURVES)


# --- backbone-scale ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def histories():
    return {family: history(family) for family in FAMILIES}


def scaling(histories, **changes):
    return drawn("backbone-scale", pd.DataFrame(index=[0]), SCALING | changes, histories)


@pytest.fixture(scope="module")
def sizes(histories):
    """The figure, drawn once."""
    return scaling(histories, validation_tasks=256)


def test_final_errors_stand_over_the_parameters(histories, sizes):
    left, right = sizes.axes
    last = {family: rows.dropna(subset="validation_l2_error").iloc[-1] for family, rows in histories.items()}
    for panel, column in ((left, "parameters"), (right, "flops")):
        final = [line for line in panel.lines if line.get_gid() == "final"]
        found = sorted((float(np.ravel(x.get_xdata())[0]), float(np.ravel(x.get_ydata())[0])) for x in final)
        wanted = sorted((row[column], row["validation_l2_error"]) for row in last.values())
        np.testing.assert_allclose(found, wanted)
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
        level = next(line for line in panel.lines if line.get_gid() == "oracle")
        np.testing.assert_allclose(level.get_ydata(), 0.034)


def test_curves_run_over_the_computation(histories, sizes):
    right = sizes.axes[1]
    lines = [line for line in right.lines if line.get_gid() is None]
    assert len(lines) == len(FAMILIES)
    rows = histories[FAMILIES[0]].dropna(subset="validation_l2_error")
    np.testing.assert_allclose(lines[0].get_xdata(), rows["flops"])
    np.testing.assert_allclose(lines[0].get_ydata(), rows["validation_l2_error"])


def test_width_is_a_colour_and_depth_a_marker(histories, sizes):
    final = {float(np.ravel(line.get_xdata())[0]): line for line in sizes.axes[0].lines if line.get_gid() == "final"}
    looks = [final[rows["parameters"].iloc[0]] for rows in histories.values()]
    colors, markers = [to_hex(line.get_color()) for line in looks], [line.get_marker() for line in looks]
    assert colors[1] == colors[2]
    assert len(set(colors)) == 3
    assert markers[0] == markers[1] != markers[2] == markers[3]
    labels = [text.get_text() for text in sizes.legends[0].get_texts() if text.get_text().strip()]
    assert set(labels) == {"width 16", "width 32", "width 64", "2 blocks", "4 blocks", "EM from the truth (floor)"}


def test_the_footer_says_what_was_trained(sizes):
    assert "scale laptop · isotropic, d = 8, N up to 128 · 32 000 training tasks" in texts(sizes)
    assert "256 validation tasks for each K · seed 2505" in texts(sizes)


def test_one_family_is_enough(histories):
    figure = scaling(histories, families=FAMILIES[:1])
    assert [sum(line.get_gid() == "final" for line in ax.lines) for ax in figure.axes] == [1, 1]


def test_scaling_refuses_what_cannot_be_compared(histories, tmp_path):
    other, twin = "isotropic-d2-n128-components-w25-b50", "isotropic-d8-n128-components-w25-b51"
    more = histories | {other: history(other), twin: history(twin)}
    idle = histories | {FAMILIES[0]: histories[FAMILIES[0]].assign(flops=math.nan)}
    for given, families, message in [
        (more, [*FAMILIES, other], f"families '{FAMILIES[0]}' and '{other}' are of different tasks"),
        (more, [*FAMILIES, twin], f"families '{FAMILIES[0]}' and '{twin}' both have width 16 and 2 blocks"),
        (idle, FAMILIES, f"family '{FAMILIES[0]}' lacks 'parameters' or 'flops'"),
        (histories, [other], f"no training history was given for family '{other}'"),
    ]:
        with pytest.raises(UserError, match=message):
            scaling(given, families=families)
    old = tmp_path / "history.csv"
    histories[FAMILIES[0]].drop(columns=["flops", "width"]).to_csv(old, index=False)
    with pytest.raises(UserError, match=r"history\.csv: missing columns flops, width"):
        draw_figure(SCALING, old, tmp_path / "x", {FAMILIES[0]: old})


def test_texts_are_on_the_page_and_apart(sizes):
    assert overlapping(sizes) == []
    assert smallest_font(sizes) >= style.SMALL


def test_the_caption_of_the_sizes_names_the_floor():
    assert "EM started from the truth" in caption_backbone_scale(SCALING)


def test_sizes_that_are_not_trained_are_named_as_gaps(histories):
    kept = {family: histories[family] for family in FAMILIES[:2]}
    figure = scaling(kept, families=FAMILIES[:2], untrained=FAMILIES[2:])
    text = texts(figure).replace("\n", " ")
    assert "n/a, not trained at this scale" in text
    assert all(family in text for family in FAMILIES[2:])
    assert not any(family in text for family in FAMILIES[:2])
