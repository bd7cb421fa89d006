"""The ablation: trained, resumed, diverged, compared, drawn and tabulated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from synthetic_ablation import CHANGES, SETTINGS, ablation
from tgmm.ablation import COLUMNS, COMPARED, compare, final_rows, merge_parts
from tgmm.ablation import run as run_module
from tgmm.ablation.run import measure_speeds, run_ablation, speed_lines
from tgmm.artefacts import draw_figure, write_table
from tgmm.errors import UserError
from tgmm.train.family import train_network
from tgmm.train.trainer import ValidationSet

CPU = torch.device("cpu")
BASE = {
    "family": "ablation-d2-s1", "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "longest": 16,
    "recipe": "components", "network": {"kind": "components", "width": 8, "blocks": 1, "heads": 2}, "loss": "matched",
    "training": {"tasks": 1, "batch": 8, "learning_rate": 5e-3, "validate_every": 1}, "validation_tasks": 6, "seed": 1,
    "scale": "smoke",
}  # fmt: skip
TRIED = {
    "baseline": {},
    "wider": {"tasks": 32, "network": {"width": 16}},
    "wild": {"network": {}, "training": {"learning_rate": 5e27, "clip": 1e30}},
}


def job(tasks: int = 64, **changes: dict) -> dict:
    """Settings of `tgmm ablation run` with tiny networks."""
    entries = []
    for name, change in (changes or TRIED).items():
        seen = change.get("tasks", tasks)
        budget = BASE["training"] | {"tasks": seen, "validate_every": seen // 4} | change.get("training", {})
        settings = BASE | {"network": BASE["network"] | change.get("network", {}), "training": budget}
        entries.append({"change": name, "settings": settings})
    return {"d": 2, "seed": 1, "scale": "smoke", "em_steps": 20, "em_starts": 10, "changes": entries}


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def rows(work) -> pd.DataFrame:
    return run_ablation(job(), work, CPU, quiet).rows


# --- training ------------------------------------------------------------------------------------------------------


def test_every_change_has_its_validations(rows):
    assert tuple(rows.columns) == COLUMNS
    assert rows.change.unique().tolist() == ["baseline", "wider", "wild"]
    assert rows[rows.change == "baseline"].tasks.tolist() == [16, 32, 48, 64]
    assert rows[rows.change == "wider"].tasks.max() == 32
    sizes = rows.groupby("change").parameters.max()
    assert sizes["wider"] > sizes["baseline"]
    trained = rows[~rows.diverged]
    assert (trained.groupby("change").processor_seconds.apply(lambda x: x.is_monotonic_increasing)).all()
    assert trained.validation_l2_error.notna().all()
    assert rows.validation_l2_error_oracle.nunique() == 1


def test_the_last_row_has_the_error_after_em_steps_and_of_em_alone(rows, work):
    values = job()
    last = rows.groupby("change").tail(1).set_index("change")
    rest = rows.drop(rows.groupby("change").tail(1).index)
    assert rest[["validation_l2_error_em20", "validation_l2_error_em_restarts"]].isna().all(axis=None)
    settings = run_module.TrainingSettings.from_dict(values["changes"][0]["settings"])
    trainer, reason = train_network(settings, work, CPU)
    assert reason.kind == "finished"
    validation = ValidationSet(settings)
    for steps, column in ((0, "validation_l2_error"), (20, "validation_l2_error_em20")):
        errors = validation.errors(trainer.network, em_steps=steps)
        assert last.loc["baseline", column] == pytest.approx(np.mean(list(errors.values())))
    assert last.loc["baseline", "validation_l2_error_em_restarts"] > 0
    assert last.validation_l2_error_em_restarts.notna().to_dict() == {"baseline": True, "wider": False, "wild": False}


def test_a_training_that_diverges_is_a_row_without_errors(rows):
    wild = rows[rows.change == "wild"]
    assert wild.diverged.tolist() == [True]
    assert wild[["tasks", "processor_seconds", "validation_l2_error", "validation_l2_error_em20"]].isna().all(axis=None)
    assert not rows[rows.change != "wild"].diverged.any()


def test_other_failures_are_no_divergence(tmp_path):
    (tmp_path / "work").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        run_ablation(job(), tmp_path / "work", CPU, quiet)
    broken = job()
    broken["changes"][1]["settings"]["loss"] = "best"
    with pytest.raises(UserError, match=r"unknown value of 'changes\[1\].settings.loss': 'best'"):
        run_ablation(broken, tmp_path / "other", CPU, quiet)
    assert not (tmp_path / "other").exists()


def test_finished_changes_are_not_trained_again(rows, work, monkeypatch):
    taken = []
    step = run_module.train_network.__globals__["Trainer"].take_step
    monkeypatch.setattr(
        run_module.train_network.__globals__["Trainer"],
        "take_step",
        lambda self: (taken.append(self.settings.network.width), step(self)),
    )
    again = run_ablation(job(**{name: TRIED[name] for name in ("baseline", "wider")}), work, CPU, quiet).rows
    assert taken == []
    pd.testing.assert_frame_equal(again, rows[rows.change != "wild"], check_dtype=False)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_with_its_code_and_without_an_output(tmp_path, number, code):
    out = tmp_path / "d2-s1.csv"
    arguments = [sys.executable, "-m", "tgmm", "ablation", "run", "--settings", json.dumps(job(tasks=10**6))]
    arguments += ["-d", "2", "--seed", "1", "--work", str(tmp_path / "work"), "--out", str(out), "--device", "cpu"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if list((tmp_path / "work").glob("*/*/lock")) or process.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert f"stopped by {signal.Signals(number).name}; the same command resumes" in errors
    assert not out.exists()


def test_a_run_that_was_stopped_between_steps_has_the_same_errors(tmp_path):
    values = job(baseline={}, deeper={"network": {"blocks": 2}})
    whole = run_ablation(values, tmp_path / "whole", CPU, quiet).rows
    trainer = run_module.train_network.__globals__["Trainer"]
    step, left = trainer.take_step, [5]

    def stopping(self) -> None:
        step(self)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "take_step", stopping)
        assert run_ablation(values, tmp_path / "stopped", CPU, quiet).signal == signal.SIGTERM
    resumed = run_ablation(values, tmp_path / "stopped", CPU, quiet).rows
    errors = ["change", "tasks", "validation_l2_error", "validation_l2_error_em20"]
    pd.testing.assert_frame_equal(resumed[errors], whole[errors])


def test_the_command_refuses_settings_of_another_part(tmp_path):
    arguments = ["ablation", "run", "--settings", json.dumps(job()), "-d", "8", "--seed", "1", "--out", "x.csv"]
    result = subprocess.run([sys.executable, "-m", "tgmm", *arguments], capture_output=True, text=True, check=False,
                            cwd=tmp_path)  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == "tgmm: --settings are of {'d': 2, 'seed': 1}, not of {'d': 8, 'seed': 1}\n"


def test_speeds_are_relative_to_the_baseline_of_the_round():
    values = job(baseline={}, wider={"network": {"width": 64}}, wild=TRIED["wild"])
    speeds = measure_speeds(values, rounds=2, tasks=32, device=CPU)
    shares = speeds.set_index(["change", "round"]).share
    assert shares["baseline"].tolist() == [1.0, 1.0]
    assert (speeds[speeds.change == "wider"].speed > 0).all()
    assert speeds[speeds.change == "wild"].speed.isna().all()
    assert speeds.change.tolist() != ["baseline", "wider", "wild"] * 2  # each round has an order of its own
    assert any(line.split()[0] == "wider" for line in speed_lines(speeds))


# --- comparison ----------------------------------------------------------------------------------------------------


def test_parts_are_joined_in_order_and_none_twice():
    whole = ablation(seeds=(1, 2))
    parts = [part for _, part in whole.groupby(["d", "seed"])]
    merged = merge_parts(parts[::-1])
    pd.testing.assert_frame_equal(merged, whole.sort_values(["d", "seed"], kind="stable", ignore_index=True))
    with pytest.raises(UserError, match="d = 2, seed 1: 'baseline' is given twice"):
        merge_parts([parts[0], *parts])


def test_em_from_many_starts_is_measured_beside_the_baseline_and_told_beside_every_change():
    whole = ablation(seeds=(1, 2)).sort_values(["d", "seed"], kind="stable", ignore_index=True)
    measured = "validation_l2_error_em_restarts"
    parts = [part.copy() for _, part in whole.groupby(["d", "seed", "change"], sort=False)]
    for part in parts:
        if (part["change"] != "baseline").all():
            part[measured] = np.nan
    pd.testing.assert_frame_equal(merge_parts(parts), whole)


def test_ratios_are_to_the_baseline_of_the_same_seed():
    study = ablation(dimensions=(8,), seeds=(1, 2), changes=("baseline", "muon"))
    final = final_rows(study).set_index(["change", "seed"])
    ratios = [final.validation_l2_error["muon", seed] / final.validation_l2_error["baseline", seed] for seed in (1, 2)]
    np.testing.assert_allclose(final.ratio["muon"], ratios)
    row = compare(study).set_index("change").loc["muon"]
    assert row.ratio == pytest.approx(np.sqrt(ratios[0] * ratios[1]))
    assert (row.ratio_low, row.ratio_high) == (min(ratios), max(ratios))
    assert row.error == pytest.approx(final.validation_l2_error["muon"].mean())
    with pytest.raises(UserError, match="the ablation has no 'baseline' for d = 8, seed 2"):
        final_rows(study[~((study.change == "baseline") & (study.seed == 2))])


def test_a_change_that_diverged_is_never_the_best():
    table = compare(ablation())
    assert table[table.best_over_d].change.unique().tolist() == ["muon"]
    table = compare(ablation(diverged=[(2, "muon", 1)])).set_index(["d", "change"])
    assert table.loc[(2, "muon"), ["n_diverged", "n_seeds"]].tolist() == [1, 3]
    assert not table.best[2, "muon"]
    assert table.best[8, "muon"]
    assert not table.best_over_d.xs("muon", level="change").any()
    assert np.isfinite(table.ratio[2, "muon"])
    lost = compare(ablation(diverged=[(2, "muon", seed) for seed in (1, 2, 3)])).set_index(["d", "change"])
    assert np.isnan(lost.ratio[2, "muon"])
    assert lost.ratio_over_d[2, "muon"] == pytest.approx(lost.ratio[8, "muon"])


def test_with_a_diverged_baseline_its_seed_has_no_ratio():
    study = ablation(dimensions=(2,), diverged=[(2, "baseline", 2)])
    final = final_rows(study)
    assert final[final.seed == 2].ratio.isna().all()
    assert np.isfinite(compare(study).ratio).all()
    assert not compare(study).set_index("change").best["baseline"]


# --- figure and table ----------------------------------------------------------------------------------------------


def test_figure_and_table_are_written(tmp_path):
    path = tmp_path / "all.csv"
    ablation(diverged=[(8, "muon", 3)]).to_csv(path, index=False)
    for file in draw_figure(SETTINGS, path, tmp_path / "fig-ablation"):
        assert file.stat().st_size > 5000
    settings = SETTINGS | {"id": "tab-ablation", "kind": "ablation-table"}
    csv, markdown, latex = write_table(settings, path, tmp_path / "tab-ablation")
    table = pd.read_csv(csv)
    assert tuple(table.columns) == COMPARED
    assert len(table) == 2 * len(CHANGES)
    text = markdown.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| 8 | Muon"))
    assert "1 of 3 diverged" in row
    best = table[(table.d == 8) & table.best]
    assert f"**{best.error.iloc[0]:.3f}**".replace("0.", ".") in text
    assert "EM with 10 k-means++ starts .0980" in text
    assert r"\toprule" in latex.read_text()
    (tmp_path / "old.csv").write_text("d,change\n2,baseline\n")
    with pytest.raises(UserError, match=r"old\.csv: missing columns seed, tasks"):
        draw_figure(SETTINGS, tmp_path / "old.csv", tmp_path / "none")
