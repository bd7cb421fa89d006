"""The floor of the sorted, unmatched loss: the l2-error, after correct matching, of the loss's own minimiser.

Squared errors and the cross-entropy of weights are both minimised by the posterior mean, position by position. So
where counts leave open which of two components is the lighter, both positions get a mixture of the two means. That
posterior mean, of the parameters in the order of their weights, is computed in two ways: for someone who sees the
points' labels, in closed form but for the weights, and from the points alone by importance sampling.

Given labels, weights and means are independent. A mean's posterior is the normal distribution around its cluster's
mean with precision n, cut off at the edges of [-5, 5]^d. The weights' posterior is the prior density times
prod_k w_k^(n_k); Dirichlet(n + 8) comes so close to it that the ratio of the two serves as an importance weight.

With labels unknown, the proposal is a mixture of the posteriors given J labellings, averaged over the relabellings of
the components. The labellings come from Markov chains (data augmentation, Tanner and Wong 1987). Most chains start at
the truth, which is itself a draw from the posterior, and so stay in it; the others start at k-means++ centres, to find
further modes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tgmm.aggregate import bootstrap_interval
from tgmm.errors import UserError
from tgmm.methods.base import one_thread
from tgmm.methods.em import EMSettings, estimate_em, kmeans_plus_plus_start
from tgmm.metrics import match, mean_error, weight_cross_entropy, weight_error
from tgmm.mixture import Mixture, concatenate, log_joint
from tgmm.tasks.sampler import (
    COSINE_LIMIT,
    MEAN_RANGE,
    WEIGHT_RANGE,
    largest_cosine,
    sample_mixtures,
    sample_points,
)

APPROACHES = ("known labels", "importance sampling")
FEW_SAMPLES = 50  # effective samples below which a task's estimate is not to be trusted
TASKS_AT_ONCE = 8
RESAMPLES = 1000
PSEUDO_COUNT = 8.0  # Dirichlet(8, ..., 8) has about the variances of the prior's weights
EMPTY_PRECISION = 1e-3  # of a component without points: as good as uniform on [-5, 5]
OUTSIDE = -1e6  # log weight of draws outside the prior's support: they count only if no draw lies inside
CHAINS = 32
CHAINS_ELSEWHERE = 8
SWEEPS = 10
DRAWS = 32
CHAINS_AT_ONCE, DRAWS_AT_ONCE = 4, 64  # keep the densities in a processor's cache


# --- measurement -----------------------------------------------------------------------------------------------------


@one_thread()
def measure_sorted_floor(
    dimensions: Sequence[int] = (2, 8), component_counts: Sequence[int] = (2, 3, 4, 5),
    n_points: Sequence[int] = (128,), *, n_tasks: int = 256, seed: int = 2505,
) -> pd.DataFrame:  # fmt: skip
    """The floor in every cell, by two approaches, on random tasks of the paper.

    * ``known labels``: the minimiser for someone who sees which points belong together. Only which component is the
      k-th lightest is open, so this is the loss's own floor where components are far apart.
    * ``importance sampling``: the minimiser given the points alone. A task with few effective samples comes close to a
      single draw from the posterior, which is in *some* order and so matches well: few samples understate the floor.

    Returns
    -------
    DataFrame with a row for each cell and approach:

    * ``d``, ``K``, ``N``, ``n_tasks``, ``seed``, ``approach``;
    * ``mean``, ``median`` of the l2-error after matching, ``low`` and ``high`` (95 % bootstrap interval of the mean),
      and the mean's two parts, ``mean_error`` and ``weight_error``;
    * ``oracle_mean``, ``oracle_median``: the l2-error of EM from the truth on the same tasks, the statistical floor;
    * ``effective_samples`` (median over the tasks) and ``few_samples``, the share of tasks with fewer than 50;
    * ``sorted_loss`` of the minimiser, ``oracle_sorted_loss`` of EM from the truth ordered by its own weights, and
      ``oracle_matched_loss`` of the same matched with the truth: squared error of means and cross-entropy of weights.

    Raises
    ------
    UserError : for no tasks, or fewer points than components.
    """
    if n_tasks < 1:
        raise UserError(f"n_tasks must be at least 1; got {n_tasks}")
    if min(n_points) < max(component_counts):
        raise UserError(f"N={min(n_points)} points are too few for K={max(component_counts)} components")
    cells = itertools.product(dimensions, n_points, component_counts)
    return pd.DataFrame([row for d, N, K in cells for row in _cell_rows(d, K, N, n_tasks, seed)])


def _cell_rows(dimension: int, n_components: int, n_points: int, n_tasks: int, seed: int) -> Iterator[dict]:
    index = torch.arange(n_tasks)
    truth = sample_mixtures(seed, index, n_components, dimension)
    points, labels = sample_points(truth, seed, index, n_points)
    points = points.double()
    oracle = estimate_em(points, n_components, EMSettings(start="truth"), seed=seed, index=index, truth=truth).mixture
    for approach in APPROACHES:
        estimate = estimate_sorted(approach, points, labels, truth, seed=seed, index=index)
        cell = {
            "d": dimension,
            "K": n_components,
            "N": n_points,
            "n_tasks": n_tasks,
            "seed": seed,
            "approach": approach,
        }
        yield cell | _statistics(estimate, oracle, truth)


def estimate_sorted(
    approach: str, points: Tensor, labels: Tensor, truth: Mixture, *, seed: int, index: Tensor
) -> SortedEstimate:
    """The minimiser of the sorted loss for tasks (B, N, d), a few at a time, by one of the two approaches."""
    shape = [points.shape[2], truth.n_components, points.shape[1]]
    generator = np.random.default_rng([seed, *shape, APPROACHES.index(approach)])
    parts = []
    for tasks in torch.arange(len(points)).split(TASKS_AT_ONCE):
        if approach == "known labels":
            part = known_labels_estimate(points[tasks], labels[tasks], truth.n_components, generator)
        else:
            part = _importance_estimate(points[tasks], truth[tasks], generator, seed, index[tasks])
        parts.append(part)
    samples = torch.cat([part.effective_samples for part in parts])
    return SortedEstimate(concatenate([part.mixture for part in parts]), samples)


def _importance_estimate(
    points: Tensor, truth: Mixture, generator: np.random.Generator, seed: int, index: Tensor
) -> SortedEstimate:
    """Importance sampling, once more with twice the chains and twice the draws of each for tasks with few samples."""
    estimate = importance_estimate(points, truth, generator, seed=seed, index=index)
    for task in (estimate.effective_samples < FEW_SAMPLES).nonzero():
        again = importance_estimate(
            points[task], truth[task], generator, seed=seed, index=index[task], chains=2 * CHAINS,
            chains_elsewhere=2 * CHAINS_ELSEWHERE, draws=2 * DRAWS,
        )  # fmt: skip
        estimate.mixture.weights[task], estimate.mixture.means[task] = again.mixture.weights, again.mixture.means
        estimate.effective_samples[task] = again.effective_samples
    return estimate


def _statistics(estimate: SortedEstimate, oracle: Mixture, truth: Mixture) -> dict[str, float]:
    matched, oracle_matched = match(estimate.mixture, truth), match(oracle, truth)
    of_means, of_weights = mean_error(matched, truth).numpy(), weight_error(matched, truth).numpy()
    error = of_means + of_weights
    oracle_error = (mean_error(oracle_matched, truth) + weight_error(oracle_matched, truth)).numpy()
    samples = estimate.effective_samples.numpy()
    low, high = bootstrap_interval(error[:, None], RESAMPLES)
    return {
        "mean": error.mean(),
        "median": np.median(error),
        "low": low[0],
        "high": high[0],
        "mean_error": of_means.mean(),
        "weight_error": of_weights.mean(),
        "oracle_mean": oracle_error.mean(),
        "oracle_median": np.median(oracle_error),
        "effective_samples": np.median(samples),
        "few_samples": (samples < FEW_SAMPLES).mean(),
        "sorted_loss": _loss(estimate.mixture, truth),
        "oracle_sorted_loss": _loss(oracle.permute_components(oracle.weights.argsort(1)), truth),
        "oracle_matched_loss": _loss(oracle_matched, truth),
    }


def _loss(ordered: Mixture, truth: Mixture) -> float:
    """Squared error of means and cross-entropy of weights, component by component, averaged over the tasks."""
    return (mean_error(ordered, truth) + weight_cross_entropy(ordered, truth)).mean().item()


# --- posterior given labels ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelPosterior:
    """Posteriors for J labellings of each of B tasks.

    Attributes
    ----------
    counts : Tensor (B, J, K), points of every component.
    centres : Tensor (B, J, K, d), their means; zero for components without points.
    """

    counts: Tensor
    centres: Tensor

    @property
    def precisions(self) -> Tensor:
        """Of the means, before they are cut off at the edges, (B, J, K)."""
        return self.counts.clamp_min(EMPTY_PRECISION)

    def expected_means(self) -> Tensor:
        """Posterior means of the components' means, (B, J, K, d)."""
        lower, upper = self._edges()
        densities = torch.exp(-0.5 * lower.square()) - torch.exp(-0.5 * upper.square())
        shift = densities / (math.sqrt(2.0 * math.pi) * self._inside() * self._roots())
        return self._mirror(self.centres.abs() + shift)

    def draw_means(self, generator: np.random.Generator, draws: int) -> Tensor:
        """Independent means, (B, J, M, K, d)."""
        lower, inside, roots = (part[:, :, None] for part in (self._edges()[0], self._inside(), self._roots()))
        counts, dimension = self.counts.shape, self.centres.shape[-1]
        uniform = torch.from_numpy(generator.random((*counts[:2], draws, counts[2], dimension)))
        quantiles = torch.special.ndtri(_normal_cdf(lower) + inside * uniform)
        drawn = self.centres[:, :, None].abs() + quantiles / roots
        return self._mirror(drawn.clamp(-MEAN_RANGE, MEAN_RANGE))

    def draw_weights(self, generator: np.random.Generator, draws: int) -> Tensor:
        """Independent weights from Dirichlet(n + 8), (B, J, M, K)."""
        shape = (self.counts + PSEUDO_COUNT)[:, :, None].expand(-1, -1, draws, -1)
        gamma = torch.from_numpy(generator.standard_gamma(shape.numpy()))
        return gamma / gamma.sum(-1, keepdim=True)

    def coefficients(self) -> Tensor:
        """Coefficients (B, J, K, d + 3) of (mean, |mean|^2, log weight, 1) in a component's log density.

        The sum over components is the log density of weights and means, but for terms common to all labellings.
        """
        precisions, dimension = self.precisions, self.centres.shape[-1]
        constant = 0.5 * dimension * precisions.log() - 0.5 * precisions * self.centres.square().sum(-1)
        constant = constant - self._inside().log().sum(-1) - torch.lgamma(self.counts + PSEUDO_COUNT)
        others = torch.stack([-0.5 * precisions, self.counts + PSEUDO_COUNT - 1.0, constant], dim=-1)
        return torch.cat([precisions[..., None] * self.centres, others], dim=-1)

    # The edges are those of the mirrored problem with centres >= 0, which keeps small tails exact.

    def _roots(self) -> Tensor:
        return self.precisions.sqrt()[..., None]

    def _edges(self) -> tuple[Tensor, Tensor]:
        """The edges of the box in standard deviations from the centre, each (B, J, K, d)."""
        centres = self.centres.abs()
        return (-MEAN_RANGE - centres) * self._roots(), (MEAN_RANGE - centres) * self._roots()

    def _inside(self) -> Tensor:
        """The normal distribution's probability of the box, for every coordinate."""
        lower, upper = self._edges()
        return _normal_cdf(upper) - _normal_cdf(lower)

    def _mirror(self, values: Tensor) -> Tensor:
        """Values (B, J, ..., K, d) of the mirrored problem, turned back."""
        centres = self.centres if values.ndim == self.centres.ndim else self.centres[:, :, None]
        return torch.where(centres < 0, -values, values)


