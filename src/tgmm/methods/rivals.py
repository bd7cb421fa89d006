"""Estimators that the paper's reviewers asked to see, such as two-round EM, variational Bayes and a method of moments.

All know that the covariances are one, except variational Bayes, which is scikit-learn's.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from tgmm.counter_random import random_uniform
from tgmm.errors import UserError
from tgmm.methods.base import FitResult, one_thread
from tgmm.methods.em import kmeans_plus_plus_start, run_em, run_em_steps
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import STREAM_INITIAL

STREAM_ROUNDS = STREAM_INITIAL + 3
GRADIENT_STEPS, GRADIENT_RATE = 300, 0.1
# Of the denoised method of moments: atoms of the grid, what is added to the diagonal of the moments' covariance as a
# share of it, how much more the sum of the weights counts than any moment, and when a residual is zero.
GRID, RIDGE, SUM_TO_ONE, SMALLEST_RESIDUAL = 400, 1e-9, 1e3, 1e-10


# --- two-round EM ------------------------------------------------------------------------------------------------


@one_thread()
def estimate_two_rounds(points: Tensor, n_components: int, *, seed: int, index: Tensor) -> FitResult:
    """Two-round EM (Dasgupta and Schulman, JMLR 8, 2007): many centres, one round, pruning, one more round.

    Round one starts at L = ceil(4 K log(4 K)) points drawn at random. Then centres lighter than 1 / (4 L) go, and of
    the others K are kept, each as far from those before as possible, the heaviest first.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    n_components : K.
    seed, index : what the draws depend on, an int and an int64 Tensor (B,).
    """
    n_tasks, n_points, _ = points.shape
    many = min(n_points, max(n_components, math.ceil(4 * n_components * math.log(4 * n_components))))
    places = random_uniform(seed, STREAM_ROUNDS, index, n_points).argsort(1)[:, :many]
    means = points.gather(1, places[..., None].expand(-1, -1, points.shape[2]))
    first = run_em_steps(Mixture(torch.full_like(means[..., 0], 1 / many), means), points, 1)
    kept = _farthest_first(first, n_components, 1 / (4 * many))
    centres = first.means.gather(1, kept[..., None].expand(-1, -1, points.shape[2]))
    start = Mixture(torch.full_like(centres[..., 0], 1 / n_components), centres)
    return FitResult(run_em_steps(start, points, 1), torch.full((n_tasks,), 2))


def _farthest_first(mixture: Mixture, n_components: int, lightest: float) -> Tensor:
    """Indices (B, K) of components that are far apart; lighter ones than ``lightest`` come last."""
    light = mixture.weights < lightest
    chosen = [mixture.weights.argmax(1)]
    distances = torch.full_like(mixture.weights, torch.inf)
    for _ in range(n_components - 1):
        latest = mixture.means.gather(1, chosen[-1][:, None, None].expand(-1, 1, mixture.dimension))
        distances = torch.minimum(distances, (mixture.means - latest).square().sum(2))
        chosen.append(torch.where(light, distances - 1e12, distances).argmax(1))
    return torch.stack(chosen, 1)


# --- gradient ascent ---------------------------------------------------------------------------------------------


@one_thread()
def estimate_gradient(points: Tensor, n_components: int, starts: int, *, seed: int, index: Tensor) -> FitResult:
    """Adam on the likelihood from k-means++ starts, the best of each task's by likelihood.

    Weights are a softmax; 300 steps, the rate falling from 0.1 to zero as a cosine.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    n_components, starts : K, and runs for each task.
    seed, index : what the starts depend on, an int and an int64 Tensor (B,).
    """
    n_tasks = len(points)
    start = kmeans_plus_plus_start(points, n_components, seed, index, starts)
    rows = points.repeat_interleave(starts, 0)
    means, logits = start.means.clone(), start.weights.log()
    moments = [torch.zeros_like(value) for value in (means, means, logits, logits)]
    for step in range(1, GRADIENT_STEPS + 1):
        rate = GRADIENT_RATE * (1 + math.cos(math.pi * (step - 1) / GRADIENT_STEPS)) / 2
        weights = logits.softmax(1)
        responsibilities = _log_joint(rows, means, weights.log()).softmax(1)
        counts = responsibilities.sum(2)
        of_means = (responsibilities @ rows - counts[..., None] * means) / rows.shape[1]
        of_logits = counts / rows.shape[1] - weights
        means = means + rate * _adam(of_means, moments[:2], step)
        logits = logits + rate * _adam(of_logits, moments[2:], step)
    likelihood = _log_joint(rows, means, logits.log_softmax(1)).logsumexp(1).mean(1).view(n_tasks, starts)
    best = likelihood.nan_to_num(nan=-torch.inf).argmax(1) + starts * torch.arange(n_tasks, device=points.device)
    return FitResult(Mixture(logits.softmax(1)[best], means[best]), torch.full((n_tasks,), GRADIENT_STEPS * starts))


def _log_joint(points: Tensor, means: Tensor, log_weights: Tensor) -> Tensor:
    """Log weights plus log densities (R, K, N), but for what all components share."""
    squares = means.square().sum(2, keepdim=True)
    return means @ points.mT - squares / 2 + log_weights[..., None] - points.square().sum(2)[:, None] / 2


def _adam(gradient: Tensor, moments: list[Tensor], step: int) -> Tensor:
    """Adam's direction (Kingma and Ba 2015, default decays); the moments are updated in place."""
    first, second = moments
    first.mul_(0.9).add_(gradient, alpha=0.1)
    second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    return (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)


# --- variational Bayes -------------------------------------------------------------------------------------------


