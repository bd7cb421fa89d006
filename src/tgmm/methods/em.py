"""Expectation-maximisation for batches of tasks: unit covariances held fixed, or diagonal ones estimated.

A mixture of diagonal Gaussians is an exponential family: the logarithm of a component's joint density is a linear
function of the features (x, 1), or (x, x^2, 1) where the scales are estimated. So an E-step is one batched matrix
product of natural parameters and features, and an M-step one of responsibilities and features; nothing of size
N x K x d is ever formed. Runs of very different lengths share a pool that is refilled as they end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tgmm.counter_random import inverse_normal_cdf, random_uniform
from tgmm.errors import UserError, refuse_unknown, unknown_name
from tgmm.methods.base import FitResult, one_thread
from tgmm.mixture import LOG_2PI, Mixture, concatenate
from tgmm.tasks.sampler import COVARIANCES, STREAM_INITIAL

SMALLEST_COUNT = 1e-200  # expected points below which a component is dead: its mean and scales stay as they are
TIE = 1e-9  # starts of equal likelihood to this relative precision: the first is kept, whatever the rounding
POOL_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 28}  # numbers in the pool: about what a processor caches
CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}  # numbers in the temporaries of the tasks treated at once
REFILL_SHARE = 0.85  # the pool is compacted and refilled when fewer of its runs than this still go on


@dataclass(frozen=True)
class EMSettings:
    """Settings of EM.

    Attributes
    ----------
    start : "normal" (the paper's), "k-means++" or "truth" (the oracle).
    starts : runs a task; the one of largest final likelihood is kept.
    tolerance : a run ends when its mean log-likelihood a point grows by less than this (nats).
    max_iterations : M-steps after which a run ends in any case.
    covariance : "isotropic" (unit covariances, held fixed) or "anisotropic" (diagonal, estimated).
    variance_floor : smallest variance of an estimated diagonal covariance.
    """

    start: str = "normal"
    starts: int = 1
    tolerance: float = 1e-6
    max_iterations: int = 1000
    covariance: str = "isotropic"
    variance_floor: float = 1e-2


@dataclass(frozen=True)
class EMRuns:
    """Results of R runs: parameters, their mean log-likelihood a point (R,) and the M-steps taken (R,)."""

    mixture: Mixture
    log_likelihood: Tensor
    iterations: Tensor


@one_thread()
def estimate_em(
    points: Tensor, n_components: int, settings: EMSettings | None = None, *, seed: int, index: Tensor,
    truth: Mixture | None = None,
) -> FitResult:  # fmt: skip
    """EM as the settings say, the best of its starts for every task.

    Parameters
    ----------
    points : Tensor (B, N, d).
    n_components : K.
    seed, index : what the starts depend on: an int and an int64 Tensor (B,) of task indices.
    truth : the true mixtures, for ``start="truth"`` only.

    Returns
    -------
    FitResult in float64, on the device of the points; ``iterations`` adds up the M-steps of all starts.

    Raises
    ------
    UserError : for settings out of range, no points, fewer points than components, or an unknown start.
    """
    settings = settings or EMSettings()
    _check(points, n_components, settings, index)
    row_elements = points.shape[1] * (points.shape[2] + settings.starts)
    size = max(1, _budget(CHUNK_ELEMENTS, points) // row_elements)
    index = index.to(points.device)
    results = []
    for first in range(0, len(points), size):
        part = slice(first, first + size)
        start = start_mixtures(
            settings.start, points[part], n_components, seed=seed, index=index[part], starts=settings.starts,
            covariance=settings.covariance, truth=None if truth is None else truth[part],
        )  # fmt: skip
        results.append(fit_em(
            points[part], start, tolerance=settings.tolerance, max_iterations=settings.max_iterations,
            variance_floor=settings.variance_floor,
        ))  # fmt: skip
    return _concatenate(results, size)


def fit_em(
    points: Tensor, start: Mixture, *, tolerance: float = 1e-6, max_iterations: int = 1000,
    variance_floor: float = 1e-2,
) -> FitResult:  # fmt: skip
    """EM from given starts, the best of every task's by final likelihood.

    Parameters
    ----------
    points : Tensor (B, N, d).
    start : Mixture of B * S rows, row b * S + s being the s-th start of task b. Scales are estimated if it has them
        and are one otherwise.
    tolerance, max_iterations, variance_floor : as in :class:`EMSettings`.

    Returns
    -------
    FitResult. A task whose runs all end in non-finite numbers is a failure with its reason.
    """
    runs = run_em(points, start, tolerance=tolerance, max_iterations=max_iterations, variance_floor=variance_floor)
    n_tasks = len(points)
    score = torch.nan_to_num(runs.log_likelihood, nan=-torch.inf).unflatten(0, (n_tasks, -1))
    largest = score.amax(1, keepdim=True)
    best = (score >= largest - TIE * (1.0 + largest.abs())).long().argmax(1)
    estimate = runs.mixture[torch.arange(n_tasks, device=best.device) * score.shape[1] + best]
    finite_points = torch.isfinite(points).all(2).all(1)
    failures = {
        task: "EM ended in non-finite parameters" if finite_points[task] else "the points are not all finite"
        for task in torch.isneginf(largest[:, 0]).nonzero()[:, 0].tolist()
    }
    return FitResult(estimate, runs.iterations.unflatten(0, (n_tasks, -1)).sum(1), failures)


def run_em_steps(mixture: Mixture, points: Tensor, steps: int, *, variance_floor: float = 1e-2) -> Mixture:
    """The mixtures after exactly ``steps`` EM steps on their points (B, N, d), float64; NaN where EM breaks down."""
    return run_em(points, mixture, tolerance=-math.inf, max_iterations=steps, variance_floor=variance_floor).mixture


@one_thread()
def run_em(
    points: Tensor, start: Mixture, *, tolerance: float, max_iterations: int, variance_floor: float = 1e-2
) -> EMRuns:
    """Every EM run to its end; R = B * S rows as for :func:`fit_em`.

    A run ends at the first parameters whose likelihood exceeds that of the previous ones by less than the tolerance,
    and the log-likelihood returned is that of the parameters returned. It also ends where the likelihood is not
    finite; then the parameters and the likelihood are NaN. Components of no weight keep their means and scales.
    """
    if len(points) == 0 or start.n_tasks % len(points):
        raise UserError(f"{start.n_tasks} starts do not divide evenly among {len(points)} tasks")
    # Moving the origin into the data keeps the squares of the features small, whatever offset the data have.
    centre = points.mean(1, keepdim=True, dtype=torch.float64)
    row_centre = centre.repeat_interleave(start.n_tasks // len(points), 0)
    start = start.to(points.device, torch.float64)
    start = Mixture(start.weights, start.means - row_centre, start.standard_deviations)
    runs = _Pool(points, centre, start, tolerance, max_iterations, variance_floor).finish()
    broken = ~torch.isfinite(runs.log_likelihood)
    likelihood = runs.log_likelihood.masked_fill(broken, torch.nan)
    mixture = Mixture(runs.mixture.weights, runs.mixture.means + row_centre, runs.mixture.standard_deviations)
    mixture = mixture.map(lambda tensor: tensor.masked_fill(broken.view(-1, *[1] * (tensor.ndim - 1)), torch.nan))
    return EMRuns(mixture, likelihood, runs.iterations)


class _Pool:
    """The runs under way, of which those that have ended make room for new ones, and the results so far."""

    def __init__(
        self, points: Tensor, centre: Tensor, start: Mixture, tolerance: float, max_iterations: int, floor: float
    ) -> None:
        self.points, self.centre, self.start = points, centre, start
        self.tolerance, self.max_iterations, self.floor = tolerance, max_iterations, floor
        self.with_squares = start.standard_deviations is not None
        row_elements = points.shape[1] * (points.shape[2] * (1 + self.with_squares) + 1 + start.n_components)
        self.capacity = max(8, _budget(POOL_ELEMENTS, points) // row_elements)
        self.result = EMRuns(
            start.map(torch.clone), torch.zeros_like(start.weights[:, 0]), torch.zeros_like(start.weights[:, 0]).long()
        )
        self.next_row = 0
        self.rows = torch.arange(0, device=points.device)
        self.active, self.iterations = self.rows.bool(), self.rows.clone()
        self.mixture, self.likelihood = start[:0], start.weights[:0, 0]
        self.features = _features(points[:0].double(), self.with_squares)

    def finish(self) -> EMRuns:
        """Iterate until every run has ended."""
        n_active = 0
        while n_active or self.next_row < self.start.n_tasks:
            if n_active <= REFILL_SHARE * len(self.rows):
                self._compact_and_refill()
            joint = torch.bmm(_natural_parameters(self.mixture), self.features.mT)
            previous, self.likelihood = self.likelihood, _normalise(joint)
            self._store_ended(previous)
            self.mixture = _maximise(torch.bmm(joint, self.features), self.mixture, self.floor)
            self.iterations += 1
            n_active = int(self.active.sum())
        return self.result

    def _store_ended(self, previous: Tensor) -> None:
        """Record the runs that end here, with the parameters that the current likelihoods belong to."""
        goes_on = (self.likelihood - previous >= self.tolerance) & (self.iterations < self.max_iterations)
        ended = (self.active & ~goes_on).nonzero()[:, 0]  # a likelihood that is not a number ends a run as well
        self.active &= goes_on
        if len(ended):
            rows, result = self.rows[ended], self.result
            result.mixture.weights[rows] = self.mixture.weights[ended]
            result.mixture.means[rows] = self.mixture.means[ended]
            if result.mixture.standard_deviations is not None:
                result.mixture.standard_deviations[rows] = self.mixture.standard_deviations[ended]
            result.log_likelihood[rows] = self.likelihood[ended] + self._constant(self.features[ended])
            result.iterations[rows] = self.iterations[ended]

    def _compact_and_refill(self) -> None:
        """Drop the runs that have ended and begin as many new ones as there is room for."""
        kept = self.active.nonzero()[:, 0]
        last = min(self.start.n_tasks, self.next_row + self.capacity - len(kept))
        new = torch.arange(self.next_row, last, device=kept.device)
        self.next_row = last
        self.rows = torch.cat([self.rows[kept], new])
        self.active = torch.ones_like(self.rows, dtype=torch.bool)
        self.iterations = torch.cat([self.iterations[kept], torch.zeros_like(new)])
        self.mixture = concatenate([self.mixture[kept], self.start[new]])
        self.likelihood = torch.cat([self.likelihood[kept], self.likelihood.new_full((len(new),), -torch.inf)])
        tasks = new // (self.start.n_tasks // len(self.points))
        features = _features(self.points[tasks].double() - self.centre[tasks], self.with_squares)
        self.features = torch.cat([self.features[kept], features])

    def _constant(self, features: Tensor) -> Tensor:
        """What all components have in common and the natural parameters leave out of the likelihood, (R,)."""
        dimension = self.points.shape[2]
        constant = -0.5 * dimension * LOG_2PI
        return constant if self.with_squares else constant - 0.5 * features[..., :dimension].square().sum(2).mean(1)


def _features(points: Tensor, with_squares: bool) -> Tensor:
    """What a component's log joint density is linear in: (x, 1) or (x, x^2, 1), a Tensor (B, N, F)."""
    one = torch.ones_like(points[..., :1])
    return torch.cat([points, points.square(), one] if with_squares else [points, one], dim=-1)


def _natural_parameters(mixture: Mixture) -> Tensor:
    """Coefficients (R, K, F) of the features in log(weight_k) + log N(x; ...), but for terms free of k."""
    log_weights = mixture.weights.log()[..., None]
    if mixture.standard_deviations is None:
        return torch.cat([mixture.means, log_weights - 0.5 * mixture.means.square().sum(-1, keepdim=True)], dim=-1)
    precisions = mixture.standard_deviations.pow(-2)
    linear = mixture.means * precisions
    offset = mixture.standard_deviations.log() + 0.5 * linear * mixture.means
    return torch.cat([linear, -0.5 * precisions, log_weights - offset.sum(-1, keepdim=True)], dim=-1)


def _normalise(joint: Tensor) -> Tensor:
    """Turn log joint densities (R, K, N) into responsibilities in place; returns the mean log-likelihood, (R,)."""
    peak = joint.amax(1, keepdim=True)
    total = joint.sub_(peak).exp_().sum(1, keepdim=True)
    joint.mul_(total.reciprocal())
    return total.log_().add_(peak).mean((1, 2))


def _maximise(statistics: Tensor, previous: Mixture, floor: float) -> Mixture:
    """The M-step from the features' sums (R, K, F) weighted by the responsibilities; dead components stay put."""
    counts = statistics[..., -1:]
    dead = counts <= SMALLEST_COUNT
    moments = statistics / counts.clamp_min(SMALLEST_COUNT)
    weights = counts[..., 0] / counts.sum(1)
    means = torch.where(dead, previous.means, moments[..., : previous.dimension])
    if previous.standard_deviations is None:
        return Mixture(weights, means)
    variances = moments[..., previous.dimension : -1] - means.square()
    scales = variances.clamp_min(floor).sqrt()
    return Mixture(weights, means, torch.where(dead, previous.standard_deviations, scales))


def _budget(table: dict[str, int], tensor: Tensor) -> int:
    return table.get(tensor.device.type, table["cpu"])


def _concatenate(results: list[FitResult], size: int) -> FitResult:
    """The results of consecutive chunks of ``size`` tasks as one."""
    failures = {size * chunk + task: why for chunk, part in enumerate(results) for task, why in part.failures.items()}
    iterations = torch.cat([result.iterations for result in results])
    return FitResult(concatenate([result.mixture for result in results]), iterations, failures)


def _check(points: Tensor, n_components: int, settings: EMSettings, index: Tensor) -> None:
    if points.ndim != 3 or 0 in points.shape:
        raise UserError(
            f"points must have shape (tasks, points, dimensions), none of them 0; got {tuple(points.shape)}"
        )
    if not 1 <= n_components <= points.shape[1]:
        raise UserError(f"K={n_components} components need at least as many points, and K >= 1; N={points.shape[1]}")
    if len(index) != len(points):
        raise UserError(f"{len(index)} task indices for {len(points)} tasks")
    if settings.starts < 1 or settings.max_iterations < 1:
        raise UserError("starts and max_iterations must be at least 1")
    if settings.variance_floor <= 0:
        raise UserError(f"variance_floor must be positive; got {settings.variance_floor}")


# --- starts: N(0, I) means, k-means++ centres, the truth ---------------------------------------------------------


STREAM_NORMAL_START, STREAM_KMEANS_START, STREAM_LOOKAHEAD = STREAM_INITIAL, STREAM_INITIAL + 1, STREAM_INITIAL + 4
STARTS = ("normal", "k-means++", "lookahead", "truth")
ROUNDING = 1e-12  # squared distances below this share of the squared norms are rounding: the points coincide


def start_mixtures(
    start: str, points: Tensor, n_components: int, *, seed: int, index: Tensor, starts: int = 1,
    covariance: str = "isotropic", truth: Mixture | None = None,
) -> Mixture:  # fmt: skip
    """``starts`` starting mixtures for every task.

    Parameters
    ----------
    start : "normal", "k-means++" or "truth" (then there is one start, whatever ``starts`` says).
    points : Tensor (B, N, d).
    n_components : K.
    seed, index : what the random numbers depend on: an int and an int64 Tensor (B,).
    covariance : "isotropic" (no scales) or "anisotropic" (unit scales, or the truth's).
    truth : the true mixtures, K components each; needed for "truth" only.

    Returns
    -------
    Mixture of B * S rows in float64, row b * S + s being the s-th start of task b.

    Raises
    ------
    UserError : for an unknown start or covariance, or a missing or unfit truth.
    """
    refuse_unknown("covariance", covariance, COVARIANCES)
    if start == "normal":
        mixture = normal_start(seed, index, n_components, points.shape[-1], starts)
    elif start == "k-means++":
        mixture = kmeans_plus_plus_start(points, n_components, seed, index, starts)
    elif start == "lookahead":
        mixture = lookahead_start(points, n_components, seed, index, starts)
    elif start == "truth":
        mixture = _true_start(truth, points, n_components)
    else:
        raise unknown_name("start", start, STARTS)
    if covariance == "isotropic":
        return replace(mixture, standard_deviations=None)
    if mixture.standard_deviations is None:
        return replace(mixture, standard_deviations=torch.ones_like(mixture.means))
    return mixture


def normal_start(seed: int, index: Tensor, n_components: int, dimension: int, starts: int = 1) -> Mixture:
    """Uniform weights and means from N(0, I), the paper's EM: B * S rows."""
    uniform = _uniform(STREAM_NORMAL_START, seed, index, starts, n_components * dimension)
    means = inverse_normal_cdf(uniform).unflatten(-1, (n_components, dimension)).flatten(0, 1)
    return _uniform_weights(means)


def kmeans_plus_plus_start(points: Tensor, n_components: int, seed: int, index: Tensor, starts: int = 1) -> Mixture:
    """Uniform weights and means at k-means++ centres (Arthur and Vassilvitskii, SODA 2007): B * S rows.

    The first centre is a uniformly drawn point, each further one is drawn with probability proportional to the
    squared distance to the nearest centre so far (one candidate a step, not the greedy variant). If all points
    coincide with centres, the next one is a uniformly drawn point.
    """
    points = points.double()
    uniform = _uniform(STREAM_KMEANS_START, seed, index, starts, n_components)
    squared_norms = points.square().sum(-1)[:, None]
    distances = torch.full_like(uniform[..., :1], torch.inf).expand(-1, -1, points.shape[1])
    centres = []
    for component in range(n_components):
        mass = torch.ones_like(distances) if component == 0 else distances
        choice = _draw(mass, uniform[..., component, None])
        centre = points.gather(1, choice.expand(-1, -1, points.shape[-1]))
        centres.append(centre)
        scale = squared_norms + centre.square().sum(-1, keepdim=True)
        latest = scale - 2.0 * centre @ points.mT
        latest = latest.where(latest > ROUNDING * scale, 0.0).scatter(2, choice, 0.0)
        distances = torch.minimum(distances, latest)
    return _uniform_weights(torch.stack(centres, dim=2).flatten(0, 1))


def lookahead_start(points: Tensor, n_components: int, seed: int, index: Tensor, starts: int = 1) -> Mixture:
    """Uniform weights and centres chosen by likelihood: B * S rows.

    As k-means++, but of 2 + floor(log K) candidates drawn for each centre the one is taken under which the mixture of
    unit covariances so far is most likely: seeds are judged by what EM will maximise, the lookahead principle of Cazals
    and Carrière (arXiv 2506.21291), in one pass.
    """
    points = points.double()
    pool = 2 + int(math.log(n_components))
    uniform = _uniform(STREAM_LOOKAHEAD, seed, index, starts, n_components * pool)
    norms = points.square().sum(-1)[:, None]
    nearest = torch.full_like(uniform[..., :1], torch.inf).expand(-1, -1, points.shape[1])
    likelihood = torch.full_like(nearest, -torch.inf)
    centres = []
    for component in range(n_components):
        mass = torch.ones_like(nearest) if component == 0 else nearest
        choice = _draw(mass, uniform[..., component * pool : (component + 1) * pool].contiguous())
        candidates = (
            points[:, None].expand(-1, starts, -1, -1).gather(2, choice[..., None].expand(-1, -1, -1, points.shape[-1]))
        )  # (B, S, pool, d)
        scale = norms[..., None, :] + candidates.square().sum(-1, keepdim=True)
        distances = scale - 2.0 * candidates @ points[:, None].mT
        distances = distances.where(distances > ROUNDING * scale, 0.0)
        joint = torch.logaddexp(likelihood[..., None, :], -0.5 * distances)
        best = joint.sum(-1).argmax(-1)[..., None, None]
        centres.append(candidates.gather(2, best.expand(-1, -1, 1, points.shape[-1]))[:, :, 0])
        taken = best.expand(-1, -1, 1, points.shape[1])
        nearest = torch.minimum(nearest, distances.gather(2, taken)[:, :, 0])
        likelihood = joint.gather(2, taken)[:, :, 0]
    return _uniform_weights(torch.stack(centres, dim=2).flatten(0, 1))


def _draw(mass: Tensor, uniform: Tensor) -> Tensor:
    """An index along the last axis of ``mass`` (B, S, N), drawn in proportion to it; int64, (B, S, 1)."""
    cumulative = mass.cumsum(-1)
    empty = cumulative[..., -1:] <= 0
    cumulative = torch.where(empty, torch.ones_like(mass).cumsum(-1), cumulative)
    # Below the total by more than rounding, so that the index is never past the last point of positive mass.
    target = uniform * cumulative[..., -1:] * (1.0 - 1e-15)
    index = torch.searchsorted(cumulative, target, right=True)
    return index.clamp_max(mass.shape[-1] - 1)


def _true_start(truth: Mixture | None, points: Tensor, n_components: int) -> Mixture:
    if truth is None:
        raise UserError("start 'truth' needs the true mixtures, and none were given")
    wanted = (points.shape[0], n_components, points.shape[-1])
    if tuple(truth.means.shape) != wanted:
        raise UserError(f"the true means have shape {tuple(truth.means.shape)}, the tasks need {wanted}")
    return truth.to(points.device, torch.float64)


def _uniform(stream: int, seed: int, index: Tensor, starts: int, count: int) -> Tensor:
    """Uniform numbers (B, S, count): one attempt of the stream a start."""
    return random_uniform(seed, stream, index[:, None], count, torch.arange(starts, device=index.device))


def _uniform_weights(means: Tensor) -> Mixture:
    return Mixture(torch.full_like(means[..., 0], 1.0 / means.shape[1]), means)
