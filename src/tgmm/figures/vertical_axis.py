"""The vertical axis of a metric: its scale, its limits, and room for the strip on top."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tgmm.figures.metric_text import MetricText

LINEAR_THRESHOLD = 1e-2
BELOW, ABOVE, SMALLEST_SPAN = 0.06, 0.18, 1e-6
STRIP_INCHES, TALL = 0.153, 1.7
FEW_DECADES = 30.0  # below this ratio of the limits there are labels between powers of ten


def strip_share(panel: Axes) -> float:
    """The share of a panel's height that the strip for missing values takes."""
    return STRIP_INCHES / inches(panel)[1]


def inches(panel: Axes) -> tuple[float, float]:
    """Width and height of a panel."""
    box, size = panel.get_position(), panel.figure.get_size_inches()
    return box.width * size[0], box.height * size[1]


def scale_axis(panel: Axes, cells: pd.DataFrame, text: MetricText, *, medians: bool = True) -> None:
    """Set the scale and limits that hold means and intervals, and medians where they are drawn."""
    values = _finite(cells, ["mean", "low", "high"])
    values = values[values > 0] if text.scale == "log" else values
    if len(values) == 0:
        _say_nothing_is_there(panel)
        return
    _set_scale(panel, text)
    limits = _limits(panel, values)
    middle = _finite(cells, ["median"])
    middle = middle[middle > 0] if text.scale == "log" else middle
    if medians and len(middle) and not limits[0] <= middle.min() <= middle.max() <= limits[1]:
        limits = _limits(panel, np.append(values, middle))
    panel.set_ylim(*limits)
    if text.scale == "log" and limits[1] / limits[0] < FEW_DECADES:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _finite(cells: pd.DataFrame, columns: list[str]) -> np.ndarray:
    values = cells[columns].to_numpy(float)
    return values[np.isfinite(values)]


def _set_scale(panel: Axes, text: MetricText) -> None:
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    low = inches(panel)[1] < TALL - 0.01
    if text.scale == "log":
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(plain)
        panel.yaxis.set_minor_formatter(NullFormatter())
    elif text.scale == "symlog":
        panel.set_yscale("symlog", linthresh=LINEAR_THRESHOLD, linscale=0.6)
        panel.yaxis.set_major_formatter(plain)
    elif low:
        panel.yaxis.set_major_locator(MaxNLocator(4))


def _limits(panel: Axes, values: np.ndarray) -> tuple[float, float]:
    """Limits around the values, in the axis' own scale, with room for the strip."""
    above = ABOVE * max(1.0, strip_share(panel) / 0.09) ** 1.5
    transform = panel.yaxis.get_transform()
    low, high = transform.transform(np.array([values.min(), values.max()]))
    span = max(high - low, 0.3 if panel.get_yscale() == "log" else SMALLEST_SPAN)
    return tuple(transform.inverted().transform(np.array([low - BELOW * span, high + above * span])))


def _say_nothing_is_there(panel: Axes) -> None:
    panel.set_ylim(0, 1)
    panel.set_yticks([])


def lifted(panel: Axes, values: pd.Series) -> np.ndarray:
    """The values, those that a logarithmic axis has no place for (zero) at its lower edge."""
    values = values.to_numpy(float)
    return np.where(values > 0, values, panel.get_ylim()[0]) if panel.get_yscale() == "log" else values
