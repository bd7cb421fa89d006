"""Theorem 2 as a program: a transformer with d ReLU heads whose every block is one cubic tensor power iteration.

For a tensor T (d, d, d) and a vector v, the map is v -> T(I, v, v) = sum_jm T[:, j, m] v_j v_m, normalised. Token j of
d holds the slice T[:, j, :], the vector v, its own coordinate v_j and the unit vector e_j. Head m scores
relu(v_m v_j + B), which is v_m v_j + B for B >= |v_m v_j|, with the value T[:, j, m]; one more token with the value
-sum_j T[:, j, m] and the coordinate 0 scores B and so takes the offset away. The heads' sum is T(I, v, v) exactly. An
RMS norm on its slot makes it a unit vector, and the perceptron puts it in the place of v, and its coordinates in the
place of v_j.

Around the iteration: the power method with deflation, algorithm 1 of Anandkumar et al. (JMLR 2014), and the spectral
method of Hsu and Kakade (ITCS 2013) for unit covariances, with the iteration left open: the classical one or the
network. Everything else is the same for both, so whatever differs is the network's doing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor

from tgmm.errors import UserError
from tgmm.methods.base import one_thread
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.theory.blocks import Attention, Block, HiddenUnits, Layout, Perceptron, SlotNorm, Transformer
from tgmm.theory.em import largest_differences

PowerIteration = Callable[[Tensor, Tensor], Tensor]
RESTARTS = 16
ITERATIONS = 20
DIMENSIONS = (2, 4, 8, 16, 32)
RECOVERY_DIMENSIONS = (4, 8, 16)
RECOVERY_STEPS = 10
SPECTRAL_CELLS = ((8, 2), (8, 3), (8, 5))
SPECTRAL_POINTS = 2048


class PowerLayout(Layout):
    """Channels of a token for tensors (d, d, d).

    Attributes
    ----------
    slice : T[:, j, :], row by row.
    vector : v, in every token; new_vector : scratch, T(I, v, v).
    label : the unit vector e_j; zero in the extra token.
    scalars : v_j, then the constant one.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__(slice=dimension**2, vector=dimension, new_vector=dimension, label=dimension, scalars=2)
        self.dimension = dimension