def posterior_of_labels(points: Tensor, memberships: Tensor) -> LabelPosterior:
    """The posteriors for labellings of points (B, N, d); memberships (B, J, K, N) are one for a point's component, else
    0.
    """
    counts = memberships.sum(-1)
    sums = (memberships.flatten(1, 2) @ points).unflatten(1, counts.shape[1:])
    return LabelPosterior(counts, sums / counts.clamp_min(1.0)[..., None])


def _normal_cdf(argument: Tensor) -> Tensor:
    """Exact in the lower tail, where torch.special.ndtr is 1 + erf and loses its digits."""
    return 0.5 * torch.erfc(-math.sqrt(0.5) * argument)


def log_weight_prior(weights: Tensor) -> Tensor:
    """Log density, in w_1 ... w_(K-1), of independent U[0.2, 0.8] divided by their sum; (..., K) -> (...).

    The integral over the sum r of r^(K-1) / 0.6^K, where every r w_k must lie between 0.2 and 0.8; -inf if none does.
    """
    low, high = WEIGHT_RANGE
    n_components = weights.shape[-1]
    largest_sum, smallest_sum = high / weights.amax(-1), low / weights.amin(-1)
    integral = (largest_sum**n_components - smallest_sum**n_components) / n_components
    return integral.clamp_min(0.0).log() - n_components * math.log(high - low)


