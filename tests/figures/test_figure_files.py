"""From files to a figure's files: the same bytes for the same data, bad input refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from synthetic_scores import METHODS, history, trained_on
from tgmm.aggregate import read_table
from tgmm.artefacts import draw_figure
from tgmm.errors import UserError
from tgmm.figures.layout import save_figure
from tgmm.figures.style import SERIES

SETTINGS = {
    "id": "fig-effectiveness", "kind": "metric-against-dimension", "taskset": "effectiveness", "metric": "l2_error",
    "methods": list(METHODS), "scale": "laptop", "dimensions": [2, 8, 32], "n_components": [2],
    "caption": "What is shown.",
}  # fmt: skip
FAMILIES = ["isotropic-d2-n128-components", "isotropic-d2-n128-matched", "isotropic-d8-n128-components"]
CURVES = {"id": "fig-training", "kind": "training-curves", "families": FAMILIES, "scale": "laptop"}
CURVES |= {"trained_on": trained_on(FAMILIES)}


@pytest.fixture(scope="module")
def summary_path(effectiveness, tmp_path_factory):
    path = tmp_path_factory.mktemp("registry") / "summary.parquet"
    effectiveness.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def files(summary_path, tmp_path_factory):
    """The figure's PDF and PNG, drawn once."""
    stem = tmp_path_factory.mktemp("drawn") / "ours"
    return [path.read_bytes() for path in draw_figure(SETTINGS, summary_path, stem)]


@pytest.mark.slow
def test_same_input_gives_the_same_bytes(files, summary_path, tmp_path):
    """Drawn here, and from shuffled rows in a process with another hash seed and another date."""
    shuffled = pd.read_parquet(summary_path).sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "shuffled.parquet")
    code = (
        "from tgmm.artefacts import draw_figure; "
        f"draw_figure({SETTINGS!r}, {str(tmp_path / 'shuffled.parquet')!r}, {str(tmp_path / 'theirs')!r})"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "86400"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert [(tmp_path / f"theirs.{suffix}").read_bytes() for suffix in ("pdf", "png")] == files


def test_a_picture_of_few_colours_looks_like_one_of_all():
    """Beside what matplotlib writes itself, of a figure with smooth colours and with text."""
    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    ax.imshow(np.linspace(0, 1, 64).reshape(8, 8), cmap="viridis")
    for number, color in enumerate(SERIES):
        ax.plot([0, 7], [number, 7 - number], color=color, label=f"line {number}")
    ax.legend()
    with TemporaryDirectory() as folder:
        save_figure(figure, Path(folder) / "few", title="A title", caption="Mean ± spread of ℓ2")
        figure.savefig(Path(folder) / "all.png")
        with Image.open(Path(folder) / "few.png") as few, Image.open(Path(folder) / "all.png") as every:
            assert few.mode == "P"
            assert few.info["Description"] == "Mean ± spread of ℓ2"
            assert few.info["dpi"] == pytest.approx(every.info["dpi"])
            difference = np.abs(np.asarray(few.convert("RGB"), int) - np.asarray(every.convert("RGB"), int))
        assert (Path(folder) / "few.png").stat().st_size < 0.6 * (Path(folder) / "all.png").stat().st_size
    assert difference.mean() < 1.0
    assert np.quantile(difference, 0.999) < 24


def test_files_name_their_figure_and_no_date_or_program(files):
    for content in files:
        assert b"What is shown." in content
        assert b"fig-effectiveness" in content
        assert b"CreationDate" not in content
        assert b"matplotlib" not in content.lower()


def test_fonts_are_embedded_as_truetype(files):
    assert b"/FontFile2" in files[0]
    assert b"/Type3" not in files[0]


def test_bad_input_is_refused_by_name(summary_path, tmp_path, effectiveness):
    empty, lacking, csv = (tmp_path / name for name in ("empty.parquet", "lacking.parquet", "history.csv"))
    effectiveness.iloc[:0].to_parquet(empty)
    effectiveness.drop(columns="median").to_parquet(lacking)
    history(FAMILIES[0]).drop(columns="tasks").to_csv(csv, index=False)
    for settings, path, histories, message in [
        (SETTINGS, empty, {}, "empty.parquet: no rows"),
        (SETTINGS, lacking, {}, "lacking.parquet: missing column median"),
        (CURVES, summary_path, {FAMILIES[0]: csv}, "history.csv: missing column tasks"),
        (CURVES, summary_path, {}, f"no training history was given for family '{FAMILIES[0]}'"),
        (CURVES | {"families": ["nonsense"]}, summary_path, {}, "family 'nonsense'"),
        (SETTINGS | {"kind": "metric-against-dimensions"}, summary_path, {}, "did you mean 'metric-against-dimension'"),
        ({"id": "fig-x", "kind": "evaluator"}, summary_path, {}, "settings of the artefact: missing key 'taskset'"),
    ]:
        with pytest.raises(UserError, match=message):
            draw_figure(settings, path, tmp_path / "x", histories)
    assert not list(tmp_path.glob("x.*"))


def test_columns_are_checked_before_drawing(summary_path):
    assert list(read_table(summary_path, ("seed",)).columns) == ["seed"]
