"""The Mamba2 backbone: against its recurrence point by point, its directions, padding, sizes and imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.errors import UserError
from tgmm.models import encoder as mamba
from tgmm.models.settings import NETWORK_KINDS, Mamba2CausalNetwork, NetworkSettings
from tgmm.train.trainer import count_parameters

MAMBA_KINDS = ("mamba2", "mamba2-causal")


def network(kind: str, **changes) -> nn.Module:
    torch.manual_seed(3)
    settings = {"dimension": 3, "width": 16, "blocks": 2, "heads": 4, "state": 3, **changes}
    built = NETWORK_KINDS[kind](**settings).build().eval()
    with torch.no_grad():  # small initial weights would hide a difference
        for parameter in built.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return built


def some_points(n_tasks: int, n_points: int) -> Tensor:
    return 3 * torch.randn(n_tasks, n_points, 3, generator=torch.Generator().manual_seed(4))


def encode(built: nn.Module, points: Tensor) -> Tensor:
    with torch.no_grad():
        return built.encode(points, torch.ones(len(points), dtype=torch.int64))


def recurrence(mixer: nn.Module, tokens: Tensor, heads: int, groups: int, state: int) -> Tensor:
    """A Mamba2 mixer one point at a time: S = exp(-a dt) S + dt x Bᵀ and y = S C + D x for every head, float64."""
    weights = {name: value.double() for name, value in mixer.named_parameters()}
    n_tasks, n_points, _ = tokens.shape
    inner, kernel = weights["out_proj.weight"].shape[1], weights["conv1d.weight"].shape[-1]
    projected = tokens.double() @ weights["in_proj.weight"].T
    gate, convolved, steps = projected.split([inner, inner + 2 * groups * state, heads], dim=-1)
    steps = torch.log1p(torch.exp(steps + weights["dt_bias"]))
    memory = torch.zeros(n_tasks, heads, inner // heads, state, dtype=torch.float64)
    outputs = []
    for now in range(n_points):
        mixed = weights["conv1d.bias"].expand(n_tasks, -1)
        for past in range(min(kernel, now + 1)):
            mixed = mixed + convolved[:, now - past] * weights["conv1d.weight"][:, 0, kernel - 1 - past]
        values, keys, queries = F.silu(mixed).split([inner, groups * state, groups * state], dim=-1)
        values = values.view(n_tasks, heads, -1)
        keys, queries = (part.view(n_tasks, groups, state)[:, torch.arange(heads) * groups // heads]
                         for part in (keys, queries))  # fmt: skip
        step = steps[:, now, :, None]
        memory = memory * torch.exp(-weights["A_log"].exp()[:, None] * step)[..., None]
        memory = memory + (step * values)[..., None] * keys[:, :, None]
        outputs.append((memory @ queries[..., None])[..., 0] + weights["D"][:, None] * values)
    gated = (torch.stack(outputs, 1).flatten(2) * F.silu(gate)).unflatten(-1, (groups, -1))
    normed = gated / (gated.square().mean(-1, keepdim=True) + mixer.layer_norm_epsilon).sqrt()
    return (normed.flatten(2) * weights["norm.weight"]) @ weights["out_proj.weight"].T


@pytest.mark.parametrize("kind", MAMBA_KINDS)
def test_a_block_is_the_recurrence(kind):
    block, tokens = network(kind).blocks[0], torch.randn(2, 45, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = block(tokens)
        normed = block.norm(tokens)
        if kind == "mamba2-causal":
            expected = recurrence(block.mixers[0], normed, heads=4, groups=2, state=3)
        else:
            there, back = block.mixers
            expected = recurrence(there, normed, heads=2, groups=1, state=3)
            expected = expected + recurrence(back, normed.flip(1), heads=2, groups=1, state=3).flip(1)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, (tokens + expected).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MAMBA_KINDS)
@pytest.mark.parametrize("n_points", [1, 31, 32, 33, 100])
def test_the_length_of_a_scan_does_not_matter(kind, n_points, monkeypatch):
    points = some_points(2, n_points)
    encoded = []
    for size in (8, 32, 128):
        monkeypatch.setattr(mamba, "CHUNK_SIZE", size)
        encoded.append(encode(network(kind), points))
    torch.testing.assert_close(encoded[1], encoded[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoded[2], encoded[0], rtol=1e-4, atol=1e-4)


def test_one_direction_sees_earlier_points_alone():
    built, points = network("mamba2-causal"), some_points(2, 50)
    changed = points.clone()
    changed[:, 30:] += 2.0
    before, after = encode(built, points), encode(built, changed)
    torch.testing.assert_close(after[:, :30], before[:, :30], rtol=0, atol=1e-6)
    assert ((after - before)[:, 30:].abs().amax(-1) > 1e-3).all()


def test_both_directions_see_every_point():
    built, points = network("mamba2"), some_points(2, 20)
    for changed in (0, 19):
        others = points.clone()
        others[:, changed] += 2.0
        assert ((encode(built, others) - encode(built, points)).abs().amax(-1) > 1e-5).all()


def test_the_directions_are_mirror_images():
    built, points = network("mamba2"), some_points(2, 40)
    ahead = encode(built, points)
    for block in built.blocks:
        block.mixers = nn.ModuleList(reversed(block.mixers))
    torch.testing.assert_close(encode(built, points.flip(1)).flip(1), ahead, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MAMBA_KINDS)
def test_the_order_of_the_points_matters(kind):
    built, points, counts = network(kind), some_points(4, 30), torch.tensor([2, 3, 4, 5])
    with torch.no_grad():
        there, back = (built(data, counts)[-1].means for data in (points, points.flip(1)))
    assert (there - back).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("dimension", "size", "heads"),
    [(2, {"width": 64, "blocks": 4}, 4), (8, {"width": 64, "blocks": 4}, 4), (8, {"width": 128, "blocks": 12}, 8)],
)
def test_parameters_match_the_set_encoders(dimension, size, heads):
    counts = {kind: count_parameters(NETWORK_KINDS[kind](dimension=dimension, **size, heads=heads).build())
              for kind in ("set-encoder", *MAMBA_KINDS)}  # fmt: skip
    assert counts["mamba2"] == counts["mamba2-causal"]
    assert abs(counts["mamba2"] / counts["set-encoder"] - 1) < 0.1


@pytest.mark.parametrize(("kind", "mixers"), [("mamba2-causal", [(8, 64, 16, 2)]), ("mamba2", [(4, 64, 16, 1)] * 2)])
def test_the_papers_mixer_or_two_halves_of_it(kind, mixers):
    """8 heads x 64 with state 16 in 2 groups, at hidden width 128."""
    (block,) = NETWORK_KINDS[kind](dimension=8, width=128, blocks=1, heads=8).build().blocks
    assert [(one.num_heads, one.head_dim, one.ssm_state_size, one.n_groups) for one in block.mixers] == mixers


@pytest.mark.parametrize("kind", MAMBA_KINDS)
def test_initial_weights_follow_torchs_seed(kind):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        built = NETWORK_KINDS[kind](dimension=2, width=8, blocks=2, heads=2).build()
        states.append(torch.cat([value.flatten() for value in built.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 6, "groups": 4, "width": 6}, "heads 6 are not a multiple of its 4 groups"),
        ({"width": 5, "heads": 8}, "expand x width = 20 is not a multiple of its 8 heads"),
        ({"heads": 3, "groups": 3, "width": 6}, "heads 3 is odd"),
        ({"groups": 1}, "groups 1 is odd"),
        ({"expand": 3}, "expand 3 is odd"),
        ({"state": 0}, "'state' must be greater than or equal to 1, not 0"),
        ({"groups": 0}, "'groups' must be greater than or equal to 1, not 0"),
        ({"heads": -2}, "'heads' must be greater than or equal to 1, not -2"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        NetworkSettings.from_dict({"kind": "mamba2", "dimension": 2, "width": 16, "heads": 4, **changes})
    assert "\n" not in str(caught.value)


def test_one_direction_may_have_odd_sizes():
    built = Mamba2CausalNetwork(dimension=3, width=8, blocks=1, heads=3, groups=1, expand=3).build()
    assert built(some_points(2, 7), torch.tensor([2, 5]))[-1].means.isfinite().all()


def test_kernels_without_a_gpu_are_refused_by_name(monkeypatch):
    built = network("mamba2")
    monkeypatch.setattr(mamba, "kernels_installed", lambda: True)
    with pytest.raises(UserError, match=r"mamba-ssm or causal-conv1d .* got the CPU"):
        encode(built, some_points(1, 4))


PROGRAM = """
import socket, sys
import torch
from tgmm.models.settings import Mamba2Network, SetEncoderNetwork

def refuse(*_, **__):
    raise SystemExit("a connection was opened")

socket.socket.connect = socket.getaddrinfo = refuse
sizes = dict(dimension=2, width=8, blocks=1, heads=2)
SetEncoderNetwork(**sizes).build()
if "transformers" in sys.modules:
    raise SystemExit("transformers is imported for a network without Mamba2")
network = Mamba2Network(**sizes).build()
for mode in (True, False):
    network.train(mode)(torch.randn(2, 9, 2), torch.tensor([2, 3]))[-1].means.sum().backward()
"""


@pytest.mark.slow
def test_transformers_is_imported_late_quietly_and_offline():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
