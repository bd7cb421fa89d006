"""What real users ran into: each is a kind of input, of which the files in cases/ are one member."""

import warnings

import numpy as np
import pytest
from estimator_inputs import SHAPES, assert_finite, load_case, load_labels, make_blobs, same_partition
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from tgmm import TransformerGaussianMixture


def fitted(X, K=3, shape="full", **options):
    """A fit with all warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return TransformerGaussianMixture(K, covariance_type=shape, **options).fit(X)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("case", "factor", "shift"), [("m01_far_from_origin", 1.0, 1e8), ("m03_tiny_units", 1e-7, 0.0)]
)
def test_files_far_away_and_in_tiny_units(case, factor, shift, shape):
    blobs, X = load_case("blobs"), load_case(case)
    plain, model = fitted(blobs, shape=shape), fitted(X, shape=shape)
    assert same_partition(model.predict(X), load_labels(case))
    np.testing.assert_allclose(model.means_, shift + factor * plain.means_, atol=1e-5 * factor, rtol=1e-12)
    np.testing.assert_allclose(model.covariances_, factor**2 * plain.covariances_, rtol=1e-4, atol=1e-5 * factor**2)
    assert model.score(X) == pytest.approx(plain.score(blobs) - 2 * np.log(factor), abs=1e-5)


@given(
    log_unit=st.floats(-140, 140), shift=st.floats(-1e6, 1e6), seed=st.integers(0, 20), shape=st.sampled_from(SHAPES)
)
def test_fits_commute_with_shift_and_unit(log_unit, shift, seed, shape):
    X, _ = make_blobs(seed=seed, N=120)
    unit = 10.0**log_unit
    plain, moved = fitted(X, shape=shape), fitted((X + shift) * unit, shape=shape)
    np.testing.assert_allclose(moved.predict_proba((X + shift) * unit), plain.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(moved.means_ / unit, plain.means_ + shift, atol=1e-4)
    assert moved.lower_bound_ + 2 * np.log(unit) == pytest.approx(plain.lower_bound_, abs=1e-4)


@given(seed=st.integers(0, 20), shape=st.sampled_from(("full", "tied", "diag")))
def test_fits_commute_with_units_of_single_columns(seed, shape):
    X, _ = make_blobs(seed=seed, N=120, d=3)
    units = 10.0 ** np.random.default_rng(seed).uniform(-9, 9, 3)
    plain, moved = fitted(X, shape=shape), fitted(X * units, shape=shape)
    np.testing.assert_allclose(moved.predict_proba(X * units), plain.predict_proba(X), atol=1e-4)


@given(seed=st.integers(0, 20), shape=st.sampled_from(SHAPES))
def test_fits_commute_with_the_order_of_columns_and_rows(seed, shape):
    X, _ = make_blobs(seed=seed, N=120, d=4)
    columns, rows = np.random.default_rng(seed).permutation(4), np.random.default_rng(seed).permutation(120)
    plain, turned = fitted(X, shape=shape), fitted(X[rows][:, columns], shape=shape)
    np.testing.assert_allclose(turned.score_samples(X[:, columns]), plain.score_samples(X), atol=1e-3)


def test_two_sites_far_apart_in_single_precision():
    X = load_case("m02_two_sites_float32")
    X = X.reshape(-1, 1)
    assert X.dtype == np.float32
    for shape in SHAPES:
        model = fitted(X, 2, shape)
        assert same_partition(model.predict(X), X[:, 0] > 100)
        assert np.all(model.covariances_ > 0)
        assert np.all(np.sqrt(model.covariances_) < 100)


@pytest.mark.parametrize("shape", ["diag", "full"])
def test_one_wide_axis_does_not_hide_clusters(shape):
    X, labels = load_case("m05_one_wide_axis"), load_labels("m05_one_wide_axis")
    model = fitted(X, 2, shape)
    assert adjusted_rand_score(labels, model.predict(X)) > 0.97
    np.testing.assert_array_equal(model.predict(X), fitted(X / [1000, 1], 2, shape).predict(X / [1000, 1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("X", [load_case("m09_four_distinct_points"), np.ones((20, 2)), np.repeat(np.eye(3), 5, 0)])
def test_fewer_distinct_points_than_components(X, shape):
    with pytest.warns(ConvergenceWarning, match=r"\d distinct points are fewer than n_components = 6"):
        model = TransformerGaussianMixture(6, covariance_type=shape).fit(X)
    assert_finite(model, X)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("constant", [7.5, 0.0, 0.1, 1e9])
def test_constant_column(shape, constant):
    X, labels = load_case("m10_constant_column"), load_labels("m10_constant_column")
    X = np.c_[X[:, :2], np.full(len(X), constant)]
    model = fitted(X, shape=shape)
    assert_finite(model, X)
    np.testing.assert_allclose(model.means_[:, 2], constant, rtol=1e-12)
    assert same_partition(model.predict(X), labels)
    if shape == "diag":
        assert np.all(model.covariances_[:, 2] < 1e-3)


def test_fewer_rows_than_components_names_both_numbers():
    with pytest.raises(ValueError, match="n_components = 5, n_samples = 3"):
        TransformerGaussianMixture(5).fit(load_case("m11_three_rows"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("d", [8, 30])
def test_few_rows_of_many_columns(shape, d):
    X = load_case("m12_twelve_rows_eight_columns") if d == 8 else np.random.default_rng(0).normal(size=(12, d))
    model = fitted(X, 3, shape)
    assert_finite(model, X)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_a_lone_outlier(shape, seed, factor):
    X = load_case("m12_one_outlier")
    X[np.abs(X).max(1) > 100] *= factor
    model = fitted(X, 2, shape, random_state=seed)
    assert_finite(model, X)


def test_missing_values_are_fitted_and_infinite_ones_refused_by_place():
    X = load_case("m15_empty_cells")
    assert np.isnan(X).sum() == 5
    assert_finite(fitted(X), X)
    X = load_case("m15_infinite")
    row, column = np.argwhere(np.isinf(X))[0]
    with pytest.raises(ValueError, match=f"row {row}, column {column}"):
        TransformerGaussianMixture(3).fit(X)


def test_integers_are_the_same_values():
    for name in ("m17_pixels_uint8", "m17_integers_only"):
        X = load_case(name)
        X = X.astype(np.uint8 if "uint8" in name else np.int64)
        for shape in SHAPES:
            own, same = fitted(X, 3, shape), fitted(X.astype(float), 3, shape)
            for method in ("score_samples", "predict", "predict_proba"):
                np.testing.assert_array_equal(getattr(own, method)(X), getattr(same, method)(X.astype(float)))
            assert own.bic(X) == same.bic(X.astype(float))


@pytest.mark.parametrize("shape", SHAPES)
def test_one_dimension(shape):
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(0, 1, 100), rng.normal(9, 2, 100)][:, None]
    model = fitted(X, 2, shape)
    assert np.sort(model.means_[:, 0]) == pytest.approx([0, 9], abs=0.6)


@pytest.mark.parametrize("shape", ["full", "tied"])
@pytest.mark.parametrize("noise", [None, 1e-8, 0.0])
def test_nearly_collinear_columns(shape, noise):
    X = load_case("m20_nearly_collinear")
    if noise is not None:
        X[:, -1] = X[:, :-1].sum(1) + noise * np.random.default_rng(0).normal(size=len(X))
    model = fitted(X, 2, shape)
    assert_finite(model, X)
    every = model.covariances_ if shape == "full" else [model.covariances_] * 2
    parts = [
        np.log(w) + multivariate_normal(m, c, allow_singular=True).logpdf(X)
        for w, m, c in zip(model.weights_, model.means_, every, strict=True)
    ]
    np.testing.assert_allclose(model.score_samples(X), np.logaddexp(*parts), atol=1e-3)


def test_magnitudes_beyond_double_precision_are_refused_and_large_ones_fitted():
    X = load_case("m28_overflow_double")
    with pytest.raises(ValueError, match="divide the data by a constant"):
        TransformerGaussianMixture(3).fit(X)
    with pytest.raises(ValueError, match="multiply the data by a constant"):
        TransformerGaussianMixture(3).fit(X / 1e200 * 1e-200)
    assert same_partition(fitted(X / 1e60).predict(X / 1e60), load_labels("blobs"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", [10.0, -50.0])
def test_a_spike_of_equal_values(shape, place):
    X, labels = load_case("m29_spike_of_equal_values"), load_labels("m29_spike_of_equal_values")
    X = np.where(X == 10.0, place, X).reshape(len(X), -1)
    model = fitted(X, 2, shape)
    assert_finite(model, X)
    assert np.sort(model.weights_) == pytest.approx([10 / 110, 100 / 110], abs=0.01)
    assert same_partition(model.predict(X), labels)


def test_text_is_refused():
    with pytest.raises(ValueError, match="could not convert string to float"):
        TransformerGaussianMixture(2).fit(np.array([[1, "Ulm"], [2, "Graz"], [3, "Bonn"]], dtype=object))
