"""The blocks compute what their formulas say, and the constructed networks consist of nothing else."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch
from torch import nn

from tgmm.theory.blocks import Attention, Block, ExactUnits, Perceptron, SlotNorm, Transformer
from tgmm.theory.em import build_em_transformer
from tgmm.theory.power import build_power_transformer

STANDARD_MODULES = {
    Transformer, Block, Attention, Perceptron, SlotNorm, nn.Linear, nn.ReLU, nn.Softmax, nn.RMSNorm, nn.Identity,
}  # fmt: skip
STANDARD_FUNCTIONS = {torch.einsum, operator.add, operator.getitem, torch.cat}
NETWORKS = {
    "Theorem 1": lambda: build_em_transformer(2, 3, 2, 128),
    "Theorem 1, one token a component": lambda: build_em_transformer(2, 3, 2, 128, copies=1),
    "Theorem 2": lambda: build_power_transformer(4, 2),
    "Theorem 2, not normalised": lambda: build_power_transformer(4, 2, normalise=False),
}


@pytest.mark.parametrize("activation", ["softmax", "relu"])
def test_attention_is_the_sum_over_heads_of_weighted_values(activation):
    generator = torch.Generator().manual_seed(0)
    attention = Attention(2, 5, 3, 4, activation)
    for parameter in attention.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    tokens = torch.randn(1, 6, 5, generator=generator, dtype=torch.float64)
    query, key, value, output = (parameter.numpy() for parameter in attention.parameters())
    expected = np.zeros((6, 5))
    for head in range(2):
        for i, asking in enumerate(tokens[0].numpy()):
            scores = np.array([(query[head] @ asking) @ (key[head] @ asked) for asked in tokens[0].numpy()])
            factors = np.exp(scores) / np.exp(scores).sum() if activation == "softmax" else np.maximum(scores, 0.0)
            for factor, asked in zip(factors, tokens[0].numpy(), strict=True):
                expected[i] += output[head] @ (value[head] @ asked) * factor
    np.testing.assert_allclose(attention(tokens)[0].numpy(), expected, rtol=1e-12)


def test_slot_norm_leaves_a_unit_vector_and_the_rest_alone():
    tokens = torch.randn(2, 3, 7, dtype=torch.float64)
    result = SlotNorm(2, 6)(tokens)
    torch.testing.assert_close(result[..., 2:6].norm(dim=-1), torch.ones(2, 3, dtype=torch.float64))
    torch.testing.assert_close(result[..., [0, 1, 6]], tokens[..., [0, 1, 6]])
    assert not SlotNorm(0, 3)(torch.zeros(1, 1, 3, dtype=torch.float64)).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_only_standard_parts_are_used(name):
    network = NETWORKS[name]()
    assert {type(module) for module in network.modules()} <= STANDARD_MODULES
    traced = torch.fx.Tracer().trace(network)
    for node in traced.nodes:
        assert node.op in {"placeholder", "output", "get_attr", "call_module", "call_function"}, node.format_node()
        if node.op == "call_function":
            assert node.target in STANDARD_FUNCTIONS, node.format_node()
        if node.op == "call_module":
            assert type(network.get_submodule(node.target)) in {nn.Linear, nn.ReLU, nn.Softmax, nn.RMSNorm, nn.Identity}
    constants = {node.target for node in traced.nodes if node.op == "get_attr"}
    assert constants <= set(network.state_dict())


def test_the_check_of_standard_parts_sees_the_exact_maps():
    network = build_em_transformer(2, 3, 1, 128, exact=True)
    assert {type(module) for module in network.modules()} - STANDARD_MODULES == {ExactUnits}


@pytest.mark.parametrize("name", NETWORKS)
def test_all_that_is_constructed_is_in_the_state_dict(name):
    network, empty = NETWORKS[name](), NETWORKS[name]()
    for parameter in empty.parameters():
        parameter.zero_()
    empty.load_state_dict(network.state_dict())
    tokens = torch.randn(2, 9, network.layout.width, dtype=torch.float64)
    assert torch.equal(network(tokens), empty(tokens))
    assert all(tensor.dtype == torch.float64 for tensor in network.state_dict().values())
