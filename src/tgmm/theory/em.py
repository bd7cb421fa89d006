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

The measurement runs the network beside EM from the same starts: the table that the figure of Theorem 1 reads.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from tgmm.errors import UserError, refuse_unknown
from tgmm.methods.base import one_thread
from tgmm.methods.em import kmeans_plus_plus_start, run_em_steps
from tgmm.mixture import Mixture, concatenate
from tgmm.tasks.sampler import MEAN_RANGE, sample_mixtures, sample_points
from tgmm.theory.blocks import (
    LOG_ZERO,
    LOGARITHM,
    LOGIT,
    SQUARE,
    Attention,
    Block,
    HiddenUnits,
    Layout,
    Perceptron,
    Transformer,
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
MIXTURES = ("separated", "overlapping")
OVERLAP_DISTANCE = 3.0  # root mean square distance of two means in the overlapping mixtures, standard deviations
STEPS = (1, 2, 5, 10, 20)
WIDTHS = (512, 1024, 2048, 4096)
EXACT_WIDTH = 128
TASKS_AT_ONCE = 2  # keeps the hidden layer in a processor's cache


class EMLayout(Layout):
    """Channels of a token for at most ``dimension`` and ``n_components``, every component having C ``copies``.

    Attributes
    ----------
    point : x_i, in a point's token.
    mean : mu_k, in a component's token; new_mean : scratch, the M-step's mean.
    label : the unit vector e_k, in a component's token.
    responsibility : scratch, r_i of a point, the average of r_i in a component's token; log_responsibility : log r_i.
    scalars : b_k = log pi_k - |mu_k|^2 / 2, pi_k, scratch pi_k / (1 + pi_k), log N, "is a point", "is a component".
    copy : which of its component's copies a token is, as a unit vector.
    n_component_tokens : tokens that are components, C K.
    """

    def __init__(self, dimension: int, n_components: int, copies: int) -> None:
        vectors = dict.fromkeys(("point", "mean", "new_mean"), dimension)
        labels = dict.fromkeys(("label", "responsibility", "log_responsibility"), n_components)
        super().__init__(**vectors, **labels, scalars=6, copy=copies)
        self.dimension, self.n_components, self.copies = dimension, n_components, copies
        self.n_component_tokens = copies * n_components


def encode(layout: EMLayout, points: Tensor, mixture: Mixture) -> Tensor:
    """Tokens (B, N + C K, width) of points (B, N, d) and of the mixtures that EM starts from; padding is zero.

    Components beyond the mixtures' K have weight zero, as have those of mixtures that are padded themselves. Tasks with
    more dimensions or components than the layout are a `UserError`.
    """
    (n_tasks, n_points, d), n_components = points.shape, mixture.n_components
    if d > layout.dimension or n_components > layout.n_components:
        raise UserError(
            f"the network is built for d <= {layout.dimension}, K <= {layout.n_components}; "
            f"the tasks have {d}, {n_components}"
        )
    log_weight, weight, _, log_count, is_point, is_component = layout.scalars
    n_tokens = n_points + layout.n_component_tokens
    tokens = torch.zeros(n_tasks, n_tokens, layout.width, dtype=torch.float64, device=points.device)
    tokens[:, :n_points, layout.point[0] : layout.point[0] + d] = points
    tokens[:, :n_points, is_point] = 1.0
    components = tokens[:, n_points:].unflatten(1, (layout.copies, layout.n_components))
    components[..., layout.label] = torch.eye(layout.n_components, dtype=torch.float64, device=points.device)
    components[..., layout.copy] = torch.eye(layout.copies, dtype=torch.float64, device=points.device)[:, None]
    components[..., is_component] = 1.0
    components[..., log_count] = math.log(n_points)
    components[..., log_weight] = LOG_ZERO
    used = components[..., :n_components, :]
    log_weights = mixture.weights.log().clamp_min(LOG_ZERO)
    used[..., layout.mean[0] : layout.mean[0] + d] = mixture.means[:, None]
    used[..., weight] = mixture.weights[:, None]
    used[..., log_weight] = (log_weights - 0.5 * mixture.means.square().sum(-1))[:, None]
    return tokens


def decode(layout: EMLayout, tokens: Tensor, dimension: int, n_components: int) -> Mixture:
    """The mixtures (B) that the component tokens hold; copies agree, so the first ones are read."""
    used = tokens[:, tokens.shape[1] - layout.n_component_tokens :][:, :n_components]
    return Mixture(used[..., layout.scalars[1]], used[..., layout.mean[0] : layout.mean[0] + dimension])


# --- construction ------------------------------------------------------------------------------------------------


def build_em_transformer(
    max_dimension: int, max_components: int, steps: int, width: int, *, copies: int = COPIES, exact: bool = False
) -> Transformer:  # fmt: skip
    """The transformer of Theorem 1, float64: ``2 * steps`` blocks with one and three heads in turn.

    Parameters
    ----------
    max_dimension, max_components : the network serves every d and K up to these.
    steps : EM steps L.
    width : hidden units W of every perceptron.
    copies : tokens C for each component; one is the plain construction.
    exact : put exact logarithms and squares in the perceptrons' hidden layers (a test instrument).

    Raises
    ------
    UserError : for a width that leaves less than four units to any map.
    """
    layout = EMLayout(max_dimension, max_components, copies)
    expectation = Block(_responsibility_attention(layout), _log_perceptron(layout, width, exact))
    maximisation = Block(_moment_attention(layout), _update_perceptron(layout, width, exact))
    blocks = [copy.deepcopy(block) for _ in range(steps) for block in (expectation, maximisation)]
    return Transformer(blocks, layout)


def width_for_units(dimension: int, n_components: int, units: int) -> int:
    """The hidden width that gives ``units`` (even) to every square and at least as many to every logarithm."""
    layout = EMLayout(dimension, n_components, COPIES)
    update = HiddenUnits(layout.width)
    _add_replacements(update, layout)
    n_update = update.count() + 3 * COPIES + math.ceil(units * (dimension + LOGIT_SHARE))
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
    d, (log_weight, *_, is_point, _) = layout.dimension, layout.scalars
    attention = Attention(1, layout.width, d + 3, layout.n_components, "softmax")
    _carry(attention.query[0], range(d), layout.point)
    _carry(attention.key[0], range(d), layout.mean)
    attention.query[0, d, is_point] = 1.0
    attention.key[0, d, log_weight] = 1.0
    _mask_points(attention, layout, 0, d + 1)
    _mask_components(attention, layout, 0, d + 2)
    _carry(attention.value[0], range(layout.n_components), layout.label)
    _carry(attention.output[0], layout.responsibility, range(layout.n_components))
    return attention


def _moment_attention(layout: EMLayout) -> Attention:
    """The M-step's heads, from points to components: weighted mean, average responsibility, total responsibility."""
    d, K, (_, _, mass, log_count, is_point, is_component) = layout.dimension, layout.n_components, layout.scalars
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
    function = None if exact else chord_logarithm(_enough(width // layout.n_components, width, layout))
    for source, target in zip(layout.responsibility, layout.log_responsibility, strict=True):
        reads = {source: 1.0, layout.scalars[5]: 1.0}
        if exact:
            units.add(reads, {target: 1.0}, kind=LOGARITHM)
        else:
            units.add_map(function, reads, target)
    return units.build(width)


def _update_perceptron(layout: EMLayout, width: int, exact: bool) -> Perceptron:
    """The new mu, pi and b in every component's token, and all scratch slots back to zero."""
    units = HiddenUnits(layout.width)
    _add_replacements(units, layout)
    if exact:
        log_weight, _, mass, _, is_point, _ = layout.scalars
        units.add({mass: 1.0, is_point: 1.0}, {log_weight: 1.0}, kind=LOGIT)
        for new in layout.new_mean:
            units.add({new: 1.0}, {log_weight: -0.5}, kind=SQUARE)
    else:
        _add_maps(units, layout, width)
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


def _add_maps(units: HiddenUnits, layout: EMLayout, width: int) -> None:
    """b = log pi - |mu|^2 / 2 in pieces, from the shifted square (u + s)^2 = u^2 + 2 s u + s^2 of each copy."""
    log_weight, _, mass, _, is_point, _ = layout.scalars
    available = width - units.count() - 3 * layout.copies
    n_square = _enough(largest_even(available / (layout.dimension + LOGIT_SHARE)), width, layout)
    n_logit = available - layout.dimension * n_square
    units.add_map(chord_logit(n_logit), {mass: 1.0, is_point: 1.0}, log_weight)
    spacing = 2.0 * MEAN_RADIUS / n_square
    shifts = [spacing * ((number + 0.5) / layout.copies - 0.5) for number in range(layout.copies)]
    by_copy = dict(zip(layout.copy, shifts, strict=True))
    for new in layout.new_mean:
        units.add_map(chord_half_square(n_square, MEAN_RADIUS), {new: 1.0, **by_copy}, log_weight)
    gate = 2.0 * layout.dimension * MEAN_RADIUS  # more than any sum of coordinates: shuts the units of the other copies
    for flag, shift in by_copy.items():
        for sign in (1.0, -1.0):
            reads = {**dict.fromkeys(layout.new_mean, sign), flag: gate}
            units.add(reads, {log_weight: sign * shift}, -gate)
        units.add({flag: 1.0}, {log_weight: 0.5 * layout.dimension * shift**2})


def _enough(n_units: int, width: int, layout: EMLayout) -> int:
    if n_units < FEWEST_UNITS:
        size = f"d={layout.dimension}, K={layout.n_components}"
        raise UserError(f"width {width} is too small for {size}: a map needs {FEWEST_UNITS} units")
    return n_units


# --- measurement -------------------------------------------------------------------------------------------------


def sample_em_tasks(
    mixtures: str, dimension: int, n_components: int, *, n_tasks: int, n_points: int, seed: int
) -> tuple[Tensor, Mixture]:
    """Points (B, N, d) of random mixtures and k-means++ starts for EM, float64.

    "separated" mixtures are the paper's; "overlapping" ones have their means scaled towards the origin until two are
    three standard deviations apart in the root mean square.
    """
    refuse_unknown("kind of mixtures", mixtures, MIXTURES)
    if dimension == 1 and n_components > 2:
        raise UserError(f"in one dimension only two means can point in different directions; got K={n_components}")
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, n_components, dimension)
    if mixtures == "overlapping":
        truth = replace(truth, means=truth.means * OVERLAP_DISTANCE / (MEAN_RANGE * math.sqrt(2.0 * dimension / 3.0)))
    points = sample_points(truth, seed, index, n_points)[0].double()
    return points, kmeans_plus_plus_start(points, n_components, seed, index)


def largest_differences(estimate: Mixture, reference: Mixture) -> Tensor:
    """The largest absolute difference of any mean's coordinate or weight, (B,)."""
    means = (estimate.means - reference.means).abs().amax((1, 2))
    return torch.maximum(means, (estimate.weights - reference.weights).abs().amax(1))


@one_thread()
def measure_em(
    dimensions: Sequence[int] = (2, 8), component_counts: Sequence[int] = (2, 3, 5), steps: Sequence[int] = STEPS,
    widths: Sequence[int] = WIDTHS, *, n_tasks: int = 8, n_points: int = 128, seed: int = 2505,
) -> pd.DataFrame:  # fmt: skip
    """Differences between the network and EM after the same number of steps from the same start.

    One network a width serves all d and K. Besides, the table has the plain construction (one token a component) for
    the largest K, and the network with exact scalar maps. A row is a cell: mixtures, d, K, L, W, copies, exact, N,
    n_tasks, seed, and ``median`` and ``largest`` over the tasks of the largest difference of any parameter.
    """
    largest_count = max(component_counts)
    variants = [(width, COPIES, False, component_counts) for width in widths]
    variants += [(width, 1, False, [largest_count]) for width in widths]
    variants.append((EXACT_WIDTH, COPIES, True, component_counts))
    rows = []
    for width, copies, exact, counts in variants:
        network = build_em_transformer(max(dimensions), largest_count, max(steps), width, copies=copies, exact=exact)
        for mixtures, d, K in itertools.product(MIXTURES, dimensions, counts):
            tasks = sample_em_tasks(mixtures, d, K, n_tasks=n_tasks, n_points=n_points, seed=seed)
            cell = {"mixtures": mixtures, "d": d, "K": K, "W": width, "copies": copies, "exact": exact}
            cell |= {"N": n_points, "n_tasks": n_tasks, "seed": seed}
            rows += [cell | row for row in _compare(network, *tasks, steps)]
    return pd.DataFrame(rows)


def _compare(network: Transformer, points: Tensor, start: Mixture, steps: Sequence[int]) -> list[dict]:
    """One row for each number of steps."""
    pairs = [slice(first, first + TASKS_AT_ONCE) for first in range(0, len(points), TASKS_AT_ONCE)]
    trajectories = [em_trajectory(network, points[pair], start[pair]) for pair in pairs]
    rows = []
    for n_steps in steps:
        estimate = concatenate([trajectory[n_steps - 1] for trajectory in trajectories])
        difference = largest_differences(estimate, run_em_steps(start, points, n_steps))
        rows.append({"L": n_steps, "median": difference.median().item(), "largest": difference.max().item()})
    return rows
