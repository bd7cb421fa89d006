"""Families that are not trained at a scale are gaps that tables name, not errors."""

from __future__ import annotations

import pandas as pd
import pytest

from synthetic_scores import write_scores
from tgmm.aggregate import aggregate
from tgmm.artefacts import write_table

RECIPES = {"transformer": {"matched": ["tgmm-matched"], "components": ["tgmm-components"]}}
METHODS = ["em", "em-restarts", "tgmm-matched", "tgmm-components", "em-oracle"]


@pytest.fixture(scope="module")
def summary_path(tmp_path_factory):
    """Scores of the baselines and one network; those of the other network are not there."""
    folder = tmp_path_factory.mktemp("gaps")
    scored = [name for name in METHODS if name != "tgmm-matched"]
    files = write_scores(folder / "scores", dimensions=(2, 8), components=(2, 3), tasks=16, methods=scored)
    aggregate(files, folder / "summary.parquet", folder / "summary.json", resamples=50, recipes=RECIPES)
    return folder / "summary.parquet"


@pytest.mark.parametrize("kind", ["score-table", "full-table"])
def test_tables_say_that_a_network_is_not_trained(summary_path, tmp_path, kind):
    settings = {"id": "tab", "kind": kind, "taskset": "effectiveness", "metric": "l2_error", "methods": METHODS}
    write_table(settings | {"metrics": ["l2_error", "accuracy"]}, summary_path, tmp_path / "tab")
    rows = pd.read_csv(tmp_path / "tab.csv")
    assert set(rows.loc[rows["method"] == "tgmm-matched", "status"]) == {"not run"}
    assert "not trained or not run at this scale" in (tmp_path / "tab.md").read_text()


def test_a_claim_names_the_networks_that_are_missing(summary_path, tmp_path):
    entry = {"id": "tab-claims", "kind": "claims-table", "scale": "paper", "recipes": RECIPES}
    record = tmp_path / "history.csv"
    pd.DataFrame({"tasks": [1, 2, 3], "validation_l2_error": [1.0, 0.5, 0.5]}).to_csv(record, index=False)
    families = ["isotropic-d2-n128-components", "isotropic-d8-n128-components"]
    write_table(entry, summary_path, tmp_path / "tab", dict.fromkeys(families, record))
    claims = pd.read_csv(tmp_path / "tab.csv", keep_default_na=False).set_index(["claim", "recipe"])
    for recipe in ("reference", "matched"):
        row = claims.loc["local-optima", recipe]
        assert (row["verdict"], row["missing"]) == ("not tested", "d = 2, 8")
    assert claims.loc[("mamba2-works", "reference, Mamba2"), "verdict"] == "not tested"
    assert claims.loc[("local-optima", "components"), "missing"] == ""
