"""The networks: symmetries, padding, and the GPT-2 blocks against Hugging Face's."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tgmm.errors import UserError
from tgmm.methods.transformer import estimate_tgmm, estimate_with_network
from tgmm.mixture import LogEstimate
from tgmm.models.components import LONGEST_WAVE, ReadIn
from tgmm.models.settings import NETWORK_KINDS, ComponentsNetwork, NetworkSettings
from tgmm.train.trainer import count_parameters

SET_KINDS = ("components", "set-encoder")
MAMBA_KINDS = ("mamba2", "mamba2-causal")
OPTIONS = {"fourier": 3, "moments": True, "axes": 5}  # of the default network
option = pytest.mark.parametrize("option", [{name: value} for name, value in OPTIONS.items()], ids=list(OPTIONS))


def precision(kind: str) -> float:
    """How well a network in float64 repeats itself: transformers computes the scan of Mamba2 in float32."""
    return 1e-4 if kind in MAMBA_KINDS else 1e-9


def network(kind: str, covariance: str = "isotropic", **changes) -> torch.nn.Module:
    torch.manual_seed(3)
    settings = {"kind": kind, "dimension": 3, "covariance": covariance, "width": 16, "blocks": 2, "heads": 4}
    built = NetworkSettings.from_dict({**settings, **changes}).build().double().eval()
    with torch.no_grad():  # GPT-2's small initial weights would hide a difference
        for parameter in built.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return built


def some_points(n_tasks: int, n_points: int, dimension: int = 3) -> torch.Tensor:
    return 3 * torch.randn(n_tasks, n_points, dimension, generator=torch.Generator().manual_seed(4)).double()


def assert_same(first: LogEstimate, second: LogEstimate, tolerance: float = 1e-9) -> None:
    for name in ("log_weights", "means", "standard_deviations"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_half_precision_ends_where_estimates_begin(kind):
    """bfloat16 has eight bits for a mean, so a read-out in it could not say where a component lies."""
    built = network(kind, "anisotropic").float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        estimate = built(some_points(4, 20).float(), torch.tensor([2, 3, 4, 5]))[-1]
    for tensor in (estimate.log_weights, estimate.means, estimate.standard_deviations):
        assert tensor.dtype == torch.float32
        assert (tensor.bfloat16().float() != tensor).float().mean() > 0.5


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_estimates_are_mixtures_of_the_tasks_own_size(kind, covariance):
    counts = torch.tensor([2, 3, 4, 5])
    with torch.no_grad():
        estimates = network(kind, covariance)(some_points(4, 20), counts)
    assert len(estimates) == (2 if kind == "components" else 1)
    for estimate in estimates:
        weights, unused = estimate.log_weights.exp(), torch.arange(5) >= counts[:, None]
        assert (weights[unused] == 0).all()
        assert (weights[~unused] > 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(4).double())
        assert estimate.means.shape == (4, 5, 3)
        if covariance == "anisotropic":
            assert (estimate.standard_deviations > 0).all()
        else:
            assert estimate.standard_deviations is None
    assert estimates[-1].mixture(2).n_components == 2


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_a_batch_of_mixed_sizes_equals_batches_of_one_size(kind):
    built, points, counts = network(kind, "anisotropic"), some_points(6, 15), torch.tensor([5, 2, 3, 2, 4, 5])
    with torch.no_grad():
        mixed = built(points, counts)[-1]
        for count in (2, 3, 4, 5):
            rows = counts == count
            alone = built(points[rows], counts[rows])[-1]
            same_size = LogEstimate(mixed.log_weights[rows], mixed.means[rows], mixed.standard_deviations[rows])
            assert_same(same_size, alone, precision(kind))


def test_unused_component_tokens_reach_no_estimate():
    built, points, counts = network("components"), some_points(2, 10), torch.tensor([2, 3])
    with torch.no_grad():
        before = built(points, counts)[-1].mixture()
        built.seeds[3:].neg_()
        after = built(points, counts)[-1].mixture()
    torch.testing.assert_close(after.means[0, :2], before.means[0, :2])
    torch.testing.assert_close(after.means[1, :3], before.means[1, :3])
    torch.testing.assert_close(after.weights, before.weights)


@pytest.mark.parametrize("kind", SET_KINDS)
def test_set_networks_do_not_see_the_order_of_the_points(kind):
    built, points, counts = network(kind, "anisotropic"), some_points(4, 30), torch.tensor([2, 3, 4, 5])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert_same(built(points, counts)[-1], built(points[:, order], counts)[-1])


@option
@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_options_keep_the_symmetries_of_a_set(option, covariance):
    built, points = network("components", covariance, dimension=6, **option), some_points(4, 25, 6)
    counts, order = torch.tensor([2, 3, 4, 5]), torch.randperm(25, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        plain = built(points, counts)[-1]
        assert_same(built(points[:, order], counts)[-1], plain, 1e-7)


@option
def test_options_are_trained_in_every_part_and_change_the_estimate(option):
    built = network("components", "anisotropic", **option)
    points, counts = some_points(4, 10), torch.tensor([2, 3, 4, 5])
    estimates = built(points, counts)
    total = [e.log_weights.clamp_min(-50).sum() + e.means.sum() + e.standard_deviations.sum() for e in estimates]
    torch.stack(total).square().sum().backward()
    assert not {name for name, value in built.named_parameters() if value.grad is None or not value.grad.any()}
    plain = network("components", "anisotropic")
    plain.load_state_dict(
        {
            name: value[:, : plain.state_dict()[name].shape[1]] if name == "read_in.linear.weight" else value
            for name, value in built.state_dict().items()
            if name in plain.state_dict()
        }
    )
    assert (plain(points, counts)[-1].means - estimates[-1].means).abs().max() > 1e-3


@pytest.mark.parametrize("octaves", [1, 4])
def test_fourier_features_are_sines_and_cosines_of_halving_waves(octaves):
    torch.manual_seed(0)
    read_in, points = ReadIn(3, 8, 3 * octaves + 2), some_points(2, 5).float()
    rows = [points[..., axis] for axis in range(3)]
    for wave in (torch.sin, torch.cos):
        rows += [
            wave(2 * math.pi * points[..., axis] / (LONGEST_WAVE / 2**octave))
            for axis in range(3)
            for octave in range(octaves)
        ]
    expected = torch.stack(rows, -1) @ read_in.linear.weight.T + read_in.linear.bias
    torch.testing.assert_close(read_in(points), expected, rtol=1e-4, atol=1e-4)


def test_read_in_without_fourier_features_is_linear():
    read_in, points = ReadIn(3, 8, 0), some_points(2, 5).float()
    torch.testing.assert_close(read_in(points), read_in.linear(points))


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("dimension", [3, 6])
def test_axes_that_are_at_hand_give_the_same_estimate(covariance, dimension):
    built, points = network("components", covariance, dimension=dimension, axes=5), some_points(4, 20, dimension)
    counts = torch.tensor([2, 3, 4, 5])
    with torch.no_grad():
        axes = built.axes(points)
        assert_same(built(points, counts, axes=axes)[-1], built(points, counts)[-1])
        other = built(points, counts, axes=-axes)[-1].means
    assert (other - built(points, counts)[-1].means).abs().max() > 1e-3


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_networks_without_axes_have_none_to_hand_out(kind):
    assert network(kind).axes(some_points(2, 5)) is None


def test_the_gpt2_network_does_see_the_order_of_the_points():
    """Trap 4 of the reference code: causal attention and learnt positions on a set."""
    built, points, counts = network("gpt2"), some_points(4, 30), torch.tensor([2, 3, 4, 5])
    with torch.no_grad():
        forward, backward = (built(data, counts)[-1].means for data in (points, points.flip(1)))
    assert (forward - backward).abs().max() > 1e-3


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_estimates_depend_on_the_points_and_on_the_size(kind):
    built, points = network(kind), some_points(2, 10)
    two, three = torch.tensor([2, 2]), torch.tensor([3, 3])
    with torch.no_grad():
        assert not torch.allclose(built(points, two)[-1].means, built(points + 1, two)[-1].means)
        assert not torch.allclose(built(points, two)[-1].means[:, :2], built(points, three)[-1].means[:, :2])


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_every_parameter_is_trained(kind):
    built = network(kind, "anisotropic", **({"positions": 10} if kind == "gpt2" else {}))
    estimates = built(some_points(4, 10), torch.tensor([2, 3, 4, 5]))
    total = [e.log_weights.clamp_min(-50).sum() + e.means.sum() + e.standard_deviations.sum() for e in estimates]
    torch.stack(total).square().sum().backward()
    idle = {name for name, value in built.named_parameters() if value.grad is None or value.grad.abs().max() < 1e-9}
    assert not idle
    assert count_parameters(built) == sum(value.numel() for value in built.parameters())


def test_initial_weights_follow_torchs_seed():
    settings = ComponentsNetwork(dimension=2, width=8, blocks=1, heads=2)
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([value.flatten() for value in settings.build().state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_gpt2_encoder_is_hugging_faces():
    transformers = pytest.importorskip("transformers")
    ours = network("gpt2", positions=32, blocks=3)
    config = transformers.GPT2Config(
        vocab_size=1, n_positions=32, n_embd=16, n_layer=3, n_head=4, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
        activation_function="gelu_new", attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.GPT2Model(config).double().eval()
    theirs.load_state_dict(hugging_face_weights(ours), strict=False)
    points, size = some_points(2, 20), torch.tensor([0, 3])
    embedded = ours.size_embedding(size)[:, None].expand(-1, 20, -1)
    with torch.no_grad():
        inputs = ours.read_in(torch.cat([points, embedded], -1))
        expected = theirs(inputs_embeds=inputs, use_cache=False).last_hidden_state
        encoded = ours.encode(points, size)
    assert encoded.std() > 0.1
    torch.testing.assert_close(encoded, expected, rtol=1e-9, atol=1e-9)


def hugging_face_weights(ours: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Our encoder's weights under GPT2Model's names; its Conv1D layers keep them transposed."""
    final = ours.final_norm
    state = {"wpe.weight": ours.position.weight, "ln_f.weight": final.weight, "ln_f.bias": final.bias}
    for number, block in enumerate(ours.blocks):
        attention, mlp = block.attention, block.mlp
        layers = {
            "attn.c_attn": [attention.query, attention.key_value], "attn.c_proj": [attention.output],
            "mlp.c_fc": [mlp.expand], "mlp.c_proj": [mlp.contract],
        }  # fmt: skip
        for name, maps in layers.items():
            state[f"h.{number}.{name}.weight"] = torch.cat([linear.weight for linear in maps]).T
            state[f"h.{number}.{name}.bias"] = torch.cat([linear.bias for linear in maps])
        for name, norm in (("ln_1", block.attention_norm), ("ln_2", block.mlp_norm)):
            state |= {f"h.{number}.{name}.weight": norm.weight, f"h.{number}.{name}.bias": norm.bias}
    return {name: value.detach() for name, value in state.items()}


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_the_read_out_is_the_papers_attentive_pooling(covariance):
    """O = (V_o H) softmax((K_o H)' Q_o), one task at a time and in the paper's orientation (columns are points)."""
    built, points, counts = network("set-encoder", covariance), some_points(4, 11), torch.tensor([2, 3, 4, 5])
    with torch.no_grad():
        estimate = built(points, counts)[-1]
        tokens = built.encode(points, counts - 2)
        read_out = built.read_out
        for task, count in enumerate(counts.tolist()):
            h, size = tokens[task].T, count - 2
            scores = (read_out.key[size].T @ h).T @ read_out.query[size][:, :count]
            pooled = (read_out.value[size].T @ h) @ scores.softmax(0)
            torch.testing.assert_close(
                estimate.log_weights[task, :count].exp(), pooled[: built.settings.largest].mean(1)[:count].softmax(0)
            )
            torch.testing.assert_close(estimate.means[task, :count], pooled[5:8].T)
            if covariance == "anisotropic":
                torch.testing.assert_close(estimate.standard_deviations[task, :count], F.softplus(pooled[8:]).T)


