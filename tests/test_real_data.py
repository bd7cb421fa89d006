"""Well-known data sets: what is measured agrees with scikit-learn, and with what is drawn and told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from workflow_project import ROOT

from tgmm import real_data
from tgmm.answers import real_data as told
from tgmm.artefacts import draw_figure, write_table
from tgmm.errors import UserError
from tgmm.figures.real_data import draw_real_data_fits
from tgmm.tables.real_data import METHODS, real_data_table
from tgmm.tables.render import to_markdown

FAITHFUL = ROOT / "examples/data/faithful.csv"


@pytest.fixture(scope="module")
def measured() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two repeats on the two small sets, one of them without labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_data, "SETS", {name: real_data.SETS[name] for name in ("iris", "old-faithful")})
        return real_data.measure_real_data(FAITHFUL, 2, 7, report=lambda line: None)


def test_a_row_is_what_scikit_learn_gives(measured):
    rows = measured[0].set_index(["data", "method"])
    X, labels = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    fits = [GaussianMixture(3, covariance_type="diag", n_init=10, random_state=seed).fit(X) for seed in (7, 8)]
    indices = [adjusted_rand_score(labels, fit.predict(X)) for fit in fits]
    row = rows.loc[("iris", "gmm-10")]
    assert row["rand_index"] == pytest.approx(np.mean(indices))
    assert (row["rand_index_low"], row["rand_index_high"]) == pytest.approx((min(indices), max(indices)))
    assert row["held_out_low"] <= row["held_out"] <= row["held_out_high"]
    assert row["held_out"] < max(fit.score(X) for fit in fits), "rows that were left out are not those that were seen"


def test_what_a_method_does_not_have_is_missing(measured):
    rows = measured[0].set_index(["data", "method"])
    assert pd.isna(rows.loc[("iris", "k-means"), "held_out"])
    assert rows.loc["old-faithful"]["rand_index"].isna().all()
    assert "labels" not in rows.loc["old-faithful"].index
    assert rows.loc["iris"].index.tolist() == [*real_data.estimators(3, 0), "labels"]
    assert set(METHODS) == {*real_data.estimators(3, 0), "labels"}


def test_the_network_is_no_worse_than_one_start_on_these(measured):
    """Both have well-separated groups; a network that is broken or absent would be far off."""
    held_out = measured[0].pivot(index="data", columns="method", values="held_out")
    assert (held_out["network-em"] > held_out["gmm"] - 0.05).all()


def test_ellipses_are_projections_of_the_components(measured):
    picture = measured[1]
    assert picture.groupby(["data", "part"]).size().to_dict() == {
        ("iris", "point"): 150, ("iris", "ellipse"): 3, ("old-faithful", "point"): 272, ("old-faithful", "ellipse"): 2,
    }  # fmt: skip
    X = StandardScaler().fit_transform(load_iris().data)
    model = real_data.estimators(3, 7)["network-em"].fit(X)
    axes = PCA(2).fit(X)
    for row in picture[(picture["data"] == "iris") & (picture["part"] == "ellipse")].itertuples():
        mean, spread = model.means_[row.component], np.sqrt(model.covariances_[row.component])
        drawn = axes.transform(np.random.default_rng(0).normal(mean, spread, (50_000, 4)))
        signs = np.sign(drawn.mean(axis=0)) * np.sign([row.x, row.y])  # an axis has no direction
        np.testing.assert_allclose(drawn.mean(axis=0) * signs, [row.x, row.y], atol=0.02)
        np.testing.assert_allclose(drawn.var(axis=0), [row.xx, row.yy], rtol=0.05)
        assert np.cov(drawn.T)[0, 1] * signs.prod() == pytest.approx(row.xy, abs=0.01)


def test_the_figure_has_a_panel_for_each_set(measured):
    figure = draw_real_data_fits(measured[0], {}, {"picture": measured[1]})
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes if ax.get_visible()]
    assert titles == ["Iris: d = 4, K = 3", "Old Faithful: d = 2, K = 2"]
    assert [len(ax.patches) for ax in figure.axes[:2]] == [6, 4]


def test_table_and_answer_say_what_was_measured(measured):
    rows = measured[0]
    text = to_markdown(real_data_table(rows, {}))
    for row in rows.dropna(subset="held_out").itertuples():
        assert f"{row.held_out:.3f}" in text
    own = rows.set_index(["data", "method"])["held_out"]
    assert f"Iris {own['iris', 'network-em']:.2f} and {own['iris', 'gmm-10']:.2f}, " in told(rows, ROOT)


def test_the_files_of_the_command_are_what_figure_and_table_read(measured, tmp_path):
    for frame, name in zip(measured, ("fits", "picture"), strict=True):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    tables = {"picture": tmp_path / "picture.csv"}
    paths = draw_figure({"kind": "real-data-fits", "id": "fig-x"}, tmp_path / "fits.csv", tmp_path / "fig", tables)
    paths += write_table({"kind": "real-data-table", "id": "tab-x"}, tmp_path / "fits.csv", tmp_path / "tab")
    assert all(path.stat().st_size > 500 for path in paths)


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", ""])
def test_another_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "faithful.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"faithful\.csv: not Old Faithful's columns"):
        real_data.read_faithful(path)
