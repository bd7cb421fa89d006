"""The Mamba2 backbones of the paper's network: selective state spaces (Dao and Gu 2024) in place of attention and MLP.

The mixer is that of Hugging Face's transformers: plain PyTorch, or the kernels of mamba-ssm and causal-conv1d where
these packages are installed; nothing is fetched from a network. A Mamba2 mixer reads a sequence from one end, so unlike
a set encoder's the estimate of these networks depends on the order of the points. "mamba2-causal" runs every block in
one direction, as the paper does; "mamba2" runs half of each block's heads, and of their groups, from the other end, so
that every token can see all points at the same number of parameters and operations.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from functools import cache

import torch
from torch import Tensor, nn

from tgmm.errors import UserError
from tgmm.models.encoder import PooledNetwork, initialise_normal
from tgmm.models.settings import Mamba2CausalNetwork, Mamba2Network

# Points that the scan takes at a time; any number gives the same result, this one is the fastest on a CPU.
CHUNK_SIZE = 32


class MambaBlock(nn.Module):
    """A pre-norm block: the mixers of all directions read the same tokens and add to the stream."""

    def __init__(self, settings: Mamba2Network | Mamba2CausalNetwork):
        super().__init__()
        self.norm = nn.LayerNorm(settings.width)
        self.mixers = nn.ModuleList(build_mixer(settings) for _ in range(settings.DIRECTIONS))

    def forward(self, tokens: Tensor, reverse: Tensor) -> Tensor:
        """Tokens (B, N, D); ``reverse`` (B, N, 1) is the order in which the second direction reads them."""
        normed = self.norm(tokens)
        forward, *backward = self.mixers
        tokens = tokens + forward(normed)
        for mixer in backward:
            tokens = tokens + mixer(normed.take_along_dim(reverse, 1)).take_along_dim(reverse, 1)
        return tokens


class MambaNetwork(PooledNetwork):
    """The paper's network with Mamba2 blocks, in one direction or in both."""

    def build_backbone(self) -> None:
        self.blocks = nn.ModuleList(MambaBlock(self.settings) for _ in range(self.settings.blocks))

    def initialise(self) -> None:
        """Mamba2's own for the mixers, their outputs smaller by the root of how many add to the stream."""
        for module in (self.size_embedding, self.read_in):
            initialise_normal(module)
        mixers = [mixer for block in self.blocks for mixer in block.mixers]
        with torch.no_grad():
            for mixer in mixers:
                mixer.out_proj.weight /= math.sqrt(len(mixers))

    def backbone(self, tokens: Tensor, hidden: Tensor | None) -> Tensor:
        if tokens.device.type == "cpu" and kernels_installed():
            raise UserError("mamba-ssm or causal-conv1d is installed, which runs Mamba2 on CUDA alone; got the CPU")
        reverse = reversed_order(tokens, hidden)
        for block in self.blocks:
            tokens = block(tokens, reverse)
        return tokens


def reversed_order(tokens: Tensor, hidden: Tensor | None) -> Tensor:
    """Positions (B, N, 1) that reverse each task's own points and leave its padding at the end, where no mixer sees it.

    Raises
    ------
    UserError
        For padding that is not at the end.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    if hidden is None:
        return positions.flip(0).expand(len(tokens), -1)[..., None]
    if (hidden[:, :-1] & ~hidden[:, 1:]).any():
        raise UserError("a Mamba2 network takes padding only after a task's last point")
    lengths = (~hidden).sum(1, keepdim=True)
    return torch.where(hidden, positions, lengths - 1 - positions)[..., None]


def build_mixer(settings: Mamba2Network | Mamba2CausalNetwork) -> nn.Module:
    """transformers' Mamba2 mixer (B, N, D) -> (B, N, D), with the heads and groups of one direction."""
    configuration, mixer = _mamba2_classes()
    heads, expand = settings.heads // settings.DIRECTIONS, settings.expand // settings.DIRECTIONS
    sizes = configuration(
        hidden_size=settings.width,
        num_heads=heads,
        head_dim=expand * settings.width // heads,
        state_size=settings.state,
        n_groups=settings.groups // settings.DIRECTIONS,
        expand=expand,
        chunk_size=CHUNK_SIZE,
        num_hidden_layers=1,
    )
    return mixer(sizes, layer_idx=0)


@cache
def _mamba2_classes() -> tuple[type, type]:
    """Mamba2's configuration and mixer, imported when first used because that takes seconds."""
    from transformers.models.mamba2.configuration_mamba2 import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    # Each function warns that it runs as plain PyTorch, which is what is wanted here.
    logger = logging.getLogger("transformers.integrations.hub_kernels")
    logger.addFilter(lambda record: "reference PyTorch implementation" not in record.getMessage())
    return Mamba2Config, Mamba2Mixer


@cache
def kernels_installed() -> bool:
    """Whether transformers finds kernels, which it then uses on every device."""
    return any(importlib.util.find_spec(package) is not None for package in ("mamba_ssm", "causal_conv1d"))
