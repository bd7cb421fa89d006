"""What the paper's scale takes on a cluster, and what a grid of ten thousand jobs takes of Snakemake.

    python benchmarks/scaling_plan.py collect benchmark_logs/laptop    # measured jobs -> benchmarks/measured-laptop.csv
    python benchmarks/scaling_plan.py plan --scale paper               # jobs, hours, storage; wall time by GPUs
    python benchmarks/scaling_plan.py grid 1000 10000                  # dry runs of a synthetic study

The plan starts every job of the study when its inputs are there and a GPU or a core is free, the longest first.
Trainings and scores take what tgmm.costs expects, all else what was measured at scale laptop.
"""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import typer

from tgmm import costs
from tgmm.study import Study, load_study
from tgmm.train.settings import TrainingSettings

MEASURED = Path(__file__).with_name("measured-laptop.csv")
CORES_BESIDE_GPU = 8
GPUS = (1, 4, 16, 64)
ROW_BYTES = 32.0  # of a score on disk
STATES_KEPT, MOMENTS = 2, 3  # states of a training; weights and the optimizer's two moments in each
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__.splitlines()[0])


@dataclass
class Job:
    """A job: hours on a GPU or a core, and the jobs that it waits for."""

    hours: float
    gpu: bool = False
    after: list[str] = field(default_factory=list)


# --- what was measured ---


@app.command()
def collect(folder: Path, out: Path = MEASURED) -> None:
    """Write one row a job from Snakemake's benchmark files: seconds, seconds of processor, most memory in MB."""
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        job = pd.read_csv(path, sep="\t", na_values="-").iloc[-1]
        name = path.relative_to(folder).with_suffix("").as_posix()
        rows.append({"job": name, "seconds": job["s"], "processor_seconds": job["cpu_time"], "memory": job["max_rss"]})
    pd.DataFrame(rows).round(1).to_csv(out, index=False)
    print(f"{len(rows)} jobs -> {out}")


def read_measured() -> pd.DataFrame:
    return pd.read_csv(MEASURED, index_col="job")


def mean_hours(measured: pd.DataFrame, kind: str) -> float:
    """Hours of processor of a job of a kind, on average."""
    return measured.processor_seconds[measured.index.str.startswith(kind)].mean() / 3600


# --- the plan ---


def jobs_of(study: Study, measured: pd.DataFrame) -> dict[str, Job]:
    """Every job of a scale but the ablation."""
    jobs = {f"models/{name}": Job(training_hours(study, name), gpu=True) for name in study.default_families}
    made_by: dict[str, str] = {}
    for taskset in study.default_tasksets:
        jobs[f"tasks/{taskset}"] = Job(mean_hours(measured, "tasks/") * study.config.test_tasks / 256)
        for group, methods in study.score_groups(taskset).items():
            families = {study.family_of(method, taskset) for method in methods} - {None}
            after = [f"tasks/{taskset}", *(f"models/{family}" for family in sorted(families))]
            jobs[f"scores/{taskset}-{group}"] = Job(costs.scoring_hours(study, taskset, methods), after=after)
            made_by |= {study.score_file(taskset, method): f"scores/{taskset}-{group}" for method in methods}
    for name in study.measurements:
        jobs[f"theory/{name}"] = Job(mean_hours(measured, f"theory/{name}"))
    for family in study.probed:
        jobs[f"probes/{family}"] = Job(costs.probe_hours(study, family), after=[f"models/{family}"])
    jobs["summary"] = Job(mean_hours(measured, "summary"), after=[name for name in jobs if name.startswith("scores/")])
    for kind, prefix in (("figures/", "fig-"), ("tables/", "tab-")):
        for name in study.names(prefix):
            scores = sorted({made_by[file] for file in study.sources(name).scores})
            jobs[kind + name] = Job(mean_hours(measured, kind), after=scores)
    jobs["paper"] = Job(mean_hours(measured, "paper"), after=[name for name in jobs if name != "paper"])
    return jobs


def training_hours(study: Study, family: str) -> float:
    return costs.training_hours(TrainingSettings.from_dict(study.train_settings(family)), gpu=True)


def wall_hours(jobs: dict[str, Job], gpus: int) -> float:
    """Hours until the last job has ended, with so many GPUs and some cores beside each."""
    waiting = {name: set(job.after) for name, job in jobs.items()}
    free = {True: gpus, False: CORES_BESIDE_GPU * gpus}
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        ready = sorted((name for name, after in waiting.items() if not after), key=lambda name: -jobs[name].hours)
        for name in ready:
            if free[jobs[name].gpu]:
                free[jobs[name].gpu] -= 1
                del waiting[name]
                heapq.heappush(running, (now + jobs[name].hours, name))
        now, ended = heapq.heappop(running)
        free[jobs[ended].gpu] += 1
        for after in waiting.values():
            after.discard(ended)
    return now


def storage_gigabytes(study: Study) -> dict[str, float]:
    """What results and resumable states take."""
    settings = [TrainingSettings.from_dict(study.train_settings(name)) for name in study.default_families]
    weights = sum(4 * sum(p.numel() for p in each.network.build().parameters()) for each in settings)
    rows = 0
    for taskset, _ in study.scores:
        entry = study.config.tasksets[study.tasksets[taskset][0]]
        cells = len(entry.K) * len(entry.N) * max(1, sum(len(shift.values) for shift in entry.shifts))
        rows += study.config.test_tasks * cells
    return {"weights": weights / 1e9, "states": STATES_KEPT * MOMENTS * weights / 1e9, "scores": ROW_BYTES * rows / 1e9}


@app.command()
def plan(scale: str = "paper", config: Path = Path("config.yaml")) -> None:
    """Print jobs, hours and storage of a scale, and its wall time by GPUs."""
    study = load_study(config, scale)
    jobs = jobs_of(study, read_measured())
    gpu_hours = sum(job.hours for job in jobs.values() if job.gpu)
    longest = max(jobs, key=lambda name: jobs[name].hours)
    core_hours = sum(job.hours for job in jobs.values() if not job.gpu)
    print(f"{len(jobs)} jobs: {gpu_hours:.0f} GPU hours, {core_hours:.1f} core hours")
    print(f"longest: {longest}, {jobs[longest].hours:.1f} h")
    print("storage: " + ", ".join(f"{name} {size:.2f} GB" for name, size in storage_gigabytes(study).items()))
    for gpus in GPUS:
        hours = wall_hours(jobs, gpus)
        print(f"{gpus:3d} GPUs: {hours:6.1f} h, of whose GPU time {gpu_hours / hours / gpus:.0%} is used")


# --- a synthetic study ---

SNAKEFILE = """
import json
SETTINGS = json.dumps({{"text": "x" * 600}})
rule all:
    input: expand("scores/{{n}}.txt", n=range({half}))
rule train:
    output: "models/{{n}}.txt"
    params: settings=SETTINGS
    shell: "touch {{output}}"
rule score:
    input: "models/{{n}}.txt"
    output: "scores/{{n}}.txt"
    params: settings=SETTINGS
    shell: "touch {{output}}"
"""


@app.command()
def grid(jobs: list[int]) -> None:
    """Dry runs of a study of so many jobs, half of which wait for the other half: seconds and memory of Snakemake."""
    for count in jobs:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "Snakefile").write_text(SNAKEFILE.format(half=count // 2))
            started = time.monotonic()
            command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--cores", "1"]
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
        if status:
            raise SystemExit(f"snakemake failed with status {status}")
        processor = usage.ru_utime + usage.ru_stime
        print(f"{count:,} jobs: {processor:.0f} s of processor ({seconds:.0f} s), {usage.ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    app()
