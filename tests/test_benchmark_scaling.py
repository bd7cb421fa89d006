"""The plan of a run on several GPUs: jobs wait for what they need, and the page shows what the script prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from scaling_plan import CORES_BESIDE_GPU, Job, jobs_of, read_measured, wall_hours  # noqa: E402
from tgmm.study import load_study  # noqa: E402


def test_jobs_share_gpus_and_wait_for_what_they_need():
    trainings = {f"t{n}": Job(1.0, gpu=True) for n in range(4)}
    jobs = trainings | {"score": Job(0.5, after=["t3"]), "paper": Job(0.25, after=["score", *trainings])}
    assert wall_hours(jobs, 1) == pytest.approx(4.75)
    assert wall_hours(jobs, 2) == pytest.approx(2.75)
    assert wall_hours(jobs, 4) == wall_hours(jobs, 64) == pytest.approx(1.75)


def test_cores_are_limited_too():
    jobs = {f"s{n}": Job(1.0) for n in range(2 * CORES_BESIDE_GPU)}
    assert wall_hours(jobs, 1) == pytest.approx(2.0)
    assert wall_hours(jobs, 2) == pytest.approx(1.0)


def test_every_job_of_the_paper_waits_for_jobs_that_there_are():
    jobs = jobs_of(load_study(ROOT / "config.yaml", "paper"), read_measured())
    assert all(set(job.after) <= set(jobs) for job in jobs.values())
    assert all(job.hours > 0 for job in jobs.values())


@pytest.mark.slow
def test_the_page_shows_the_plan():
    command = [sys.executable, "benchmarks/scaling_plan.py", "plan"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout in (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
