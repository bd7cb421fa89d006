"""The figure of the backbone's scale: errors over parameters and over computation, from training histories alone."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from synthetic_scores import history
from tgmm.errors import UserError
from tgmm.figures import backbone_scale, style
from tgmm.figures.draw import draw_figure

SIZES = ["w25-b50", "w50-b50", "w50-b100", "w100-b100"]
FAMILIES = [f"isotropic-d8-n128-components-{size}" for size in SIZES]
SCALING = {"id": "fig-scale", "kind": "backbone-scale", "families": FAMILIES, "scale": "laptop", "seed": 2505}


@pytest.fixture(scope="module")
def histories():
    return {family: history(family) for family in FAMILIES}


def scaling(histories, **changes):
    with style.applied():
        return backbone_scale.draw(pd.DataFrame(index=[0]), SCALING | changes, histories)


def test_final_errors_stand_over_the_parameters(histories):
    left, right = scaling(histories).axes
    last = {family: rows.dropna(subset="validation_l2_error").iloc[-1] for family, rows in histories.items()}
    for panel, column in ((left, "parameters"), (right, "flops")):
        final = [line for line in panel.lines if line.get_gid() == "final"]
        found = sorted((float(np.ravel(x.get_xdata())[0]), float(np.ravel(x.get_ydata())[0])) for x in final)
        wanted = sorted((row[column], row["validation_l2_error"]) for row in last.values())
        np.testing.assert_allclose(found, wanted)
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
        level = next(line for line in panel.lines if line.get_gid() == "oracle")
        np.testing.assert_allclose(level.get_ydata(), 0.034)


def test_curves_run_over_the_computation(histories):
    right = scaling(histories).axes[1]
    curves = [line for line in right.lines if line.get_gid() is None]
    assert len(curves) == len(FAMILIES)
    rows = histories[FAMILIES[0]].dropna(subset="validation_l2_error")
    np.testing.assert_allclose(curves[0].get_xdata(), rows["flops"])
    np.testing.assert_allclose(curves[0].get_ydata(), rows["validation_l2_error"])


def test_width_is_a_colour_and_depth_a_marker(histories):
    figure = scaling(histories)
    final = {float(np.ravel(line.get_xdata())[0]): line for line in figure.axes[0].lines if line.get_gid() == "final"}
    looks = [final[rows["parameters"].iloc[0]] for rows in histories.values()]
    colors, markers = [to_hex(line.get_color()) for line in looks], [line.get_marker() for line in looks]
    assert colors[1] == colors[2]
    assert len(set(colors)) == 3
    assert markers[0] == markers[1] != markers[2] == markers[3]
    labels = [text.get_text() for text in figure.legends[0].get_texts() if text.get_text().strip()]
    assert set(labels) == {"width 16", "width 32", "width 64", "2 blocks", "4 blocks", "EM from the truth (floor)"}


def test_the_footer_says_what_was_trained(histories):
    text = "\n".join(text.get_text() for text in scaling(histories, validation_tasks=256).texts)
    assert "scale laptop · isotropic, d = 8, N up to 128 · 32 000 training tasks" in text
    assert "256 validation tasks for each K · seed 2505" in text


def test_one_family_is_enough(histories):
    assert len(scaling(histories, families=FAMILIES[:1]).axes) == 2


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


def test_texts_are_on_the_page_and_apart(histories):
    figure = scaling(histories)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    boxes += [panel.xaxis.label.get_window_extent(renderer) for panel in figure.axes]
    boxes += [figure.legends[0].get_window_extent(renderer)]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
    sizes = [text.get_fontsize() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_fontsize"))]
    assert min(sizes) >= style.SMALL


def test_same_input_gives_the_same_bytes(histories, tmp_path):
    paths = {family: tmp_path / f"{family}.csv" for family in histories}
    for family, rows in histories.items():
        rows.to_csv(paths[family], index=False)
    first = draw_figure(SCALING, paths[FAMILIES[0]], tmp_path / "first", paths)
    second = draw_figure(SCALING, paths[FAMILIES[0]], tmp_path / "second", paths)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_caption_names_the_floor():
    assert "EM started from the truth" in backbone_scale.caption(SCALING)


def test_sizes_that_are_not_trained_are_named_as_gaps(histories):
    kept = {family: histories[family] for family in FAMILIES[:2]}
    figure = scaling(kept, families=FAMILIES[:2], untrained=FAMILIES[2:])
    text = " ".join(text.get_text() for text in figure.texts)
    assert "n/a, not trained at this scale" in text
    assert all(family in text for family in FAMILIES[2:])
    assert not any(family in text for family in FAMILIES[:2])
