"""Figures of the theorems, drawn from invented measurements."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_checks import drawn, overlapping, smallest_font, texts, titles
from matplotlib.colors import to_hex

from synthetic_scores import write_theory
from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.style import BLUE, VERMILION


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = write_theory(tmp_path_factory.mktemp("theory"))
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ("em", "power")}


@pytest.fixture(scope="module")
def figures(tables):
    return {name: drawn(f"theorem-{name}", table, {}) for name, table in tables.items()}


def curves(ax) -> list:
    return [line for line in ax.lines if line.get_gid() is None]


def test_differences_from_em_stand_over_width_and_steps(figures, tables):
    figure, table = figures["em"], tables["em"]
    assert titles(figure) == [
        "separated, L = 20", "overlapping, L = 20", "separated, W = 1024", "overlapping, W = 1024"
    ]  # fmt: skip
    learnt = table[~table["exact"] & (table["mixtures"] == "separated") & (table["d"] == 2)]
    by_width, by_steps = learnt[learnt["L"] == 20].sort_values("W"), learnt[learnt["W"] == 1024].sort_values("L")
    for ax, rows, axis in ((figure.axes[0], by_width, "W"), (figure.axes[2], by_steps, "L")):
        assert len(curves(ax)) == 2  # a line for each d
        np.testing.assert_allclose(curves(ax)[0].get_xdata(), rows[axis])
        np.testing.assert_allclose(curves(ax)[0].get_ydata(), rows["largest"])
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_guides_show_the_level_and_the_slope(figures):
    lines = {line.get_gid(): line for line in figures["em"].axes[0].lines}
    np.testing.assert_allclose(lines["level"].get_ydata(), 1e-4)
    (x0, x1), (y0, y1) = lines["slope"].get_data()
    assert np.log(y1 / y0) / np.log(x1 / x0) == pytest.approx(-2.0)


def test_the_footer_gives_the_exact_difference(figures):
    assert "with exact scalar maps the difference is at most 6e−15" in texts(figures["em"])


def test_measurements_without_a_network_are_refused(tables):
    with pytest.raises(UserError, match="no row for a network of ReLU perceptrons"):
        drawn("theorem-em", tables["em"].assign(exact=True), {})


def test_power_iterations_stand_beside_the_networks_blocks(figures, tables):
    left, right = figures["power"].axes
    rows = tables["power"][tables["power"]["measure"] == "iteration"]
    for line, method in zip(left.lines, ("network", "network without offset"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), rows[rows["method"] == method].sort_values("d")["largest"])
    assert to_hex(left.lines[1].get_color()) == VERMILION
    recovery = tables["power"][(tables["power"]["measure"] == "recovery") & (tables["power"]["d"] == 2)]
    classical, network = (recovery[recovery["method"] == name]["median"] for name in ("classical", "network"))
    np.testing.assert_allclose(right.lines[0].get_ydata(), classical)
    np.testing.assert_allclose(right.lines[1].get_ydata(), network)
    assert right.lines[1].get_linestyle() == "None"
    assert to_hex(right.lines[0].get_color()) == BLUE


@pytest.mark.parametrize("name", ["em", "power"])
def test_texts_are_readable_and_apart(figures, name):
    assert overlapping(figures[name]) == []
    assert smallest_font(figures[name]) >= style.SMALL
