"""What each part of a finished run cost: processor time, wall time and memory, from Snakemake's benchmark files.

python benchmarks/pipeline.py --scale laptop
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

# What the study's questions need, by the part of a file's path that gives it away; the first that matches counts.
PARTS = {
    "test tasks": "/tasks/",
    "ablation": "/ablation/",
    "training: Mamba2": "-mamba2",
    "training: grid of the backbone's scale": "-components-w",
    "training: anisotropic tasks": "models/anisotropic",
    "training: N0 = 32 and 64": ("-n32-", "-n64-"),
    "training: recipes matched and reference": ("models/isotropic-d2-n128-matched", "models/isotropic-d8-n128-matched",
                                               "-reference.tsv"),
    "training: recipe components": "/models/",
    "scores: sample-size shift": "scores/sample-size",
    "scores: mean shift": "scores/mean-shift",
    "scores: other shifts": "scores/robustness",
    "scores: anisotropic tasks": "scores/anisotropic",
    "scores: main comparison": "scores/effectiveness",
    "theorems and sorted floor": "/theory/",
    "probes": "/probes/",
    "figures": "/figures/",
    "tables": "/tables/",
    "summary and manuscript": "",
}  # fmt: skip


def read_costs(folder: Path) -> pd.DataFrame:
    """One row a job: its part, seconds of wall and of processor time, and the most memory it held, in MB."""
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        raise SystemExit(f"{folder}: no benchmark files; run the study at this scale first")
    rows = []
    for file in files:
        job = pd.read_csv(file, sep="\t", na_values="-").iloc[-1]
        rows.append(
            {"part": part_of(str(file)), "wall": job["s"], "processor": job["cpu_time"], "memory": job["max_rss"]}
        )
    return pd.DataFrame(rows)


def part_of(path: str) -> str:
    """The part of the study that a benchmark file belongs to."""
    for part, marks in PARTS.items():
        if "training" in part and "/models/" not in path:
            continue
        if any(mark in path for mark in ([marks] if isinstance(marks, str) else marks)):
            return part
    raise ValueError(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="laptop", help="smoke, laptop, overnight or paper")
    costs = read_costs(Path("benchmark_logs") / parser.parse_args().scale)
    table = costs.groupby("part").agg(
        jobs=("wall", "size"), wall=("wall", "sum"), processor=("processor", "sum"), memory=("memory", "max")
    )
    table = table.reindex([part for part in PARTS if part in table.index])
    table.loc["all"] = [table.jobs.sum(), table.wall.sum(), table.processor.sum(), table.memory.max()]
    table[["wall", "processor"]] = (table[["wall", "processor"]] / 60).round(1)
    names = {"wall": "wall min (summed over jobs)", "processor": "processor min", "memory": "largest job, MB"}
    print(table.astype({"jobs": int, "memory": int}).rename(columns=names).to_string())


if __name__ == "__main__":
    main()
