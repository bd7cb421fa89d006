"""The assignment network, its view of data, its prior and its training."""

import json

import numpy as np
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file

from tgmm.cli.compute import train_assignment
from tgmm.errors import DivergenceError, UserError
from tgmm.models.assignment import AXES, LARGEST, AssignmentNetwork, canonical_view, ranks, usage
from tgmm.models.settings import AssignmentSettings
from tgmm.tasks.prior import draw_tasks, tell_shapes
from tgmm.tasks.settings import HOLDERS, KINDS, SHAPES, PriorSettings
from tgmm.train.assignment import AssignmentTrainer, draw_batch, matched_cross_entropy, train
from tgmm.train.progress import InterruptRequest, TrainingProgress
from tgmm.train.settings import AssignmentTraining

PLAIN = PriorSettings(heavy_tails=0, outliers=0, noise_columns=0, own_units=0)


def draw(B=6, K=3, d=4, N=80, seed=0, settings=PLAIN, **options):
    generator = torch.Generator().manual_seed(seed)
    return draw_tasks(settings, torch.full((B,), K), d, N, generator, **options)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AssignmentNetwork(AssignmentSettings(width=16, blocks=2)).eval()


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_points_are_of_their_components(kind):
    tasks = draw(B=1, K=2, d=2, N=4000, kind=kind, distance=30.0)
    own = tasks.points[0][tasks.labels[0] == 0].double()
    covariance, other = torch.cov(own.T), torch.cov(tasks.points[0][tasks.labels[0] == 1].double().T)
    if kind == 0:
        torch.testing.assert_close(covariance, torch.eye(2).double(), atol=0.2, rtol=0)
    if kind in (0, 4):
        torch.testing.assert_close(covariance, other, atol=0.3, rtol=0.3)
    if kind in (1, 2):
        assert abs(covariance[0, 1]) < 0.1 * covariance.diagonal().prod().sqrt()


