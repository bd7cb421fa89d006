"""Tensor decomposition and the spectral method with the power iteration left open: the classical one or a network.

The power method with deflation is algorithm 1 of Anandkumar et al. (JMLR 2014); the moments are those of Hsu and Kakade
(ITCS 2013) for unit covariances. Everything around the power iteration is the same for both, so whatever differs is
the network's doing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tgmm.mixture import Mixture
from tgmm.theory.theorem_power import build_power_transformer, run_power_transformer

PowerIteration = Callable[[Tensor, Tensor], Tensor]
RESTARTS = 16
ITERATIONS = 20


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
    iterate : the power iteration.

    Returns
    -------
    values : Tensor (B, d), in the order found.
    vectors : Tensor (B, d, d), unit rows.
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

    Parameters
    ----------
    starts : Tensor (B, K, S, K), as for :func:`decompose` of the whitened tensor.
    iterate : the power iteration in K dimensions.
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
