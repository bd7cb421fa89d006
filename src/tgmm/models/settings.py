"""The settings of a network, a class for each kind: what config.json records and a network is built from.

A new kind is a class here, with its own settings and what it costs, and a module with its network. Nothing here imports
torch before a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import Field, field_validator, model_validator

from tgmm.errors import refuse_unknown
from tgmm.settings import Settings

if TYPE_CHECKING:
    from torch import nn

LOSSES = ("matched", "sorted", "likelihood", "likelihood-heldout", "both")


Positive = Annotated[int, Field(ge=1, le=10_000)]
# Settings of networks that have left, at the values at which they did nothing: records of earlier versions have them.
REMOVED = {"feedback": False, "data_attention": False, "positions": 1024}
FORWARD_AND_BACKWARD = 6  # floating-point operations for each multiply-add of the forward pass


class NetworkSize(Settings):
    """The size of a network, which a scale of the study sets.

    ``PRODUCTS`` says what it costs: multiply-adds of the forward pass for each point and block, in units of width². It
    includes products of tokens with tokens at the widths of the study's scales, so that the estimate is within a factor
    of two of what a step runs.
    """

    PRODUCTS: ClassVar[float] = 14.0

    width: Positive = Field(64, description="D, numbers in a token.")
    blocks: Positive = Field(4, description="Number of blocks.")
    heads: Positive = Field(4, description="Heads of each attention, or of each block's Mamba2 mixers.")

    @model_validator(mode="after")
    def _check_heads(self) -> NetworkSize:
        if self.head_width % self.heads:
            raise ValueError(f"network {self.head_words} is not a multiple of its {self.heads} heads")
        return self

    @property
    def head_width(self) -> int:
        """The numbers that the heads share out among themselves."""
        return self.width

    @property
    def head_words(self) -> str:
        """The same in words, for an error."""
        return f"width {self.width}"

    def flops(self, n_points: float) -> float:
        """Floating-point operations, about, of a training step for each task of so many points."""
        return FORWARD_AND_BACKWARD * self.PRODUCTS * self.width**2 * self.blocks * n_points


class ComponentsSize(NetworkSize):
    """Size and parts of the default network."""

    PRODUCTS: ClassVar[float] = 6.5

    axes: int = Field(
        0, ge=0, le=10_000,
        description="The network sees the points in at most so many of their principal axes (at least the largest K); "
        "0 for the coordinates as they are.",
    )  # fmt: skip
    fourier: int = Field(
        0, ge=0, le=10_000,
        description="Waves of Fourier features at the read-in, shared by the coordinates; 0 for the coordinates alone.",
    )  # fmt: skip
    moments: bool = Field(
        False,
        description="Component tokens are told mean and variance of the coordinates under their attention to the data.",
    )


class GPT2Size(NetworkSize):
    """Size of the paper's network."""

    positions: Positive = Field(1024, description="The longest input; every position has a learnt embedding.")


class Mamba2Size(NetworkSize):
    """Size of a network of Mamba2 mixers; the defaults are the paper's."""

    PRODUCTS: ClassVar[float] = 32.0

    state: Positive = Field(16, description="Numbers in the state of a channel.")
    groups: Positive = Field(2, description="Groups of heads that share B and C.")
    expand: Positive = Field(4, description="How many times wider than D the mixers are inside.")

    @property
    def head_width(self) -> int:
        return self.expand * self.width

    @property
    def head_words(self) -> str:
        return f"expand x width = {self.head_width}"

    @model_validator(mode="after")
    def _check_groups(self) -> Mamba2Size:
        if self.heads % self.groups:
            raise ValueError(f"network heads {self.heads} are not a multiple of its {self.groups} groups")
        return self


class AssignmentSettings(NetworkSize):
    """The size of the assignment network, which the estimator asks who belongs where."""

    waves: Annotated[int, Field(ge=1, le=20)] = Field(3, description="Waves of Fourier features a coordinate.")


class CriterionSettings(NetworkSize):
    """The size of the criterion network, which tells how many components a data set has from its fits."""

    blocks: Positive = Field(2, description="Number of blocks.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of the numbers that is left out in training.")