def log_prior(weights: Tensor, means: Tensor) -> Tensor:
    """Log prior density of weights (..., K) and means (..., K, d) in the box, but for a constant; (...).

    It is -inf where two means have a cosine similarity of 0.8 or more.
    """
    return log_weight_prior(weights).masked_fill(largest_cosine(means) >= COSINE_LIMIT, -torch.inf)


def log_dirichlet(weights: Tensor) -> Tensor:
    """Log density of Dirichlet(8, ..., 8), the prior that weights are drawn under, but for a constant; (...)."""
    return (PSEUDO_COUNT - 1.0) * weights.log().sum(-1)


# --- estimates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SortedEstimate:
    """Posterior means in ascending order of the weights, and the effective sample size behind each, (B,).

    The effective sample size is 1 / sum_m v_m^2 of the normalised importance weights v (Kong 1992); it is zero where
    every draw lies outside the prior's support.
    """

    mixture: Mixture
    effective_samples: Tensor


def sorted_mean(weights: Tensor, means: Tensor, log_importance: Tensor) -> SortedEstimate:
    """Self-normalised average of draws, each with its components in ascending order of the weights.

    Parameters
    ----------
    weights, means : Tensors (B, M, K) and (B, M, K, d).
    log_importance : Tensor (B, M), log of target over proposal density but for a constant; -inf outside the support.
    """
    inside = ~torch.isneginf(log_importance)
    importance = log_importance.masked_fill(~inside, OUTSIDE).softmax(1)
    ordered, order = weights.sort(-1)
    means = means.gather(2, order[..., None].expand_as(means))
    average = Mixture((importance[..., None] * ordered).sum(1), (importance[..., None, None] * means).sum(1))
    return SortedEstimate(average, inside.any(1) / importance.square().sum(1))


