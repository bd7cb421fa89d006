"""The one task that the picture shows: its points with responsibilities and attention, and the ways of the means.

One row a point and component, or a step and component: ``COLUMNS``. ``part`` is "point" (``item`` counts points;
``responsibility`` is under the true parameters, ``attention`` that of the named block and head), "truth", "network"
(``item`` is the block) or "em" (``item`` counts EM steps from the network's first read-out).
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tgmm.errors import UserError
from tgmm.metrics import l2_error
from tgmm.mixture import Mixture, responsibilities
from tgmm.probes.measure import DEFAULT_COMPONENTS, em_path
from tgmm.probes.trace import TracedTasks

COLUMNS = (
    "scale", "family", "seed", "d", "K", "N", "task_id", "l2_error", "block", "head",
    "part", "item", "component", "x", "y", "responsibility", "attention",
)  # fmt: skip


def picture_table(tests: list[TracedTasks], table: pd.DataFrame, settings: dict[str, Any]) -> pd.DataFrame:
    """The picture's numbers, for tasks in two dimensions.

    The task is not picked for its looks: of the test tasks with K = ``settings["picture_components"]`` it is the one
    whose final error is the median. The head is the best of the last attention of points over components, as chosen
    for the table.

    Parameters
    ----------
    tests : the trained network's passes, and
    table : the measurements, both from :func:`tgmm.probes.measure.measure_probes`.
    settings : the same settings.
    """
    n_components = settings.get("picture_components", DEFAULT_COMPONENTS)
    found = [test for test in tests if test.n_components == n_components]
    if settings["dimension"] != 2 or not found:
        raise UserError(f"a picture needs tasks with d = 2 and K = {n_components}")
    test = found[0]
    errors = l2_error(test.estimates[-1], test.truth)
    task = errors.argsort()[len(errors) // 2].item()
    block, head = best_scatter_head(table)
    path = em_path(test.estimates[0][[task]], test.points[[task]], settings["em_steps"])
    rows = _points(test, task, test.trace.scatter[block - 1][task, head])
    rows += _means("truth", [test.truth[[task]]], first=0)
    rows += _means("network", [estimate[[task]] for estimate in test.estimates], first=1)
    rows += _means("em", path, first=0)
    common = {
        "scale": settings.get("scale", ""), "family": settings["family"], "seed": settings["seed"], "d": 2,
        "K": n_components, "N": settings["longest"], "task_id": task, "l2_error": errors[task].item(),
        "block": block, "head": head,
    }  # fmt: skip
    return pd.DataFrame(rows).assign(**common).reindex(columns=list(COLUMNS))


def best_scatter_head(table: pd.DataFrame) -> tuple[int, int]:
    """The last block in which points attend to components, and its head nearest to the read-out's responsibilities."""
    rows = table[(table["quantity"] == "scatter_correlation") & (table["reference"] == "own") & table["best"]]
    rows = rows[rows["variant"] == "trained"]
    if rows.empty:
        raise UserError("a picture needs a network of at least two blocks")
    last = rows[rows["layer"] == rows["layer"].max()].iloc[0]
    return int(last["layer"]), int(last["head"])


def _points(test: TracedTasks, task: int, attention: Tensor) -> list[dict]:
    """Rows of the task's points; ``attention`` is (K, N)."""
    shares = responsibilities(test.truth[[task]], test.points[[task]].double())[0]
    return [
        {
            "part": "point", "item": item, "component": component, "x": point[0], "y": point[1],
            "responsibility": shares[component, item].item(), "attention": attention[component, item].item(),
        }
        for item, point in enumerate(test.points[task].tolist())
        for component in range(test.n_components)
    ]  # fmt: skip


def _means(part: str, path: list[Mixture], first: int) -> list[dict]:
    """Rows of the means along a path of mixtures of one task."""
    means = torch.stack([mixture.means[0] for mixture in path]).tolist()
    return [
        {"part": part, "item": item, "component": component, "x": x, "y": y}
        for item, step in enumerate(means, start=first)
        for component, (x, y) in enumerate(step)
    ]