def build_power_transformer(
    dimension: int, steps: int, *, normalise: bool = True, bound: float = 1.0, offset: bool = True
) -> Transformer:
    """The transformer of Theorem 2, float64: ``steps`` blocks of ``dimension`` ReLU heads; neither may be below one.

    Parameters
    ----------
    normalise : have an RMS norm, so that every iteration ends with a unit vector.
    bound : at least the largest |coordinate| of any v and T(I, v, v) without ``normalise``; 1 with it.
    offset : have the offset B. Without it the ReLU cuts the negative products off and the result is wrong.
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
    d, (coordinate, constant) = layout.dimension, layout.scalars
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
    d, (coordinate, constant) = layout.dimension, layout.scalars
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


# --- tensor decomposition and the spectral method ----------------------------------------------------------------


def apply_tensor(tensor: Tensor, vector: Tensor) -> Tensor:
    """T(I, v, v) of tensors (B, d, d, d) and vectors (B, d), a Tensor (B, d)."""
    return torch.einsum("bijm,bj,bm->bi", tensor, vector, vector)


def classical_power_iteration(steps: int = ITERATIONS) -> PowerIteration:
    """``steps`` maps v -> T(I, v, v) / |T(I, v, v)|, as a function of tensors (B, d, d, d) and vectors (B, d)."""

    def iterate(tensor: Tensor, vector: Tensor) -> Tensor:
        for _ in range(steps):
            vector = torch.nn.functional.normalize(apply_tensor(tensor, vector), dim=-1)
        return vector

    return iterate


def network_power_iteration(dimension: int, steps: int = ITERATIONS) -> PowerIteration:
    """The same function carried out by the transformer of Theorem 2."""
    network = build_power_transformer(dimension, steps)
    return lambda tensor, vector: run_power_transformer(network, tensor, vector)


def decompose(tensor: Tensor, starts: Tensor, iterate: PowerIteration) -> tuple[Tensor, Tensor]:
    """All components of orthogonally decomposable tensors by power iterations and deflation.

    Parameters
    ----------
    tensor : Tensor (B, d, d, d), near sum_k values_k vectors_k^(x3) with orthonormal vectors.
    starts : Tensor (B, d, S, d), S unit vectors to start from for each component.

    Returns
    -------
    values (B, d), in the order found, and vectors (B, d, d), unit rows.
    """
    values, vectors = [], []
    for component in range(tensor.shape[1]):
        vector = _best(tensor, starts[:, component], iterate)
        vector = iterate(tensor, vector)
        value = _cubic_form(tensor, vector)
        tensor = tensor - torch.einsum("b,bi,bj,bm->bijm", value, vector, vector, vector)
        values.append(value)
        vectors.append(vector)
    return torch.stack(values, dim=1), torch.stack(vectors, dim=1)


def estimate_spectral(points: Tensor, n_components: int, starts: Tensor, iterate: PowerIteration) -> Mixture:
    """The Hsu-Kakade estimate of mixtures with unit covariances from points (B, N, d), for K <= d.

    ``starts`` (B, K, S, K) are as for :func:`decompose` of the whitened tensor, ``iterate`` has K dimensions.
    """
    first, identity = points.mean(1), torch.eye(points.shape[2], dtype=points.dtype)
    second = points.mT @ points / points.shape[1] - identity
    eigenvalues, eigenvectors = torch.linalg.eigh(second)
    eigenvalues, eigenvectors = eigenvalues[:, -n_components:], eigenvectors[..., -n_components:]
    whitening = eigenvectors * eigenvalues.rsqrt()[:, None]
    values, vectors = decompose(_whitened_third_moment(points, first, whitening), starts, iterate)
    means = values[..., None] * (vectors @ (eigenvectors * eigenvalues.sqrt()[:, None]).mT)
    weights = values.pow(-2)
    return Mixture(weights / weights.sum(1, keepdim=True), means)


def _whitened_third_moment(points: Tensor, first: Tensor, whitening: Tensor) -> Tensor:
    """E[(W'x)^(x3)] less the noise's share, (B, K, K, K)."""
    white = points @ whitening
    raw = torch.einsum("bni,bnj,bnm->bijm", white, white, white) / points.shape[1]
    noise = torch.einsum("bi,bjm->bijm", (first[:, None] @ whitening)[:, 0], whitening.mT @ whitening)
    return raw - noise - noise.permute(0, 2, 1, 3) - noise.permute(0, 2, 3, 1)


def _best(tensor: Tensor, starts: Tensor, iterate: PowerIteration) -> Tensor:
    """The iterate of the starts (B, S, d) with the largest T(v, v, v), (B, d)."""
    n_starts = starts.shape[1]
    repeated = tensor.repeat_interleave(n_starts, 0)
    ends = iterate(repeated, starts.flatten(0, 1))
    best = _cubic_form(repeated, ends).unflatten(0, (-1, n_starts)).argmax(1)
    return ends.unflatten(0, (-1, n_starts))[torch.arange(len(best)), best]


def _cubic_form(tensor: Tensor, vector: Tensor) -> Tensor:
    """T(v, v, v), (B,)."""
    return (apply_tensor(tensor, vector) * vector).sum(-1)


# --- measurement -------------------------------------------------------------------------------------------------


def random_tensors(n_tasks: int, dimension: int, generator: torch.Generator) -> Tensor:
    """Tensors (B, d, d, d) of independent standard normal numbers; they need not be symmetric."""
    return torch.randn(n_tasks, dimension, dimension, dimension, generator=generator, dtype=torch.float64)


def random_vectors(*shape: int, generator: torch.Generator) -> Tensor:
    """Unit vectors, uniform on the sphere along the last axis."""
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def random_decomposable(n_tasks: int, dimension: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """sum_k values_k vectors_k^(x3) with values uniform on [1, 2] and random orthonormal vectors.

    Returns
    -------
    tensor (B, d, d, d), values (B, d), vectors (B, d, d) in rows.
    """
    square = torch.randn(n_tasks, dimension, dimension, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(square).Q.mT
    values = 1.0 + torch.rand(n_tasks, dimension, generator=generator, dtype=torch.float64)
    return torch.einsum("bk,bki,bkj,bkm->bijm", values, vectors, vectors, vectors), values, vectors


@one_thread()
def measure_power(
    dimensions: Sequence[int] = DIMENSIONS, recovery_dimensions: Sequence[int] = RECOVERY_DIMENSIONS, *,
    n_tasks: int = 8, seed: int = 2505,
) -> pd.DataFrame:  # fmt: skip
    """Four measurements, told apart by the column ``measure``.

    * ``iteration``: one block against T(I, v, v) / |T(I, v, v)| on random tensors; ``method`` is "network" or
      "network without offset".
    * ``recovery``: distance to the component that the iteration ends at, after each ``iteration``, on orthogonally
      decomposable tensors; ``method`` is "network" or "classical".
    * ``decomposition``: error of all values and vectors after deflation.
    * ``spectral``: difference between the spectral estimates with the network and with the classical iteration.

    Returns
    -------
    DataFrame with measure, method, d, K, iteration, N, n_tasks, seed, and ``median`` and ``largest`` over the tasks.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = [row for d in dimensions for row in _iteration_rows(d, n_tasks, generator)]
    for d in recovery_dimensions:
        rows += _recovery_rows(d, n_tasks, generator)
        rows.append(_decomposition_row(d, n_tasks, generator))
    rows += [_spectral_row(d, K, n_tasks, seed, generator) for d, K in SPECTRAL_CELLS]
    table = pd.DataFrame(rows).assign(n_tasks=n_tasks, seed=seed)
    counts = {name: table[name].astype("Int64") for name in ("K", "iteration", "N")}
    columns = ["measure", "method", "d", "K", "iteration", "N", "n_tasks", "seed", "median", "largest"]
    return table.assign(**counts)[columns]


def _iteration_rows(dimension: int, n_tasks: int, generator: torch.Generator) -> list[dict]:
    tensor = random_tensors(n_tasks, dimension, generator)
    vector = random_vectors(n_tasks, dimension, generator=generator)
    exact = torch.nn.functional.normalize(apply_tensor(tensor, vector), dim=-1)
    rows = []
    for method, offset in (("network", True), ("network without offset", False)):
        network = build_power_transformer(dimension, 1, offset=offset)
        difference = (run_power_transformer(network, tensor, vector) - exact).abs().amax(1)
        rows.append({"measure": "iteration", "method": method, "d": dimension, **_statistics(difference)})
    return rows


def _recovery_rows(dimension: int, n_tasks: int, generator: torch.Generator) -> list[dict]:
    tensor, _, vectors = random_decomposable(n_tasks, dimension, generator)
    start = random_vectors(n_tasks, dimension, generator=generator)
    network = build_power_transformer(dimension, RECOVERY_STEPS)
    classical = [start]
    for _ in range(RECOVERY_STEPS):
        classical.append(classical_power_iteration(1)(tensor, classical[-1]))
    runs = {"network": power_trajectory(network, tensor, start), "classical": torch.stack(classical)}
    rows = []
    for method, trajectory in runs.items():
        nearest = torch.einsum("bki,bi->bk", vectors, trajectory[-1]).argmax(1)
        distances = (trajectory - vectors[torch.arange(n_tasks), nearest]).norm(dim=-1)
        rows += [
            {"measure": "recovery", "method": method, "d": dimension, "iteration": number, **_statistics(distance)}
            for number, distance in enumerate(distances)
        ]
    return rows


def _decomposition_row(dimension: int, n_tasks: int, generator: torch.Generator) -> dict:
    true, found = _decompositions(dimension, RECOVERY_STEPS, n_tasks, generator)
    errors = (found - true).abs().amax((1, 2))
    return {"measure": "decomposition", "method": "network", "d": dimension, **_statistics(errors)}


def _spectral_row(dimension: int, n_components: int, n_tasks: int, seed: int, generator: torch.Generator) -> dict:
    estimates = _spectral_estimates(
        dimension, n_components, ITERATIONS, n_tasks, SPECTRAL_POINTS, seed, generator
    )  # fmt: skip
    cell = {"measure": "spectral", "method": "network", "d": dimension, "K": n_components, "N": SPECTRAL_POINTS}
    return cell | _statistics(largest_differences(*estimates))


def compare_decompositions(dimension: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """True and found components of one random tensor, each (d, 1 + d): the value, then the vector."""
    true, found = _decompositions(dimension, steps, 1, torch.Generator().manual_seed(seed))
    return true[0], found[0]


def compare_spectral(
    dimension: int, n_components: int, steps: int, n_points: int, seed: int
) -> tuple[Mixture, Mixture]:
    """Spectral estimates of one random mixture by the network and by the classical power iteration."""
    if n_components > dimension:
        raise UserError(f"the spectral method needs K <= d; got K={n_components}, d={dimension}")
    generator = torch.Generator().manual_seed(seed)
    return _spectral_estimates(dimension, n_components, steps, 1, n_points, seed, generator)


def _decompositions(dimension: int, steps: int, n_tasks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """True and found (value, vector) rows, each (B, d, 1 + d), in the order of the truth."""
    tensor, values, vectors = random_decomposable(n_tasks, dimension, generator)
    starts = random_vectors(n_tasks, dimension, RESTARTS, dimension, generator=generator)
    found_values, found_vectors = decompose(tensor, starts, network_power_iteration(dimension, steps))
    order = (found_vectors @ vectors.mT).argmax(1)[..., None]  # for each true component, the found one nearest to it
    found = torch.cat([found_values[..., None], found_vectors], dim=2)
    true = torch.cat([values[..., None], vectors], dim=2)
    return true, found.gather(1, order.expand_as(true))


def _spectral_estimates(
    dimension: int, n_components: int, steps: int, n_tasks: int, n_points: int, seed: int, generator: torch.Generator
) -> tuple[Mixture, Mixture]:
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, n_components, dimension)
    points = sample_points(truth, seed, index, n_points)[0].double()
    starts = random_vectors(n_tasks, n_components, RESTARTS, n_components, generator=generator)
    iterations = (network_power_iteration(n_components, steps), classical_power_iteration(steps))
    network, classical = (estimate_spectral(points, n_components, starts, iterate) for iterate in iterations)
    return network, classical


def _statistics(values: Tensor) -> dict[str, float]:
    return {"median": values.median().item(), "largest": values.max().item()}


UNITS = 64  # hidden units for each square and logarithm in the networks whose sizes are listed


def network_sizes(
    dimensions: Iterable[int] = (2, 8, 32), component_counts: Iterable[int] = (2, 5),
    steps: Iterable[int] = (1, 5), units: int = UNITS,
) -> pd.DataFrame:  # fmt: skip
    """Sizes of both theorems' networks, one row each.

    Theorem 1's networks have ``units`` hidden units for each square and logarithm, so that all have about the same
    accuracy. Columns: theorem, d, K, L (steps), layers, layers_claimed (2 L; L for Theorem 2), layers_he_2025 (K L, the
    order of He et al. 2025 for EM), heads (the most of any layer), heads_claimed, token_width, hidden_width, weights,
    nonzero_weights.
    """
    steps = list(steps)
    rows = [
        _em_row(dimension, n_components, n_steps, units)
        for dimension in dimensions
        for n_components in component_counts
        for n_steps in steps
    ]
    return pd.DataFrame([*rows, *(_power_row(dimension, n_steps) for dimension in dimensions for n_steps in steps)])


def _em_row(dimension: int, n_components: int, steps: int, units: int) -> dict:
    from tgmm.theory.em import build_em_transformer, width_for_units

    network = build_em_transformer(dimension, n_components, steps, width_for_units(dimension, n_components, units))
    claims = {"layers_claimed": 2 * steps, "layers_he_2025": n_components * steps, "heads_claimed": "O(1)"}
    return {"theorem": 1, "d": dimension, "K": n_components, "L": steps, **claims, **network.sizes()}


def _power_row(dimension: int, steps: int) -> dict:
    from tgmm.theory.power import build_power_transformer

    claims = {"layers_claimed": steps, "layers_he_2025": pd.NA, "heads_claimed": "d"}
    network = build_power_transformer(dimension, steps)
    return {"theorem": 2, "d": dimension, "K": pd.NA, "L": steps, **claims, **network.sizes()}
