"""One bad data set among many: it fails with a reason, and the others are estimated as if it were not there."""

from __future__ import annotations

import math

import pytest
import torch

from tgmm.evaluate import ScoreSettings, build_scored, score_taskset
from tgmm.methods import base
from tgmm.methods.base import FitResult, TaskPoints, estimate_sample_mean, guarded
from tgmm.methods.settings import AnyMethod, MethodContext, SampleMean
from tgmm.metrics import l2_error
from tgmm.mixture import Mixture
from tgmm.models.checkpoint import save_checkpoint
from tgmm.models.settings import NetworkSettings
from tgmm.settings import read_as
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.tasks.taskset import Cell, sample_taskset

INDEX = torch.arange(4)
OTHERS = [0, 2, 3]
METHODS = {
    "em": {"kind": "em", "start": "normal"},
    "em-restarts": {"kind": "em", "start": "k-means++", "starts": 3},
    "em-oracle": {"kind": "em", "start": "truth"},
    "em-standardised": {"kind": "em", "start": "k-means++", "standardise": True},
    "spectral": {"kind": "spectral"},
    "spectral-standardised": {"kind": "spectral", "standardise": True},
    "sample-mean": {"kind": "sample-mean"},
    "network": {"kind": "tgmm"},
    "network-em": {"kind": "tgmm", "em_steps": 3},
}
BAD = [torch.nan, torch.inf, -torch.inf, 1e30, 1e200, 1.7e308]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with an untrained network that sees the points in their principal axes."""
    torch.manual_seed(0)
    values = {"kind": "components", "dimension": 8, "n_components": [2, 3], "width": 16, "blocks": 2, "heads": 2}
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(folder, NetworkSettings.from_dict(values | {"axes": 5}).build(), {"family": "toy"})
    return folder


def built(entry: dict, model=None) -> base.Method:
    return read_as(AnyMethod, entry, "method").build(MethodContext("isotropic", torch.device("cpu"), model))


def some_tasks() -> TaskPoints:
    truth = sample_mixtures(5, INDEX, 3, 8)
    return TaskPoints(sample_points(truth, 5, INDEX, 48)[0].double(), 3, 5, INDEX, truth)


@pytest.mark.parametrize("name", METHODS)
def test_a_bad_task_is_a_failure_with_a_reason_and_leaves_the_others_alone(name, model):
    method, task = built(METHODS[name], model), some_tasks()
    without = method(task)
    for bad in BAD:
        points = task.points.clone()
        points[1, 7, 2] = bad
        result = method(TaskPoints(points, 3, 5, INDEX, task.truth))
        for one, other in zip(result.mixture.tensors(), without.mixture.tensors(), strict=True):
            if one is not None:
                torch.testing.assert_close(one[OTHERS], other[OTHERS], rtol=1e-5, atol=1e-6, equal_nan=True)
        reasons = {number: reason for number, reason in result.failures.items() if number != 1}
        assert reasons == {number: reason for number, reason in without.failures.items() if number != 1}
        finite = all(tensor[1].isfinite().all() for tensor in result.mixture.tensors() if tensor is not None)
        assert finite != (1 in result.failures)
        if not math.isfinite(bad):
            assert result.failures[1] == "the points are not all finite"


@pytest.mark.parametrize("name", ["em", "em-oracle", "spectral", "sample-mean"])
def test_of_anisotropic_tasks_the_scales_are_no_numbers_either(name):
    truth = sample_mixtures(5, INDEX, 2, 3, "anisotropic")
    points = sample_points(truth, 5, INDEX, 40)[0]
    points[1, 0, 0] = torch.inf
    context = MethodContext("anisotropic", torch.device("cpu"))
    result = read_as(AnyMethod, METHODS[name], "method").build(context)(TaskPoints(points, 2, 5, INDEX, truth))
    assert result.failures[1] == "the points are not all finite"
    assert all(tensor[1].isnan().all() for tensor in result.mixture.tensors() if tensor is not None)
    if name != "spectral":
        assert all(tensor[OTHERS].isfinite().all() for tensor in result.mixture.tensors())


def test_all_tasks_may_be_bad(model):
    task = some_tasks()
    for entry in METHODS.values():
        result = built(entry, model)(TaskPoints(task.points * torch.nan, 3, 5, INDEX, task.truth))
        assert result.failures == dict.fromkeys(range(4), "the points are not all finite")
        assert result.mixture.means.shape == (4, 3, 8)


@pytest.mark.parametrize("n_points", [1, 2])
def test_fewer_points_than_components_are_failures_not_the_end(n_points, model):
    task = some_tasks()
    few = TaskPoints(task.points[:, :n_points], 3, 5, INDEX, task.truth)
    for name, entry in METHODS.items():
        result = built(entry, model)(few)
        if name.startswith("em"):
            assert result.failures == dict.fromkeys(range(4), f"not applicable: K=3 exceeds N={n_points}")
        assert all(result.mixture.means[task].isfinite().all() or task in result.failures for task in range(4))


def test_a_matrix_that_cannot_be_decomposed_fails_its_own_task_alone():
    def method(task: TaskPoints) -> FitResult:
        if (task.points > 100).any():
            raise torch.linalg.LinAlgError("the algorithm failed to converge\nand more")
        means = task.points[:, :3]
        return FitResult(Mixture(torch.ones_like(means[..., 0]), means, means + 1), torch.ones_like(task.index))

    task = some_tasks()
    points = task.points.clone()
    points[1, 0, 0] = 1000.0
    result = guarded(method)(TaskPoints(points, 3, 5, INDEX, task.truth))
    assert result.failures == {1: "a matrix cannot be decomposed: the algorithm failed to converge"}
    assert torch.equal(result.mixture.means[OTHERS], points[OTHERS, :3])
    assert torch.equal(result.mixture.standard_deviations[OTHERS], points[OTHERS, :3] + 1)
    assert result.iterations.tolist() == [1, 0, 1, 1]


def test_an_estimate_that_is_not_finite_is_a_failure_whichever_of_its_numbers():
    task = some_tasks()
    for part in range(3):
        tensors = [torch.ones(4, 3), torch.ones(4, 3, 8), torch.ones(4, 3, 8)]
        tensors[part][2] = torch.inf
        result = guarded(lambda task, tensors=tensors: FitResult(Mixture(*tensors), task.index, {0: "own"}))(task)
        assert result.failures == {0: "own", 2: "the estimate is not finite"}


def test_scores_have_a_row_for_every_task(monkeypatch, model):
    """As `tgmm score` writes them: the bad task is marked, with its reason; no other row has lost its numbers."""
    settings = {
        "taskset": "toy", "covariance": "isotropic", "dimension": 8, "n_components": [3], "n_points": [48], "tasks": 4,
        "heldout_points": 10, "seed": 1,
    }  # fmt: skip
    taskset, drawn = sample_taskset(settings), Cell.points

    def with_a_bad_point(cell, tasks):
        points, labels = drawn(cell, tasks)
        points[1, 0, 0] = torch.nan
        return points, labels

    monkeypatch.setattr(Cell, "points", with_a_bad_point)
    for name, entry in METHODS.items():
        values = ScoreSettings.from_dict({"method": name, "scale": "smoke", "seed": 1, **entry})
        (table,) = score_taskset(taskset, [build_scored(values, "isotropic", torch.device("cpu"), model)])
        assert table.failed.tolist()[1]
        assert table.failure_reason[1] == "the points are not all finite"
        assert table.l2_error.isna().tolist()[1]
        assert table.l2_error[~table.failed].notna().all()
        assert len(table) == 4


# --- the trivial estimate ----------------------------------------------------------------------------------------


def make_points(*tasks: list[list[float]]) -> torch.Tensor:
    return torch.tensor(tasks, dtype=torch.float32)


def test_its_error_is_that_of_its_definition():
    """Means (2, 0), (-2, 0) and (0, 4), points with mean (1, 1): distances 2, 10 and 10 in d = 2."""
    truth = Mixture(torch.tensor([[0.5, 0.3, 0.2]]).double(), torch.tensor([[[2, 0], [-2, 0], [0, 4]]]).double())
    estimate = estimate_sample_mean(make_points([[1.0, 0.0], [0.0, 2.0], [2.0, 1.0]]), 3).mixture
    expected = (2 + 10 + 10) / 2 / 3 + sum((1 / 3 - weight) ** 2 for weight in (0.5, 0.3, 0.2)) / 3
    assert l2_error(estimate, truth).item() == pytest.approx(expected)


def test_every_component_is_the_same_whatever_the_order_of_the_points(make_mixture):
    points = make_mixture(4, 50, 3).means
    result = estimate_sample_mean(points, 5)
    assert result.mixture.standard_deviations is None
    assert result.failures == {}
    torch.testing.assert_close(result.mixture.weights, torch.full((4, 5), 0.2, dtype=torch.float64))
    torch.testing.assert_close(result.mixture.means, points.mean(1, keepdim=True).expand(-1, 5, -1))
    again = estimate_sample_mean(points.flip(1), 5)
    torch.testing.assert_close(again.mixture.means, result.mixture.means)


def test_anisotropic_tasks_get_the_sample_standard_deviations():
    points = make_points([[0.0, -3.0], [2.0, 3.0]])
    scales = estimate_sample_mean(points, 2, "anisotropic").mixture.standard_deviations
    torch.testing.assert_close(scales, torch.tensor([[[1.0, 3.0], [1.0, 3.0]]]).double())


def test_points_that_are_not_finite_are_a_failure():
    points = make_points([[0.0, 1.0], [2.0, 1.0]], [[0.0, float("nan")], [2.0, 1.0]], [[float("inf"), 0.0], [0.0, 0.0]])
    assert estimate_sample_mean(points, 2).failures == dict.fromkeys((1, 2), "the points are not all finite")


def test_the_settings_build_it_for_either_covariance(make_mixture):
    truth = make_mixture(2, 3, 4, scales=True)
    task = TaskPoints(truth.means, 3, 1, torch.arange(2), truth)
    for covariance in ("isotropic", "anisotropic"):
        result = SampleMean(kind="sample-mean").build(MethodContext(covariance, torch.device("cpu")))(task)
        expected = estimate_sample_mean(truth.means, 3, covariance).mixture
        torch.testing.assert_close(result.mixture.means, expected.means)
        assert (result.mixture.standard_deviations is None) == (covariance == "isotropic")
