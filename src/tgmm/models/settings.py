"""The settings of a network: what a checkpoint's config.json records and the builder reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from tgmm.errors import UserError, unknown_name

NETWORK_KINDS = ("components", "set-encoder", "gpt2")


@dataclass(frozen=True)
class NetworkSettings:
    """Architecture of a TGMM network.

    Attributes
    ----------
    kind : "components" (component tokens beside the data tokens), "set-encoder" (bidirectional, no positions,
        attentive-pooling read-out) or "gpt2" (the paper's: causal, learnt positions, the same read-out).
    dimension : d of the points.
    n_components : every K that the network serves.
    covariance : "isotropic" or "anisotropic" (then it estimates standard deviations too).
    width, blocks, heads : D, number of blocks, heads of each attention.
    positions : the longest input of a "gpt2" network.
    """

    kind: str
    dimension: int
    n_components: tuple[int, ...] = (2, 3, 4, 5)
    covariance: str = "isotropic"
    width: int = 64
    blocks: int = 4
    heads: int = 4
    positions: int = 1024

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_components", tuple(self.n_components))
        if self.kind not in NETWORK_KINDS:
            raise unknown_name("network kind", self.kind, NETWORK_KINDS)
        if self.width % self.heads:
            raise UserError(f"network width {self.width} is not a multiple of its {self.heads} heads")

    @property
    def largest(self) -> int:
        """The largest K, to which estimates are padded."""
        return max(self.n_components)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "n_components": list(self.n_components)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSettings:
        """Settings from plain values; unknown keys are refused by name."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name("network setting", key, known)
        return cls(**values)
