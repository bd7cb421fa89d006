"""One look for every method: distinct, stable, and known without the drawing library."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from tgmm.columns import METRICS
from tgmm.config import read_config
from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.style import (
    METRIC_TEXTS,
    SERIES,
    SHIFT_TEXTS,
    STYLES,
    axis_of,
    is_floor,
    is_level,
    method_style,
    metric_text,
    shift_axis,
    shift_text,
)
from tgmm.tasks.shifts import SHIFTS as SHIFTS_OF_TASKS

FIGURES = {
    name: entry["methods"]
    for name, entry in read_config(Path(__file__).parents[2] / "config.yaml")["artefacts"].items()
    if name.startswith("fig-") and "methods" in entry
}


@pytest.mark.parametrize("name", FIGURES)
def test_looks_in_a_figure_differ_in_colour_and_in_shape(name):
    looks = [method_style(method) for method in FIGURES[name]]
    shown = [look for look in looks if look.marker]
    assert len({look.color for look in looks}) == len(looks)
    assert len({look.marker for look in shown}) == len(shown)


def test_names_of_methods_differ():
    assert len({look.label for look in STYLES.values()}) == len({look.short for look in STYLES.values()}) == len(STYLES)


def test_unknown_methods_get_a_look_of_their_kind():
    assert method_style("tgmm-mamba") == method_style("tgmm-mamba")
    assert method_style("tgmm-mamba").label == "TGMM mamba"
    assert method_style("gradient-adam").color not in {look.color for look in STYLES.values()}


def test_the_style_is_undone():
    before = matplotlib.rcParams["font.size"]
    with style.applied():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["font.size"] == style.MEDIUM
    assert matplotlib.rcParams["font.size"] == before


def test_tables_do_not_load_the_drawing_library():
    code = "import sys, tgmm.tables.scores; sys.exit(bool({'matplotlib', 'seaborn'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


# Linear RGB as people without red or without green cones see it (Machado, Oliveira & Fernandes 2009).
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def lab(colors: list[str], deficiency: str = "") -> np.ndarray:
    """CIELAB (D65) of colours as seen with a deficiency, (n, 3)."""
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if deficiency:
        linear = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("deficiency", ["", *DEFICIENCIES])
@pytest.mark.parametrize(
    "colors",
    [
        [STYLES[name].color for name in ("em", "em-restarts", "spectral", "tgmm-reference", "tgmm-matched",
                                         "tgmm-components", "tgmm-components-em20", "em-oracle")],
        list(SERIES),
    ],
    ids=["compared methods", "series"],
)  # fmt: skip
def test_colours_are_told_apart_by_colour_blind_readers(colors, deficiency):
    """A difference of about 2 is just noticed; markers and lines differ besides."""
    found = lab(colors, deficiency)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)[np.triu_indices(len(colors), 1)]
    assert distances.min() > 10


@pytest.mark.parametrize("method", ["sample-mean", "bayes", "em-restarts-floor", "tgmm-components-no-axes"])
def test_every_method_of_the_study_has_a_look_of_its_own(method):
    assert method in STYLES


def test_bounds_are_levels_and_the_trivial_estimate_is_no_floor():
    assert [name for name in STYLES if is_level(name)] == ["em-oracle", "bayes", "cramer-rao", "truth", "sample-mean"]
    assert [name for name in STYLES if is_floor(name)] == ["em-oracle", "bayes", "cramer-rao", "truth"]


def test_unknown_methods_have_markers_that_no_other_method_has():
    looks = [method_style(f"tgmm-new-{number}") for number in range(40)]
    assert len({(look.marker, look.line) for look in looks}) > 10
    assert not {look.marker for look in looks} & {look.marker for look in STYLES.values()}


# --- names -------------------------------------------------------------------------------------------------------


def test_every_shift_and_metric_has_a_text():
    assert set(SHIFT_TEXTS) == set(SHIFTS_OF_TASKS) - {"none"}
    assert set(METRICS) <= set(METRIC_TEXTS)
    assert all(max(map(len, text.narrow.split("\n"))) <= 22 for text in METRIC_TEXTS.values())
    assert shift_text("missing-values").name == "missing values"
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        metric_text("acuracy")


def test_axes_run_from_mild_to_strong():
    rows = pd.DataFrame({"shift": "student-t", "shift_value": [3.0, math.inf, 5.0], "d": 8, "N": 128})
    axis = axis_of("shift_value", rows)
    assert [axis.write(value) for value in axis.levels(rows)] == ["∞", "5", "3"]
    assert axis.unshifted == math.inf
    assert [shift_axis("wrong-k").write(value) for value in (-1.0, 0.0, 1.0)] == ["K−1", "K", "K+1"]
    assert shift_axis("outliers").write(0.05) == "5 %"
    assert shift_axis("smallest-weight").levels(pd.DataFrame({"shift_value": [0.02, 0.1, 0.05]})) == [0.1, 0.05, 0.02]
    with pytest.raises(UserError, match="unknown axis 'n'"):
        axis_of("n", rows)
