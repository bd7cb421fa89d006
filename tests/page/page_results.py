"""A page of invented scores with real figures, tables and tasks in the plane, made once."""

from __future__ import annotations

from pathlib import Path

import torch

from synthetic_scores import METHODS, write_model, write_scores
from tgmm.aggregate import aggregate
from tgmm.artefacts import draw_figure, write_table
from tgmm.page.contents import PageSettings
from tgmm.plane import PlaneSettings, fit_plane
from tgmm.tasks.taskset import sample_taskset

FAMILY = "isotropic-d2-n128-components"
RECIPES = {"transformer": {"components": ["tgmm-components"]}, "em-steps": {"components": ["tgmm-components-em20"]}}
QUESTION, EMPTY = "Does it work?", "And under <b>another</b> light?"
BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def write_results(root: Path) -> PageSettings:
    """A folder like that of a run, and the settings of its page; one artefact has not been made, one never will be."""
    results = root / "results" / "laptop"
    files = write_scores(results / "scores", dimensions=(2, 8), components=(2, 3), tasks=16)
    summary, headline = results / "summary.parquet", results / "summary.json"
    aggregate(files, summary, headline, resamples=20, recipes=RECIPES)
    history = write_model(results / "models" / FAMILY, FAMILY) / "history.csv"
    common = {"taskset": "effectiveness", "metric": "l2_error", "methods": list(METHODS), "scale": "laptop"}
    for folder in ("figures", "tables"):
        (results / folder).mkdir()
    figure = common | {"id": "fig-effectiveness", "kind": "metric-against-dimension"}
    draw_figure(figure, summary, results / "figures/fig-effectiveness")
    table = common | {"id": "tab-effectiveness", "kind": "score-table"}
    write_table(table, summary, results / "tables/tab-effectiveness")
    claims = {"id": "tab-claims", "kind": "claims-table", "recipes": RECIPES, "scale": "laptop"}
    write_table(claims, summary, results / "tables/tab-claims", {FAMILY: history})
    benchmark = root / "benchmark_logs/laptop/figures/fig-effectiveness.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text(BENCHMARK + "7.5\t0:00:07\t250.0\t1\t1\t1\t0\t0\t90\t-\n")
    source = ["results/laptop/summary.parquet"]
    made = [{"id": name, "question": QUESTION} for name in ("fig-effectiveness", "tab-effectiveness", "tab-claims")]
    late, never = ({"id": name, "question": EMPTY} for name in ("fig-late", "fig-paper"))
    return PageSettings.read({
        "scale": "laptop", "seed": 5, "untrained": ["isotropic-d32-n32-components"], "absent": [never],
        "artefacts": [entry | {"sources": source} for entry in [*made, late]],
    })  # fmt: skip


def plane_tasks() -> list[dict]:
    """Two tasks of each K, fitted by EM and the sample mean; there is no network."""
    settings = {"taskset": "effectiveness", "dimension": 2, "n_components": [2, 3], "n_points": [40], "tasks": 3}
    tasks = [
        sample_taskset(settings | {"covariance": covariance, "heldout_points": 4, "seed": 7})
        for covariance in ("isotropic", "anisotropic")
    ]
    methods = [{"method": "em", "kind": "em", "start": "normal"}, {"method": "spectral", "kind": "spectral"}]
    entries = [method | {"scale": "laptop", "seed": 7} for method in methods]
    asked = {"tasks": 2, "em_steps": 6, "tasksets": {"effectiveness-d2": entries}}
    return fit_plane(PlaneSettings.read(asked), tasks, Path(), torch.device("cpu"))
