"""Kind ``metric-against-points``: how a metric changes with the number of points at test (RQ2)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tgmm.figures.metric_panels import draw_metric_panels
from tgmm.figures.metric_text import metric_text
from tgmm.figures.palette import method_style
from tgmm.figures.training_curves import split_family


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """The metric against N, a panel for each K, every method side by side."""
    return draw_metric_panels(summary, settings, "N", note=training_points)


def training_points(cells: pd.DataFrame) -> list[str]:
    """How many points the networks saw in training, read from the names of their families."""
    points: dict[int, list[str]] = {}
    for method, rows in cells.groupby("method", sort=False):
        families = [name for name in rows["family"].dropna().unique() if name]
        for number in {int(split_family(name)["N"]) for name in families}:
            points.setdefault(number, []).append(method_style(str(method)).short)
    parts = [f"{number} ({', '.join(names)})" for number, names in sorted(points.items())]
    return [f"trained at N up to {', '.join(parts)}"] if parts else []


def caption(settings: dict) -> str:
    """One or two sentences on what is shown."""
    name = metric_text(settings["metric"]).name
    return (
        f"{name[0].upper()}{name[1:]} against the number of points N of a test task, a panel for each number of "
        f"components K, on the task set '{settings['taskset']}': mean over tasks with a 95 % bootstrap interval. "
        "EM started from the truth is the floor at every N."
    )