def known_labels_estimate(
    points: Tensor, labels: Tensor, n_components: int, generator: np.random.Generator, *, draws: int = 2048
) -> SortedEstimate:
    """The minimiser for someone who sees which points belong together, but not which component is which.

    Exact but for the Monte Carlo average over the weights, and for the limit on the means' cosines, which is left out.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    labels : Tensor (B, N) of int64 in [0, K); their names carry no information.
    n_components : K.
    draws : weights drawn for every task.
    """
    memberships = torch.nn.functional.one_hot(labels, n_components).to(points.dtype).mT
    posterior = posterior_of_labels(points, memberships[:, None])
    weights = posterior.draw_weights(generator, draws)[:, 0]
    means = posterior.expected_means().expand(-1, draws, -1, -1)
    return sorted_mean(weights, means, log_weight_prior(weights) - log_dirichlet(weights))


# --- importance sampling ---------------------------------------------------------------------------------------------


def importance_estimate(
    points: Tensor, truth: Mixture, generator: np.random.Generator, *, seed: int, index: Tensor, chains: int = CHAINS,
    chains_elsewhere: int = CHAINS_ELSEWHERE, sweeps: int = SWEEPS, draws: int = DRAWS,
) -> SortedEstimate:  # fmt: skip
    """The posterior mean in the order of the weights.

    Parameters
    ----------
    points : Tensor (B, N, d) of float64.
    truth : the mixtures that the points were drawn from, unit covariances; where the chains start.
    seed, index : what the k-means++ starts depend on: an int and an int64 Tensor (B,).
    chains, chains_elsewhere : J, and how many of them start at k-means++ centres.
    sweeps : steps of every chain; the labels drawn last make the proposal.
    draws : parameters drawn for every labelling, so that there are M = J * draws of them.
    """
    start = _chain_starts(points, truth, seed, index, chains, chains_elsewhere)
    posterior = draw_label_posteriors(points, start, sweeps, generator)
    weights = posterior.draw_weights(generator, draws).flatten(1, 2)
    means = posterior.draw_means(generator, draws).flatten(1, 2)
    log_target = log_likelihood(points, weights, means) + log_prior(weights, means)
    return sorted_mean(weights, means, log_target - log_proposal(posterior, weights, means))


