"""Fit one mixture to one data set: scaling, the network's responsibilities, EM, and back to the data's own units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgmm.estimator.em import Direct, Mixtures, Quadratic, design
from tgmm.estimator.incomplete import Incomplete
from tgmm.estimator.maximise import Fits, Limits, first_step, run_em
from tgmm.estimator.scaling import Scaling, check_data, find_scaling
from tgmm.estimator.start import count_probabilities, k_means, network_knows, responsibilities, seen_rows, view_signs

MOST_STEPS = 1000  # of EM, where ``refine`` leaves it open
TOGETHER = 100_000  # numbers in the views of a data set that go through EM together


@dataclass(frozen=True)
class FitOptions:
    """How a mixture is fitted; the estimator's parameters, checked."""

    refine: int | None = None
    tol: float = 1e-3
    reg_covar: float = 1e-6
    shrink: bool = True
    n_views: int = 4
    device: str = "cpu"

    @property
    def steps(self) -> int:
        """EM steps at most."""
        return MOST_STEPS if self.refine is None else self.refine


@dataclass(frozen=True)
class Fitted:
    """A mixture in the data's own units.

    Attributes
    ----------
    shape : of the covariances.
    weights, means, covariances : arrays as scikit-learn has them.
    converged, n_iter : whether the likelihood settled, after how many steps.
    lower_bounds : mean log-likelihood before every step (and at the end where there was none).
    """

    shape: str
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    converged: bool
    n_iter: int
    lower_bounds: list[float]


