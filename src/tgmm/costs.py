"""What a job takes, about: hours on a core or a GPU, minutes to ask a cluster for, memory.

Sizes and budgets come from the study; the rates are measured ones (docs/training.md, docs/scaling.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tgmm.errors import UserError
from tgmm.study import Study
from tgmm.train.settings import MEAN_LENGTH, TrainingSettings

CORE_RATE = 1.5e10  # floating-point operations a second that one core reaches in training
GPU_RATE = 2.2e13  # the same of one H100, by recipe `matched`
GPU_BLOCK_SECONDS = 1.2e-3  # of a step and block there: small networks wait for kernels to start, not for operations
SCORING_SECONDS = 4e-3  # of a core for a task and method, besides what a network computes
BAYES_SECONDS = 0.25  # of a core for a task, where sampling has to settle
SHORT_TRAINING = 2.0  # hours on a GPU: what takes less shares a submission
LONGEST_JOB = 24 * 60  # minutes; a training that takes longer resumes in the next job
LONGEST_HOURS = 24.0  # of training on processors, before somebody has to ask for it
START, MARGIN = 15, 2  # minutes that any job may take, and how much slower than measured it may be
BYTES_OF_ACTIVATION = 800  # of training for every point, channel and block of a batch


def training_hours(settings: TrainingSettings, gpu: bool) -> float:
    """Hours of one training on one core or one GPU."""
    if not gpu:
        return settings.flops / CORE_RATE / 3600
    steps = settings.training.steps * settings.network.blocks * GPU_BLOCK_SECONDS
    return max(settings.flops / GPU_RATE, steps) / 3600


def hours_together(families: Iterable[TrainingSettings], cores: int) -> float:
    """Hours that so many cores need to train families, each on one of them."""
    hours = [training_hours(settings, gpu=False) for settings in families]
    return max([*hours, sum(hours) / cores], default=0.0)


def job_minutes(hours: float) -> int:
    """Minutes to ask a cluster for, where so many hours are expected."""
    return min(LONGEST_JOB, math.ceil(START + 60 * MARGIN * hours))


def training_memory(settings: TrainingSettings, gpu: bool) -> int:
    """MB of main memory that a training takes; on a GPU its activations are there."""
    if gpu:
        return 8000
    size = settings.training.batch * settings.n_points * settings.network.width * settings.network.blocks
    return 2000 + round(size * BYTES_OF_ACTIVATION / 1e6)


def ablation_hours(study: Study, d: int, seed: int, change: str, gpu: bool) -> float:
    """Hours of one part of the ablation."""
    changes = study.ablation_settings(d, seed, change)["changes"]
    return sum(training_hours(TrainingSettings.from_dict(change["settings"]), gpu) for change in changes)


def scoring_hours(study: Study, taskset: str, methods: Iterable[str]) -> float:
    """Hours of one core to score methods on a file of tasks."""
    entry = study.config.tasksets[study.tasksets[taskset][0]]
    cells = len(entry.K) * max(1, sum(len(shift.values) for shift in entry.shifts))
    seconds = 0.0
    for method in methods:
        for n_points in entry.N:
            seconds += study.config.test_tasks * cells * _seconds_per_task(study, method, taskset, n_points)
    return seconds / 3600


def _seconds_per_task(study: Study, method: str, taskset: str, n_points: int) -> float:
    """A forward pass is a third of a step of training."""
    family = study.family_of(method, taskset)
    if family is None:
        return BAYES_SECONDS if study.config.methods[method].SLOW else SCORING_SECONDS
    settings = TrainingSettings.from_dict(study.train_settings(family))
    return SCORING_SECONDS + settings.network.flops(n_points) / 3 / CORE_RATE


def probe_hours(study: Study, family: str) -> float:
    """Hours of one core to probe a family's network."""
    settings = TrainingSettings.from_dict(study.train_settings(family))
    tasks = study.probe_settings(family)["tasks"] * len(settings.n_components)
    return 8 * tasks * settings.network.flops(MEAN_LENGTH * settings.n_points) / CORE_RATE / 3600


# --- days of training by accident ---


def refuse_days_of_training(study: Study, families: Iterable[str], cores: int, cluster: bool = False) -> None:
    """Raise a `UserError` if training families on so many cores, of a machine or a cluster, takes too long.

    That is longer than ``LONGEST_HOURS``, where the configuration does not allow it.
    """
    names = list(families)
    hours = hours_together([TrainingSettings.from_dict(study.train_settings(name)) for name in names], cores)
    if hours <= LONGEST_HOURS or study.config.allow_cpu_training:
        return
    where = f"on the {cores} core(s) of this machine, which has no GPU"
    if cluster:
        where = f"on {cores} cores of a cluster that offers no GPU (`sinfo -o %G`), or with `device: cpu`"
    raise UserError(
        f"scale '{study.scale}': training {len(names)} of {len(study.families)} families takes about "
        f"{in_words(hours)} {where}: `dvc pull` brings networks that were released, `--config scale=laptop` suits "
        "processors, and `--config allow_cpu_training=true` trains all the same"
    )


def in_words(hours: float) -> str:
    """A length of time with two digits at most: "9 hours", "12 days", "2.4 years"."""
    for unit, length in (("years", 365.25 * 24), ("days", 24.0)):
        if hours >= 2 * length:
            return f"{float(f'{hours / length:.2g}'):,g} {unit}"
    return f"{float(f'{hours:.2g}'):g} hours"
