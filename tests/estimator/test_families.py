"""The study's own families behind the estimator."""

import numpy as np
import pytest
import torch

from tgmm import TransformerGaussianMixture
from tgmm.models.checkpoint import save_checkpoint
from tgmm.models.settings import ComponentsNetwork


@pytest.fixture(params=["isotropic", "anisotropic"])
def family(request, tmp_path, monkeypatch):
    torch.manual_seed(0)
    settings = ComponentsNetwork(dimension=2, n_components=(2, 3), covariance=request.param, width=16, blocks=1)
    network = settings.build()
    name = f"{request.param}-d2-n64"
    save_checkpoint(tmp_path / "results" / "laptop" / "models" / name, network, {"family": name})
    monkeypatch.chdir(tmp_path)
    return name


def points():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 2)) + 9.0 * rng.integers(0, 2, 200)[:, None]


def test_a_family_is_found_by_name_and_by_folder_and_refined(family):
    X = points()
    own = TransformerGaussianMixture(2, model=family, refine=0).fit(X)
    model = TransformerGaussianMixture(2, model=family).fit(X)
    assert model.score(X) > own.score(X)
    assert own.n_iter_ == 0
    assert model.converged_
    assert model.lower_bound_ == pytest.approx(model.score(X), abs=1e-9)
    if family.startswith("isotropic"):
        assert model.covariance_type_ == "spherical"
        np.testing.assert_array_equal(model.covariances_, 1.0)
    else:
        assert model.covariances_.shape == (2, 2)
    folder = TransformerGaussianMixture(2, model=f"results/laptop/models/{family}").fit(X)
    np.testing.assert_array_equal(folder.means_, model.means_)


def test_what_a_family_does_not_serve_is_refused(family):
    X = points()
    for n_components, data, match in (
        (4, X, "not trained for K=4"),
        (2, np.c_[X, X], "the points have d=4"),
        ([2, 3], X, "takes one n_components"),
        (2, np.where(X > 9, np.nan, X), "takes no missing values"),
    ):
        with pytest.raises(ValueError, match=match):
            TransformerGaussianMixture(n_components, model=family).fit(data)
    with pytest.raises(ValueError, match="dvc pull"):
        TransformerGaussianMixture(2, model="isotropic-d3").fit(X)