def fit_mixture(
    X: np.ndarray,
    weights: np.ndarray,
    K: int,
    shape: str,
    options: FitOptions,
    rng: np.random.RandomState,
    start: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Fitted:
    """Fit a mixture of K components.

    Parameters
    ----------
    X, weights : arrays (N, d), NaN where a value is missing, and (N,).
    K, shape : number of components and shape of the covariances.
    options, rng : how.
    start : weights, means and covariances to start EM from, in the place of the network.

    Raises
    ------
    ValueError : data that cannot be fitted; the message names the numbers.
    """
    check_data(X, weights, K)
    scaling = find_scaling(X, weights, shape, options.reg_covar)
    points = torch.from_numpy(scaling.apply(X)).to(options.device)[None]
    shares = torch.from_numpy(weights / weights.sum()).to(points)[None]
    limits = Limits(torch.from_numpy(scaling.floors).to(points)[None], _rows(weights, points), options.shrink)
    if bool(points.isnan().any()):
        data: Incomplete | Quadratic | Direct = Incomplete(points, shares, shape)
        complete = data.impute(_one_gaussian(points, shares, limits))
    else:
        data, complete = design(points, shares, shape, limits.floors), points
    if start is not None:
        starts = _scaled(start, shape, scaling, points)
    else:
        starts = _network_starts(complete, weights, limits, K, shape, options, rng)
    best = _best(data, starts, limits, options)
    if not np.isfinite(float(best.last()[0])):
        raise ValueError(
            f"a covariance of {K} components is singular at reg_covar = {options.reg_covar:g}: "
            "increase reg_covar, or take fewer components or a simpler covariance_type"
        )
    return _unscaled(best, scaling, scaling.log_volume(X, weights))


def _best(data, starts: Mixtures, limits: Limits, options: FitOptions) -> Fits:
    """The fit of the highest likelihood, as a batch of one; the views of a small data set go through EM together."""
    views, N, d = len(starts.means), *data.points.shape[1:]
    together = not isinstance(data, Incomplete) and views * N * d <= TOGETHER
    if together and views > 1:
        batch, same = data.select([0] * views), limits.select([0] * views)
        every = [fit.single(i) for fit in [run_steps(batch, starts, same, options)] for i in range(views)]
    else:
        every = [run_steps(data, starts.select(slice(i, i + 1)), limits, options) for i in range(views)]
    return every[int(first_near_best(torch.stack([fit.last() for fit in every]), options.tol)[0])]


def first_near_best(likelihoods: Tensor, tol: float) -> Tensor:
    """Of several fits of each of B data sets, the first whose likelihood is within ``tol`` of the best, int64 (B,).

    Rounding so does not choose between the same fits.

    Parameters
    ----------
    likelihoods : Tensor (fits, B); NaN where a fit broke.
    """
    sound = likelihoods.nan_to_num(nan=-torch.inf)
    return (sound >= sound.amax(0) - tol).int().argmax(0)


def run_steps(data, starts: Mixtures, limits: Limits, options: FitOptions) -> Fits:
    """EM, or where no step is asked for the likelihoods alone."""
    if options.steps:
        return run_em(data, starts, limits, options.steps, options.tol)
    none = torch.zeros(len(starts.means), dtype=torch.int64)
    return Fits(starts, [data.expect(starts)[0]], none, none.bool())


def _rows(weights: np.ndarray, like: Tensor) -> Tensor:
    """How many rows the weights stand for: their sum, and no less than the rows that count."""
    return torch.tensor([max(weights.sum(), np.count_nonzero(weights))]).to(like)


def _one_gaussian(points: Tensor, shares: Tensor, limits: Limits) -> Mixtures:
    """A single Gaussian of incomplete data, by which they are imputed before the network sees them."""
    d = points.shape[2]
    begin = Mixtures("full", points.new_zeros(1, 1), points.new_zeros(1, 1, d), torch.eye(d).to(points)[None, None])
    return run_em(Incomplete(points, shares, "full"), begin, limits, 20, 1e-3).mixtures


def _network_starts(
    complete: Tensor, weights: np.ndarray, limits: Limits, K: int, shape: str, options: FitOptions, rng
) -> Mixtures:
    """One mixture for each view of complete points (1, N, d)."""
    rows = seen_rows(weights, rng)
    seen = complete[0, torch.from_numpy(rows).to(complete.device)]
    if len(rows) <= 2 * 2048 and not np.all(weights == 1):
        seen = seen[torch.from_numpy(np.lexsort(seen.cpu().numpy().T)).to(seen.device)]  # weights are repeated rows
    views = seen.expand(options.n_views, -1, -1)
    if network_knows(K):
        given = responsibilities(views, shape, K, view_signs(options.n_views))
    else:
        given = torch.cat([k_means(seen.cpu().numpy(), K, rng) for _ in range(options.n_views)]).to(seen)
    share = seen.new_full((1, len(seen)), 1 / len(seen)).expand(options.n_views, -1)
    limits = limits.select([0] * options.n_views)
    return first_step(design(views, share, shape, limits.floors), given, limits)


def _scaled(start: tuple[np.ndarray, ...], shape: str, scaling: Scaling, like: Tensor) -> Mixtures:
    weights, means, covariances = start
    squares = squared_units(shape, scaling.unit)
    parts = (np.log(weights), scaling.apply(means), covariances / squares)
    return Mixtures(shape, *(torch.from_numpy(np.asarray(part)).to(like)[None] for part in parts))


def squared_units(shape: str, unit: np.ndarray) -> np.ndarray | float:
    """What a covariance in scaled coordinates is multiplied by."""
    if shape == "spherical":
        return float(unit[0] ** 2)
    return unit**2 if shape == "diag" else np.outer(unit, unit)


def _unscaled(fits: Fits, scaling: Scaling, log_volume: float) -> Fitted:
    mixtures = fits.mixtures
    weights = mixtures.log_weights[0].exp().cpu().numpy()
    bounds = torch.stack(fits.likelihoods)[: max(1, int(fits.steps[0])), 0]
    return Fitted(
        shape=mixtures.shape,
        weights=weights / weights.sum(),
        means=scaling.origin + scaling.unit * mixtures.means[0].cpu().numpy(),
        covariances=mixtures.covariances[0].cpu().numpy() * squared_units(mixtures.shape, scaling.unit),
        converged=bool(fits.converged[0]),
        n_iter=int(fits.steps[0]),
        lower_bounds=[float(bound) - log_volume for bound in bounds],
    )


def network_counts(
    X: np.ndarray, weights: np.ndarray, shape: str, options: FitOptions, rng: np.random.RandomState
) -> np.ndarray:
    """The network's P(K | data) for K = 1, 2, ... (LARGEST,), averaged over its views."""
    check_data(X, weights, 1)
    scaling = find_scaling(X, weights, shape, options.reg_covar)
    points = torch.from_numpy(scaling.apply(X))[None].to(options.device)
    shares = torch.from_numpy(weights / weights.sum()).to(points)[None]
    if bool(points.isnan().any()):
        limits = Limits(torch.from_numpy(scaling.floors).to(points)[None], _rows(weights, points), options.shrink)
        points = Incomplete(points, shares, shape).impute(_one_gaussian(points, shares, limits))
    seen = points[:, torch.from_numpy(seen_rows(weights, rng)).to(points.device)]
    views = seen.expand(options.n_views, -1, -1)
    return count_probabilities(views, shape, view_signs(options.n_views)).mean(0).cpu().numpy()
