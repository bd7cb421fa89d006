"""Builds the network that a recipe names."""

from __future__ import annotations

from torch import nn

from tgmm.models.components import ComponentNetwork
from tgmm.models.encoder import EncoderNetwork
from tgmm.models.mamba import MambaNetwork
from tgmm.models.settings import MAMBA_KINDS, NetworkSettings


def build_network(settings: NetworkSettings) -> nn.Module:
    """A freshly initialised network; torch's global seed decides its weights."""
    if settings.kind in MAMBA_KINDS:
        return MambaNetwork(settings)
    return ComponentNetwork(settings) if settings.kind == "components" else EncoderNetwork(settings)


def count_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
