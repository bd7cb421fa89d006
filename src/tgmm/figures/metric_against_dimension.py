"""Kind ``metric-against-dimension``: the paper's main figure (RQ1) and its twins for other metrics."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tgmm.figures.metric_panels import draw_metric_panels
from tgmm.figures.metric_text import metric_text


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """The metric against d, a panel for each K, every method side by side."""
    return draw_metric_panels(summary, settings, "d")


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    name = metric_text(settings["metric"]).name
    return (
        f"{name[0].upper()}{name[1:]} against the dimension d, a panel for each number of components K, "
        f"on the task set '{settings['taskset']}': mean over tasks with a 95 % bootstrap interval."
    )
