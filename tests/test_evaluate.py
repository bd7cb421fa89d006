"""Scores: every task has its row, in the agreed columns, with the right numbers or the reason why there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.mixture import GaussianMixture

from tgmm import metrics
from tgmm.errors import UserError
from tgmm.evaluate import Scored, ScoreSettings, build_scored, score_estimates, score_taskset, write_scores
from tgmm.methods.base import FitResult
from tgmm.mixture import Mixture
from tgmm.models.checkpoint import save_checkpoint
from tgmm.models.settings import ComponentsNetwork
from tgmm.tasks import taskset as taskset_module
from tgmm.tasks.taskset import TaskSet, sample_taskset

COLUMNS = [
    "scale", "taskset", "covariance", "d", "K", "N", "shift", "shift_value", "task_id", "method", "family", "recipe",
    "seed", "mean_error", "weight_error", "scale_error", "l2_error", "l2_error_reference", "weight_cross_entropy",
    "accuracy", "log_likelihood", "log_likelihood_heldout", "log_likelihood_reference", "dropped_reference",
    "seconds", "iterations", "failed", "failure_reason",
]  # fmt: skip
METRICS = COLUMNS[13:24]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tasks() -> TaskSet:
    return sample_taskset({
        "taskset": "toy", "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "n_points": [32, 64],
        "tasks": 6, "heldout_points": 50, "seed": 1,
    })  # fmt: skip


def score(tasks: TaskSet, **settings) -> pd.DataFrame:
    return scored_by(tasks, build(settings, tasks.settings["covariance"], settings.pop("model", None)))


def build(settings: dict, covariance: str = "isotropic", model: Path | None = None) -> Scored:
    values = {"scale": "smoke", "method": "toy-method", "seed": 1, **settings}
    return build_scored(ScoreSettings.from_dict(values), covariance, CPU, model)


def scored_by(tasks: TaskSet, method: Scored) -> pd.DataFrame:
    return score_taskset(tasks, [method])[0]


def given(name: str, estimate) -> Scored:
    """A method that is a function of a task."""
    settings = {"method": name, "kind": "em", "scale": "smoke", "seed": 1}
    return Scored(ScoreSettings.from_dict(settings), estimate)


def without_seconds(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.drop(columns="seconds")


def test_every_task_of_every_cell_has_one_row_in_the_agreed_columns(tasks):
    scores = score(tasks, kind="em", start="truth", method="em-oracle", family="f")
    assert list(scores.columns) == COLUMNS
    assert len(scores) == 24
    assert not scores.duplicated(["K", "N", "task_id"]).any()
    assert scores.groupby(["K", "N"]).task_id.apply(list).tolist() == [list(range(6))] * 4
    fixed = {"scale": "smoke", "taskset": "toy", "covariance": "isotropic", "d": 2, "shift": "none", "shift_value": 0.0,
             "method": "em-oracle", "family": "f", "recipe": "", "seed": 1, "failure_reason": ""}  # fmt: skip
    for column, value in fixed.items():
        assert (scores[column] == value).all(), column
    assert (scores.seconds > 0).all()
    assert (scores.iterations > 0).all()
    assert not scores.failed.any()
    assert scores[METRICS].drop(columns="scale_error").notna().all(axis=None)
    assert scores.scale_error.isna().all()
    np.testing.assert_allclose(scores.l2_error, scores.mean_error + scores.weight_error)


def test_a_perfect_relabelled_estimate_scores_as_the_truth(tasks):
    cell = tasks.cells[2]
    truth, everything = cell.mixture, slice(None)
    points, labels = cell.points(everything)
    order = torch.tensor([[1, 2, 0]] * 6)  # not its own inverse
    scores = score_estimates(
        truth.permute_components(order), truth, points.double(), labels, cell.heldout(everything).double()
    )
    assert set(scores) == set(METRICS)
    assert (scores["l2_error"] == 0).all()
    assert (scores["l2_error_reference"] > 1).all()
    torch.testing.assert_close(scores["weight_cross_entropy"], torch.special.entr(truth.weights).sum(1))
    for task in range(6):
        model = GaussianMixture(3, covariance_type="spherical")
        model.weights_, model.means_ = truth.weights[task].numpy(), truth.means[task].numpy()
        model.precisions_cholesky_ = np.ones(3)
        data, fresh = points[task].double().numpy(), cell.heldout(everything)[task].double().numpy()
        assert scores["log_likelihood"][task].item() == pytest.approx(model.score(data), rel=1e-10)
        assert scores["log_likelihood_heldout"][task].item() == pytest.approx(model.score(fresh), rel=1e-10)
        assert scores["accuracy"][task].item() == pytest.approx((model.predict(data) == labels[task].numpy()).mean())


def test_a_known_offset_gives_the_known_errors(tasks):
    cell = tasks.cells[0]
    truth, points, labels = cell.mixture, *cell.points(slice(None))
    moved = Mixture(truth.weights, truth.means + torch.tensor([0.3, 0.4]).double())
    scores = score_estimates(moved, truth, points.double(), labels, cell.heldout(slice(None)).double())
    torch.testing.assert_close(scores["mean_error"], torch.full((6,), 0.125).double())
    assert (scores["weight_error"] == 0).all()


def test_a_failed_task_is_a_row_without_metrics_and_with_its_reason(tasks):
    def method(task):
        means = task.truth.means.clone()
        means[4] = torch.nan
        return FitResult(Mixture(task.truth.weights, means), torch.full((6,), 3), {4: "it did not converge"})

    scores = scored_by(tasks, given("fussy", method))
    assert len(scores) == 24
    assert (scores.failed == (scores.task_id == 4)).all()
    bad, good = scores[scores.failed], scores[~scores.failed]
    assert bad[METRICS].isna().all(axis=None)
    assert (bad.failure_reason == "it did not converge").all()
    assert (good.failure_reason == "").all()
    assert (good.l2_error == 0).all()
    assert (scores.seconds > 0).all()


def test_a_failure_hides_even_finite_numbers(tasks):
    def method(task):
        return FitResult(task.truth, torch.zeros(6, dtype=torch.int64), {0: "does not trust itself"})

    scores = scored_by(tasks, given("modest", method))
    assert scores[scores.task_id == 0][METRICS].isna().all(axis=None)


def test_the_spectral_method_does_not_apply_to_anisotropic_tasks():
    tasks = sample_taskset({
        "taskset": "toy", "covariance": "anisotropic", "dimension": 4, "n_components": [2], "n_points": [32],
        "tasks": 3, "heldout_points": 8, "seed": 1,
    })  # fmt: skip
    scores = score(tasks, kind="spectral")
    assert scores.failed.all()
    assert scores.failure_reason.str.startswith("not applicable to unequal covariances").all()
    assert scores[METRICS].isna().all(axis=None)


def test_the_spectral_method_says_why_it_cannot_find_more_components_than_dimensions(tasks):
    scores = score(tasks, kind="spectral")
    impossible, possible = scores[scores.K == 3], scores[scores.K == 2]
    assert impossible.failed.all()
    assert impossible[METRICS].isna().all(axis=None)
    assert impossible.failure_reason.str.len().gt(0).all()
    assert not possible.failed.all()


def test_methods_see_the_same_tasks_and_repeat_themselves(tasks):
    first, second = (score(tasks, kind="em", start="k-means++", starts=2) for _ in range(2))
    pd.testing.assert_frame_equal(without_seconds(first), without_seconds(second))
    oracle, normal = score(tasks, kind="em", start="truth"), score(tasks, kind="em", start="normal")
    assert oracle.l2_error.mean() < normal.l2_error.mean()
    assert oracle.l2_error.median() < 0.3


def test_each_row_holds_its_own_tasks_likelihoods_and_accuracy(tasks):
    scores = scored_by(tasks, given("truth", lambda task: FitResult(task.truth, torch.zeros(6, dtype=torch.int64))))
    for cell, (key, rows) in zip(tasks.cells, scores.groupby(["K", "N"]), strict=True):
        assert key == (cell.n_components, cell.n_points)
        points, labels = cell.points(slice(None))
        seen = metrics.mean_log_likelihood(cell.mixture, points.double())
        fresh = metrics.mean_log_likelihood(cell.mixture, cell.heldout(slice(None)).double())
        accuracy = metrics.clustering_accuracy(cell.mixture, points.double(), labels)
        np.testing.assert_allclose(rows.log_likelihood, seen)
        np.testing.assert_allclose(rows.log_likelihood_heldout, fresh)
        np.testing.assert_allclose(rows.accuracy, accuracy)
        assert not np.allclose(rows.log_likelihood, rows.log_likelihood_heldout)


@pytest.mark.parametrize("settings", [{"kind": "em", "start": "normal"}, {"kind": "spectral"}], ids=lambda s: s["kind"])
def test_scores_do_not_depend_on_the_chunks(tasks, settings, monkeypatch):
    whole = score(tasks, **settings)
    monkeypatch.setattr(taskset_module, "CHUNK_NUMBERS", 2 * 64 * 2)
    chunked = score(tasks, **settings)
    pd.testing.assert_frame_equal(without_seconds(whole), without_seconds(chunked), rtol=1e-6, atol=1e-9)


def test_a_trained_network_is_scored_from_its_folder(tasks, tmp_path):
    torch.manual_seed(0)
    network = ComponentsNetwork(dimension=2, width=8, blocks=1, heads=2).build().half().float()  # as files hold it
    save_checkpoint(tmp_path, network, {"family": "toy"})
    scores = {steps: score(tasks, kind="tgmm", em_steps=steps, model=tmp_path) for steps in (0, 5)}
    assert not scores[0].failed.any()
    assert scores[5].log_likelihood.mean() > scores[0].log_likelihood.mean()
    assert (scores[5].iterations == 5).all()
    cell = tasks.cells[0]
    with torch.no_grad():
        estimate = network.eval()(cell.points(slice(None))[0], torch.full((6,), 2))[-1].mixture(2).to(torch.float64)
    expected = metrics.l2_error(estimate, cell.mixture).numpy()
    np.testing.assert_allclose(scores[0][(scores[0].K == 2) & (scores[0].N == 32)].l2_error, expected, rtol=1e-5)


def test_anisotropic_scales_are_scored():
    tasks = sample_taskset({
        "taskset": "toy", "covariance": "anisotropic", "dimension": 3, "n_components": [2], "n_points": [128],
        "tasks": 4, "heldout_points": 20, "seed": 1,
    })  # fmt: skip
    scores = score(tasks, kind="em", start="truth")
    assert scores.scale_error.notna().all()
    assert scores.scale_error.median() < 0.2
    assert (scores.covariance == "anisotropic").all()


def test_written_scores_come_back(tasks, tmp_path):
    scores = score(tasks, kind="spectral")
    write_scores(tmp_path / "deep" / "scores.parquet", scores)
    again = pd.read_parquet(tmp_path / "deep" / "scores.parquet")
    pd.testing.assert_frame_equal(again, scores, check_dtype=False, rtol=1e-6)
    assert (again.dtypes[[*METRICS, "seconds"]] == "float32").all()
    others = [name for name in COLUMNS if name not in (*METRICS, "seconds")]
    pd.testing.assert_frame_equal(again[others], scores[others])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.parquet"]


def test_a_wrong_method_is_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean 'spectral'"):
        build({"kind": "spectrl"})
    with pytest.raises(UserError, match="'tgmm-x': a trained network needs the folder of its model"):
        build({"kind": "tgmm", "method": "tgmm-x"})
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        build({"kind": "tgmm"}, model=tmp_path / "absent")
    with pytest.raises(UserError, match="'em_steps' must be greater than or equal to 0, not -1"):
        build({"kind": "tgmm", "em_steps": -1}, model=tmp_path)


def test_a_network_is_not_scored_on_tasks_of_another_kind(tasks, tmp_path):
    save_checkpoint(tmp_path, ComponentsNetwork(dimension=3, width=8, blocks=1, heads=2).build(), {"family": "toy"})
    with pytest.raises(UserError, match="d=3"):
        score(tasks, kind="tgmm", model=tmp_path)
    with pytest.raises(UserError, match="isotropic"):
        build({"kind": "tgmm"}, "anisotropic", tmp_path)


def test_several_methods_are_scored_as_each_is_alone(tasks):
    methods = [build({"kind": "em", "start": start, "method": start}) for start in ("truth", "normal")]
    together = score_taskset(tasks, methods)
    for method, scores in zip(methods, together, strict=True):
        pd.testing.assert_frame_equal(without_seconds(scores), without_seconds(scored_by(tasks, method)))
