"""The estimator's interface: scikit-learn's rules, attributes, weights, warm starts and criteria."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from estimator_inputs import SHAPES, make_blobs, same_partition
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.utils.estimator_checks import parametrize_with_checks

from tgmm import TransformerGaussianMixture


@parametrize_with_checks(
    [TransformerGaussianMixture(), TransformerGaussianMixture(2, covariance_type="diag", prior=None)]
)
def test_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)


def test_importing_the_package_loads_neither_torch_nor_scikit_learn():
    code = "import sys, tgmm; print(tgmm.__version__); print({'torch', 'sklearn', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "set()"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import tgmm

    with pytest.raises(AttributeError, match="nothing_here"):
        tgmm.nothing_here  # noqa: B018
    assert "TransformerGaussianMixture" in dir(tgmm)


@pytest.mark.parametrize("shape", SHAPES)
def test_finds_separated_clusters_and_their_parameters(shape):
    X, labels = make_blobs()
    model = TransformerGaussianMixture(3, covariance_type=shape).fit(X)
    assert same_partition(model.predict(X), labels)
    best = GaussianMixture(3, covariance_type=shape, n_init=10, random_state=0).fit(X)
    assert model.score(X) > best.score(X) - 0.01
    assert model.covariances_.shape == best.covariances_.shape
    assert model.precisions_cholesky_.shape == best.precisions_cholesky_.shape
    assert model._n_parameters() == best._n_parameters()


@pytest.mark.parametrize("shape", SHAPES)
def test_without_prior_em_ends_at_the_maximum_that_scikit_learn_finds(shape):
    X, _ = make_blobs(seed=3, K=2)
    options = {"covariance_type": shape, "tol": 1e-8, "reg_covar": 1e-9}
    model = TransformerGaussianMixture(2, prior=None, **options).fit(X)
    best = GaussianMixture(2, max_iter=1000, random_state=0, **options).fit(X)
    order, other = np.argsort(model.means_[:, 0]), np.argsort(best.means_[:, 0])
    np.testing.assert_allclose(model.means_[order], best.means_[other], atol=1e-4)
    np.testing.assert_allclose(model.weights_[order], best.weights_[other], atol=1e-4)
    own, others = model.covariances_, best.covariances_
    np.testing.assert_allclose(*(own, others) if shape == "tied" else (own[order], others[other]), atol=1e-3)
    assert model.lower_bound_ == pytest.approx(best.lower_bound_, abs=1e-6)


def test_the_likelihood_rises_with_every_step_without_prior():
    X, _ = make_blobs(seed=4, K=4, distance=3.0)
    model = TransformerGaussianMixture(4, prior=None, tol=1e-6, reg_covar=0).fit(X)
    assert model.converged_
    assert len(model.lower_bounds_) == model.n_iter_ > 3
    assert np.all(np.diff(model.lower_bounds_) > -1e-9)
    assert model.lower_bound_ == model.lower_bounds_[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_usable_as_a_gaussian_mixture(shape):
    X, _ = make_blobs()
    model = TransformerGaussianMixture(3, covariance_type=shape).fit(X)
    other = model.to_sklearn()
    np.testing.assert_allclose(other.score_samples(X), model.score_samples(X), atol=1e-8)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    np.testing.assert_allclose([other.bic(X), other.aic(X)], [model.bic(X), model.aic(X)], rtol=1e-9)
    assert other.fit(X).converged_  # from these parameters


def test_refine_zero_is_the_networks_own_estimate():
    X, labels = make_blobs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = TransformerGaussianMixture(3, refine=0).fit(X)
    assert model.n_iter_ == 0
    assert model.lower_bound_ == pytest.approx(model.score(X), abs=1e-6)
    assert adjusted_rand_score(labels, model.predict(X)) > 0.9


def test_too_few_steps_are_warned_of():
    X, _ = make_blobs(K=4, distance=2.0)
    with pytest.warns(ConvergenceWarning, match="did not converge in 1 steps"):
        TransformerGaussianMixture(4, refine=1, tol=1e-9).fit(X)


def test_weights_are_repeated_rows_and_zero_leaves_a_row_out():
    X, _ = make_blobs(N=150)
    counts = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = TransformerGaussianMixture(3).fit(X, sample_weight=counts)
    repeated = TransformerGaussianMixture(3).fit(np.repeat(X, counts, axis=0))
    np.testing.assert_allclose(weighted.score_samples(X), repeated.score_samples(X), atol=1e-4)
    assert weighted.score(X, sample_weight=counts) == pytest.approx(
        repeated.score(np.repeat(X, counts, axis=0)), abs=1e-4
    )
    assert weighted.bic(X, counts) == pytest.approx(repeated.bic(np.repeat(X, counts, axis=0)), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_uniform_weights_of_any_size_change_little(scale):
    X, _ = make_blobs(N=150)
    plain = TransformerGaussianMixture(3).fit(X)
    scaled = TransformerGaussianMixture(3).fit(X, sample_weight=np.full(len(X), scale))
    assert scaled.score(X) == pytest.approx(plain.score(X), abs=0.01)


def test_weights_that_cannot_be_are_refused():
    X, _ = make_blobs(N=20)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        TransformerGaussianMixture(2).fit(X, sample_weight=np.r_[-1.0, np.ones(19)])
    with pytest.raises(ValueError, match="at least one non-zero"):
        TransformerGaussianMixture(2).fit(X, sample_weight=np.zeros(20))
    with pytest.raises(ValueError, match="n_samples = 1"):
        TransformerGaussianMixture(2).fit(X, sample_weight=np.r_[1.0, np.zeros(19)])


def test_pickles_are_small_and_whole():
    X, _ = make_blobs()
    model = TransformerGaussianMixture(3).fit(X)
    packed = pickle.dumps(model)
    assert len(packed) < 200_000
    np.testing.assert_array_equal(pickle.loads(packed).predict_proba(X), model.predict_proba(X))


def test_warm_start_goes_on_from_the_last_fit():
    X, _ = make_blobs(seed=5, K=3, distance=2.0)
    cold = TransformerGaussianMixture(3, tol=1e-6).fit(X)
    model = TransformerGaussianMixture(3, warm_start=True, tol=1e-6).fit(X)
    assert model.n_iter_ == cold.n_iter_
    model.fit(X)
    assert model.n_iter_ < cold.n_iter_
    assert model.score(X) == pytest.approx(cold.score(X), abs=1e-4)
    model.set_params(n_components=2).fit(X)
    assert model.means_.shape == (2, 2)


def test_sample_draws_from_the_mixture_and_repeats_with_its_seed():
    X, _ = make_blobs(N=2000)
    model = TransformerGaussianMixture(3, random_state=7).fit(X)
    points, labels = model.sample(4000)
    again, _ = model.sample(4000)
    np.testing.assert_array_equal(points, again)
    assert points.shape == (4000, 2)
    assert np.bincount(labels) / 4000 == pytest.approx(model.weights_, abs=0.05)
    np.testing.assert_allclose(points.mean(0), X.mean(0), atol=0.3)
    assert model.score(points) == pytest.approx(model.score(X), abs=0.1)
    with pytest.raises(ValueError, match="n_samples"):
        model.sample(0)


def test_feature_names_are_kept_and_compared():
    pd = pytest.importorskip("pandas")
    X, _ = make_blobs()
    frame = pd.DataFrame(X, columns=["length", "width"])
    model = TransformerGaussianMixture(3).fit(frame)
    assert list(model.feature_names_in_) == ["length", "width"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"width": "depth"}))


@pytest.mark.parametrize("criterion", ["bic", "icl", "network"])
def test_chooses_the_number_of_clear_clusters(criterion):
    X, _ = make_blobs(seed=1, N=400, K=3, d=3, distance=14.0)
    model = TransformerGaussianMixture(range(1, 7), criterion=criterion).fit(X)
    assert set(model.criterion_values_) == {(K, "full") for K in range(1, 7)}
    best = min(model.criterion_values_, key=model.criterion_values_.get)
    assert best == (model.n_components_, "full")
    assert len(model.weights_) == model.n_components_
    if criterion != "network":
        assert model.n_components_ == 3


def test_chooses_the_shape_of_covariance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    stretched = rng.normal(size=(600, 2)) @ np.array([[3.0, 2.5], [0.0, 0.6]])
    X = stretched + np.array([[0.0, 0.0], [0.0, 14.0]])[labels]
    assert TransformerGaussianMixture(2, covariance_type="auto").fit(X).covariance_type_ == "tied"
    round_ones = rng.normal(size=(600, 2)) * np.array([1.0, 3.0])[labels][:, None] + 20 * labels[:, None]
    assert (
        TransformerGaussianMixture(2, covariance_type="auto", criterion="bic").fit(round_ones).covariance_type_
        == "spherical"
    )


def test_ranges_are_checked():
    X, _ = make_blobs()
    for wrong in ([], [0, 1], ["2"]):
        with pytest.raises(ValueError, match="n_components"):
            TransformerGaussianMixture(wrong).fit(X)
    with pytest.raises(ValueError, match="up to 10 components, not 12"):
        TransformerGaussianMixture(range(1, 13), criterion="network").fit(X)


def test_more_components_than_the_network_knows():
    X, _ = make_blobs(seed=2, N=900, K=12, d=6, distance=16.0)
    model = TransformerGaussianMixture(12, covariance_type="spherical", n_views=5, random_state=0).fit(X)
    assert len(np.unique(model.predict(X))) == 12
    assert model.score(X) > GaussianMixture(1).fit(X).score(X)


def test_views_never_lower_the_likelihood():
    X, _ = make_blobs(seed=6, N=200, K=5, distance=4.0)
    one = TransformerGaussianMixture(5, n_views=1, random_state=0).fit(X)
    four = TransformerGaussianMixture(5, n_views=4, random_state=0).fit(X)
    assert four.lower_bound_ >= one.lower_bound_


def test_clones_and_shows_its_parameters():
    model = clone(TransformerGaussianMixture(range(1, 4), criterion="bic"))
    assert model.get_params()["n_components"] == range(1, 4)
    assert "range(1, 4)" in repr(model)
