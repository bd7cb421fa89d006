"""What jobs are expected to take: sums, limits, and enough for what has been measured."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from tgmm import costs
from tgmm.config import read_config
from tgmm.errors import UserError
from tgmm.study import Study, load_study, study_from_config
from tgmm.train.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[1]


@cache
def study_of(scale: str) -> Study:
    return load_study(ROOT / "config.yaml", scale)


def training(scale: str, family: str = "isotropic-d8-n128-components", **budget: int) -> TrainingSettings:
    settings = study_of(scale).train_settings(family)
    return TrainingSettings.from_dict(settings | {"training": settings["training"] | budget})


def test_hours_on_a_core_follow_the_operations():
    settings = training("laptop", tasks=1000)
    hours = 1000 * settings.network.flops(0.75 * 128) / costs.CORE_RATE / 3600
    assert costs.training_hours(settings, gpu=False) == pytest.approx(hours)


def test_cores_share_families_and_the_longest_one_bounds_them():
    short, long = training("laptop", tasks=1000), training("laptop", tasks=9000)
    alone = costs.training_hours(short, gpu=False)
    assert costs.hours_together([short, short], cores=1) == pytest.approx(2 * alone)
    assert costs.hours_together([short, short], cores=4) == pytest.approx(alone)
    assert costs.hours_together([short, long], cores=2) == pytest.approx(9 * alone)
    assert costs.hours_together([], cores=2) == 0


def test_hours_on_a_gpu_are_those_measured_on_an_h100():
    """17,800 and 14,100 tasks a second at the paper's sizes (docs/training.md)."""
    for recipe, rate in (("components", 17_800), ("matched", 14_100)):
        settings = training("paper", f"isotropic-d8-n128-{recipe}")
        measured = settings.training.tasks / rate / 3600
        assert costs.training_hours(settings, gpu=True) == pytest.approx(measured, rel=0.05)


def test_no_job_asks_for_more_than_a_day_and_none_for_nothing():
    assert costs.job_minutes(0.0) == costs.START
    assert costs.job_minutes(1.0) == costs.START + 60 * costs.MARGIN
    assert costs.job_minutes(1000.0) == costs.LONGEST_JOB


def test_what_jobs_ask_for_is_enough_for_what_laptop_runs_took():
    """Measured by Snakemake on cores that had other work; benchmarks/scaling_plan.py collected it."""
    measured = pd.read_csv(ROOT / "benchmarks/measured-laptop.csv", index_col="job")
    study = load_study(ROOT / "config.yaml", "laptop")
    families = study.default_families
    hours = {f"models/{name}": costs.training_hours(training("laptop", name), gpu=False) for name in families}
    for taskset in study.tasksets:
        for group, methods in study.score_groups(taskset).items():
            hours[f"scores/{taskset}-{group}"] = costs.scoring_hours(study, taskset, methods)
    hours |= {f"probes/{name}": costs.probe_hours(study, name) for name in study.probed}
    assert set(hours) <= set(measured.index)
    for job, expected in hours.items():
        assert 60 * costs.job_minutes(expected) > 2 * measured.processor_seconds[job], job
    for name in families:
        asked = costs.training_memory(training("laptop", name), gpu=False)
        assert asked > 1.5 * measured.memory[f"models/{name}"], name


def test_a_shifted_task_set_takes_as_long_as_it_has_cells():
    study = load_study(ROOT / "config.yaml", "laptop")
    shifts = study.config.tasksets["robustness"].shifts
    cells = 2 * sum(len(shift.values) for shift in shifts)
    hours = costs.scoring_hours(study, "robustness-d8", ["em", "spectral"])
    assert hours == pytest.approx(2 * 256 * cells * costs.SCORING_SECONDS / 3600)
    assert costs.scoring_hours(study, "robustness-d8", ["tgmm-components"]) > hours / 2


def test_days_of_training_on_processors_are_refused_in_one_line():
    study = load_study(ROOT / "config.yaml", "paper")
    with pytest.raises(UserError) as refused:
        costs.refuse_days_of_training(study, study.families, 2)
    line = str(refused.value)
    assert "\n" not in line
    for words in ("'paper'", "years on the 2 core(s)", "`dvc pull`", "scale=laptop", "allow_cpu_training=true"):
        assert words in line
    with pytest.raises(UserError, match="years on 50 cores of a cluster that offers no GPU"):
        costs.refuse_days_of_training(study, study.families, 50, cluster=True)


def test_what_takes_no_days_or_is_allowed_is_not_refused():
    study = load_study(ROOT / "config.yaml", "paper")
    costs.refuse_days_of_training(study, [], 2)
    laptop = load_study(ROOT / "config.yaml", "laptop")
    costs.refuse_days_of_training(laptop, laptop.families, 1)
    values = read_config(ROOT / "config.yaml") | {"scale": "paper", "allow_cpu_training": True}
    costs.refuse_days_of_training(study_from_config(values, ROOT), study.families, 2)
