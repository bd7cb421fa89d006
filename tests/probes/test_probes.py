"""Looking inside a network: hooks that change nothing, probes that find what is there, EM beside the blocks."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from tgmm.aggregate import read_table
from tgmm.cli.compute import probe
from tgmm.columns import PICTURE_COLUMNS, PROBE_COLUMNS
from tgmm.errors import UserError
from tgmm.methods.em import run_em_steps
from tgmm.metrics import best_permutation, l2_error, pairwise_errors
from tgmm.mixture import Mixture, responsibilities
from tgmm.models.attention import SMALLEST_SHARE, ScatterAttention
from tgmm.models.checkpoint import save_checkpoint
from tgmm.models.settings import NETWORK_KINDS
from tgmm.probes import measure
from tgmm.probes.measure import correlation, cosine, em_path, fit_probe, over_points, parameter_vector, without
from tgmm.probes.trace import FIT, TEST, Trace, align, load_networks, trace_network, trace_tasks

FAMILY = "isotropic-d2-n16-components"
SETTINGS = {
    "family": FAMILY, "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "longest": 16, "tasks": 8,
    "em_steps": 3, "bootstrap": 50, "seed": 1, "scale": "smoke",
}  # fmt: skip


def toy_network(kind: str = "components", seed: int = 3) -> torch.nn.Module:
    torch.manual_seed(seed)
    return NETWORK_KINDS[kind](dimension=2, n_components=(2, 3), width=16, blocks=3, heads=4).build().eval()


def some_points(n_tasks: int = 6, n_points: int = 16) -> torch.Tensor:
    return 3.0 * torch.randn(n_tasks, n_points, 2, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder whose weights are not those that the untrained control has."""
    folder = tmp_path_factory.mktemp("probes") / FAMILY
    save_checkpoint(folder, toy_network(seed=99), {"family": FAMILY, "settings": {"seed": 1}})
    return folder


@pytest.fixture(scope="module")
def measured(model):
    return measure.measure_probes(model, SETTINGS)


def test_recorded_attention_gives_the_modules_output():
    network, points = toy_network(), some_points()
    seen: list[tuple] = []
    parts = [block.gather for block in network.gathers] + [block.scatter for block in network.scatters]
    hooks = [part.register_forward_hook(lambda module, inputs, output: seen.append((module, output))) for part in parts]
    trace = trace_network(network, points, 3)
    for hook in hooks:
        hook.remove()
    recorded = {id(block.gather): part for block, part in zip(network.gathers, trace.gather, strict=True)}
    recorded |= {id(block.scatter): part for block, part in zip(network.scatters, trace.scatter, strict=True)}
    assert len(seen) == len(recorded) == 5
    for module, output in seen:
        spread = recorded[id(module)]
        if isinstance(module, ScatterAttention):
            assert_close((spread.mean(-1) + SMALLEST_SHARE).log().mT, output[1][:, :3].detach())
            assert_close(spread.sum(2), torch.ones(6, 4, 16))
        else:
            assert_close(spread.sum(3), torch.ones(6, 4, 3))


def test_a_trace_holds_every_part_and_changes_nothing():
    network, points = toy_network(), some_points()
    with torch.no_grad():
        before = network(points, torch.full((6,), 2))
    trace = trace_network(network, points, 2)
    for estimate, plain in zip(trace.estimates, before, strict=True):
        assert_close(estimate.means, plain.mixture(2).means.double())
        assert_close(estimate.weights, plain.mixture(2).weights.double())
    assert [tokens.shape for tokens in trace.tokens] == [(6, 2, 16)] * 4
    assert [part.shape for part in trace.gather] == [(6, 4, 2, 16)] * 3
    assert [part.shape for part in trace.scatter] == [(6, 4, 2, 16)] * 2
    assert_close(trace.gather[1].sum(3), torch.ones(6, 4, 2))
    assert_close(trace.scatter[1].sum(2), torch.ones(6, 4, 16))
    size = network.size_embedding(torch.tensor(0))
    assert_close(trace.tokens[0][0], (network.seeds + size)[:2].detach())
    read_out = network.read_out
    assert_close(read_out.mean(read_out.norm(trace.tokens[3])).double(), trace.estimates[2].means)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_trace_does_not_depend_on_its_chunks(monkeypatch):
    network, points = toy_network(), some_points()
    whole = trace_network(network, points, 3)
    monkeypatch.setattr("tgmm.probes.trace.CHUNK_NUMBERS", 2 * 16 * 16)
    parts = trace_network(network, points, 3)
    assert_close(parts.tokens[2], whole.tokens[2])
    assert_close(parts.scatter[0], whole.scatter[0])
    assert_close(parts.estimates[-1].means, whole.estimates[-1].means)


