"""Attention between many and few tokens: the textbook's numbers, whatever the order of the products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.models.attention import MASKED, SMALLEST_SHARE, CrossAttention, GatherAttention, ScatterAttention

SIZES = {"tasks": st.integers(1, 4), "n_points": st.integers(1, 9), "n_components": st.integers(1, 5)}


def attention(kind: type[CrossAttention], width: int = 12, heads: int = 3) -> CrossAttention:
    torch.manual_seed(0)
    built = kind(width, heads).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return built


def tokens(tasks: int, count: int, width: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(tasks, count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unused_components(tasks: int, n_components: int, some: bool) -> Tensor | None:
    """Which component tokens are unused, at least one of each task kept; None where none is."""
    unused = torch.rand(tasks, n_components, generator=torch.Generator().manual_seed(1)) < 0.4
    unused[:, 0] = False
    return unused if some else None


def bias(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else torch.zeros(mask.shape).double().masked_fill(mask, MASKED)


def textbook(module: CrossAttention, receivers: Tensor, senders: Tensor, mask: Tensor | None) -> Tensor:
    """Multi-head attention through torch's own function; ``mask`` (B, senders) is True where nothing may be read."""

    def split(layer: nn.Linear, of: Tensor) -> Tensor:
        return layer(of).unflatten(-1, (module.heads, -1)).transpose(1, 2)

    query, key, value = split(module.query, receivers), split(module.key, senders), split(module.value, senders)
    seen = None if mask is None else ~mask[:, None, None]
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    return module.output(mixed.transpose(1, 2).flatten(-2))


def textbook_probabilities(module: CrossAttention, receivers: Tensor, senders: Tensor, mask: Tensor | None) -> Tensor:
    """(B, receivers, H, senders)."""
    query, key = (
        layer(of).unflatten(-1, (module.heads, -1)) for layer, of in ((module.query, receivers), (module.key, senders))
    )
    scores = torch.einsum("bihe,bjhe->bihj", query, key) / query.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(mask[:, None, None], -torch.inf)).softmax(-1)


def assert_same(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-12)


@given(**SIZES)
def test_gathering_is_textbook_attention(tasks, n_points, n_components):
    module, components, data = attention(GatherAttention), tokens(tasks, n_components), tokens(tasks, n_points, seed=1)
    with torch.no_grad():
        read, spread = module(components, data)
        assert_same(read, textbook(module, components, data, None))
        assert torch.equal(spread, module.probabilities(components, data))
        assert_same(spread, textbook_probabilities(module, components, data, None))
    assert_same(spread.sum(-1), torch.ones(tasks, n_components, 3).double())


@given(some=st.booleans(), **SIZES)
def test_scattering_is_textbook_attention_and_counts_what_each_component_gets(some, tasks, n_points, n_components):
    module, components, data = attention(ScatterAttention), tokens(tasks, n_components), tokens(tasks, n_points, seed=1)
    unused = unused_components(tasks, n_components, some)
    wide = None if unused is None else bias(unused)[:, :, None, None]
    with torch.no_grad():
        read, share = module(data, components, wide)
        assert_same(read, textbook(module, data, components, unused))
        spread = module.probabilities(data, components, wide)
        assert_same(spread, textbook_probabilities(module, data, components, unused).permute(0, 3, 2, 1))
    assert_same(spread.sum(1), torch.ones(tasks, 3, n_points).double())
    assert_same((share.exp() - SMALLEST_SHARE).sum(1), torch.ones(tasks, 3).double())
    assert_same(share, (spread.mean(-1) + SMALLEST_SHARE).log())
    if unused is not None:
        assert (spread.masked_select(unused[:, :, None, None]) == 0).all()


@pytest.mark.parametrize("filler", [0.0, 1e4])
def test_what_stands_in_unused_components_does_not_matter(filler):
    components, data, unused = tokens(3, 4), tokens(3, 7, seed=1), unused_components(3, 4, some=True)
    scatter, wide = attention(ScatterAttention), bias(unused)[:, :, None, None]
    idle = components.masked_fill(unused[..., None], filler)
    assert_same(scatter(data, idle, wide)[0], scatter(data, components, wide)[0])


@pytest.mark.parametrize("kind", [GatherAttention, ScatterAttention])
def test_gradients_are_those_of_textbook_attention(kind):
    module = attention(kind)
    components, data = tokens(2, 3).requires_grad_(), tokens(2, 8, seed=1).requires_grad_()
    receivers, senders = (components, data) if kind is GatherAttention else (data, components)
    leaves = [components, data, *module.parameters()]
    direction = tokens(2, receivers.shape[1], seed=2)
    found, _ = module(receivers, senders)
    ours = torch.autograd.grad((found * direction).sum(), leaves)
    theirs = torch.autograd.grad((textbook(module, receivers, senders, None) * direction).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_an_unread_component_has_a_finite_share_and_gradient():
    module, components = attention(ScatterAttention), tokens(1, 2)
    data = 1e3 * tokens(1, 5, seed=1)
    components.requires_grad_()
    _, share = module(data, components)
    share.sum().backward()
    assert share.isfinite().all()
    assert share.min().item() == pytest.approx(torch.tensor(SMALLEST_SHARE).log().item(), abs=0.1)
    assert components.grad.isfinite().all()


@pytest.mark.parametrize("kind", [GatherAttention, ScatterAttention])
def test_a_score_takes_no_product_of_data_tokens_with_a_square_matrix(kind):
    """The point of the order of products: with few components a data token costs 2 K H D multiplications."""
    from torch.utils.flop_counter import FlopCounterMode

    width, heads, few = 12, 3, 2
    module = attention(kind)
    counts = []
    for n_points in (100, 200):
        components, data = tokens(1, few), tokens(1, n_points, seed=1)
        pair = (components, data) if kind is GatherAttention else (data, components)
        with FlopCounterMode(display=False) as counter:
            module(*pair)
        counts.append(counter.get_total_flops())
    assert counts[1] - counts[0] == 100 * 2 * 2 * few * heads * width