def estimate_variational(points: Tensor, n_components: int, *, seed: int, index: Tensor) -> FitResult:
    """scikit-learn's variational Bayes with spherical covariances at its defaults, task by task.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    n_components : K.
    seed, index : what k-means starts from, an int and an int64 Tensor (B,).
    """
    from sklearn.mixture import BayesianGaussianMixture

    weights, means, iterations = [], [], []
    for number, X in zip(index.tolist(), points.cpu().numpy(), strict=True):
        model = BayesianGaussianMixture(
            n_components=n_components, covariance_type="spherical", max_iter=1000, random_state=(seed + number) % 2**32
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged; k-means on too few distinct points
            model.fit(X)
        weights.append(torch.from_numpy(model.weights_))
        means.append(torch.from_numpy(model.means_))
        iterations.append(model.n_iter_)
    return FitResult(Mixture(torch.stack(weights), torch.stack(means)), torch.tensor(iterations))


# --- moments ------------------------------------------------------------------------------------------------------


def estimate_moments(points: Tensor, n_components: int) -> FitResult:
    """Denoised method of moments in one dimension, unit variance (Wu and Yang, Annals of Statistics 48, 2020).

    The mean of the r-th Hermite polynomial over the points estimates the r-th moment of the mixing distribution. The
    first 2K - 1 of them are replaced by the nearest moments that some distribution on the range of the points has, and
    its Gauss quadrature with K nodes gives the means and weights. Nearest is measured by the covariance of the
    estimated moments; distributions are those on a fine grid, which makes the projection a least-squares problem with
    weights that are not negative.

    Parameters
    ----------
    points : Tensor (B, N, 1) of float64.
    n_components : K.

    Raises
    ------
    UserError : for points in more than one dimension.
    """
    if points.shape[2] != 1:
        raise UserError(f"the denoised method of moments is for one dimension, not d={points.shape[2]}")
    found = [_denoised_moments(values, n_components) for values in points[..., 0].cpu().numpy()]
    weights, means = (torch.from_numpy(np.stack(values)).to(points.device) for values in zip(*found, strict=True))
    return FitResult(Mixture(weights, means[..., None]), torch.zeros(len(points), dtype=torch.int64))


def _denoised_moments(values: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and means, (K,) each, of one task's points (N,)."""
    from numpy.polynomial.hermite_e import hermevander
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    centre, count = values.mean(), 2 * n_components - 1
    if values.min() == values.max():
        return np.eye(n_components)[0], np.full(n_components, centre)
    hermite = hermevander(values - centre, count)[:, 1:]
    covariance = np.atleast_2d(np.cov(hermite.T)) / len(values)
    variances = np.diag(covariance)
    factor = np.linalg.cholesky(covariance + RIDGE * np.diag(variances + variances.max()))
    grid = np.linspace(*np.quantile(values - centre, (0.0, 1.0)), GRID)
    powers = grid ** np.arange(1, count + 1)[:, None]
    system, wanted = (solve_triangular(factor, side, lower=True) for side in (powers, hermite.mean(0)))
    sums = SUM_TO_ONE * np.abs(system).max()
    mass, _ = nnls(np.vstack([system, np.full(GRID, sums)]), np.append(wanted, sums), maxiter=100 * GRID)
    weights, nodes = gauss_quadrature(grid, mass / mass.sum(), n_components)
    return weights, nodes + centre


def gauss_quadrature(atoms: np.ndarray, mass: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The weights and nodes, (K,) each, that agree with a distribution on atoms in their first 2K - 1 moments.

    From the eigenvectors of its Jacobi matrix, which the Lanczos iteration builds (Golub and Welsch 1969). A
    distribution on fewer than K atoms is its own quadrature, with nodes of weight zero behind it.

    Parameters
    ----------
    atoms, mass : arrays (A,); the masses sum to one.
    count : K.
    """
    from scipy.linalg import eigh_tridiagonal

    kept = mass > 0
    atoms, mass = atoms[kept], mass[kept] / mass[kept].sum()
    vector, before = np.sqrt(mass), np.zeros(len(atoms))
    diagonal, beside, basis = [], [], []
    for _ in range(min(count, len(atoms))):
        basis.append(vector)
        diagonal.append(vector @ (atoms * vector))
        residual = (atoms - diagonal[-1]) * vector - (beside[-1] if beside else 0.0) * before
        for other in basis:  # once more, so that rounding does not add up
            residual -= (other @ residual) * other
        size = np.linalg.norm(residual)
        if size < SMALLEST_RESIDUAL * (np.abs(atoms).max() + 1.0):
            break
        before, vector = vector, residual / size
        beside.append(size)
    size = len(diagonal)
    nodes, vectors = eigh_tridiagonal(diagonal, beside[: size - 1])
    missing = count - size
    return np.pad(vectors[0] ** 2, (0, missing)), np.pad(nodes, (0, missing), mode="edge")


# --- EM from better starts ---------------------------------------------------------------------------------------


def estimate_spectral_em(points: Tensor, n_components: int, *, seed: int, index: Tensor) -> FitResult:
    """EM to convergence from the spectral estimate; where that fails, so does this.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    n_components : K.
    seed, index : what the spectral method's power iterations start from.
    """
    from tgmm.methods.spectral import estimate_spectral

    first = estimate_spectral(points, n_components, seed=seed, index=index)
    failed = first.failed().to(points.device)
    weights = first.mixture.weights.clamp_min(1e-6)
    start = Mixture(weights / weights.sum(1, keepdim=True), first.mixture.means).map(torch.nan_to_num)
    runs = run_em(points, start, tolerance=1e-6, max_iterations=1000)
    mixture = runs.mixture.map(lambda values: values.masked_fill(failed.view(-1, *[1] * (values.ndim - 1)), torch.nan))
    return FitResult(mixture, runs.iterations.masked_fill(failed, 0), first.failures)
