"""Shifted tasks: each kind changes what it says, and nothing else."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tgmm.errors import UserError
from tgmm.study import read_config, study_from_config
from tgmm.tasks import sampler
from tgmm.tasks.sampler import COSINE_LIMIT, OUTLIER_RANGE, largest_cosine, sample_mixtures, sample_points
from tgmm.tasks.shifts import (
    LOWEST_ACCEPTANCE,
    SHIFTS,
    Shift,
    ShiftValues,
    check_feasible,
    check_room,
    estimate_acceptance,
)
from tgmm.tasks.taskset import (
    load_taskset,
    sample_shifted_mixtures,
    sample_shifted_points,
    sample_taskset,
    save_taskset,
)

ROOT = Path(__file__).resolve().parents[2]
SEED = 77
INDEX = torch.arange(400)
SETTINGS = {
    "taskset": "toy", "covariance": "isotropic", "dimension": 3, "n_components": [2, 3], "n_points": [8],
    "tasks": 3, "heldout_points": 5, "seed": 1,
}  # fmt: skip


def mixtures(shift: Shift, count: int = 4, dimension: int = 8, covariance: str = "isotropic"):
    return sample_shifted_mixtures(shift, SEED, INDEX, count, dimension, covariance)


def test_a_perturbation_of_zero_changes_nothing():
    plain = sample_mixtures(SEED, INDEX, 4, 8)
    for shift in (Shift(), Shift("mean", 0.0), Shift("student-t", math.inf), Shift("outliers", 0.0)):
        shifted = mixtures(shift)
        assert torch.equal(shifted.means, plain.means)
        assert torch.equal(shifted.weights, plain.weights)
        expected, labels = sample_points(plain, SEED, INDEX, 16)
        points, found = sample_shifted_points(shift, shifted, SEED, INDEX, 16)
        assert torch.equal(points, expected)
        assert torch.equal(found, labels)


def test_the_perturbation_of_the_means_is_normal_noise_on_the_same_means():
    plain = mixtures(Shift()).means
    noise = mixtures(Shift("mean", 1.0)).means - plain
    for spread in (2.0, 10.0):
        assert torch.allclose(mixtures(Shift("mean", spread)).means, plain + spread * noise)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise.flatten(), plain.flatten())[0, 1]) < 0.03


def test_the_filter_comes_before_the_noise_unless_told_otherwise():
    before = largest_cosine(mixtures(Shift("mean", 5.0), dimension=2).means)
    after = largest_cosine(mixtures(Shift("mean", 5.0, filter="after"), dimension=2).means)
    assert (before >= COSINE_LIMIT).double().mean() > 0.5
    assert (after < COSINE_LIMIT).all()


@given(st.floats(0.001, 0.45), st.integers(2, 5))
def test_the_lightest_component_gets_its_weight_and_the_others_keep_their_proportions(weight, count):
    plain, shifted = mixtures(Shift(), count).weights, mixtures(Shift("smallest-weight", weight), count).weights
    assert torch.allclose(shifted[:, 0], torch.full_like(shifted[:, 0], weight))
    assert torch.allclose(shifted.sum(1), torch.ones_like(shifted[:, 0]))
    proportions = plain[:, 1:] / plain[:, 1:].sum(1, keepdim=True)
    assert torch.allclose(shifted[:, 1:] / (1 - weight), proportions)


@pytest.mark.parametrize(("dimension", "count", "distance"), [(1, 3, 2.0), (1, 2, 4.0), (2, 5, 1.5)])
def test_spaced_means_are_uniform_but_for_their_distance(dimension, count, distance):
    """Against plain rejection with numpy; where the paper's tasks exist too, the weights are theirs."""
    means = mixtures(Shift("spaced", distance), count, dimension).means.numpy()
    draws = np.random.default_rng(1).uniform(-5, 5, (40_000, count, dimension))
    pairs = list(itertools.combinations(range(count), 2))
    gaps = np.stack([np.linalg.norm(draws[:, i] - draws[:, k], axis=1) for i, k in pairs])
    expected = draws[gaps.min(0) >= distance]
    found = np.stack([np.linalg.norm(means[:, i] - means[:, k], axis=1) for i, k in pairs])
    assert found.min() >= distance
    assert stats.ks_2samp(means.ravel(), expected.ravel()).pvalue > 0.01
    assert stats.ks_2samp(found.ravel(), gaps[:, gaps.min(0) >= distance].ravel()).pvalue > 0.01
    assert estimate_acceptance(dimension, count, distance) == pytest.approx(len(expected) / len(draws), rel=0.1)
    assert torch.equal(mixtures(Shift("spaced", distance), 2, 8).weights, mixtures(Shift(), 2, 8).weights)