def draw_label_posteriors(
    points: Tensor, start: Mixture, sweeps: int, generator: np.random.Generator
) -> LabelPosterior:
    """Run Markov chains and return the posteriors given the labels that each draws last.

    A sweep draws labels given parameters, then parameters given labels, the latter accepted by Metropolis and
    Hastings's rule for the prior's density over that of the Dirichlet weights. The start is a Mixture of B * J rows,
    row b * J + j for the j-th chain of the points (B, N, d) of task b.
    """
    weights, means = (part.unflatten(0, (len(points), -1)) for part in (start.weights, start.means))
    posterior = posterior_of_labels(points, draw_memberships(points, weights, means, generator))
    for _ in range(sweeps - 1):
        new_weights = posterior.draw_weights(generator, 1)[:, :, 0]
        new_means = posterior.draw_means(generator, 1)[:, :, 0]
        before = log_prior(weights, means) - log_dirichlet(weights)
        after = log_prior(new_weights, new_means) - log_dirichlet(new_weights)
        threshold = torch.from_numpy(generator.random(tuple(before.shape))).log()
        accepted = torch.isneginf(before) | (threshold < after - before)  # a start outside the support moves anywhere
        weights = torch.where(accepted[..., None], new_weights, weights)
        means = torch.where(accepted[..., None, None], new_means, means)
        posterior = posterior_of_labels(points, draw_memberships(points, weights, means, generator))
    return posterior


def draw_memberships(points: Tensor, weights: Tensor, means: Tensor, generator: np.random.Generator) -> Tensor:
    """Labels of all points (B, N, d) for parameters (B, J, K) and (B, J, K, d), as zeros and ones (B, J, K, N)."""
    joint = log_joint_of_draws(points, weights, means)
    cumulative = (joint - joint.amax(2, keepdim=True)).exp().cumsum(2)
    shape = (*weights.shape[:2], points.shape[1])
    threshold = torch.from_numpy(generator.random(shape))[:, :, None] * cumulative[:, :, -1:]
    labels = (threshold > cumulative[:, :, :-1]).sum(2, keepdim=True)
    return torch.zeros_like(joint).scatter_(2, labels, 1.0)


