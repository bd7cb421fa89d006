"""The table of what a run cost: every job of the study belongs to the right part, and the sums are right."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from tgmm.study import load_study

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from pipeline import part_of, read_costs  # noqa: E402


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_every_family_belongs_to_the_part_that_needs_it(scale):
    parts = {
        name: part_of(f"benchmark_logs/{scale}/models/{name}.tsv")
        for name in load_study(ROOT / "config.yaml", scale).families
    }
    assert all(part.startswith("training: ") for part in parts.values())
    assert parts["isotropic-d8-n128-components"] == "training: recipe components"
    assert parts["isotropic-d8-n32-components"] == "training: N0 = 32 and 64"
    assert parts["isotropic-d2-n128-matched-mamba2-causal"] == "training: Mamba2"
    assert parts["isotropic-d2-n128-reference"] == "training: recipes matched and reference"
    assert parts["isotropic-d8-n128-components-w100-b100"] == "training: grid of the backbone's scale"
    assert parts["anisotropic-d8-n128-components"] == "training: anisotropic tasks"


def test_other_jobs_belong_to_their_parts():
    assert part_of("benchmark_logs/laptop/ablation/d2-s1.tsv") == "ablation"
    assert part_of("benchmark_logs/laptop/scores/effectiveness-d8/tgmm-mamba2.tsv") == "scores: main comparison"
    assert part_of("benchmark_logs/laptop/scores/anisotropic-d8/em.tsv") == "scores: anisotropic tasks"
    assert part_of("benchmark_logs/laptop/paper.tsv") == "summary and manuscript"


def test_costs_are_read_from_every_job(tmp_path):
    for name, seconds in {"tasks/a": 2.0, "tasks/b": 3.0, "figures/fig-x": 5.0}.items():
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        pd.DataFrame({"s": [seconds], "cpu_time": [seconds / 2], "max_rss": [10.0]}).to_csv(path, sep="\t", index=False)
    costs = read_costs(tmp_path).groupby("part").sum()
    assert costs.loc["test tasks", "wall"] == 5.0
    assert costs.loc["figures", "processor"] == 2.5


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no benchmark files"):
        read_costs(tmp_path)
