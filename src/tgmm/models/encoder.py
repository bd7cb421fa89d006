"""The paper's network: attention blocks over the points, and an attentive-pooling read-out for every K.

``causal`` GPT-2 blocks with learnt positions ("gpt2") are what the authors' code trains; without either the same blocks
form a set encoder ("set-encoder"), whose estimate does not depend on the order of the points. The Mamba2 networks put
other blocks between the same read-in and read-out: selective state spaces (Dao and Gu 2024), with the mixer of Hugging
Face's transformers, plain PyTorch or the kernels of mamba-ssm and causal-conv1d where these are installed. A Mamba2
mixer reads a sequence from one end, so these estimates depend on the order of the points. "mamba2-causal" runs every
block in one direction, as the paper does; "mamba2" runs half of each block's heads, and of their groups, from the other
end, so that every token can see all points at the same number of parameters and operations.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgmm.errors import UserError
from tgmm.mixture import LogEstimate
from tgmm.models.attention import MASKED, MLP, Attention, component_slots, self_attention_block
from tgmm.models.settings import Mamba2CausalNetwork, Mamba2Network, NetworkSettings

INITIAL_STD = 0.02


class PooledNetwork(nn.Module):
    """TGMM as in the paper: Readout_K(backbone(Readin([X ‖ embed(K)]))).

    A subclass is one backbone: it builds its blocks, sets the initial weights and says how tokens pass through.
    """

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width = settings.width
        self.settings = settings
        self.size_embedding = nn.Embedding(len(settings.n_components), width)
        self.read_in = nn.Linear(settings.dimension + width, width)
        self.build_backbone()
        self.final_norm = nn.LayerNorm(width)
        self.initialise()
        self.read_out = AttentivePooling(settings)

    def build_backbone(self) -> None:
        """Add the backbone's modules."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Set the initial weights of all but the read-out."""
        raise NotImplementedError

    def backbone(self, tokens: Tensor) -> Tensor:
        """The tokens (B, N, D) after the last block."""
        raise NotImplementedError

    def encode(self, points: Tensor, size: Tensor) -> Tensor:
        """The tokens that are read out, (B, N, D)."""
        embedded = self.size_embedding(size)[:, None].expand(-1, points.shape[1], -1)
        tokens = self.read_in(torch.cat([points, embedded], dim=-1))
        return self.final_norm(self.backbone(tokens))

    def axes(self, points: Tensor, hidden: Tensor | None = None) -> None:
        """None: this network sees the coordinates as they are."""

    def forward(self, points: Tensor, n_components: Tensor, axes: None = None) -> list[LogEstimate]:
        """Estimates of tasks (B, N, d) with K (B,); a list of one, as this network reads out once."""
        # Every served K has its own embedding and read-out, found by its position among them.
        size, unused = component_slots(self.settings, n_components)
        return [self.read_out(self.encode(points, size), size, unused)]


class EncoderNetwork(PooledNetwork):
    """The paper's network with GPT-2 blocks, causal or not."""

    def build_backbone(self) -> None:
        settings = self.settings
        causal = settings.kind == "gpt2"
        self.position = nn.Embedding(settings.positions, settings.width) if causal else None
        self.blocks = nn.ModuleList(EncoderBlock(settings.width, settings.heads) for _ in range(settings.blocks))

    def initialise(self) -> None:
        """GPT-2's: normal of 0.02, projections onto the stream smaller by sqrt(2 x blocks)."""
        for module in self.modules():
            initialise_normal(module)
        for block in self.blocks:
            for projection in (block.attention.output, block.mlp.contract):
                nn.init.normal_(projection.weight, std=INITIAL_STD / math.sqrt(2 * len(self.blocks)))

    def backbone(self, tokens: Tensor) -> Tensor:
        count, bias = tokens.shape[1], None
        if self.position is not None:
            if count > self.settings.positions:
                raise UserError(f"this network has {self.settings.positions} positions; got N={count} points")
            tokens = tokens + self.position.weight[:count]
            bias = torch.full((count, count), MASKED, dtype=tokens.dtype, device=tokens.device).triu(1)
        for block in self.blocks:
            tokens = block(tokens, bias)
        return tokens