def log_joint_of_draws(points: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """log(w_k) + log N(x_n; mean_k, I) for draws (B, M, K) and (B, M, K, d): a Tensor (B, M, K, N)."""
    joint = log_joint(Mixture(weights.flatten(1), means.flatten(1, 2)), points)
    return joint.unflatten(1, weights.shape[1:])


def log_likelihood(points: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """Log-likelihood of all points together for draws (B, M, K) and (B, M, K, d): a Tensor (B, M)."""
    parts = []
    for block in zip(weights.split(DRAWS_AT_ONCE, dim=1), means.split(DRAWS_AT_ONCE, dim=1), strict=True):
        joint = log_joint_of_draws(points, *block)
        peak = joint.amax(2, keepdim=True)
        parts.append(joint.sub_(peak).exp_().sum(2).log_().add_(peak[:, :, 0]).sum(-1))
    return torch.cat(parts, dim=1)


def log_proposal(posterior: LabelPosterior, weights: Tensor, means: Tensor) -> Tensor:
    """Log of the sum over labellings and relabellings of the posteriors' densities, but for a constant, (B, M).

    The sum over the relabellings of a product over components is a permanent.
    """
    squares = means.square().sum(-1, keepdim=True)
    features = torch.cat([means, squares, weights.log()[..., None], torch.ones_like(squares)], dim=-1)
    features = features.transpose(1, 2).flatten(1, 2).mT
    densities = []
    for coefficients in posterior.coefficients().split(CHAINS_AT_ONCE, dim=1):
        chains, n_components = coefficients.shape[1:3]
        terms = coefficients.transpose(1, 2).flatten(1, 2) @ features
        terms = terms.unflatten(2, (n_components, -1)).unflatten(1, (n_components, chains))
        densities.append(log_permanent(terms.transpose(2, 3), 1))
    return torch.cat(densities, dim=1).logsumexp(1)


def log_permanent(logarithms: Tensor, axis: int = 0) -> Tensor:
    """log of sum over permutations s of prod_i a_(i, s(i)), from the logarithms of a.

    The K rows and K columns are the axes ``axis`` and ``axis + 1``, which the result lacks. Built up row by row over
    the sets of columns used: O(2^K K) instead of O(K! K).
    """
    largest = logarithms.amax(axis + 1, keepdim=True)
    rows = [row.unbind(axis) for row in (logarithms - largest).exp_().unbind(axis)]
    totals: dict[int, Tensor] = {1 << column: entry for column, entry in enumerate(rows[0])}
    for row in rows[1:]:
        previous, totals = totals, {}
        for used, total in previous.items():
            for column, entry in enumerate(row):
                if not used >> column & 1:
                    key = used | 1 << column
                    totals[key] = torch.addcmul(totals[key], total, entry) if key in totals else total * entry
    (permanent,) = totals.values()
    return permanent.log() + largest.sum((axis, axis + 1))


def _chain_starts(points: Tensor, truth: Mixture, seed: int, index: Tensor, chains: int, elsewhere: int) -> Mixture:
    """Mixture of B * J rows: the truth ``chains - elsewhere`` times, then k-means++ centres."""
    found = kmeans_plus_plus_start(points, truth.n_components, seed, index, elsewhere)
    parts = []
    for true, others in ((truth.weights, found.weights), (truth.means, found.means)):
        repeated = true[:, None].expand(-1, chains - elsewhere, *true.shape[1:])
        parts.append(torch.cat([repeated, others.unflatten(0, (len(points), elsewhere))], dim=1).flatten(0, 1))
    return Mixture(*parts)
