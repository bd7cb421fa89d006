"""Theorem 1 as a program: a transformer of 2 L blocks that carries out L steps of EM for unit covariances.

Tokens are the N points and, after them, the components. Each EM step is two blocks:

* E block, one softmax head. A point asks every component with the score x . mu_k + b_k, where
  b_k = log pi_k - |mu_k|^2 / 2, and collects the components' labels: the attention weights *are* the
  responsibilities. The perceptron writes their logarithms.
* M block, three softmax heads. A component asks every point with the score log r_ik and collects x_i: the attention
  weights are r_ik / sum_i r_ik and the result is the new mean. A uniform head averages r_i into the new weights. The
  third head's attention to components has the total weight N, so the rest of it is pi_k / (1 + pi_k), whose logit is
  log pi_k. The perceptron replaces mu, pi and b and clears the scratch slots.

In the other heads points attend to components only and components to points only, by a large negative score. A
component of weight zero has b = log 0, so it takes no point and keeps weight zero: one network serves every K up to
its own, and zeros in the unused coordinates every d. Everything is exact but the logarithms and squares of the
perceptrons, which are piecewise linear.

Every component has C tokens instead of one. They differ only in where the knots of the squares lie, each shifted by
1 / C of their spacing; the softmax adds up a component's tokens, which averages the squares' errors and so makes
them C^2 times smaller at the same width.
"""

from __future__ import annotations

import copy
import math

from torch import Tensor

from tgmm.errors import UserError
from tgmm.mixture import Mixture
from tgmm.theory.blocks import Attention, Block, Perceptron, Transformer
from tgmm.theory.em_layout import EMLayout, decode, encode
from tgmm.theory.maps import (
    LOGARITHM,
    LOGIT,
    SQUARE,
    HiddenUnits,
    chord_half_square,
    chord_logarithm,
    chord_logit,
    largest_even,
)

MASK = -1e6
MEAN_RADIUS = 9.0  # coordinates of means for which the square is built; beyond, it goes on as a straight line
LOGIT_SHARE = 2.0  # units of the logit for each unit of a square
COPIES = 8
FEWEST_UNITS = 4  # of any map


def build_em_transformer(
    max_dimension: int, max_components: int, steps: int, width: int, *, copies: int = COPIES, exact: bool = False,
    mean_radius: float = MEAN_RADIUS,
) -> Transformer:  # fmt: skip
    """The transformer of Theorem 1, float64: ``2 * steps`` blocks with one and three heads in turn.

    Parameters
    ----------
    max_dimension, max_components : the network serves every d and K up to these.
    steps : EM steps L.
    width : hidden units W of every perceptron.
    copies : tokens C for each component; one is the plain construction.
    exact : put exact logarithms and squares in the perceptrons' hidden layers (a test instrument).
    mean_radius : the range of the means' coordinates.

    Raises
    ------
    UserError
        For a width that leaves less than four units to any map.
    """
    layout = EMLayout(max_dimension, max_components, copies)
    expectation = Block(_responsibility_attention(layout), _log_perceptron(layout, width, exact))
    maximisation = Block(_moment_attention(layout), _update_perceptron(layout, width, exact, mean_radius))
    blocks = [copy.deepcopy(block) for _ in range(steps) for block in (expectation, maximisation)]
    return Transformer(blocks, layout)


def width_for_units(dimension: int, n_components: int, units: int, copies: int = COPIES) -> int:
    """The hidden width that gives ``units`` (even) to every square and at least as many to every logarithm."""
    update = HiddenUnits(EMLayout(dimension, n_components, copies).width)
    _add_replacements(update, EMLayout(dimension, n_components, copies))
    n_update = update.count() + 3 * copies + math.ceil(units * (dimension + LOGIT_SHARE))
    return max(n_update, n_components * units)


def run_em_transformer(network: Transformer, points: Tensor, start: Mixture) -> Mixture:
    """Encode, one forward pass, decode: the network's counterpart of EM from ``start`` on points (B, N, d)."""
    tokens = network(encode(network.layout, points, start))
    return decode(network.layout, tokens, points.shape[2], start.n_components)


def em_trajectory(network: Transformer, points: Tensor, start: Mixture) -> list[Mixture]:
    """The mixtures after each EM step, that is after every second block."""
    tokens, mixtures = encode(network.layout, points, start), []
    for number, block in enumerate(network):
        tokens = block(tokens)
        if number % 2:
            mixtures.append(decode(network.layout, tokens, points.shape[2], start.n_components))
    return mixtures


def _responsibility_attention(layout: EMLayout) -> Attention:
    """The E-step's head, from components to points."""
    d, (log_weight, *_, is_point, _) = layout.d, layout.scalars
    attention = Attention(1, layout.width, d + 3, layout.K, "softmax")
    _carry(attention.query[0], range(d), layout.point)
    _carry(attention.key[0], range(d), layout.mean)
    attention.query[0, d, is_point] = 1.0
    attention.key[0, d, log_weight] = 1.0
    _mask_points(attention, layout, 0, d + 1)
    _mask_components(attention, layout, 0, d + 2)
    _carry(attention.value[0], range(layout.K), layout.label)
    _carry(attention.output[0], layout.responsibility, range(layout.K))
    return attention