def test_networks_without_component_tokens_are_refused():
    with pytest.raises(UserError, match="kind 'components'; this one is 'set-encoder'"):
        trace_network(toy_network("set-encoder"), some_points(), 2)


def test_a_probe_recovers_a_planted_linear_map():
    generator = torch.Generator().manual_seed(5)
    planted = torch.randn(12, 3, generator=generator).double()
    features = torch.randn(200, 4, 12, generator=generator)
    targets = features.double() @ planted + 2.0
    noisy = targets + 0.1 * torch.randn(targets.shape, generator=generator)
    fitted = fit_probe(features, noisy)
    assert_close(fitted(features[:5]), targets[:5], atol=0.06, rtol=0)
    assert_close(fit_probe(features, targets)(features[:5]), targets[:5], atol=1e-3, rtol=0)


def test_a_probe_finds_nothing_in_noise():
    generator = torch.Generator().manual_seed(6)
    features, targets = torch.randn(300, 4, 12, generator=generator), torch.randn(300, 4, 1, generator=generator)
    fitted = fit_probe(features[:200], targets[:200])
    errors = (fitted(features[200:]) - targets[200:]).square().mean((1, 2))
    assert abs(measure.explained(errors, targets[200:].double()).mean()) < 0.1
    assert fitted.penalty >= 1.0


def test_the_mean_share_explained_is_r_squared():
    targets, errors = torch.randn(40, 3, 2).double() + 7.0, torch.rand(40).double()
    spread = (targets - targets.mean((0, 1))).square().mean()
    assert_close(measure.explained(errors, targets).mean(), 1.0 - errors.mean() / spread)


def test_correlation_is_pearsons_and_zero_for_a_constant():
    attention, reference = torch.rand(3, 2, 4, 9).double(), torch.rand(3, 4, 9).double()
    found = correlation(attention, reference)
    assert found[1, 1].item() == pytest.approx(np.corrcoef(attention[1, 1].flatten(), reference[1].flatten())[0, 1])
    assert_close(correlation(reference[:, None] * 0.5 + 2.0, reference), torch.ones(3, 1).double())
    assert (correlation(torch.ones_like(attention), reference) == 0).all()
    assert_close(over_points(reference).sum(2), torch.ones(3, 4).double())


def test_em_by_iteration_is_em(make_mixture):
    points = some_points().double()
    start = make_mixture(6, 3, 2)
    path = em_path(start, points, 4)
    assert len(path) == 5
    for steps, mixture in enumerate(path):
        direct = run_em_steps(start, points, steps) if steps else start
        assert_close(mixture.means, direct.means)
        assert_close(mixture.weights, direct.weights)


def test_distances_of_parameter_vectors_are_the_l2_error(make_mixture):
    truth = make_mixture(4, 3, 5)
    near = Mixture(truth.weights, truth.means + 0.01)
    squared = (parameter_vector(near) - parameter_vector(truth)).square().sum(1)
    assert_close(squared / 3, l2_error(near, truth))


def test_what_is_left_beside_a_direction_is_orthogonal_to_it():
    vectors, direction = torch.randn(5, 7).double(), torch.randn(5, 7).double()
    assert_close(cosine(without(vectors, direction), direction), torch.zeros(5).double())
    assert_close(cosine(vectors, 3.0 * vectors), torch.ones(5).double())


def test_truth_and_read_outs_stand_in_the_order_of_the_tokens(make_mixture):
    truth = make_mixture(8, 3, 2)
    cycle = torch.tensor([1, 2, 0]).expand(8, -1)
    last, early = truth.permute_components(cycle), truth
    aligned = align(some_points(8), truth, Trace([], [early, last], [], []))
    assert_close(aligned.truth.means, last.means)
    for estimate in aligned.estimates:
        assert_close(estimate.means, last.means)
    assert aligned.reordered[0].all()
    assert not aligned.reordered[1].any()


def test_probe_tasks_are_apart_and_matched_by_the_last_read_out(model):
    network = load_networks(model, SETTINGS)["trained"]
    fits, tests = trace_tasks(network, SETTINGS, FIT), trace_tasks(network, SETTINGS, TEST)
    assert [len(part.points) for part in (*fits, *tests)] == [32, 32, 8, 8]
    assert not torch.equal(fits[0].points[:8], tests[0].points)
    order = best_permutation(pairwise_errors(tests[1].trace.estimates[-1], tests[1].truth))
    assert (order == torch.arange(3)).all()


def test_the_untrained_control_has_other_weights_and_other_results(model, measured):
    networks = load_networks(model, SETTINGS)
    trained, untrained = (networks[name].state_dict() for name in ("trained", "untrained"))
    assert not torch.equal(trained["seeds"], untrained["seeds"])
    assert torch.equal(untrained["seeds"], load_networks(model, SETTINGS)["untrained"].state_dict()["seeds"])
    table, _ = measured
    rows = table[(table["quantity"] == "gather_correlation") & (table["reference"] == "truth")]
    means = rows.pivot(index=["layer", "head", "K"], columns="variant", values="mean")
    assert (means["trained"] != means["untrained"]).all()


