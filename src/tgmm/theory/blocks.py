"""Transformer blocks with explicit weight matrices, and the scalar maps inside their perceptrons.

A block is multi-head attention and a two-layer perceptron, each added to the residual stream. There is no layer
norm, no bias in the attention and no score scaling; the attention weights come from a softmax or, as in the paper's
Theorem 2, from a ReLU. An optional RMS norm acts on one slot (a range of channels) after the attention.

The constructions need maps that no attention gives: logarithms and squares. A perceptron replaces each by the
chords between knots, one hidden unit a knot, so the error falls as (number of units)^-2. Exact units, a test
instrument, show by their absence of error that nothing else in the construction is approximate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LOG_ZERO = -1e4  # stands for log 0: exp underflows to zero, so a component of this log weight takes no point
KNOT_POWER = 3  # the logarithm's knots are (j / J)^3: dense near 0, where the logarithm bends most
LOGARITHM, LOGIT, SQUARE, RELU = KINDS = ("logarithm", "logit", "square", "relu")


class Attention(nn.Module):
    """Multi-head attention: sum over heads h of output_h . activation(query_h tokens, key_h tokens) . value_h tokens.

    The activation is a "softmax" over the keys or "relu"; every weight starts at zero.
    """

    def __init__(self, n_heads: int, token_width: int, key_width: int, value_width: int, activation: str) -> None:
        super().__init__()
        self.query = _zeros(n_heads, key_width, token_width)
        self.key = _zeros(n_heads, key_width, token_width)
        self.value = _zeros(n_heads, value_width, token_width)
        self.output = _zeros(n_heads, token_width, value_width)
        self.activation = {"softmax": nn.Softmax(dim=-1), "relu": nn.ReLU()}[activation]

    def forward(self, tokens: Tensor) -> Tensor:
        """The attended update of ``tokens`` (B, n, width), same shape."""
        queries = torch.einsum("hqw,bnw->bhnq", self.query, tokens)
        keys = torch.einsum("hqw,bmw->bhmq", self.key, tokens)
        values = torch.einsum("hvw,bmw->bhmv", self.value, tokens)
        attention = self.activation(torch.einsum("bhnq,bhmq->bhnm", queries, keys))
        attended = torch.einsum("bhnm,bhmv->bhnv", attention, values)
        return torch.einsum("hwv,bhnv->bnw", self.output, attended)


class Perceptron(nn.Module):
    """Two linear layers with an activation between them, ReLU in every network that a theorem speaks of."""

    def __init__(self, token_width: int, hidden_width: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.hidden = _zero_linear(token_width, hidden_width)
        self.activation = nn.ReLU() if activation is None else activation
        self.output = _zero_linear(hidden_width, token_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """The update of each token of ``tokens`` (B, n, width), same shape."""
        return self.output(self.activation(self.hidden(tokens)))


class SlotNorm(nn.Module):
    """RMS norm of the channels ``start`` to ``stop``, with gains that leave a vector of unit Euclidean norm."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop
        size = stop - start
        self.norm = nn.RMSNorm(size, eps=torch.finfo(torch.float64).tiny, dtype=torch.float64)
        self.norm.weight = nn.Parameter(torch.full((size,), size**-0.5, dtype=torch.float64), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` (B, n, width) with the slot normalised."""
        normalised = self.norm(tokens[..., self.start : self.stop])
        return torch.cat([tokens[..., : self.start], normalised, tokens[..., self.stop :]], dim=-1)


class Block(nn.Module):
    """One transformer layer: attention and perceptron, each with a residual connection."""

    def __init__(self, attention: Attention, perceptron: Perceptron, norm: SlotNorm | None = None) -> None:
        super().__init__()
        self.attention = attention
        self.norm = nn.Identity() if norm is None else norm
        self.perceptron = perceptron

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` (B, n, width) after the layer, same shape."""
        tokens = self.norm(tokens + self.attention(tokens))
        return tokens + self.perceptron(tokens)


class Layout:
    """The channels of a token: ranges one after the other, each an attribute under its name, ``width`` in all."""

    def __init__(self, **sizes: int) -> None:
        ends = list(itertools.accumulate(sizes.values()))
        self.width = ends[-1]
        for (name, size), end in zip(sizes.items(), ends, strict=True):
            setattr(self, name, range(end - size, end))


class Transformer(nn.Sequential):
    """Blocks one after the other, with the token layout that its weights were constructed for."""

    def __init__(self, blocks: list[Block], layout: Layout) -> None:
        super().__init__(*blocks)
        self.layout = layout

    def sizes(self) -> dict[str, int]:
        """Layers, the most heads of any layer, token and hidden width, weights and how many of them are not zero."""
        tensors = self.state_dict().values()
        return {
            "layers": len(self),
            "heads": max(len(block.attention.query) for block in self),
            "token_width": self.layout.width,
            "hidden_width": max(block.perceptron.hidden.out_features for block in self),
            "weights": sum(tensor.numel() for tensor in tensors),
            "nonzero_weights": sum(int(tensor.count_nonzero()) for tensor in tensors),
        }


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, dtype=torch.float64), requires_grad=False)


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, dtype=torch.float64)
    return layer.requires_grad_(False).apply(lambda module: (module.weight.zero_(), module.bias.zero_()))


@dataclass(frozen=True)
class PiecewiseLinear:
    """f(z) = sum_j coefficients_j relu(signs_j (z - knots_j)); three Tensors (J,).

    The units face the side that needs them (towards 0 for the logarithm, away from 0 for the square), so that no two
    large terms cancel.
    """

    signs: Tensor
    knots: Tensor
    coefficients: Tensor

    def __call__(self, argument: Tensor) -> Tensor:
        hinges = (self.signs * (argument[..., None] - self.knots)).relu()
        return hinges @ self.coefficients


def chord_logarithm(n_units: int) -> PiecewiseLinear:
    """log z on [0, 1] with log 0 = LOG_ZERO, and 0 for z >= 1 (which is how the map is switched off)."""
    return _rising_chords(n_units, 1.0, torch.log, lambda z: z**-2)


def chord_logit(n_units: int) -> PiecewiseLinear:
    """log(z / (1 - z)) on [0, 1/2] with LOG_ZERO at 0, and 0 for z >= 1/2 (which is how the map is switched off)."""
    return _rising_chords(n_units, 0.5, torch.logit, lambda z: z**-2 - (1.0 - z) ** -2)


def _rising_chords(n_units: int, top: float, function: Callable, bend: Callable) -> PiecewiseLinear:
    """Chords of a concave function that is 0 at ``top``; ``bend`` is minus its second derivative.

    Inner values are raised until a chord's error averages to zero, so that errors cancel in sums over points.
    """
    knots = top * (torch.arange(n_units + 1, dtype=torch.float64) / n_units) ** KNOT_POWER
    values = function(knots).clamp_min(LOG_ZERO)
    widths = knots.diff().square()
    values[1:-1] += (widths[:-1] + widths[1:]) * bend(knots[1:-1]) / 24.0
    slopes = values.diff() / knots.diff()
    coefficients = torch.cat([slopes[1:], slopes.new_zeros(1)]) - slopes
    return PiecewiseLinear(-torch.ones(n_units, dtype=torch.float64), knots[1:], coefficients)


def chord_half_square(n_units: int, radius: float) -> PiecewiseLinear:
    """-z^2 / 2 on [-radius, radius], exact at 0 and at evenly spaced knots; an even number of units."""
    per_side = n_units // 2
    spacing = radius / per_side
    knots = spacing * torch.arange(per_side, dtype=torch.float64)
    coefficients = torch.full_like(knots, -spacing)
    coefficients[0] = -0.5 * spacing
    sign = torch.ones_like(knots)
    return PiecewiseLinear(
        torch.cat([sign, -sign]), torch.cat([knots, -knots]), torch.cat([coefficients, coefficients])
    )


class ExactUnits(nn.Module):
    """Test instrument, not a part of any theorem: hidden units that apply the exact maps in place of ReLUs.

    The first ``n_logarithms`` channels become log(min(z, 1)), the next ``n_logits`` logit(min(z, 1/2)), the next
    ``n_squares`` z^2 and the rest relu(z).
    """

    def __init__(self, n_logarithms: int, n_logits: int, n_squares: int) -> None:
        super().__init__()
        self.sizes = [n_logarithms, n_logits, n_squares]

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` (..., width) after the maps, same shape."""
        rest = hidden.shape[-1] - sum(self.sizes)
        logarithms, logits, squares, others = hidden.split([*self.sizes, rest], dim=-1)
        logarithms = logarithms.clamp(0.0, 1.0).log().clamp_min(LOG_ZERO)
        logits = logits.clamp(0.0, 0.5).logit().clamp_min(LOG_ZERO)
        return torch.cat([logarithms, logits, squares.square(), others.relu()], dim=-1)


class HiddenUnits:
    """Collects the hidden units of a perceptron: what each reads from a token and what it adds to it."""

    def __init__(self, token_width: int) -> None:
        self.token_width = token_width
        self.groups: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {kind: [] for kind in KINDS}

    def add(self, reads: dict[int, float], adds: dict[int, float], bias: float = 0.0, kind: str = RELU) -> None:
        """One unit: ``adds`` times the activation of (``reads`` . token + bias)."""
        self.groups[kind].append((self._row(reads)[None], torch.tensor([bias]).double(), self._row(adds)[None]))

    def add_linear(self, reads: dict[int, float], adds: dict[int, float]) -> None:
        """Two ReLU units that together are linear, relu(z) - relu(-z) = z."""
        for sign in (1.0, -1.0):
            flipped = ({channel: sign * factor for channel, factor in part.items()} for part in (reads, adds))
            self.add(*flipped)

    def add_map(self, function: PiecewiseLinear, reads: dict[int, float], channel: int) -> None:
        """The units of a piecewise-linear map of z = ``reads`` . token, added to ``channel``."""
        rows = function.signs[:, None] * self._row(reads)
        outputs = function.coefficients[:, None] * self._row({channel: 1.0})
        self.groups[RELU].append((rows, -function.signs * function.knots, outputs))

    def count(self) -> int:
        """How many units there are."""
        return sum(len(bias) for group in self.groups.values() for _, bias, _ in group)

    def build(self, width: int) -> Perceptron:
        """The perceptron, filled up with unused units to ``width``; exact units come first where there are any."""
        exact = [len(self.groups[kind]) for kind in KINDS[:-1]]
        perceptron = Perceptron(self.token_width, width, ExactUnits(*exact) if any(exact) else None)
        units = [unit for group in self.groups.values() for unit in group]
        rows, biases, outputs = (torch.cat(parts) for parts in zip(*units, strict=True))
        perceptron.hidden.weight[: len(rows)] = rows
        perceptron.hidden.bias[: len(rows)] = biases
        perceptron.output.weight[:, : len(rows)] = outputs.T
        return perceptron

    def _row(self, entries: dict[int, float]) -> Tensor:
        row = torch.zeros(self.token_width, dtype=torch.float64)
        for channel, factor in entries.items():
            row[channel] += factor
        return row


def largest_even(number: float) -> int:
    """The largest even integer not above ``number``."""
    return 2 * math.floor(number / 2)