@pytest.mark.parametrize("kind", NETWORK_KINDS)
@pytest.mark.parametrize("n_points", [1, 7, 300])
def test_any_number_of_points_is_served(kind, n_points):
    mixture = estimate_with_network(network(kind).float(), some_points(2, n_points), 4)
    assert mixture.means.shape == (2, 4, 3)
    assert mixture.means.dtype == torch.float64
    assert mixture.means.isfinite().all()
    torch.testing.assert_close(mixture.weights.sum(1), torch.ones(2).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_estimates_do_not_depend_on_the_chunks(kind, monkeypatch):
    built, points = network(kind).float(), some_points(7, 10)
    whole = estimate_with_network(built, points, 3)
    monkeypatch.setattr("tgmm.methods.transformer.CHUNK_NUMBERS", 2 * 10 * 16)
    chunked = estimate_with_network(built, points, 3)
    torch.testing.assert_close(chunked.means, whole.means, rtol=1e-4, atol=1e-4)


def test_refinement_is_that_many_em_steps():
    built, points = network("components").float(), some_points(3, 40)
    plain, refined = (estimate_tgmm(built, points, 3, steps).mixture for steps in (0, 1))
    density = torch.exp(-0.5 * (points[:, :, None] - plain.means[:, None]).square().sum(-1)) * plain.weights[:, None]
    posterior = density / density.sum(-1, keepdim=True)
    torch.testing.assert_close(refined.weights, posterior.mean(1))
    torch.testing.assert_close(refined.means, posterior.mT @ points / posterior.sum(1)[..., None])


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("kind", NETWORK_KINDS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [(torch.nan, "the points are not all finite"), (torch.inf, "the points are not all finite"),
     (1e30, "a coordinate is beyond 1e+15, too large for single precision")],
)  # fmt: skip
def test_a_task_that_cannot_be_estimated_fails_alone(kind, covariance, value, reason):
    built = network(kind, covariance, **({"axes": 5} if kind == "components" else {})).float()
    points = some_points(3, 10)
    plain = estimate_tgmm(built, points, 2)
    points[1, 4, 0] = value
    result = estimate_tgmm(built, points, 2)
    assert (plain.failures, result.failures) == ({}, {1: reason})
    assert result.failed().tolist() == [False, True, False]
    for one, other in zip(plain.mixture.tensors(), result.mixture.tensors(), strict=True):
        if one is not None:
            assert torch.equal(other[[0, 2]], one[[0, 2]])
            assert other[1].isnan().all()


@pytest.mark.parametrize("field", ["log_weights", "means", "standard_deviations"])
def test_a_non_finite_estimate_is_a_failure_with_its_reason(field):
    built, points = network("components", "anisotropic").float(), some_points(3, 10)

    def spoil(_module, _inputs, estimates):
        getattr(estimates[-1], field)[2, 1] = torch.nan if field == "log_weights" else torch.inf

    built.register_forward_hook(spoil)
    result = estimate_tgmm(built, points, 2)
    assert result.failures == {2: "the estimate is not finite"}
    assert result.mixture.means[2].isnan().all()
    assert result.mixture.means[:2].isfinite().all()


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_sizes_and_dimensions_that_are_not_served_are_refused(kind):
    built = network(kind).float()
    for count in (1, 6):
        with pytest.raises(UserError, match=rf"K={count} \(it serves K = 2, 3, 4, 5\)"):
            estimate_with_network(built, some_points(1, 5), count)
    with pytest.raises(UserError, match="d=3; the points have d=2"):
        estimate_with_network(built, some_points(1, 5, 2), 3)


def test_sizes_with_gaps_are_served():
    built = network("components", n_components=(2, 5)).float()
    assert estimate_with_network(built, some_points(2, 5), 5).n_components == 5
    with pytest.raises(UserError, match="K = 2, 5"):
        estimate_with_network(built, some_points(2, 5), 3)


def test_the_gpt2_network_refuses_more_points_than_positions():
    built = network("gpt2", positions=16).float()
    assert estimate_with_network(built, some_points(1, 16), 2).means.isfinite().all()
    with pytest.raises(UserError, match="16 positions; got N=17"):
        estimate_with_network(built, some_points(1, 17), 2)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_cuda_estimates_agree_with_the_cpus(kind):
    built, points, counts = network(kind), some_points(3, 12), torch.tensor([2, 4, 5])
    with torch.no_grad():
        here = built(points, counts)[-1]
        there = built.cuda()(points.cuda(), counts.cuda())[-1]
    assert_same(here, LogEstimate(there.log_weights.cpu(), there.means.cpu()), max(1e-6, precision(kind)))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_cuda_estimates_in_single_precision_are_close_to_the_cpus(kind):
    built, points, counts = network(kind).float(), some_points(3, 12).float(), torch.tensor([2, 4, 5])
    with torch.no_grad():
        here = built(points, counts)[-1]
        there = built.cuda()(points.cuda(), counts.cuda())[-1]
    assert_same(here, there.map(torch.Tensor.cpu), 1e-3)


@pytest.mark.gpu
@option
def test_cuda_estimates_with_options_are_close_to_the_cpus(option):
    built = network("components", dimension=6, **option).float()
    points, counts = some_points(3, 40, 6).float(), torch.tensor([2, 4, 5])
    with torch.no_grad():
        axes = built.axes(points)
        here = built(points, counts, axes=axes)[-1]
        there = built.cuda()(points.cuda(), counts.cuda(), axes=None if axes is None else axes.cuda())[-1]
    assert_same(here, there.map(torch.Tensor.cpu), 1e-3)
