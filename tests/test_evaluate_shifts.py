"""Scores on shifted tasks: units, standardisation, another number of components, outliers, the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from tgmm import metrics
from tgmm.evaluate import ScoreSettings, build_scored, score_estimates, score_taskset
from tgmm.methods.base import typical_spread
from tgmm.mixture import Mixture, log_density, rescaled
from tgmm.tasks.stream import TaskStream
from tgmm.tasks.taskset import sample_taskset

CPU = torch.device("cpu")
EM = {"kind": "em", "start": "k-means++", "starts": 3}


def score(shift: dict, n_components=(3,), **settings) -> pd.DataFrame:
    tasks = sample_taskset({
        "taskset": "toy", "covariance": "isotropic", "dimension": 4, "n_components": list(n_components),
        "n_points": [64], "tasks": 8, "heldout_points": 40, "seed": 3, "shifts": [shift],
    })  # fmt: skip
    values = {"scale": "smoke", "method": "m", "seed": 1, **settings}
    return score_taskset(tasks, [build_scored(ScoreSettings.from_dict(values), "isotropic", CPU)])[0]


def by_value(scores: pd.DataFrame, column: str) -> dict[float, np.ndarray]:
    return {value: rows[column].to_numpy() for value, rows in scores.groupby("shift_value")}


def test_rows_say_which_shift_they_belong_to():
    scores = score({"kind": "location", "values": [0, 5]}, **EM)
    assert set(scores["shift"]) == {"location"}
    assert scores.groupby("shift_value").size().to_dict() == {0.0: 8, 5.0: 8}


def test_moved_data_change_nothing_for_a_method_that_moves_with_them():
    errors = by_value(score({"kind": "location", "values": [0, 100]}, **EM), "l2_error")
    np.testing.assert_allclose(errors[100.0], errors[0.0], rtol=1e-3)


def test_data_in_other_units_break_em_of_unit_covariance_but_not_once_standardised():
    shift = {"kind": "scale", "values": [0.05, 1, 20]}
    plain, standardised = (
        by_value(score(shift, **EM, standardise=flag), "log_likelihood_heldout") for flag in (False, True)
    )
    assert plain[0.05].mean() < plain[1.0].mean() - 1.0
    np.testing.assert_allclose(standardised[0.05], standardised[1.0], rtol=1e-4)
    np.testing.assert_allclose(standardised[20.0], standardised[1.0], rtol=1e-4)


def test_the_oracle_knows_units_and_components():
    for shift in ({"kind": "scale", "values": [1, 4]}, {"kind": "location", "values": [0, 9]},
                  {"kind": "wrong-k", "values": [0, 1]}):  # fmt: skip
        errors = list(by_value(score(shift, kind="em", start="truth"), "l2_error").values())
        np.testing.assert_array_equal(errors[0], errors[1])


def test_methods_are_asked_for_the_wrong_number_of_components():
    scores = score({"kind": "wrong-k", "values": [-1, 0, 1]}, **EM)
    errors = by_value(scores, "l2_error")
    assert np.isfinite(np.concatenate(list(errors.values()))).all()
    assert np.median(errors[-1.0]) > np.median(errors[0.0])
    likelihood = by_value(scores, "log_likelihood")
    assert (likelihood[1.0] >= likelihood[0.0] - 1e-6).mean() > 0.5  # another component cannot fit the points worse
    missing = scores[scores.shift_value == -1.0]
    assert missing[["l2_error_reference", "weight_cross_entropy", "dropped_reference"]].isna().all(axis=None)


def test_outliers_do_not_count_in_the_accuracy():
    accuracy = by_value(score({"kind": "outliers", "values": [0, 0.3]}, kind="em", start="truth"), "accuracy")
    assert accuracy[0.3].max() <= 1.0
    assert accuracy[0.3].mean() > 0.8


@pytest.mark.parametrize("guessed", [1, 2, 4, 5])
def test_pairing_is_the_best_of_all(guessed, make_mixture):
    truth, estimate = make_mixture(20, 3, 2, seed=1), make_mixture(20, guessed, 2, seed=2)
    lined_up, labels = metrics.pair(estimate, truth)
    cost = metrics.pairwise_errors(estimate, truth).numpy()
    for task in range(20):
        found = {int(k): j for j, k in enumerate(labels[task]) if k >= 0}
        assert len(found) == min(guessed, 3)
        total = sum(cost[task, j, k] for k, j in found.items())
        if guessed >= 3:
            options = itertools.permutations(range(guessed), 3)
            best = min(sum(cost[task, j, k] for k, j in enumerate(option)) for option in options)
        else:
            options = itertools.permutations(range(3), guessed)
            best = min(sum(cost[task, j, k] for j, k in enumerate(option)) for option in options)
        assert total == pytest.approx(best)
        for k in range(3):
            stand_in = found.get(k, int(cost[task, :, k].argmin()))
            assert torch.equal(lined_up.means[task, k], estimate.means[task, stand_in])
            expected = estimate.weights[task, stand_in] if k in found else 0.0
            assert float(lined_up.weights[task, k]) == pytest.approx(float(expected))


def test_pairing_equals_matching_for_the_same_number(make_mixture):
    truth, estimate = make_mixture(30, 4, 3, seed=1), make_mixture(30, 4, 3, seed=2)
    lined_up, _ = metrics.pair(estimate, truth)
    matched = metrics.match(estimate, truth)
    assert torch.equal(lined_up.means, matched.means)
    assert torch.equal(lined_up.weights, matched.weights)


def test_accuracy_with_a_component_too_many_counts_its_points_as_wrong(make_mixture):
    truth = make_mixture(1, 2, 2, seed=5)
    extra = Mixture(torch.tensor([[0.3, 0.3, 0.4]]).double(), torch.cat([truth.means, truth.means[:, :1] + 50], 1))
    points = torch.stack([truth.means[0, 0], truth.means[0, 1], truth.means[0, 0] + 50])[None]
    scores = score_estimates(extra, truth, points, torch.tensor([[0, 1, 0]]), points)
    assert float(scores["accuracy"]) == pytest.approx(2 / 3)


def test_the_reference_likelihood_takes_the_wrong_axis(make_mixture):
    mixture = make_mixture(4, 3, 2)
    points = torch.randn(4, 10, 2, dtype=torch.float64)
    found = metrics.mean_log_likelihood_reference(mixture, points)
    for task in range(4):
        joint = [
            np.log(mixture.weights[task, k].item())
            + multivariate_normal(mixture.means[task, k].numpy()).logpdf(points[task].numpy())
            for k in range(3)
        ]
        assert float(found[task]) == pytest.approx(sum(logsumexp(row) for row in joint) / 10)
    far = Mixture(mixture.weights, mixture.means + 1e4)
    assert (metrics.dropped_reference(far, points) == 1).all()
    assert (metrics.dropped_reference(mixture, points) == 0).all()


def test_rescaling_a_mixture_moves_its_density(make_mixture):
    mixture, points = make_mixture(3, 2, 4, scales=True), torch.randn(3, 6, 4, dtype=torch.float64)
    factor, offset = torch.tensor([0.5, 2.0, 3.0]).double(), torch.randn(3, 4, dtype=torch.float64)
    moved = log_density(rescaled(mixture, factor, offset), factor[:, None, None] * points + offset[:, None])
    torch.testing.assert_close(moved, log_density(mixture, points) - 4 * factor.log()[:, None])


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_the_typical_spread_is_that_of_training_tasks(covariance):
    batch = TaskStream(5, 800, dimension=3, covariance=covariance, n_components=(3,), n_points=256).batch(0)
    spread = (batch.points - batch.points.mean(1, keepdim=True)).square().mean().sqrt()
    assert typical_spread(3, 3, covariance) == pytest.approx(float(spread), rel=0.03)