def test_tasks_repeat_with_their_seed_and_hold_no_more_components_than_said():
    sizes = torch.tensor([1, 2, 5, 10])
    first, again = (
        draw_tasks(PriorSettings(outliers=1.0), sizes, 3, 400, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(first.points, again.points)
    assert torch.equal(first.labels, again.labels)
    assert torch.all(first.labels < sizes[:, None])
    away = (first.labels == -1).float().mean(1)
    assert 0 < away.max() < 0.1
    assert torch.isfinite(first.points).all()


def test_noise_columns_tell_nothing():
    tasks = draw(B=40, K=2, d=4, N=400, settings=PriorSettings(noise_columns=1.0), kind=0, distance=20.0)
    means = torch.stack(
        [torch.stack([p[y == k].mean(0) for k in range(2)]) for p, y in zip(tasks.points, tasks.labels, strict=True)]
    )
    same = (means[:, 0] - means[:, 1]).abs() < 0.6
    assert 0.3 < same[:, 1:].float().mean() < 0.7


def test_told_shapes_hold_the_tasks_covariances():
    kinds = torch.arange(len(KINDS)).repeat(200)
    told = tell_shapes(kinds, torch.Generator().manual_seed(0))
    for kind in range(len(KINDS)):
        assert set(told[kinds == kind].tolist()) == {0, *HOLDERS[kind]}


def test_the_view_is_blind_to_origin_unit_rotation_and_order():
    points = draw(d=3).points.double()
    shapes = torch.full((len(points),), SHAPES.index("spherical"))
    view = canonical_view(points, shapes)
    turned = (
        points @ torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    )
    torch.testing.assert_close(canonical_view(1e-5 * turned + 100, shapes), view, atol=1e-4, rtol=0)
    order = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(canonical_view(points[:, order], shapes), view[:, order], atol=1e-5, rtol=0)


def test_for_other_shapes_than_spheres_columns_have_no_unit():
    points = draw(d=3).points.double()
    shapes = torch.full((len(points),), SHAPES.index("full"))
    stretched = points * torch.tensor([1e-6, 1.0, 1e5], dtype=torch.float64)
    torch.testing.assert_close(canonical_view(stretched, shapes), canonical_view(points, shapes), atol=1e-4, rtol=0)


def test_the_view_of_many_columns_of_constants_and_of_weights():
    shapes = torch.tensor([SHAPES.index("full")])
    assert canonical_view(torch.randn(1, 30, 20), shapes).shape == (1, 30, 3 * AXES + 2)
    assert canonical_view(torch.randn(1, 30, 3), shapes).shape == (1, 30, 3 * 3 + 2)
    assert torch.isfinite(canonical_view(torch.ones(1, 30, 4), shapes)).all()
    points = draw(B=1).points.double()
    doubled = canonical_view(torch.cat([points, points[:, :20]], 1), shapes)
    weights = torch.ones(1, points.shape[1], dtype=torch.float64)
    weights[:, :20] = 2
    weighted = canonical_view(points, shapes, weights / weights.sum())
    q = points.shape[2]
    torch.testing.assert_close(weighted[..., : 2 * q], doubled[:, : points.shape[1], : 2 * q], atol=1e-5, rtol=0)


def test_ranks_are_shared_by_equal_values():
    values = torch.tensor([[[3.0], [1.0], [1.0], [2.0]]])
    assert ranks(values)[0, :, 0].tolist() == [0.75, -0.5, -0.5, 0.25]


def test_the_network_is_blind_to_the_order_of_points_and_sums_to_one(network):
    points = draw(B=2).points
    shapes = torch.tensor([0, 4])
    order = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(0))
    for K in (3, 0):
        outputs, logits = network(canonical_view(points, shapes), shapes, K)
        turned, same = network(canonical_view(points[:, order], shapes), shapes, K)
        assert outputs[-1].shape == (2, points.shape[1], K or LARGEST)
        torch.testing.assert_close(outputs[-1].exp().sum(-1), torch.ones(2, points.shape[1]))
        torch.testing.assert_close(turned[-1], outputs[-1][:, order], atol=1e-3, rtol=0)
        torch.testing.assert_close(same, logits, atol=1e-4, rtol=0)


def test_cross_entropy_is_blind_to_the_names_of_components_and_to_outliers():
    labels = torch.tensor([[0, 0, 1, 1, 2, -1]])
    certain = torch.tensor([2, 2, 0, 0, 1, 1])
    output = torch.full((1, 6, 3), -20.0).scatter(2, certain[None, :, None], 0.0).log_softmax(-1)
    loss, last = matched_cross_entropy([output, output], labels)
    assert last == pytest.approx(0.0, abs=1e-6)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    _, uniform = matched_cross_entropy([torch.zeros(1, 6, 3).log_softmax(-1)], labels)
    assert uniform == pytest.approx(np.log(3), abs=1e-6)


SMALL = AssignmentTraining(
    tasks=80, batch=4, validation_batches=3, network=AssignmentSettings(width=16, blocks=2, heads=2, waves=2)
)


def test_batches_are_of_every_kind_and_a_seed_fixes_them():
    batches = [draw_batch(SMALL, seed) for seed in range(60)]
    assert {0, 2, 3} <= {K for _, _, K in batches}
    for tasks, shapes, K in batches:
        assert torch.isfinite(tasks.points).all()
        assert len(shapes) == len(tasks.points)
        assert K == 0 or torch.all(tasks.n_components == K)
    assert {tasks.points.shape[2] for tasks, _, _ in batches} >= {1, 2, 8}
    again, shapes, K = draw_batch(SMALL, 7)
    assert torch.equal(again.points, batches[7][0].points)
    assert torch.equal(shapes, batches[7][1])
    assert batches[7][2] == K


def test_a_training_leaves_weights_and_a_record(tmp_path):
    assert train(SMALL, tmp_path / "out", tmp_path / "work", visible=False) is None
    record = json.loads((tmp_path / "out" / "assignment.json").read_text())
    assert record["steps"] == 20
    assert 40 < record["tasks"] <= 80
    assert record["history"][-1]["tasks"] == record["tasks"]
    assert "validation_told" in record["history"][-1]
    assert AssignmentTraining.read(record["settings"]) == SMALL
    network = AssignmentNetwork(SMALL.network)
    network.load_state_dict(load_file(tmp_path / "out" / "assignment.safetensors"))
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path):
    train(SMALL, tmp_path / "whole", tmp_path / "work", visible=False)
    folder = tmp_path / "other" / "assignment" / SMALL.fingerprint()
    folder.mkdir(parents=True)
    request, trainer = InterruptRequest(), AssignmentTrainer(SMALL, folder)
    request.receive(15, None)
    assert not trainer.run(TrainingProgress("assignment", 80, visible=False), request)
    assert trainer.record.step == 1
    assert train(SMALL, tmp_path / "parts", tmp_path / "other", visible=False) is None
    whole, parts = (load_file(tmp_path / name / "assignment.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    records = [json.loads((tmp_path / name / "assignment.json").read_text()) for name in ("whole", "parts")]
    assert records[0]["history"] == records[1]["history"]


def test_a_training_that_diverges_stops_in_one_line_and_keeps_its_states(tmp_path):
    trainer = AssignmentTrainer(SMALL, tmp_path)
    with torch.no_grad():
        trainer.network.read_in.weight[0, 0] = torch.nan
    with pytest.raises(DivergenceError, match=r"not finite in step 0; take a smaller assignment\.learning_rate"):
        trainer.take_step()


def test_the_rate_is_constant_and_then_falls_to_zero():
    trainer = AssignmentTrainer(SMALL.model_copy(update={"tasks": 40_000, "validation_batches": 1}), None)
    assert trainer.rate(0) == pytest.approx(SMALL.learning_rate / 500)
    assert trainer.rate(600) == trainer.rate(6400) == SMALL.learning_rate
    assert trainer.rate(9999) == pytest.approx(SMALL.learning_rate / 3500)


def test_impossible_priors_are_refused_by_name():
    with pytest.raises(UserError, match=r"kinds.*6 shares"):
        AssignmentTraining.read({"prior": {"kinds": [1.0]}})
    with pytest.raises(UserError, match=r"components.*2"):
        AssignmentTraining.read({"prior": {"components": [3, 4]}})


def test_shares_of_components_are_ordered_and_padded():
    certain = torch.full((1, 10, 3), -20.0)
    for point in range(10):
        certain[0, point, 2 if point < 7 else 0] = 0.0
    told = usage(certain.log_softmax(-1))[0]
    assert told.shape == (LARGEST + 1,)
    torch.testing.assert_close(told[:2].exp(), torch.tensor([0.701, 0.301]), atol=1e-3, rtol=0)
    torch.testing.assert_close(told[2:-1].exp(), torch.full((LARGEST - 2,), 1e-3), atol=1e-4, rtol=0)
    assert told[-1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("d", [1, 3, AXES])
def test_axes_that_the_data_do_not_have_read_as_zeros(network, d):
    """The read-in of q axes is the linear layer applied to the view padded with zeros, written out."""
    seen = canonical_view(draw(B=2, d=d).points, torch.tensor([4, 2]))
    parts = [torch.nn.functional.pad(part, (0, AXES - d)) for part in seen[..., :-2].split(d, -1)]
    padded = torch.cat([*parts, seen[..., -2:]], -1)
    frequencies = torch.pi / 8 * 2.0 ** torch.arange(network.settings.waves)
    angles = (padded[..., : 2 * AXES, None] * frequencies).flatten(-2)
    expected = network.read_in(torch.cat([padded, angles.sin(), angles.cos()], -1))
    torch.testing.assert_close(network.read(seen), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden", [None, 5])
def test_ranks_with_and_without_equal_values_and_padding(hidden):
    values = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shown = values if hidden is None else values[:, :-hidden]
    mask = None if hidden is None else (torch.arange(12) >= 12 - hidden).expand(2, -1)
    expected = (scipy.stats.rankdata(shown.numpy(), axis=1) * 2 - 1) / shown.shape[1] - 1
    found = ranks(values, mask)[:, : shown.shape[1]]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    values[:, 1] = values[:, 0]
    expected = (scipy.stats.rankdata(shown.numpy(), axis=1) * 2 - 1) / shown.shape[1] - 1
    np.testing.assert_allclose(ranks(values, mask)[:, : shown.shape[1]].numpy(), expected, atol=1e-12)


def test_bad_settings_and_outputs_are_refused_before_any_work(tmp_path):
    (tmp_path / "out" / "assignment.json").mkdir(parents=True)
    given = {"out": tmp_path / "out", "work": tmp_path / "work"}
    with pytest.raises(UserError, match=r"assignment\.json: is a folder"):
        train_assignment(**given, settings=json.dumps(SMALL.plain()))
    with pytest.raises(UserError, match="settings of tgmm train-assignment: unknown key 'task'; did you mean 'tasks'"):
        train_assignment(**given, settings=json.dumps({"task": 3}))
    assert not (tmp_path / "work").exists()
