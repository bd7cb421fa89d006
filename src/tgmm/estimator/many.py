"""Fit mixtures to thousands of data sets at once, with the answers that single fits would give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgmm.estimator.em import LARGEST_FEATURES, SMALLEST_FLOOR, design
from tgmm.estimator.estimator import TransformerGaussianMixture
from tgmm.estimator.fit import FitOptions, Fitted, first_near_best, fit_mixture, run_steps, squared_units
from tgmm.estimator.maximise import Fits, Limits, first_step
from tgmm.estimator.scaling import LARGEST_VALUE, NORMAL_RANGE, SMALLEST_SPREAD
from tgmm.estimator.selection import Choice
from tgmm.estimator.start import SEEN, load_network, network_knows, responsibilities, view_signs

POINTS_AT_ONCE = 16_384  # of a batch on a CPU: its features stay in the cache
POINTS_ON_GPU = 2_000_000
PADDING = 1.25  # the longest data set of a batch by its shortest


@dataclass(frozen=True)
class ManyFits:
    """Fits of S data sets, as arrays; NaN where a fit failed.

    Attributes
    ----------
    weights, means, covariances : arrays (S, K), (S, K, d) and as scikit-learn's ``covariances_``, one in front of each.
    lower_bound : array (S,), mean log-likelihoods.
    n_iter, converged : arrays (S,).
    failed, reason : arrays (S,), whether and why there is no fit.
    covariance_type : shape of the covariances.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    lower_bound: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray
    failed: np.ndarray
    reason: np.ndarray
    covariance_type: str

    def __len__(self) -> int:
        return len(self.weights)

    def to_frame(self):
        """A pandas table, one row a data set: lower_bound, n_iter, converged, failed, reason, weights and means."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("lower_bound", "n_iter", "converged", "failed", "reason")}
        K, d = self.means.shape[1:]
        columns |= {f"weight_{k}": self.weights[:, k] for k in range(K)}
        columns |= {f"mean_{k}_{i}": self.means[:, k, i] for k in range(K) for i in range(d)}
        return pd.DataFrame(columns)

    def fitted(self, i: int) -> Fitted:
        """The mixture of data set ``i``."""
        return Fitted(
            shape=self.covariance_type,
            weights=self.weights[i],
            means=self.means[i],
            covariances=self.covariances[i],
            converged=bool(self.converged[i]),
            n_iter=int(self.n_iter[i]),
            lower_bounds=[float(self.lower_bound[i])],
        )

    def model(self, i: int) -> TransformerGaussianMixture:
        """The fit of data set ``i`` as an estimator.

        Raises
        ------
        ValueError : that fit failed; the message says why.
        """
        if self.failed[i]:
            raise ValueError(f"data set {i} was not fitted: {self.reason[i]}")
        model = TransformerGaussianMixture(self.means.shape[1], covariance_type=self.covariance_type)
        model._keep(Choice(self.fitted(i)))
        model.n_features_in_ = self.means.shape[2]
        return model


def fit_many(
    data: np.ndarray | Sequence[np.ndarray],
    n_components: int,
    *,
    covariance_type: str = "full",
    refine: int | None = None,
    tol: float = 1e-3,
    reg_covar: float = 1e-6,
    prior: str | None = "shrinkage",
    n_views: int = 1,
    device: str = "cpu",
    random_state: int | None = None,
    n_jobs: int | None = None,
) -> ManyFits:
    """Fit a mixture to each of many data sets.

    The answers are those of :class:`TransformerGaussianMixture` with as many ``n_views``. Data sets of like lengths
    share batches, in which the network and EM take all of them a step at a time; those that a batch cannot hold
    (missing values, constant columns, more than 2,048 rows) are fitted one by one. A data set that cannot be fitted
    fails alone, with its reason.

    Parameters
    ----------
    data : array (S, N, d), or S arrays (N_i, d).
    n_components : K, the same for all.
    covariance_type, refine, tol, reg_covar, prior, device : as in :class:`TransformerGaussianMixture`.
    n_views : likewise, but one by default: each further view costs as much again.
    random_state : of the rows that the network sees of large data sets.
    n_jobs : threads on a CPU; None for one a core.

    Raises
    ------
    ValueError : parameters that cannot be, or data sets of different numbers of columns.
    """
    model = TransformerGaussianMixture(
        n_components,
        covariance_type=covariance_type,
        refine=refine,
        tol=tol,
        reg_covar=reg_covar,
        prior=prior,
        n_views=n_views,
        device=device,
    )
    model._validate_params()
    if covariance_type == "auto" or not isinstance(n_components, int | np.integer):
        raise ValueError("fit_many takes one n_components and one covariance_type for all data sets")
    sets = _checked_sets(data)
    options, K = model._options(), int(n_components)
    groups, single = _groups(sets, K, options)
    fits = _fit_groups(sets, groups, K, covariance_type, options, n_jobs)
    for i in [*single, *(i for group in groups for i in group if fits[i] is None)]:
        fits[i] = _fit_single(sets[i], K, covariance_type, options, random_state)
    return _collected([fits[i] for i in range(len(sets))], K, sets[0].shape[1], covariance_type)


def _fit_groups(
    sets: list[np.ndarray],
    groups: list[list[int]],
    K: int,
    shape: str,
    options: FitOptions,
    n_jobs: int | None,
) -> dict[int, Fitted | str | None]:
    """Fits of the data sets of all groups, several groups at a time on a CPU."""
    fits: dict[int, Fitted | str | None] = {}
    n_threads = 1 if options.device != "cpu" else n_jobs or os.cpu_count() or 1

    def run(group: list[int]) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            fits.update(zip(group, _fit_group([sets[i] for i in group], K, shape, options), strict=True))

    load_network(options.device)
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(run, groups))
    finally:
        torch.set_num_threads(threads)
    return fits


def _checked_sets(data) -> list[np.ndarray]:
    if isinstance(data, np.ndarray) and data.dtype != object and data.ndim != 3:
        raise ValueError(f"data must be an array (sets, rows, columns) or a list of arrays, not of shape {data.shape}")
    sets = [np.asarray(X) for X in data]
    if not sets:
        raise ValueError("data holds no data set")
    for i, X in enumerate(sets):
        if X.ndim != 2 or X.dtype.kind not in "fiub":
            raise ValueError(f"data set {i} must be a two-dimensional array of numbers, not {X.dtype} {X.shape}")
        if X.shape[1] != sets[0].shape[1]:
            raise ValueError(f"data set {i} has {X.shape[1]} columns where data set 0 has {sets[0].shape[1]}")
    return [X.astype(np.float64) for X in sets]


def _groups(sets: list[np.ndarray], K: int, options: FitOptions) -> tuple[list[list[int]], list[int]]:
    """Data sets that share batches, and those to be fitted one by one."""
    limit = POINTS_AT_ONCE if options.device == "cpu" else POINTS_ON_GPU
    groups: list[list[int]] = []
    single = [i for i, X in enumerate(sets) if not _fits_batch(X, K)]
    alone = set(single)
    for i in sorted((i for i in range(len(sets)) if i not in alone), key=lambda i: len(sets[i])):
        group = groups[-1] if groups else []
        longer = len(sets[i])
        if group and longer * (len(group) + 1) <= limit and longer <= PADDING * len(sets[group[0]]):
            group.append(i)
        else:
            groups.append([i])
    return groups, single


def _fits_batch(X: np.ndarray, K: int) -> bool:
    if not (max(2, K) <= len(X) <= SEEN and X.shape[1] <= LARGEST_FEATURES and network_knows(K)):
        return False
    low, high = X.min(0), X.max(0)
    if not np.all(np.isfinite(low) & np.isfinite(high)):
        return False
    widths = high - low
    plain = widths.min() > SMALLEST_SPREAD and max(high.max(), -low.min()) < LARGEST_VALUE
    return bool(plain and (len(set(X[: 4 * K, 0].tolist())) >= K or len(np.unique(X[: 16 * K], axis=0)) >= K))


def _fit_group(sets: list[np.ndarray], K: int, shape: str, options: FitOptions) -> list[Fitted | None]:
    """Fits of data sets in one batch; None for one whose floors ask for more care than a batch takes."""
    longest = max(map(len, sets))
    counts = torch.tensor([len(X) for X in sets])
    points = torch.from_numpy(np.stack([np.pad(X, ((0, longest - len(X)), (0, 0))) for X in sets])).to(options.device)
    shown = (torch.arange(longest) < counts[:, None]).to(options.device)
    counts = counts.to(points)
    weights = shown / counts[:, None]
    origin, unit, floors = _scalings(points, weights, shown, shape, options.reg_covar)
    points = ((points - origin) / unit) * shown[..., None]
    padded = bool((counts < longest).any())
    limits = Limits(floors, counts, options.shrink)
    data = design(points, weights, shape, floors.clamp_min(SMALLEST_FLOOR))
    views = []
    for signs in view_signs(options.n_views):
        given = responsibilities(points, shape, K, signs, weights if padded else None)
        views.append(run_steps(data, first_step(data, given, limits), limits, options))
    fits = views[0] if len(views) == 1 else _best_views(views, options.tol)
    exact = (floors >= SMALLEST_FLOOR).all(1) & torch.isfinite(fits.last())
    return _unscaled_many(fits, origin[:, 0], unit[:, 0], exact)


def _best_views(views: list[Fits], tol: float) -> Fits:
    """Of each data set, the first view whose likelihood is within ``tol`` of the best."""
    likelihoods = torch.stack([view.last() for view in views])
    chosen = first_near_best(likelihoods, tol)
    best = views[0]
    mixtures, steps, converged = best.mixtures, best.steps, best.converged
    for i, view in enumerate(views[1:], 1):
        here = chosen == i
        mixtures = mixtures.replaced(here, view.mixtures)
        steps, converged = torch.where(here, view.steps, steps), torch.where(here, view.converged, converged)
    last = likelihoods.gather(0, chosen[None])[0]
    return Fits(mixtures, [last] * max(1, int(steps.max())), steps, converged)


def _scalings(points: Tensor, weights: Tensor, shown: Tensor, shape: str, reg_covar: float):
    """Origins and units (B, 1, d) and floors (B, d), as :func:`tgmm.estimator.scaling.find_scaling` finds them."""
    share = weights[..., None]
    origin = (points * share).sum(1, keepdim=True)
    origin = origin + ((points - origin) * share).sum(1, keepdim=True)
    spread = ((points - origin).square() * share).sum(1, keepdim=True).sqrt()
    counts = shown.sum(1)
    ordered = points.masked_fill(~shown[..., None], torch.inf).sort(1).values
    low, high = (
        ordered.gather(1, ((q * counts).ceil().long() - 1).clamp_min(0)[:, None, None].expand(-1, 1, points.shape[2]))
        for q in (0.25, 0.75)
    )
    typical = torch.minimum(spread, (high - low) / NORMAL_RANGE)
    typical = torch.where(typical > 0, typical, spread)
    if shape == "spherical":
        typical, spread = (x.square().mean(2, keepdim=True).sqrt().expand_as(x) for x in (typical, spread))
    return origin, spread, reg_covar * (typical / spread).square()[:, 0]


def _unscaled_many(fits: Fits, origin: Tensor, unit: Tensor, exact: Tensor) -> list[Fitted | None]:
    mixtures = fits.mixtures
    weights, means, covariances = (
        part.cpu().numpy() for part in (mixtures.log_weights.exp(), mixtures.means, mixtures.covariances)
    )
    bounds = (fits.last() - unit.log().sum(1)).cpu().numpy()
    origin, unit = origin.cpu().numpy(), unit.cpu().numpy()
    steps, converged, exact = fits.steps.tolist(), fits.converged.tolist(), exact.tolist()
    return [
        Fitted(
            shape=mixtures.shape,
            weights=weights[i] / weights[i].sum(),
            means=origin[i] + unit[i] * means[i],
            covariances=covariances[i] * squared_units(mixtures.shape, unit[i]),
            converged=converged[i],
            n_iter=steps[i],
            lower_bounds=[float(bounds[i])],
        )
        if exact[i]
        else None
        for i in range(len(weights))
    ]


def _fit_single(X: np.ndarray, K: int, shape: str, options: FitOptions, random_state) -> Fitted | str:
    rng = np.random.RandomState(random_state)
    if np.isinf(X).any():
        row, column = np.argwhere(np.isinf(X))[0]
        return f"infinite value in row {row}, column {column}"
    try:
        return fit_mixture(X, np.ones(len(X)), K, shape, options, rng)
    except ValueError as error:
        return str(error)


def _collected(fits: list[Fitted | str | None], K: int, d: int, shape: str) -> ManyFits:
    S = len(fits)
    of_covariances = {"full": (K, d, d), "tied": (d, d), "diag": (K, d), "spherical": (K,)}[shape]
    weights, means = np.full((S, K), np.nan), np.full((S, K, d), np.nan)
    covariances, bounds = np.full((S, *of_covariances), np.nan), np.full(S, np.nan)
    n_iter, converged = np.zeros(S, dtype=np.int64), np.zeros(S, dtype=bool)
    reason = np.full(S, "", dtype=object)
    for i, fitted in enumerate(fits):
        if isinstance(fitted, str):
            reason[i] = fitted
            continue
        weights[i], means[i], covariances[i] = fitted.weights, fitted.means, fitted.covariances
        bounds[i], n_iter[i], converged[i] = fitted.lower_bounds[-1], fitted.n_iter, fitted.converged
    return ManyFits(weights, means, covariances, bounds, n_iter, converged, reason != "", reason, shape)
