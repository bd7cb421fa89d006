"""Theorem 2 as a program: a transformer with d ReLU heads whose every block is one cubic tensor power iteration.

For a tensor T (d, d, d) and a vector v, the map is v -> T(I, v, v) = sum_jm T[:, j, m] v_j v_m, normalised. Token j of
d holds the slice T[:, j, :], the vector v, its own coordinate v_j and the unit vector e_j. Head m scores
relu(v_m v_j + B), which is v_m v_j + B for B >= |v_m v_j|, with the value T[:, j, m]; one more token with the value
-sum_j T[:, j, m] and the coordinate 0 scores B and so takes the offset away. The heads' sum is T(I, v, v) exactly. An
RMS norm on its slot makes it a unit vector, and the perceptron puts it in the place of v, and its coordinates in the
place of v_j.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.errors import UserError
from tgmm.theory.blocks import Attention, Block, Perceptron, SlotNorm, Transformer
from tgmm.theory.maps import HiddenUnits


@dataclass(frozen=True)
class PowerLayout:
    """Channels of a token, as ranges, for tensors of dimension ``d``."""

    d: int

    @property
    def slice(self) -> range:
        """T[:, j, :], row by row."""
        return range(self.d**2)

    def _range(self, n_vectors: int, size: int) -> range:
        start = self.d**2 + n_vectors * self.d
        return range(start, start + size)

    @property
    def vector(self) -> range:
        """v, in every token."""
        return self._range(0, self.d)

    @property
    def new_vector(self) -> range:
        """Scratch: T(I, v, v)."""
        return self._range(1, self.d)

    @property
    def label(self) -> range:
        """The unit vector e_j; zero in the extra token."""
        return self._range(2, self.d)

    @property
    def scalars(self) -> range:
        """v_j, then the constant one."""
        return self._range(3, 2)

    @property
    def width(self) -> int:
        """Channels of a token, d^2 + 3 d + 2."""
        return self.scalars.stop


def build_power_transformer(
    dimension: int, steps: int, *, normalise: bool = True, bound: float = 1.0, offset: bool = True
) -> Transformer:
    """The transformer of Theorem 2, float64: ``steps`` blocks of ``dimension`` ReLU heads.

    Parameters
    ----------
    dimension : d.
    steps : power iterations.
    normalise : have an RMS norm, so that every iteration ends with a unit vector.
    bound : at least the largest |coordinate| of any v and T(I, v, v) without ``normalise``; 1 with it.
    offset : have the offset B. Without it the ReLU cuts the negative products off and the result is wrong.

    Raises
    ------
    UserError
        For a dimension or number of steps below one.
    """
    if dimension < 1 or steps < 1:
        raise UserError(f"dimension and steps must be at least 1 (got {dimension} and {steps})")
    layout = PowerLayout(dimension)
    norm = SlotNorm(layout.new_vector.start, layout.new_vector.stop) if normalise else None
    attention = _cubic_attention(layout, bound**2 if offset else 0.0)
    block = Block(attention, _replacing_perceptron(layout, 2.0 * bound), norm)
    return Transformer([copy.deepcopy(block) for _ in range(steps)], layout)


def encode_power(layout: PowerLayout, tensor: Tensor, vector: Tensor) -> Tensor:
    """Tokens (B, d + 1, width), float64, of tensors (B, d, d, d) and vectors (B, d)."""
    d, (coordinate, constant) = layout.d, layout.scalars
    tokens = torch.zeros(len(tensor), d + 1, layout.width, dtype=torch.float64)
    slices = tensor.transpose(1, 2)
    tokens[:, :d, layout.slice] = slices.flatten(2).double()
    tokens[:, d, layout.slice] = -slices.sum(1).flatten(1).double()
    tokens[..., layout.vector] = vector[:, None].double()
    tokens[:, :d, layout.label] = torch.eye(d, dtype=torch.float64)
    tokens[:, :d, coordinate] = vector.double()
    tokens[..., constant] = 1.0
    return tokens


def decode_power(layout: PowerLayout, tokens: Tensor) -> Tensor:
    """The vectors (B, d) that the tokens hold; all tokens agree, so the first is read."""
    return tokens[:, 0, layout.vector]


def run_power_transformer(network: Transformer, tensor: Tensor, vector: Tensor) -> Tensor:
    """Encode, one forward pass, decode: the vectors (B, d) after all of the network's power iterations."""
    return decode_power(network.layout, network(encode_power(network.layout, tensor, vector)))


def power_trajectory(network: Transformer, tensor: Tensor, vector: Tensor) -> Tensor:
    """The vectors before the first block and after each, (steps + 1, B, d)."""
    tokens = encode_power(network.layout, tensor, vector)
    vectors = [decode_power(network.layout, tokens)]
    for block in network:
        tokens = block(tokens)
        vectors.append(decode_power(network.layout, tokens))
    return torch.stack(vectors)


def _cubic_attention(layout: PowerLayout, offset: float) -> Attention:
    """Head m: relu(v_m v_j + offset) T[:, j, m], summed over the tokens j."""
    d, (coordinate, constant) = layout.d, layout.scalars
    attention = Attention(d, layout.width, 2, d, "relu")
    attention.query[:, 1, constant] = offset
    attention.key[:, 0, coordinate] = attention.key[:, 1, constant] = 1.0
    for head in range(d):
        attention.query[head, 0, layout.vector[head]] = 1.0
        attention.value[head, list(range(d)), layout.slice[head::d]] = 1.0
        attention.output[head, list(layout.new_vector), list(range(d))] = 1.0
    return attention


def _replacing_perceptron(layout: PowerLayout, gate: float) -> Perceptron:
    """v and v_j take their new values, the scratch slot becomes zero. ``gate`` is above every coordinate."""
    units = HiddenUnits(layout.width)
    coordinate = layout.scalars[0]
    for old, new, label in zip(layout.vector, layout.new_vector, layout.label, strict=True):
        units.add_linear({new: 1.0}, {old: 1.0, new: -1.0})
        units.add_linear({old: 1.0}, {old: -1.0})
        for sign in (1.0, -1.0):
            units.add({new: sign, label: gate}, {coordinate: sign}, -gate)  # the coordinate where the label is one
    units.add_linear({coordinate: 1.0}, {coordinate: -1.0})
    return units.build(units.count())
