"""The criterion network: what it sees of fits, the evidence among it, and its training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import kurtosis, multivariate_t, skew

from tgmm import TransformerGaussianMixture
from tgmm.estimator.density import precision_factors
from tgmm.estimator.evidence import departures, log_evidence, summarise
from tgmm.estimator.fit import Fitted
from tgmm.models.assignment import LARGEST
from tgmm.models.criterion import FEATURES, LENGTH, PRIORS, SUMMARY, CriterionNetwork, compare_fits
from tgmm.train.criterion import Fits, collect, fit_batch, train, train_network
from tgmm.train.progress import InterruptRequest, TrainingProgress
from tgmm.train.settings import CriterionTraining

SMALL = CriterionTraining.read({"tasks": 8, "batch": 4, "passes": 2, "network": {"width": 8}})
SHAPES = ("full", "tied", "diag", "spherical")


def one_gaussian(X: np.ndarray, shape: str) -> Fitted:
    """The Gaussian of highest likelihood."""
    covariance = np.cov(X.T, bias=True).reshape(X.shape[1], -1)
    covariances = {
        "full": covariance[None],
        "tied": covariance,
        "diag": np.diag(covariance)[None],
        "spherical": np.array([np.trace(covariance) / X.shape[1]]),
    }[shape]
    return Fitted(shape, np.ones(1), X.mean(0)[None], covariances, True, 2, [0.0])


def predictive_evidence(X: np.ndarray, shape: str, scale: float, certainty: float) -> float:
    """The same by the chain rule: each point under the Student distribution that the points before it predict."""
    d = X.shape[1]
    mean, covariance = X.mean(0), np.cov(X.T, bias=True).reshape(d, d)
    if shape == "diag" and d > 1:
        return sum(predictive_evidence(X[:, [i]], "diag", scale, certainty) for i in range(d))
    if shape in ("diag", "spherical"):
        unit = np.trace(covariance) / d
        before = 1.5 if shape == "diag" else (d + 2) / 2
        freedom, scatter = 2 * before, 2 * before * scale * unit  # inverse gamma as inverse chi squared
    else:
        freedom, scatter = d + 2, scale * covariance
    total, more, centre = 0.0, certainty, mean
    for x in X:
        wide = (more + 1) / more
        if np.ndim(scatter) == 2:
            degrees = freedom - d + 1
            total += multivariate_t(centre, scatter * wide / degrees, df=degrees).logpdf(x)
            scatter = scatter + more / (more + 1) * np.outer(x - centre, x - centre)
            freedom += 1
        else:
            total += multivariate_t(centre, np.eye(d) * scatter * wide / freedom, df=freedom).logpdf(x)
            scatter = scatter + more / (more + 1) * ((x - centre) ** 2).sum()
            freedom += d
        centre, more = (more * centre + x) / (more + 1), more + 1
    return total


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_evidence_of_one_component_is_that_of_the_chain_rule(shape, d):
    X = np.random.default_rng(d).normal(size=(12, d)) @ np.random.default_rng(9).normal(size=(d, d)) + 5
    found = log_evidence(one_gaussian(X, shape), len(X), 0.0)
    expected = [predictive_evidence(X, shape, *prior) for prior in PRIORS]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def departures_of_one(X: np.ndarray, shape: str = "full") -> np.ndarray:
    fitted = one_gaussian(X, shape)
    return np.array(
        departures(X, np.ones((len(X), 1)), fitted.means, precision_factors(fitted.covariances, shape), shape)
    )


@pytest.mark.parametrize("d", [1, 2, 5])
def test_departures_from_gaussian_are_in_standard_errors(d):
    rng = np.random.default_rng(d)
    mixing = rng.normal(size=(d, d))
    drawn = np.array([departures_of_one(rng.normal(size=(400, d)) @ mixing) for _ in range(300)])
    assert np.abs(drawn.mean(0)).max() < 0.4
    np.testing.assert_allclose(drawn.std(0), 1, atol=0.15)


def test_kurtosis_is_that_of_scipy_in_one_column_and_skewness_its_square():
    X = np.random.default_rng(3).gamma(2.0, size=(50, 1))
    flattest, heaviest, flatness, skewed = departures_of_one(X)
    assert flattest == heaviest == pytest.approx(flatness)
    assert flatness == pytest.approx(kurtosis(X[:, 0]) * np.sqrt(50 / 24))
    assert skewed == pytest.approx((50 / 6 * skew(X[:, 0]) ** 2 - 1) / np.sqrt(2))


def test_two_components_in_one_are_flat_and_outliers_heavy():
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(size=(100, 1)), rng.normal(size=(100, 1)) + 5])
    assert departures_of_one(apart)[0] < -3
    outlier = np.concatenate([rng.normal(size=(200, 3)), np.full((1, 3), 30.0)])
    assert departures_of_one(outlier)[1] > 30


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_that_lacks_a_value_is_left_out_of_the_departures(shape):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 2))
    more = np.concatenate([X, [[np.nan, 1.0]]])
    fitted = one_gaussian(X, shape)
    given = fitted.means, precision_factors(fitted.covariances, shape), shape
    assert departures(X, np.ones((60, 1)), *given) == departures(more, np.ones((61, 1)), *given)


def test_a_fit_is_summarised_where_every_row_lacks_a_value():
    X = np.random.default_rng(2).normal(size=(40, 3))
    X[np.arange(40), np.arange(40) % 3] = np.nan
    fitted = one_gaussian(np.random.default_rng(2).normal(size=(40, 3)), "full")
    assert np.isfinite(summarise(fitted, X, np.ones(40))).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_fits_are_compared_the_same_in_other_units_and_elsewhere(shape):
    rng = np.random.default_rng(4)
    X = np.concatenate([rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 4])
    ones, rows = np.ones(len(X)), []
    for data in (X, 1000 * X - 70):
        summaries = np.full((1, LARGEST, LENGTH), np.nan)
        for K in (1, 2, 3):
            fitted = fitted_of(TransformerGaussianMixture(K, covariance_type=shape, random_state=0).fit(data), shape)
            summaries[0, K - 1] = summarise(fitted, data, ones)
        rows.append(compare_fits(summaries, np.full((1, LARGEST), 0.1)))
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5, atol=1e-5)


def fitted_of(model: TransformerGaussianMixture, shape: str) -> Fitted:
    return Fitted(
        shape, model.weights_, model.means_, model.covariances_, model.converged_, model.n_iter_, model.lower_bounds_
    )


def random_fits(S: int, seed: int = 0) -> Fits:
    """Fits whose likelihood stops rising at the true K."""
    rng = np.random.default_rng(seed)
    K = rng.integers(1, LARGEST + 1, S)
    sizes = np.arange(1, LARGEST + 1)
    summaries = rng.normal(size=(S, LARGEST, LENGTH))
    known = dict(zip(SUMMARY, range(LENGTH), strict=False))
    summaries[..., known["log_likelihood"]] = 50.0 * np.minimum(sizes, K[:, None]) + rng.normal(size=(S, LARGEST))
    summaries[..., known["parameters"]] = 6 * sizes
    summaries[..., known["rows"]], summaries[..., known["columns"]] = 100, 2
    for name in ("entropy", "smallest_share", "steps"):
        summaries[..., known[name]] = rng.random((S, LARGEST))
    return {"summaries": summaries, "told": rng.dirichlet(np.ones(LARGEST), S), "K": K}


def test_what_was_not_fitted_is_said_to_be_missing_and_nothing_is_nan():
    fits = random_fits(3)
    fits["summaries"][1, 4:] = np.nan
    seen = compare_fits(fits["summaries"], fits["told"])
    assert seen.shape == (3, LARGEST, FEATURES)
    assert np.isfinite(seen).all()
    assert seen[1, :, -1].tolist() == [0.0] * 4 + [1.0] * 6
    assert not seen[[0, 2], :, -1].any()


def test_the_network_learns_where_a_likelihood_stops_rising():
    settings = CriterionTraining.read({"tasks": 800, "batch": 200, "passes": 10, "network": {"width": 16}})
    network, history = train_network(settings, [random_fits(200, seed) for seed in range(4)])
    assert history[-1]["found"] > 0.95
    fresh = random_fits(100, 99)
    with torch.no_grad():
        logits = network(torch.from_numpy(compare_fits(fresh["summaries"], fresh["told"])).float())
    assert (logits.argmax(1).numpy() + 1 == fresh["K"]).mean() > 0.95


def test_a_training_leaves_weights_and_a_record(tmp_path):
    assert train(SMALL, tmp_path / "out", tmp_path / "work", visible=False) is None
    record = json.loads((tmp_path / "out" / "criterion.json").read_text())
    assert record["tasks"] == 8
    assert record["processor_seconds"] > 0
    assert CriterionTraining.read(record["settings"]) == SMALL
    CriterionNetwork(SMALL.network).load_state_dict(load_file(tmp_path / "out" / "criterion.safetensors"))


def test_a_stopped_training_goes_on_with_the_fits_that_are_there(tmp_path):
    request = InterruptRequest()
    request.receive(15, None)
    folder = tmp_path / "criterion" / SMALL.fingerprint()
    folder.mkdir(parents=True)
    assert not collect(SMALL, folder, TrainingProgress("criterion", 8, visible=False), request)
    (first,) = folder.iterdir()
    written = first.stat().st_mtime_ns
    assert train(SMALL, tmp_path / "parts", tmp_path, visible=False) is None
    assert first.stat().st_mtime_ns == written
    train(SMALL, tmp_path / "whole", tmp_path / "other", visible=False)
    whole, parts = (load_file(tmp_path / name / "criterion.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_batch_is_fixed_by_its_number():
    first, again, other = (fit_batch(SMALL, number) for number in (0, 0, 1))
    assert np.array_equal(first["summaries"], again["summaries"], equal_nan=True)
    assert not np.array_equal(first["told"], other["told"])


def test_the_estimator_tells_a_probability_of_every_size_that_is_compared():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(100, 2)) + 8 * np.array([i % 2, i // 2]) for i in range(3)])
    model = TransformerGaussianMixture(range(2, 6), criterion="network", random_state=0).fit(X)
    assert model.n_components_ == 3
    assert list(model.criterion_values_) == [(K, "full") for K in range(2, 6)]
    assert sum(np.exp(-value) for value in model.criterion_values_.values()) == pytest.approx(1)
