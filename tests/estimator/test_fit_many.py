"""Many fits at once are the fits one by one, and a data set that cannot be fitted fails alone."""

import warnings

import numpy as np
import pytest
from estimator_inputs import SHAPES, make_blobs

from tgmm import TransformerGaussianMixture, fit_many


def single(X, K, shape, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TransformerGaussianMixture(K, covariance_type=shape, n_views=1, **options).fit(X)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prior", ["shrinkage", None])
def test_the_answers_are_those_of_single_fits(shape, prior):
    sets = [1e3 * i + 10.0**i * make_blobs(seed=i, N=60 + 7 * i, d=3, distance=9.0)[0] for i in range(12)]
    many = fit_many(sets, 3, covariance_type=shape, prior=prior)
    assert len(many) == 12
    assert not many.failed.any()
    for i, X in enumerate(sets):
        one = single(X, 3, shape, prior=prior)
        assert many.lower_bound[i] == pytest.approx(one.lower_bound_, abs=1e-6)
        assert many.model(i).score(X) == pytest.approx(one.score(X), abs=1e-6)
        assert many.n_iter[i] == one.n_iter_
        assert many.covariances[i].shape == one.covariances_.shape


@pytest.mark.parametrize("refine", [None, 0])
def test_the_best_of_several_views_is_that_of_single_fits(refine):
    sets = [make_blobs(seed=i, N=60 + i, d=4, distance=4.0)[0] for i in range(8)]
    options = {"covariance_type": "full", "refine": refine}
    many, plain = (fit_many(sets, 3, n_views=n_views, **options) for n_views in (4, 1))
    for i, X in enumerate(sets):
        one = TransformerGaussianMixture(3, n_views=4, **options).fit(X)
        assert many.lower_bound[i] == pytest.approx(one.lower_bound_, abs=1e-6)
        assert many.n_iter[i] == one.n_iter_
        assert many.lower_bound[i] >= plain.lower_bound[i] - 1e-3


def test_an_array_of_data_sets_and_of_integers():
    sets = np.stack([make_blobs(seed=i, N=80)[0] * 100 for i in range(5)]).astype(np.int32)
    many = fit_many(sets, 3, n_jobs=2)
    for i in range(5):
        assert many.lower_bound[i] == pytest.approx(single(sets[i], 3, "full").lower_bound_, abs=1e-6)


def test_the_networks_own_estimate():
    sets = np.stack([make_blobs(seed=i, N=80)[0] for i in range(3)])
    many = fit_many(sets, 3, refine=0)
    for i in range(3):
        assert many.n_iter[i] == 0
        assert many.lower_bound[i] == pytest.approx(single(sets[i], 3, "full", refine=0).lower_bound_, abs=1e-6)


def test_what_a_batch_cannot_hold_is_fitted_one_by_one():
    gaps = make_blobs(seed=1)[0]
    gaps[::7, 0] = np.nan
    constant = np.c_[make_blobs(seed=2)[0][:, 0], np.ones(300)]
    outlier = make_blobs(seed=3)[0]
    outlier[0] = 1e7
    long = make_blobs(seed=4, N=3000)[0]
    sets = [gaps, constant, outlier, long, make_blobs(seed=5)[0]]
    many = fit_many(sets, 2, random_state=0)
    assert not many.failed.any()
    for i, X in enumerate(sets):
        one = single(X, 2, "full", random_state=0)
        assert many.lower_bound[i] == pytest.approx(one.lower_bound_, abs=1e-6)


def test_failures_have_reasons_and_do_not_spread():
    good = make_blobs()[0]
    bad = good.copy()
    bad[4, 1] = np.inf
    many = fit_many([good, good[:2], bad, good * 1e200], 3)
    assert many.failed.tolist() == [False, True, True, True]
    assert many.reason[0] == ""
    assert "n_components = 3, n_samples = 2" in many.reason[1]
    assert "row 4, column 1" in many.reason[2]
    assert "divide the data" in many.reason[3]
    assert np.isnan(many.means[1:]).all()
    frame = many.to_frame()
    assert list(frame["failed"]) == many.failed.tolist()
    assert frame["mean_0_0"][0] == many.means[0, 0, 0]
    with pytest.raises(ValueError, match="data set 2 was not fitted: infinite value"):
        many.model(2)


@pytest.mark.parametrize(
    ("data", "options", "match"),
    [
        ([], {}, "no data set"),
        (np.zeros((4, 3)), {}, "not of shape"),
        ([np.zeros((4, 3)), np.zeros((4, 2))], {}, "data set 1 has 2 columns where data set 0 has 3"),
        ([np.array([["a"], ["b"]])], {}, "data set 0 must be"),
        ([np.zeros((4, 3))], {"covariance_type": "auto"}, "one covariance_type"),
        ([np.zeros((4, 3))], {"tol": -1}, "'tol' parameter"),
    ],
)
def test_what_cannot_be_is_refused(data, options, match):
    with pytest.raises(ValueError, match=match):
        fit_many(data, 2, **options)


def test_more_components_than_the_network_knows():
    sets = [make_blobs(seed=i, N=400, d=6, distance=16.0)[0] for i in range(2)]
    many = fit_many(sets, 11, covariance_type="spherical", random_state=0)
    assert not many.failed.any()
    assert many.means.shape == (2, 11, 6)