def test_means_that_find_no_room_apart_are_refused():
    with pytest.raises(UserError, match="d=1, K=3: practically none of the random sets of K means have distances of 9"):
        check_feasible(1, 3, 9.0)
    with pytest.raises(UserError, match="distances of 9"):
        mixtures(Shift("spaced", 9.0), 3, 1)
    room = [ShiftValues(kind="spaced", values=(1, 2))]
    check_room(1, 3, room)
    with pytest.raises(UserError, match="cosines"):
        check_room(1, 3, [*room, ShiftValues(kind="none", values=(0,))])


@pytest.mark.parametrize("freedom", [3, 5, 10])
def test_heavy_tails_are_those_of_the_student_distribution_at_unit_covariance(freedom):
    mixture = sample_mixtures(SEED, INDEX, 1, 2)
    points, _ = sample_shifted_points(Shift("student-t", freedom), mixture, SEED, INDEX, 100)
    noise = (points - mixture.means).numpy() * math.sqrt(freedom / (freedom - 2))
    assert stats.kstest(noise[..., 0].ravel(), stats.t(freedom).cdf).pvalue > 0.01
    # The coordinates of a point share their factor: |x|^2 / d follows an F distribution, as for a multivariate t.
    assert stats.kstest(np.square(noise).mean(-1).ravel(), stats.f(2, freedom).cdf).pvalue > 0.01


def test_tails_of_few_points_are_the_first_of_many():
    mixture = sample_mixtures(SEED, INDEX, 3, 2)
    few, many = (sample_shifted_points(Shift("student-t", 5), mixture, SEED, INDEX, count)[0] for count in (7, 20))
    assert torch.equal(few, many[:, :7])


def test_outliers_replace_their_share_of_the_points():
    mixture = mixtures(Shift())
    plain, labels = sample_shifted_points(Shift(), mixture, SEED, INDEX, 128)
    points, marked = sample_shifted_points(Shift("outliers", 0.1), mixture, SEED, INDEX, 128)
    replaced = marked == -1
    assert abs(replaced.double().mean() - 0.1) < 0.005
    assert torch.equal(points[~replaced], plain[~replaced])
    assert torch.equal(marked[~replaced], labels[~replaced])
    scaled = (points[replaced] / OUTLIER_RANGE + 1) / 2
    assert stats.kstest(scaled.flatten().numpy(), "uniform").pvalue > 0.01
    heldout = sample_shifted_points(Shift("outliers", 0.1), mixture, SEED, INDEX, 64, heldout=True)
    assert (heldout[1] >= 0).all()


def test_units_and_components_are_told_to_the_evaluator():
    assert Shift("scale", 2.0).units == (2.0, 0.0)
    assert Shift("location", -3.0).units == (1.0, -3.0)
    assert Shift("wrong-k", -1).extra_components == -1
    assert Shift("mean", 3.0).units == (1.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("mean", -1), ("smallest-weight", 0.6), ("scale", 0), ("student-t", 2), ("student-t", 4.5), ("outliers", 1),
     ("wrong-k", 0.5), ("location", math.inf), ("mean", math.nan), ("tilt", 1)],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_name(kind, value):
    with pytest.raises(UserError, match=kind):
        Shift(kind, value)


def test_a_task_set_has_a_cell_for_every_value_and_comes_back_from_its_file(tmp_path):
    shifts = [{"kind": "outliers", "values": [0, 0.1]}, {"kind": "student-t", "values": [3, math.inf]}]
    taskset = sample_taskset({**SETTINGS, "shifts": shifts})
    assert [cell.name for cell in taskset.cells][:4] == [
        "k2-n8-outliers+0", "k2-n8-outliers+0.1", "k2-n8-student-t+3", "k2-n8-student-t+inf",
    ]  # fmt: skip
    assert len({cell.sha256 for cell in taskset.cells}) == 6  # no outliers and normal tails are the same tasks
    path = tmp_path / "toy.safetensors"
    save_taskset(path, taskset)
    again = load_taskset(path)
    assert [(cell.name, cell.shift, cell.sha256) for cell in again.cells] == [
        (cell.name, cell.shift, cell.sha256) for cell in taskset.cells
    ]


def test_every_shift_can_be_asked_for_in_the_configuration():
    config = read_config(ROOT / "config.yaml")
    more = [
        {"kind": "mean", "values": [1], "filter": "after"},
        {"kind": "separation", "values": [2]},
        {"kind": "spaced", "values": [1]},
    ]
    config["tasksets"]["robustness"]["shifts"] += more
    study = study_from_config(config, ROOT)
    kinds = {shift["kind"] for shift in study.task_settings("robustness-d8")["shifts"]}
    assert kinds == set(SHIFTS) - {"none"}


@pytest.mark.parametrize(
    ("shift", "message"),
    [({"kind": "mean", "values": [-1]}, r"tasksets.robustness.shifts\[0\].values.*at least 0"),
     ({"kind": "tails", "values": [1]}, "tails"),
     ({"kind": "wrong-k", "values": [-3]}, "leaves no component")],
)  # fmt: skip
def test_a_shift_that_cannot_be_is_refused_in_one_line(shift, message):
    config = read_config(ROOT / "config.yaml")
    config["tasksets"]["robustness"]["shifts"] = [shift]
    with pytest.raises(UserError, match=message) as error:
        study_from_config(config, ROOT)
    assert "\n" not in str(error.value)