class EncoderBlock(nn.Module):
    """A pre-norm GPT-2 block: self-attention, then an MLP, each added to the stream."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, gpt2_gelu)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        return self_attention_block(tokens, (self.attention_norm, self.mlp_norm), self.attention, self.mlp, bias)


class AttentivePooling(nn.Module):
    """Readout_K of the paper for every K: O = (V_o H) softmax((K_o H)ᵀ Q_o), of shape (K + d) x K.

    The weights are the softmax of the row means of the first K rows, the means are the next d rows; anisotropic
    networks have d more rows, the standard deviations before a softplus. The parameters of all K are stacked, so that
    a batch of mixed K is one matrix product.
    """

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        width, largest, dimension = settings.width, settings.largest, settings.dimension
        rows = largest + dimension * (2 if settings.covariance == "anisotropic" else 1)
        self.largest, self.dimension, self.anisotropic = largest, dimension, settings.covariance == "anisotropic"
        sizes = len(settings.n_components)
        self.query = nn.Parameter(torch.randn(sizes, width, largest) / math.sqrt(width))
        self.key = nn.Parameter(torch.randn(sizes, width, width) / math.sqrt(width))
        self.value = nn.Parameter(torch.randn(sizes, width, rows) / math.sqrt(width))

    def forward(self, tokens: Tensor, size: Tensor, unused: Tensor) -> LogEstimate:
        with torch.autocast(tokens.device.type, enabled=False):  # in bfloat16, a mean of 4 comes in steps of 0.03
            return self._pool(tokens.to(self.query.dtype), size, unused)

    def _pool(self, tokens: Tensor, size: Tensor, unused: Tensor) -> LogEstimate:
        scores = (tokens @ self.key[size]) @ self.query[size]  # (B, N, K)
        pooled = scores.softmax(1).mT @ (tokens @ self.value[size])  # (B, K, rows): the transpose of the paper's O
        logits, means, scales = pooled.split_with_sizes(
            [self.largest, self.dimension, pooled.shape[-1] - self.largest - self.dimension], dim=-1
        )
        used = (~unused).to(tokens.dtype)[..., None]
        row_means = (logits * used).sum(1) / used.sum(1)  # mean over the K columns of the paper's O
        return LogEstimate(
            row_means.masked_fill(unused, MASKED).log_softmax(-1),
            means,
            F.softplus(scales) if self.anisotropic else None,
        )


def gpt2_gelu(values: Tensor) -> Tensor:
    """GPT-2's activation, the tanh approximation of the GELU."""
    return F.gelu(values, approximate="tanh")


def initialise_normal(module: nn.Module) -> None:
    """GPT-2's initial weights of a linear map or an embedding; other modules are left alone."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


# --- Mamba2 in place of attention and MLP ------------------------------------------------------------------------


# Points that the scan takes at a time; any number gives the same result, this one is the fastest on a CPU.
CHUNK_SIZE = 32


class MambaBlock(nn.Module):
    """A pre-norm block: the mixers of all directions read the same tokens and add to the stream."""

    def __init__(self, settings: Mamba2Network | Mamba2CausalNetwork):
        super().__init__()
        self.norm = nn.LayerNorm(settings.width)
        self.mixers = nn.ModuleList(build_mixer(settings) for _ in range(settings.DIRECTIONS))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D); the second direction reads them from the other end."""
        normed = self.norm(tokens)
        forward, *backward = self.mixers
        tokens = tokens + forward(normed)
        for mixer in backward:
            tokens = tokens + mixer(normed.flip(1)).flip(1)
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

    def backbone(self, tokens: Tensor) -> Tensor:
        if tokens.device.type == "cpu" and kernels_installed():
            raise UserError("mamba-ssm or causal-conv1d is installed, which runs Mamba2 on CUDA alone; got the CPU")
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


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
