"""The layout of figures: sizes in inches, legends that read row by row and fit the page, labels of logarithmic axes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D

from tgmm.figures import style
from tgmm.figures.layout import (
    axes_width,
    grid_layout,
    in_columns,
    label_log_axis,
    legend_of,
    method_legend,
    stacked_layout,
)
from tgmm.figures.style import STYLES


def boxes(layout) -> np.ndarray:
    """Left, bottom, width and height of the axes in inches, (n, 4)."""
    scale = np.tile(layout.figure.get_size_inches(), 2)
    return np.array([ax.get_position().bounds for ax in layout.axes]) * scale


def handles(*labels: str) -> list[Line2D]:
    return [Line2D([], [], label=label) for label in labels]


def test_a_grid_has_axes_of_the_wanted_size_in_reading_order():
    layout = grid_layout(5, 3, 1.5, legend_rows=2, footer_rows=3, gap_across=0.25, gap_down=0.5)
    found = boxes(layout)
    assert len(layout.axes) == 5
    assert sum(ax.get_visible() for ax in layout.figure.axes) == 5
    np.testing.assert_allclose(found[:, 2], axes_width(3, gap=0.25))
    np.testing.assert_allclose(found[:, 3], 1.5)
    np.testing.assert_allclose(np.diff(found[:3, 0]), axes_width(3, gap=0.25) + 0.25)
    assert found[0, 1] - found[3, 1] == pytest.approx(1.5 + 0.5)
    assert found[3, 1] == pytest.approx(layout.below)
    assert layout.figure.get_size_inches()[0] == style.WIDTH


def test_rows_of_different_heights_are_stacked():
    layout = stacked_layout([2.0, 1.0, 0.5], [0.4, 0.2], 2, legend_rows=1, footer_rows=1)
    found = boxes(layout).reshape(3, 2, 4)
    np.testing.assert_allclose(found[:, :, 3], [[2.0] * 2, [1.0] * 2, [0.5] * 2])
    np.testing.assert_allclose(found[0, :, 1] - found[1, :, 1], 1.0 + 0.4)
    np.testing.assert_allclose(found[1, :, 1] - found[2, :, 1], 0.5 + 0.2)
    np.testing.assert_allclose(found[2, :, 1], layout.below)


def test_legends_read_row_by_row():
    ordered = in_columns(handles(*"abcdefg"), 3)
    assert "".join(handle.get_label() for handle in ordered) == "adgbecf"  # columns of rows abc, def, g


def test_a_legend_takes_as_many_columns_as_the_page_holds():
    assert legend_of(handles("a", "b", "c", "d", "e")).columns == 4
    assert legend_of(handles("a", "b", "c"), most=2).rows == 2
    assert legend_of(handles(*["a rather long name of a method"] * 4)).columns == 3
    assert legend_of(handles("x" * 200, "y" * 200)).columns == 1


def test_the_legend_of_all_methods_is_on_the_page():
    layout = grid_layout(1, 1, 1.0, legend_rows=0, footer_rows=0)
    with style.applied():
        layout.add_legend(method_legend(list(STYLES)))
        box = layout.figure.legends[0].get_window_extent(FigureCanvasAgg(layout.figure).get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= layout.figure.bbox.x1


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((0.09, 1.2), ["0.1", "0.2", "0.5", "1"]),
        ((0.05, 20.0), ["0.1", "0.3", "1", "3", "10"]),
        ((0.005, 200.0), ["0.01", "0.1", "1", "10", "100"]),
    ],
)
def test_logarithmic_axes_are_labelled_in_plain_numbers(limits, labels):
    ax = grid_layout(1, 1, 3.0, legend_rows=0, footer_rows=0).axes[0]
    ax.set(yscale="log", ylim=limits)
    label_log_axis(ax.yaxis, limits[1] / limits[0])
    ticks = [tick for tick in ax.get_yticks() if limits[0] <= tick <= limits[1]]
    assert [ax.yaxis.get_major_formatter()(tick) for tick in ticks] == labels
