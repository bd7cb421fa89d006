"""The metrics against scipy, scikit-learn and a direct mimic of the reference evaluator."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.mixture import GaussianMixture

from tgmm import metrics
from tgmm.mixture import Mixture


def repeated(mixture: Mixture, times: int) -> Mixture:
    return mixture.map(lambda tensor: tensor.expand(times, *tensor.shape[1:]))


def all_orders(n_components: int) -> torch.Tensor:
    return torch.tensor(list(itertools.permutations(range(n_components))))


def reference_evaluator(estimate: Mixture, truth: Mixture) -> list[float]:
    """What the authors' evaluator does, in numpy: the column indices are the inverse of the wanted permutation."""
    errors = []
    arrays = [tensor.numpy() for tensor in (estimate.weights, estimate.means, truth.weights, truth.means)]
    for pi, mu, true_pi, true_mu in zip(*arrays, strict=True):
        distance = ((mu[:, None] - true_mu[None]) ** 2).mean(-1) + (pi[:, None] - true_pi[None]) ** 2
        _, column = linear_sum_assignment(distance)
        errors.append(np.mean(((mu[column] - true_mu) ** 2).mean(-1) + (pi[column] - true_pi) ** 2))
    return errors


@pytest.mark.parametrize("n_components", range(1, 9))
@given(data=st.data())
def test_any_relabelling_of_a_perfect_estimate_scores_zero(make_mixture, n_components, data):
    truth = make_mixture(1, n_components, 3, scales=True, seed=data.draw(st.integers(0, 1000)))
    order = torch.tensor([data.draw(st.permutations(range(n_components)))])
    estimate = truth.permute_components(order)
    assert metrics.l2_error(estimate, truth).item() == 0.0
    assert metrics.scale_error(metrics.match(estimate, truth), truth).item() == 0.0


