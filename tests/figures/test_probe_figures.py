"""Figures of the probes: eight panels a family, and one task's points and paths of means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_checks import drawn, overlapping, smallest_font, texts, titles
from matplotlib.colors import to_hex, to_rgb

from synthetic_scores import probe_table
from tgmm.errors import UserError
from tgmm.figures import style
from tgmm.figures.probes import blend, caption_probe_picture, caption_probes
from tgmm.figures.style import SERIES

FAMILIES = ["isotropic-d2-n128-components", "isotropic-d8-n128-components"]


def picture(n_components: int = 3, n_points: int = 12, steps: int = 4, blocks: int = 3) -> pd.DataFrame:
    """A picture's data in the format of the real one. The numbers mean nothing."""
    generator = np.random.default_rng(1)
    shares = generator.dirichlet(np.ones(n_components), size=(2, n_points))
    places = generator.normal(size=(n_points, 2))
    rows = [
        {"part": "point", "item": item, "component": k, "x": places[item, 0], "y": places[item, 1],
         "responsibility": shares[0, item, k], "attention": shares[1, item, k]}
        for item in range(n_points) for k in range(n_components)
    ]  # fmt: skip
    rows += [
        {"part": part, "item": item, "component": k, "x": k + 0.1 * item, "y": -k + 0.1 * item}
        for part, items in (("truth", [0]), ("em", range(steps)), ("network", range(1, blocks + 1)))
        for item in items for k in range(n_components)
    ]  # fmt: skip
    common = {"scale": "laptop", "family": FAMILIES[0], "seed": 2505, "d": 2, "K": n_components, "N": n_points}
    return pd.DataFrame(rows).assign(task_id=7, l2_error=0.0512, block=blocks - 1, head=1, **common)


# --- probes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables():
    return {table["family"].iloc[0]: table for table in (probe_table(2), probe_table(8))}


@pytest.fixture(scope="module")
def figure(tables):
    return drawn("probes", pd.concat(tables.values()), {"families": FAMILIES})


def rows_of(table: pd.DataFrame, quantity: str, variant: str, count: int) -> pd.DataFrame:
    return table[(table["quantity"] == quantity) & (table["variant"] == variant) & (table["K"] == count)]


@pytest.mark.parametrize(
    ("panel", "quantity", "variant", "statistic"),
    [
        (0, "probe_means_r2", "trained", "mean"),
        (1, "probe_weights_r2", "untrained", "mean"),
        (2, "l2_error", "network", "mean"),
        (3, "l2_error", "em", "median"),
        (4, "scatter_correlation", "trained", "mean"),
        (5, "gather_correlation", "trained", "mean"),
        (6, "update_cosine", "network", "mean"),
    ],
)
def test_a_panel_shows_its_quantity_for_each_k(figure, tables, panel, quantity, variant, statistic):
    for family, ax in zip(FAMILIES, (figure.axes[panel], figure.axes[8 + panel]), strict=True):
        for color, count in zip(SERIES, (2, 3, 4, 5), strict=False):
            rows = rows_of(tables[family], quantity, variant, count)
            rows = rows[rows["reference"] != "em beside truth"].sort_values("layer")
            lines = [line for line in ax.lines if to_hex(line.get_color()) == color]
            assert any(
                len(line.get_xdata()) == len(rows)
                and np.allclose(line.get_xdata(), rows["layer"])
                and np.allclose(line.get_ydata(), rows[statistic])
                for line in lines
            )


def test_every_family_is_named_and_one_may_be_shown_alone(figure, tables):
    assert "isotropic, d = 2, N = 128" in texts(figure)
    assert "isotropic, d = 8, N = 128" in texts(figure)
    assert "scale laptop · 256 tasks for each K · seed 2505" in texts(figure)
    one = drawn("probes", pd.DataFrame(), {"families": FAMILIES[1:]}, tables)
    assert len(one.axes) == 8
    assert "d = 2," not in texts(one)


def test_texts_are_readable_and_apart(figure):
    assert overlapping(figure) == []
    assert smallest_font(figure) >= style.SMALL


def test_families_without_measurements_are_refused_and_untrained_ones_named(tables):
    with pytest.raises(UserError, match="for family 'isotropic-d9"):
        drawn("probes", probe_table(2), {"families": ["isotropic-d9-n128-components"]})
    part = drawn("probes", probe_table(2), {"families": FAMILIES[:1], "untrained": FAMILIES[1:]}, tables)
    assert f"n/a, not trained at this scale: {FAMILIES[1]}" in texts(part)


# --- probe-picture -------------------------------------------------------------------------------------------------


def test_the_picture_shows_points_by_share_and_the_paths_of_the_means():
    rows = picture()
    figure = drawn("probe-picture", rows, {"families": FAMILIES[:1]})
    assert titles(figure)[1] == "points: attention, block 2, head 2 · means: network"
    points = rows[rows["part"] == "point"]
    for ax, part, share, steps in zip(
        figure.axes, ("em", "network"), ("responsibility", "attention"), (4, 3), strict=True
    ):
        paths = [line for line in ax.lines if line.get_gid() == part]
        assert [len(line.get_xdata()) for line in paths] == [steps] * 3
        means = rows[(rows["part"] == part) & (rows["component"] == 1)]
        np.testing.assert_allclose(paths[1].get_xydata(), means[["x", "y"]])
        scatter = next(found for found in ax.collections if found.get_gid() == "points")
        np.testing.assert_allclose(scatter.get_offsets(), points[points["component"] == 0][["x", "y"]])
        shares = points.pivot(index="item", columns="component", values=share).to_numpy()
        np.testing.assert_allclose(scatter.get_facecolors()[:, :3], blend(shares))
    assert "task 7, the one of median error (0.051) · 3 EM steps" in texts(figure)
    assert overlapping(figure) == []


def test_colours_are_mixed_by_shares():
    np.testing.assert_allclose(blend(np.eye(3)), [to_rgb(color) for color in SERIES[:3]])
    np.testing.assert_allclose(blend(np.full((1, 2), 0.5))[0], np.mean([to_rgb(c) for c in SERIES[:2]], axis=0))


def test_a_picture_of_too_many_components_is_refused():
    with pytest.raises(UserError, match="colours for K up to 5"):
        drawn("probe-picture", picture(n_components=6), {})


@pytest.mark.parametrize("caption", [caption_probes, caption_probe_picture])
def test_captions_presume_no_outcome(caption):
    text = caption({}).lower()
    assert not any(word in text for word in ("close", "agree", "better", "recovers", "does em", "match"))