def _moment_attention(layout: EMLayout) -> Attention:
    """The M-step's heads, from points to components: weighted mean, average responsibility, total responsibility."""
    d, K, (_, _, mass, log_count, is_point, is_component) = layout.d, layout.K, layout.scalars
    attention = Attention(3, layout.width, K + 3, max(d, K), "softmax")
    for head in (0, 2):
        _carry(attention.query[head], range(K), layout.label)
        _carry(attention.key[head], range(K), layout.log_responsibility)
    for head in (0, 1, 2):
        _mask_points(attention, layout, head, K)
    for head in (0, 1):
        _mask_components(attention, layout, head, K + 1)
    attention.query[2, K + 1, log_count] = attention.query[2, K + 2, is_component] = 1.0
    attention.key[2, K + 1, is_component] = 1.0
    attention.key[2, K + 2, is_component] = -math.log(layout.n_component_tokens)
    _carry(attention.value[0], range(d), layout.point)
    _carry(attention.output[0], layout.new_mean, range(d))
    _carry(attention.value[1], range(K), layout.responsibility)
    _carry(attention.output[1], layout.responsibility, range(K))
    attention.value[2, 0, is_point] = attention.output[2, mass, 0] = 1.0
    return attention


def _carry(weight: Tensor, rows: range, columns: range) -> None:
    """Ones in ``weight`` that carry the channels ``columns`` to ``rows``."""
    weight[list(rows), list(columns)] = 1.0


def _mask_points(attention: Attention, layout: EMLayout, head: int, channel: int) -> None:
    """A score channel that keeps points from attending to points."""
    attention.query[head, channel, layout.scalars[4]] = 1.0
    attention.key[head, channel, layout.scalars[4]] = MASK


def _mask_components(attention: Attention, layout: EMLayout, head: int, channel: int) -> None:
    """A score channel that keeps components from attending to components."""
    attention.query[head, channel, layout.scalars[5]] = 1.0
    attention.key[head, channel, layout.scalars[5]] = MASK


def _log_perceptron(layout: EMLayout, width: int, exact: bool) -> Perceptron:
    """log r_k in every point's token; a component's flag pushes the argument to 1, where the map is off."""
    units = HiddenUnits(layout.width)
    function = None if exact else chord_logarithm(_enough(width // layout.K, width, layout))
    for source, target in zip(layout.responsibility, layout.log_responsibility, strict=True):
        reads = {source: 1.0, layout.scalars[5]: 1.0}
        if exact:
            units.add(reads, {target: 1.0}, kind=LOGARITHM)
        else:
            units.add_map(function, reads, target)
    return units.build(width)


def _update_perceptron(layout: EMLayout, width: int, exact: bool, mean_radius: float) -> Perceptron:
    """The new mu, pi and b in every component's token, and all scratch slots back to zero."""
    units = HiddenUnits(layout.width)
    _add_replacements(units, layout)
    if exact:
        log_weight, _, mass, _, is_point, _ = layout.scalars
        units.add({mass: 1.0, is_point: 1.0}, {log_weight: 1.0}, kind=LOGIT)
        for new in layout.new_mean:
            units.add({new: 1.0}, {log_weight: -0.5}, kind=SQUARE)
    else:
        _add_maps(units, layout, width, mean_radius)
    return units.build(width)


def _add_replacements(units: HiddenUnits, layout: EMLayout) -> None:
    """What is exact: mu and pi take their new values, b and the scratch slots become zero."""
    log_weight, weight, mass, *_ = layout.scalars
    for mean, new in zip(layout.mean, layout.new_mean, strict=True):
        units.add_linear({new: 1.0}, {mean: 1.0, new: -1.0})
        units.add_linear({mean: 1.0}, {mean: -1.0})
    units.add({log_weight: -1.0}, {log_weight: 1.0})  # b <= 0: one unit clears it, and so for what is never negative
    for channel in (weight, mass):
        units.add({channel: 1.0}, {channel: -1.0})
    slots = (layout.label, layout.responsibility, layout.log_responsibility)
    for label, responsibility, log_responsibility in zip(*slots, strict=True):
        units.add({responsibility: 1.0}, {responsibility: -1.0})
        units.add({log_responsibility: -1.0}, {log_responsibility: 1.0})
        units.add({responsibility: 1.0, label: 1.0}, {weight: 1.0}, -1.0)  # the average where the label is one, else 0


def _add_maps(units: HiddenUnits, layout: EMLayout, width: int, mean_radius: float) -> None:
    """b = log pi - |mu|^2 / 2 in pieces, from the shifted square (u + s)^2 = u^2 + 2 s u + s^2 of each copy."""
    log_weight, _, mass, _, is_point, _ = layout.scalars
    available = width - units.count() - 3 * layout.copies
    n_square = _enough(largest_even(available / (layout.d + LOGIT_SHARE)), width, layout)
    n_logit = available - layout.d * n_square
    units.add_map(chord_logit(n_logit), {mass: 1.0, is_point: 1.0}, log_weight)
    spacing = 2.0 * mean_radius / n_square
    shifts = [spacing * ((number + 0.5) / layout.copies - 0.5) for number in range(layout.copies)]
    by_copy = dict(zip(layout.copy, shifts, strict=True))
    for new in layout.new_mean:
        units.add_map(chord_half_square(n_square, mean_radius), {new: 1.0, **by_copy}, log_weight)
    gate = 2.0 * layout.d * mean_radius  # more than any sum of coordinates: shuts the units of the other copies
    for flag, shift in by_copy.items():
        for sign in (1.0, -1.0):
            reads = {**dict.fromkeys(layout.new_mean, sign), flag: gate}
            units.add(reads, {log_weight: sign * shift}, -gate)
        units.add({flag: 1.0}, {log_weight: 0.5 * layout.d * shift**2})


def _enough(n_units: int, width: int, layout: EMLayout) -> int:
    if n_units < FEWEST_UNITS:
        raise UserError(f"width {width} is too small for d={layout.d}, K={layout.K}: a map needs {FEWEST_UNITS} units")
    return n_units