def test_untrained_weights_are_those_that_training_begins_from(tmp_path):
    from tgmm.train.settings import TrainingSettings
    from tgmm.train.trainer import Trainer

    values = {
        **{key: SETTINGS[key] for key in ("family", "covariance", "dimension", "n_components", "longest", "seed")},
        "recipe": "components", "network": {"kind": "components", "width": 16, "blocks": 3, "heads": 4},
        "loss": "matched", "training": {"tasks": 8}, "validation_tasks": 2,
    }  # fmt: skip
    trainer = Trainer(TrainingSettings.from_dict(values), tmp_path / "work")
    save_checkpoint(tmp_path / "model", trainer.network, {"family": FAMILY, "settings": values | {"network": {}}})
    untrained = load_networks(tmp_path / "model", SETTINGS | {"seed": 77})["untrained"].state_dict()
    assert all(torch.equal(untrained[name], tensor) for name, tensor in trainer.network.state_dict().items())


def test_the_table_is_whole_and_reproducible(model, measured):
    table, _ = measured
    assert tuple(table.columns) == PROBE_COLUMNS
    assert not table[["mean", "median", "low", "high", "n_tasks", "layer", "K"]].isna().any().any()
    assert (table["n_tasks"] == 8).all()
    keys = ["quantity", "variant", "reference", "layer", "head", "K"]
    assert not table.duplicated(keys).any()
    errors = table[(table["quantity"] == "l2_error") & (table["K"] == 3)].set_index(["variant", "layer"])["mean"]
    assert errors["network", 1] == errors["em", 1]
    assert len(errors["em"]) == 4
    attention = table[table["quantity"].str.endswith("correlation")]
    assert (attention.groupby([*keys[:4], "K"])["best"].sum() == 1).all()
    assert set(attention[attention["quantity"] == "scatter_correlation"]["layer"]) == {1, 2}
    pd.testing.assert_frame_equal(measure.measure_probes(model, SETTINGS)[0], table)


def test_missing_settings_are_named(model):
    with pytest.raises(UserError, match="missing key 'em_steps'"):
        measure.measure_probes(model, {key: value for key, value in SETTINGS.items() if key != "em_steps"})


def test_attention_equal_to_the_responsibilities_correlates_fully(measured):
    _, tests = measured
    test = tests[0]
    shares = responsibilities(test.truth, test.points.double())[:, None].expand(-1, 4, -1, -1)
    ideal = Trace(test.trace.tokens, test.trace.estimates, [over_points(shares[:, 0])[:, None]] * 3, [shares] * 2)
    rows = list(
        measure.attention_rows([align(test.points, test.truth, ideal)], [align(test.points, test.truth, ideal)], "x")
    )
    found = [row["values"] for row in rows if row["reference"] == "truth"]
    assert len(found) == 2 * 4 + 3
    assert all((values > 0.999).all() for values in found)


def test_the_picture_shows_the_task_of_median_error(measured):
    table, tests = measured
    rows = measure.picture_table(tests, table, SETTINGS)
    assert tuple(rows.columns) == PICTURE_COLUMNS
    assert rows["part"].value_counts().to_dict() == {"point": 48, "em": 12, "network": 9, "truth": 3}
    errors = l2_error(tests[1].estimates[-1], tests[1].truth).sort().values
    assert rows["l2_error"].iloc[0] == errors[4]
    points = rows[rows["part"] == "point"].groupby("item")
    np.testing.assert_allclose(points["responsibility"].sum(), 1.0)
    np.testing.assert_allclose(points["attention"].sum(), 1.0, rtol=1e-5)
    start = rows[(rows["part"] == "em") & (rows["item"] == 0)]
    first = rows[(rows["part"] == "network") & (rows["item"] == 1)]
    np.testing.assert_allclose(start[["x", "y"]], first[["x", "y"]])
    with pytest.raises(UserError, match="d = 2 and K = 9"):
        measure.picture_table(tests, table, SETTINGS | {"picture_components": 9})


def test_the_command_writes_both_files(model, tmp_path):
    out, image = tmp_path / "probes.csv", tmp_path / "picture.parquet"
    probe(FAMILY, model, out, image, settings=json.dumps(SETTINGS))
    assert tuple(read_table(out, PROBE_COLUMNS).columns) == PROBE_COLUMNS
    assert read_table(out, ["best"])["best"].dtype == bool
    assert tuple(pd.read_parquet(image).columns) == PICTURE_COLUMNS
