"""The settings of a network: what a checkpoint's config.json records and the builder reads."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tgmm.errors import UserError, unknown_name

NETWORK_KINDS = ("components", "set-encoder", "gpt2", "mamba2", "mamba2-causal")
MAMBA_KINDS = ("mamba2", "mamba2-causal")
MAMBA_SETTINGS = ("state", "groups", "expand")
# Settings that only some kinds have.
COMPONENT_SETTINGS = ("axes", "fourier", "feedback", "data_attention", "moments")
OWN_SETTINGS = {"components": COMPONENT_SETTINGS, "mamba2": MAMBA_SETTINGS, "mamba2-causal": MAMBA_SETTINGS}


@dataclass(frozen=True)
class NetworkSettings:
    """Architecture of a TGMM network.

    Attributes
    ----------
    kind : "components" (component tokens beside the data tokens), "set-encoder" (bidirectional, no positions,
        attentive-pooling read-out), "gpt2" (the paper's: causal, learnt positions, the same read-out), or with
        Mamba2 mixers in place of attention and MLP "mamba2" (both directions) and "mamba2-causal" (the paper's).
    dimension : d of the points.
    n_components : every K that the network serves.
    covariance : "isotropic" or "anisotropic" (then it estimates standard deviations too).
    width, blocks, heads : D, number of blocks, heads of each attention or of each block's Mamba2 mixers.
    positions : the longest input of a "gpt2" network.
    state, groups, expand : of the Mamba2 kinds alone: numbers in the state of a channel, groups of heads that share
        B and C, and how many times wider than D the mixers are inside. The defaults are the paper's.
    axes : of the kind "components" alone: the network sees the points in at most so many of their principal axes
        (at least the largest K); 0 for the coordinates as they are.
    fourier, feedback, data_attention : of the kind "components" alone: waves of Fourier features at the read-in, shared
        by the coordinates, whether a block's estimate is fed to the next one, and whether data tokens attend to each
        other.
    moments : of the kind "components" alone: component tokens are told mean and variance of the coordinates that their
        attention to the data picks out, which a softmax over tokens only hands on by way of learnt features.
    """

    kind: str
    dimension: int
    n_components: tuple[int, ...] = (2, 3, 4, 5)
    covariance: str = "isotropic"
    width: int = 64
    blocks: int = 4
    heads: int = 4
    positions: int = 1024
    state: int = 16
    groups: int = 2
    expand: int = 4
    axes: int = 0
    fourier: int = 0
    feedback: bool = False
    data_attention: bool = False
    moments: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_components", tuple(self.n_components))
        if self.kind not in NETWORK_KINDS:
            raise unknown_name("network kind", self.kind, NETWORK_KINDS)
        if self.fourier < 0:
            raise UserError(f"network setting 'fourier' must be 0 or more waves (got {self.fourier})")
        if 0 < self.axes < self.largest:
            raise UserError(f"network axes must be 0 or at least K = {self.largest} (got {self.axes})")
        if self.kind in MAMBA_KINDS:
            self._check_mamba()
        elif self.width % self.heads:
            raise UserError(f"network width {self.width} is not a multiple of its {self.heads} heads")

    def _check_mamba(self) -> None:
        for name in ("width", "heads", *MAMBA_SETTINGS):
            if getattr(self, name) < 1:
                raise UserError(f"network setting '{name}' must be at least 1 (got {getattr(self, name)})")
        if self.heads % self.groups:
            raise UserError(f"network heads {self.heads} are not a multiple of its {self.groups} groups")
        if self.expand * self.width % self.heads:
            inner = f"expand x width = {self.expand * self.width}"
            raise UserError(f"network {inner} is not a multiple of its {self.heads} heads")
        for name in ("heads", "groups", "expand"):
            if getattr(self, name) % self.directions:
                raise UserError(f"network {name} {getattr(self, name)} is odd: 'mamba2' gives half to each direction")

    @property
    def directions(self) -> int:
        """How many directions the mixers of a Mamba2 block run in."""
        return 2 if self.kind == "mamba2" else 1

    @property
    def largest(self) -> int:
        """The largest K, to which estimates are padded."""
        return max(self.n_components)

    def to_dict(self) -> dict[str, Any]:
        """The settings that this kind of network has, as plain values."""
        values = {name: getattr(self, name) for name in self.names(self.kind)}
        return {**values, "n_components": list(self.n_components)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSettings:
        """Settings from plain values; keys that this kind of network does not have are refused by name."""
        known = cls.names(values.get("kind"))
        for key in values:
            if key not in known:
                raise unknown_name("network setting", key, known)
        return cls(**values)

    @classmethod
    def names(cls, kind: str | None) -> list[str]:
        """Names of the settings of a kind of network."""
        others = {name for names in OWN_SETTINGS.values() for name in names} - set(OWN_SETTINGS.get(kind, ()))
        return [field.name for field in fields(cls) if field.name not in others]
