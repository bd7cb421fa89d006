"""Families that are not trained at a scale are gaps that figures and tables name, not errors."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from synthetic_scores import history, probe_table, write_scores
from tgmm.aggregate import aggregate
from tgmm.figures import probes, style, training_curves
from tgmm.figures.draw import draw_figure
from tgmm.tables.registry import write_table

MISSING = "isotropic-d2-n128-reference"
LABEL = f"n/a, not trained at this scale: {MISSING}"
METHODS = ["em", "em-restarts", "tgmm-matched", "tgmm-components", "em-oracle"]


@pytest.fixture(scope="module")
def summary_path(tmp_path_factory):
    """Scores of the baselines and one network; those of the other network are not there."""
    folder = tmp_path_factory.mktemp("gaps")
    scored = [name for name in METHODS if name != "tgmm-matched"]
    files = write_scores(folder / "scores", dimensions=(2, 8), components=(2, 3), tasks=16, methods=scored)
    aggregate(files, folder / "summary.parquet", folder / "summary.json", resamples=50)
    return folder / "summary.parquet"


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_training_curves_name_the_families_that_are_missing():
    families = ["isotropic-d8-n128-matched", "isotropic-d8-n128-components"]
    settings = {"id": "fig-training", "families": families, "scale": "paper", "validation_tasks": 1280}
    histories = {family: history(family) for family in families}
    with style.applied():
        whole = training_curves.draw(pd.DataFrame({"seed": [1]}), settings, histories)
        part = training_curves.draw(pd.DataFrame({"seed": [1]}), settings | {"untrained": [MISSING]}, histories)
    assert LABEL in words(part)
    assert "not trained" not in words(whole)


def test_probes_name_the_families_that_are_missing():
    table = probe_table(8)
    family = table["family"].iloc[0]
    with style.applied():
        figure = probes.draw(table, {"families": [family], "untrained": [MISSING]}, {family: table})
    assert LABEL in words(figure)
    assert len(figure.axes) == 8


@pytest.mark.parametrize("kind", ["metric-against-dimension", "evaluator"])
def test_figures_of_scores_mark_a_network_without_scores(summary_path, tmp_path, kind):
    settings = {"id": "fig", "kind": kind, "taskset": "effectiveness", "metric": "l2_error", "methods": METHODS}
    settings |= {"scale": "paper", "dimensions": [2, 8], "n_components": [2, 3], "n_points": [128]}
    settings |= {"d": [8]} if kind == "evaluator" else {}
    pdf, png = draw_figure(settings, summary_path, tmp_path / "fig")
    assert pdf.stat().st_size > 5000
    assert png.stat().st_size > 5000


@pytest.mark.parametrize("kind", ["score-table", "full-table"])
def test_tables_say_that_a_network_is_not_trained(summary_path, tmp_path, kind):
    settings = {"id": "tab", "kind": kind, "taskset": "effectiveness", "metric": "l2_error", "methods": METHODS}
    write_table(settings | {"metrics": ["l2_error", "accuracy"]}, summary_path, tmp_path / "tab")
    rows = pd.read_csv(tmp_path / "tab.csv")
    assert set(rows.loc[rows["method"] == "tgmm-matched", "status"]) == {"not run"}
    assert "not trained or not run at this scale" in (tmp_path / "tab.md").read_text()


def test_a_claim_that_needs_the_network_is_not_tested(summary_path, tmp_path):
    write_table({"id": "tab-claims", "kind": "claims-table", "scale": "paper"}, summary_path, tmp_path / "tab")
    claims = pd.read_csv(tmp_path / "tab.csv").set_index("claim")
    assert claims.at["mamba2-works", "verdict"] == "not tested at this scale"