# --- room for the means ------------------------------------------------------------------------------------------


def simulated_acceptance(dimension: int, n_components: int, draws: int = 100_000) -> float:
    means = np.random.default_rng(1).uniform(-5, 5, (draws, n_components, dimension))
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    cosines = means @ means.swapaxes(1, 2)
    cosines[:, range(n_components), range(n_components)] = -1
    return float((cosines.max((1, 2)) < 0.8).mean())


@pytest.mark.parametrize(
    ("dimension", "n_components"), [(1, 2), (2, 2), (2, 3), (2, 5), (2, 6), (3, 5), (3, 8), (5, 9), (8, 12)]
)
def test_the_estimate_is_that_of_plain_simulation(dimension, n_components):
    expected = simulated_acceptance(dimension, n_components)
    assert estimate_acceptance(dimension, n_components) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("dimension", [1, 2, 3, 8])
def test_more_components_fit_less_often_and_more_dimensions_more_often(dimension):
    shares = [estimate_acceptance(dimension, n_components) for n_components in (1, 2, 3, 5, 8)]
    assert shares[0] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares))
    wider = [estimate_acceptance(2 * dimension, n_components) for n_components in (1, 2, 3, 5, 8)]
    assert all(wide >= narrow for wide, narrow in zip(wider, shares, strict=True))


@pytest.mark.parametrize(
    ("dimension", "n_components", "seen"),
    [
        (3, 60, "practically none"),
        (1, 3, "practically none"),
        (2, 8, "about [4-7]e-06"),
        (3, 13, "about .e-0[56]"),
    ],
)
def test_impossible_tasks_are_refused_at_once_with_the_acceptance_seen(dimension, n_components, seen):
    started = time.perf_counter()
    for refused in (check_feasible, lambda d, K: sample_mixtures(1, torch.arange(2), K, d)):
        with pytest.raises(UserError, match=f"d={dimension}, K={n_components}: {seen} of the random sets") as error:
            refused(dimension, n_components)
        assert "\n" not in str(error.value)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("n_components", [1001, 10**12])
def test_absurd_numbers_of_components_are_refused_at_once(n_components):
    with pytest.raises(UserError, match="at most 1000 components"):
        check_feasible(8, n_components)


@pytest.mark.parametrize(("dimension", "n_components"), [(1, 2), (2, 7), (3, 10), (128, 5), (10**5, 20), (8, 40)])
def test_possible_tasks_pass_and_the_rarest_of_them_can_be_drawn(dimension, n_components):
    check_feasible(dimension, n_components)
    assert estimate_acceptance(min(dimension, 32), n_components) >= LOWEST_ACCEPTANCE
    if dimension < 4:
        assert sample_mixtures(1, torch.arange(3), n_components, dimension).means.abs().sum() > 0


def test_a_sampler_that_finds_nothing_gives_up_and_says_after_how_many_attempts(monkeypatch):
    monkeypatch.setattr(sampler, "MOST_ATTEMPTS", 1000)
    monkeypatch.setattr(sampler, "COSINE_LIMIT", -2.0)
    with pytest.raises(UserError, match=r"2 of 2 tasks found no means .* in 993 attempts"):
        sample_mixtures(1, torch.arange(2), 3, 2)


def test_the_check_needs_no_torch():
    code = "import sys; from tgmm.tasks import shifts; shifts.check_feasible(2, 5); "
    code += "print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(("n_components", "dimension"), [(2, 2), (3, 2), (5, 8)])
def test_a_simplex_has_one_distance_equal_weights_and_a_centre_at_the_origin(n_components, dimension):
    index = torch.arange(7)
    mixture = sample_shifted_mixtures(Shift("separation", 3.0), 5, index, n_components, dimension, "isotropic")
    distances = torch.cdist(mixture.means, mixture.means)
    apart = ~torch.eye(n_components, dtype=torch.bool)
    torch.testing.assert_close(distances[:, apart], torch.full_like(distances[:, apart], 3.0))
    torch.testing.assert_close(mixture.means.mean(1), torch.zeros(7, dimension, dtype=torch.float64))
    assert (mixture.weights == 1 / n_components).all()
    assert (mixture.means[0] - mixture.means[1]).abs().max() > 0.1  # each is turned its own way
    wider = sample_shifted_mixtures(Shift("separation", 6.0), 5, index, n_components, dimension, "isotropic")
    torch.testing.assert_close(wider.means, 2 * mixture.means)


def test_more_corners_than_a_space_has_room_for_are_refused():
    with pytest.raises(UserError, match="a regular simplex has at most 3 corners, not K=4"):
        sample_shifted_mixtures(Shift("separation", 1.0), 5, torch.arange(2), 4, 2, "isotropic")