class NetworkSettings(NetworkSize):
    """A network: its size, and the tasks that it serves.

    ``SIZE`` is the class of the former, which a scale sets, ``NETWORK`` the module and class that builds it.
    """

    SIZE: ClassVar[type[NetworkSize]] = NetworkSize
    NETWORK: ClassVar[str]

    kind: str
    dimension: Positive = Field(description="d of the points.")
    n_components: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (2, 3, 4, 5), min_length=1, description="Every K that the network serves."
    )
    covariance: Literal["isotropic", "anisotropic"] = Field(
        "isotropic", description="An anisotropic network estimates standard deviations too."
    )

    @field_validator("n_components")
    @classmethod
    def _check_increasing(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if list(values) != sorted(set(values)):
            raise ValueError(f"every K once, and in increasing order (got {list(values)})")
        return values

    @property
    def largest(self) -> int:
        """The largest K, to which estimates are padded."""
        return max(self.n_components)

    def build(self) -> nn.Module:
        """A freshly initialised network; torch's global seed decides its weights."""
        module, name = self.NETWORK.split(":")
        return getattr(import_module(module), name)(self)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, as a record holds them."""
        first = ("kind", "dimension", "n_components", "covariance")
        values = self.plain()
        return {name: values[name] for name in (*first, *(name for name in values if name not in first))}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> AnyNetwork:
        """Settings of the kind that the values name; keys that this kind does not have are refused by name.

        Raises
        ------
        UserError : one line with the key and what would be right.
        """
        kind = values.get("kind") if isinstance(values, Mapping) else None
        refuse_unknown("network kind", kind, NETWORK_KINDS)
        return NETWORK_KINDS[kind].read(without_removed(values))


class ComponentsNetwork(NetworkSettings, ComponentsSize):
    """The default network: component tokens beside the data tokens."""

    SIZE: ClassVar[type[NetworkSize]] = ComponentsSize
    NETWORK: ClassVar[str] = "tgmm.models.components:ComponentNetwork"
    kind: Literal["components"] = "components"

    @model_validator(mode="after")
    def _check_axes(self) -> ComponentsNetwork:
        if 0 < self.axes < self.largest:
            raise ValueError(f"network axes must be 0 or at least K = {self.largest} (got {self.axes})")
        return self


class SetEncoderNetwork(NetworkSettings):
    """The paper's network without order: bidirectional blocks and no positions."""

    NETWORK: ClassVar[str] = "tgmm.models.encoder:EncoderNetwork"
    kind: Literal["set-encoder"] = "set-encoder"


class GPT2Network(NetworkSettings, GPT2Size):
    """The paper's network: causal GPT-2 blocks and learnt positions."""

    SIZE: ClassVar[type[NetworkSize]] = GPT2Size
    NETWORK: ClassVar[str] = "tgmm.models.encoder:EncoderNetwork"
    kind: Literal["gpt2"] = "gpt2"


class Mamba2CausalNetwork(NetworkSettings, Mamba2Size):
    """Mamba2 blocks in one direction, as the paper has them."""

    SIZE: ClassVar[type[NetworkSize]] = Mamba2Size
    NETWORK: ClassVar[str] = "tgmm.models.encoder:MambaNetwork"
    PRODUCTS: ClassVar[float] = 48.0
    DIRECTIONS: ClassVar[int] = 1
    kind: Literal["mamba2-causal"] = "mamba2-causal"


class Mamba2Network(NetworkSettings, Mamba2Size):
    """Mamba2 blocks of which half the heads and groups read from the other end."""

    SIZE: ClassVar[type[NetworkSize]] = Mamba2Size
    NETWORK: ClassVar[str] = "tgmm.models.encoder:MambaNetwork"
    DIRECTIONS: ClassVar[int] = 2

    kind: Literal["mamba2"] = "mamba2"

    @model_validator(mode="after")
    def _check_even(self) -> Mamba2Network:
        for name in ("heads", "groups", "expand"):
            if getattr(self, name) % self.DIRECTIONS:
                raise ValueError(f"network {name} {getattr(self, name)} is odd: 'mamba2' gives half to each direction")
        return self


AnyNetwork = Annotated[
    Union[ComponentsNetwork, SetEncoderNetwork, GPT2Network, Mamba2Network, Mamba2CausalNetwork],  # noqa: UP007
    Field(discriminator="kind"),
]
NETWORK_KINDS = {part.model_fields["kind"].default: part for part in get_args(get_args(AnyNetwork)[0])}


def without_removed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a network without those that have left, where they did nothing."""
    known = NETWORK_KINDS[values["kind"]].model_fields
    return {key: value for key, value in values.items() if key in known or key not in REMOVED or value != REMOVED[key]}