@pytest.mark.parametrize("n_components", range(1, 9))
def test_best_permutation_costs_what_scipys_assignment_costs(n_components):
    cost = torch.rand(60, n_components, n_components, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    order = metrics.best_permutation(cost)
    assert torch.equal(order.sort(1).values, torch.arange(n_components).expand(60, -1))
    for matrix, chosen in zip(cost.numpy(), order.numpy(), strict=True):
        optimum = matrix[linear_sum_assignment(matrix)].sum()
        assert matrix[chosen, np.arange(n_components)].sum() == pytest.approx(optimum, abs=1e-12)


def test_the_first_of_equally_good_permutations_is_taken():
    assert metrics.best_permutation(torch.ones(1, 3, 3)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("n_components", [3, 7])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_estimate_has_no_finite_error_and_leaves_the_other_tasks_alone(make_mixture, n_components, bad):
    truth = make_mixture(3, n_components, 2)
    means = truth.means.flip(1).clone()
    means[1, 0] = bad
    estimate = Mixture(truth.weights.flip(1), means)
    order = metrics.best_permutation(metrics.pairwise_errors(estimate, truth))
    assert torch.equal(order.sort(1).values, torch.arange(n_components).expand(3, -1))
    errors = metrics.l2_error(estimate, truth)
    assert not torch.isfinite(errors[1])
    assert errors[::2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("n_components", "wrong", "total"), [(2, 0, 2), (3, 2, 6), (4, 14, 24), (5, 94, 120)])
def test_reference_error_is_wrong_where_a_relabelling_is_not_its_own_inverse(make_mixture, n_components, wrong, total):
    truth = repeated(make_mixture(1, n_components, 2), total)
    estimate = truth.permute_components(all_orders(n_components))
    assert (metrics.l2_error_reference(estimate, truth) > 1e-6).sum().item() == wrong
    assert (metrics.l2_error(estimate, truth) == 0).all()


@pytest.mark.parametrize("n_components", [2, 3, 4, 5, 7])
def test_reference_error_is_the_reference_evaluators(make_mixture, n_components):
    truth, estimate = make_mixture(40, n_components, 3), make_mixture(40, n_components, 3, seed=1)
    np.testing.assert_allclose(
        metrics.l2_error_reference(estimate, truth).numpy(), reference_evaluator(estimate, truth), rtol=1e-12
    )
    assert (metrics.l2_error(estimate, truth) <= metrics.l2_error_reference(estimate, truth) + 1e-12).all()


def test_errors_follow_the_papers_formula():
    truth = Mixture(torch.tensor([[0.25, 0.75]]), torch.tensor([[[0.0, 0.0], [4.0, 0.0]]]))
    estimate = Mixture(torch.tensor([[0.65, 0.35]]), torch.tensor([[[4.0, 2.0], [0.0, 1.0]]]))
    matched = metrics.match(estimate, truth)
    assert metrics.mean_error(matched, truth).item() == pytest.approx((1.0 / 2 + 4.0 / 2) / 2)
    assert metrics.weight_error(matched, truth).item() == pytest.approx(0.01)
    assert metrics.l2_error(estimate, truth).item() == pytest.approx(1.25 + 0.01)
    expected = -(0.25 * np.log(0.35) + 0.75 * np.log(0.65))
    assert metrics.weight_cross_entropy(matched, truth).item() == pytest.approx(expected, rel=1e-6)


def test_weight_cross_entropy_is_least_at_the_truth_and_infinite_at_zero(make_mixture):
    truth = make_mixture(5, 3, 2)
    entropy = metrics.weight_cross_entropy(truth, truth)
    assert (metrics.weight_cross_entropy(make_mixture(5, 3, 2, seed=4), truth) > entropy).all()
    empty = replace(truth, weights=torch.tensor([[0.0, 0.5, 0.5]]).double().expand(5, -1))
    assert torch.isposinf(metrics.weight_cross_entropy(empty, truth)).all()


def test_scales_are_permuted_with_the_means(make_mixture):
    truth = make_mixture(6, 3, 4, scales=True)
    orders = all_orders(3)
    off = replace(truth, standard_deviations=truth.standard_deviations + 0.5).permute_components(orders)
    matched = metrics.match(off, truth)
    torch.testing.assert_close(metrics.scale_error(matched, truth), torch.full((6,), 0.25, dtype=torch.float64))
    assert metrics.mean_error(matched, truth).eq(0).all()
    assert metrics.scale_error(replace(matched, standard_deviations=None), truth).isnan().all()


def test_accuracy_and_log_likelihood_agree_with_sklearn(make_mixture):
    truth = make_mixture(3, 3, 2, scales=True)
    generator = torch.Generator().manual_seed(2)
    points = 4.0 * torch.randn(3, 60, 2, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (3, 60), generator=generator)
    accuracy = metrics.clustering_accuracy(truth, points, labels)
    likelihood = metrics.mean_log_likelihood(truth, points)
    for task in range(3):
        model = GaussianMixture(3, covariance_type="diag")
        model.weights_, model.means_ = truth.weights[task].numpy(), truth.means[task].numpy()
        model.precisions_cholesky_ = 1.0 / truth.standard_deviations[task].numpy()
        data = points[task].numpy()
        assert accuracy[task].item() == pytest.approx(np.mean(model.predict(data) == labels[task].numpy()))
        assert likelihood[task].item() == pytest.approx(model.score(data), rel=1e-12)


def test_accuracy_uses_the_matched_labels(make_mixture):
    truth = make_mixture(1, 4, 8)
    labels = torch.arange(4).repeat(1, 5)
    points = truth.means.repeat(1, 5, 1)
    relabelled = truth.permute_components(torch.tensor([[2, 3, 1, 0]]))
    assert metrics.clustering_accuracy(metrics.match(relabelled, truth), points, labels).item() == 1.0
    assert metrics.clustering_accuracy(relabelled, points, labels).item() == 0.0


# --- properties, against brute force and scipy -----------------------------------------------------------------------


def brute_force(estimate: Mixture, truth: Mixture) -> tuple[float, tuple[int, ...]]:
    """The least error over all assignments of estimated to true components, one loop after the other."""
    arrays = [tensor[0].tolist() for tensor in (estimate.weights, estimate.means, truth.weights, truth.means)]
    weights, means, true_weights, true_means = arrays
    best = (float("inf"), ())
    for order in itertools.permutations(range(len(weights))):
        total = 0.0
        for k, i in enumerate(order):
            total += sum((a - b) ** 2 for a, b in zip(means[i], true_means[k], strict=True)) / len(means[i])
            total += (weights[i] - true_weights[k]) ** 2
        best = min(best, (total / len(order), order))
    return best


@st.composite
def pairs_of_mixtures(draw, dimensions=(1, 2, 8)):
    """An estimate and a truth of one task, of the same K up to 5; means may coincide."""
    n_components, dimension = draw(st.integers(1, 5)), draw(st.sampled_from(dimensions))
    numbers = st.floats(-20, 20, allow_subnormal=False)
    mixtures = []
    for _ in range(2):
        raw = draw(st.lists(st.floats(0.01, 1), min_size=n_components, max_size=n_components))
        size = n_components * dimension
        means = draw(st.lists(numbers, min_size=size, max_size=size))
        weights = torch.tensor([raw], dtype=torch.float64)
        means = torch.tensor(means, dtype=torch.float64).reshape(1, n_components, dimension)
        mixtures.append(Mixture(weights / weights.sum(), means))
    return mixtures


@given(pair=pairs_of_mixtures())
def test_the_l2_error_is_that_of_the_best_assignment_of_all(pair):
    estimate, truth = pair
    least, order = brute_force(estimate, truth)
    assert metrics.l2_error(estimate, truth).item() == pytest.approx(least, rel=1e-9, abs=1e-12)
    chosen = metrics.match(estimate, truth)
    forced = estimate.permute_components(torch.tensor([order]))
    total = [metrics.mean_error(m, truth) + metrics.weight_error(m, truth) for m in (chosen, forced)]
    torch.testing.assert_close(*total, rtol=1e-9, atol=1e-12)


@given(pair=pairs_of_mixtures(dimensions=(2, 3)), data=st.data())
def test_errors_do_not_know_the_order_the_origin_or_the_axes(pair, data):
    """Relabelled on either side, moved or turned together, both are as far apart as before; scaled, in proportion."""
    estimate, truth = pair
    n_components, dimension = truth.n_components, truth.dimension
    before = metrics.l2_error(estimate, truth)
    orders = [torch.tensor([data.draw(st.permutations(range(n_components)))]) for _ in range(2)]
    relabelled = metrics.l2_error(estimate.permute_components(orders[0]), truth.permute_components(orders[1]))
    torch.testing.assert_close(relabelled, before, rtol=1e-9, atol=1e-12)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    square = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    axes, shift = torch.linalg.qr(square).Q, torch.randn(dimension, generator=generator, dtype=torch.float64)
    moved = [replace(mixture, means=mixture.means @ axes + shift) for mixture in (estimate, truth)]
    torch.testing.assert_close(metrics.l2_error(*moved), before, rtol=1e-9, atol=1e-9)
    even = [replace(mixture, weights=torch.full_like(mixture.weights, 0.5)) for mixture in (estimate, truth)]
    large = [replace(mixture, means=3 * mixture.means) for mixture in even]
    torch.testing.assert_close(metrics.l2_error(*large), 9 * metrics.l2_error(*even), rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 10**6), guessed=st.integers(1, 7), true=st.integers(1, 7))
def test_components_of_different_numbers_are_paired_as_by_scipys_assignment(make_mixture, seed, guessed, true):
    estimate, truth = make_mixture(2, guessed, 3, seed=seed), make_mixture(2, true, 3, seed=seed + 1)
    lined_up, labels = metrics.pair(estimate, truth)
    assert lined_up.means.shape == truth.means.shape
    for task in range(2):
        cost = metrics.pairwise_errors(estimate, truth)[task].numpy()
        rows, columns = linear_sum_assignment(cost)
        assert [labels[task, row].item() for row in rows] == list(columns)
        assert (labels[task] >= 0).sum() == min(guessed, true)
        for row, column in zip(rows, columns, strict=True):
            assert torch.equal(lined_up.means[task, column], estimate.means[task, row])
            assert lined_up.weights[task, column] == estimate.weights[task, row]
        for column in set(range(true)) - set(columns):
            assert lined_up.weights[task, column] == 0
            assert torch.equal(lined_up.means[task, column], estimate.means[task, cost[:, column].argmin()])
