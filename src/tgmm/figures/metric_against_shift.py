"""Kind ``metric-against-shift``: how a metric changes with the size of a shift between training and test (RQ2)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tgmm.figures.metric_panels import draw_metric_panels
from tgmm.figures.metric_text import metric_text
from tgmm.figures.shift_text import shift_text


def draw(summary: pd.DataFrame, settings: dict, histories: dict[str, pd.DataFrame]) -> Figure:
    """The metric against the shift's value, a panel for each K, every method side by side."""
    return draw_metric_panels(summary, settings, "shift_value")


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    name = metric_text(settings["metric"]).name
    kind = f" ({shift_text(settings['shift']).name})" if "shift" in settings else ""
    return (
        f"{name[0].upper()}{name[1:]} against the size of the shift{kind}, a panel for each number of components K, "
        f"on the task set '{settings['taskset']}': mean over tasks with a 95 % bootstrap interval."
    )
