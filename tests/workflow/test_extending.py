"""docs/extending.md: every diff applies, is short, and what it adds works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from workflow_project import IGNORED, ROOT

SOURCE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
SECTIONS = [part.partition("\n") for part in SOURCE.split("\n## ")[1:]]
DIFFS = [(title, text.split("```diff\n")[1].split("```")[0]) for title, _, text in SECTIONS if "```diff" in text]
TASKS = """
import torch
from tgmm.study import load_study
from tgmm.tasks.taskset import sample_taskset
study = load_study("config.yaml", "smoke")
tasks = sample_taskset({"taskset": "t", "covariance": "isotropic", "dimension": 2, "n_components": [2],
    "n_points": [30], "tasks": 4, "heldout_points": 5, "seed": 1, "shifts": SHIFTS})
points = tasks.cells[-1].points(slice(None))[0]
"""
USES = {
    "A baseline": TASKS.replace("SHIFTS", "[]")
    + """
from tgmm.evaluate import ScoreSettings, build_scored, score_taskset
settings = study.config.methods["k-means"].plain() | {"method": "k-means", "seed": 1, "scale": "smoke"}
scored = build_scored(ScoreSettings.from_dict(settings), "isotropic", torch.device("cpu"))
scores = score_taskset(tasks, [scored])[0]
assert not scores.failed.any() and scores.l2_error.median() < 0.5, scores
""",
    "A shift": TASKS.replace("SHIFTS", '[{"kind": "rounding", "values": [0.5]}]')
    + """
assert (2 * points == (2 * points).round()).all()
assert "rounding" in {shift["kind"] for shift in study.task_settings("robustness-d8")["shifts"]}
""",
    "A figure": """
import sys, tempfile
sys.path.insert(0, "tests")
from pathlib import Path
from synthetic_scores import write_scores
from tgmm.aggregate import aggregate
from tgmm.artefacts import draw_figure
from tgmm.study import load_study
study = load_study("config.yaml", "smoke")
folder = Path(tempfile.mkdtemp())
aggregate(write_scores(folder), folder / "s.parquet", folder / "s.json", resamples=10, seed=1)
settings = {"id": "x", "kind": "failures", "taskset": "effectiveness", "methods": ["em", "em-oracle"], "scale": "smoke"}
paths = draw_figure(settings, folder / "s.parquet", folder / "fig")
assert all(path.stat().st_size > 1000 for path in paths)
assert "fig-failures" in study.names("fig-")
""",
    "A network": TASKS.replace("SHIFTS", "[]")
    + """
from tgmm.models.settings import NetworkSettings
from tgmm.study import network_settings
settings = network_settings(study.config, "deep-sets")
network = NetworkSettings.from_dict(settings | {"dimension": 2}).build()
estimate = network(points, torch.full((4,), 2))[-1].mixture(2)
assert estimate.means.shape == (4, 2, 2) and estimate.means.isfinite().all()
turned = network(points.flip(1), torch.full((4,), 2))[-1].mixture(2)
assert torch.allclose(turned.means, estimate.means, atol=1e-5)
""",
}


def test_every_kind_of_extension_is_shown():
    assert [title for title, _ in DIFFS] == list(USES)


@pytest.mark.slow
@pytest.mark.parametrize(("title", "diff"), DIFFS, ids=[title for title, _ in DIFFS])
def test_a_diff_is_short_and_what_it_adds_works(tmp_path, title, diff):
    changed = [line for line in diff.splitlines() if re.match(r"[+-](?!\+\+|--)", line)]
    files = re.findall(r"^\+\+\+ b/(\S+)", diff, re.MULTILINE)
    assert len(changed) <= 30
    assert len([name for name in files if name.startswith("src/")]) <= 2
    for part in ("src", "workflow", "config.yaml", "tests/synthetic_scores.py"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        (tmp_path / part).parent.mkdir(exist_ok=True)
        copy(ROOT / part, tmp_path / part, **({"ignore": IGNORED} if copy is shutil.copytree else {}))
    subprocess.run(["patch", "-p1", "-s"], input=diff, text=True, cwd=tmp_path, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    run = subprocess.run([sys.executable, "-c", USES[title]], cwd=tmp_path, env=environment, capture_output=True,
                         text=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
