"""The outputs of a real run. Set TGMM_RUN to the folder that it was made in; without it these tests are skipped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tgmm.study import Study, load_study

FOLDER = Path(os.environ.get("TGMM_RUN", "."))
SCALE = os.environ.get("TGMM_RUN_SCALE", "smoke")
HISTORY_COLUMNS = ["step", "tasks", "seconds", "processor_seconds", "loss"]  # the first ones
pytestmark = pytest.mark.skipif("TGMM_RUN" not in os.environ, reason="TGMM_RUN names no finished run")


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(FOLDER / "config.yaml", SCALE)


@pytest.fixture(scope="module")
def results() -> Path:
    return FOLDER / "results" / SCALE


def test_every_score_has_a_row_for_every_task(study, results):
    import pandas as pd

    from tgmm.columns import SCORE_COLUMNS

    for taskset, method in study.scores:
        scores = pd.read_parquet(results / f"scores/{taskset}/{method}.parquet")
        settings = study.task_settings(taskset)
        shifts = sum(len(shift["values"]) for shift in settings.get("shifts", ())) or 1
        cells = len(settings["n_components"]) * len(settings["n_points"]) * shifts
        assert list(scores.columns) == SCORE_COLUMNS
        assert len(scores) == cells * settings["tasks"]
        assert (scores.failure_reason != "").equals(scores.failed)
        assert scores.loc[~scores.failed, "l2_error"].notna().all()


def test_the_oracle_is_the_floor_and_never_fails(study, results):
    import pandas as pd

    for taskset in study.tasksets:
        oracle = pd.read_parquet(results / f"scores/{taskset}/em-oracle.parquet")
        assert not oracle.failed.any()
        assert oracle.l2_error.median() < (0.15 if (oracle.covariance == "isotropic").all() else 0.4)


def test_models_come_with_their_record(study, results):
    import pandas as pd

    for family in study.families:
        record = json.loads((results / f"models/{family}/config.json").read_text())
        settings = study.train_settings(family)
        for key in ("family", "dimension", "recipe", "loss", "training", "seed"):
            assert record["settings"][key] == settings[key]
        assert record["record"]["tasks_seen"] >= settings["training"]["tasks"]
        history = pd.read_csv(results / f"models/{family}/history.csv")
        assert list(history.columns[: len(HISTORY_COLUMNS)]) == HISTORY_COLUMNS
        assert len(history) > 1
        assert history.tasks.is_monotonic_increasing
        assert history[[*HISTORY_COLUMNS, "flops", "validation_l2_error"]].iloc[-1].notna().all()


def test_headline_numbers_are_there(results):
    summary = json.loads((results / "summary.json").read_text())
    assert summary["meta"]["scale"] == SCALE


def test_figures_tables_and_paper_are_what_they_say(study, results):
    for name in study.names("fig-"):
        assert (results / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (results / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    for name in study.names("tab-"):
        for ending in ("csv", "md", "tex"):
            assert (results / f"tables/{name}.{ending}").stat().st_size > 100
    paper = FOLDER / "results" / SCALE / "paper.pdf"
    assert paper.read_bytes().startswith(b"%PDF")


def test_every_job_left_a_log_and_a_benchmark(study):
    for family in study.families:
        assert (FOLDER / f"logs/{SCALE}/models/{family}.log").stat().st_size > 0
        assert (FOLDER / f"benchmark_logs/{SCALE}/models/{family}.tsv").stat().st_size > 0
