"""The Bayes estimate under the paper's prior: the estimate of least expected matched error, which no method can beat.

The posterior of weights and means given the points is sampled by tempered Markov chains (parallel tempering: Geyer
1991, Hukushima & Nemoto 1996) with random-walk steps for one component at a time and now and then a component thrown
to a random point. Two groups of chains never exchange anything: one starts from the truth, one from EM's best start.
Their estimates must agree, or the task is a failure. The estimate is the mean of the samples, each with its components
in the order that is nearest to the estimate (a fixed point of that rule), from the start of least expected error.

Only isotropic tasks, whose prior (section 4.1 of arXiv 2505.11918) is: means uniform on [-5, 5]^d with pairwise
cosines below 0.8, weights proportional to independent uniforms on [0.2, 0.8].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.counter_random import derive_seed
from tgmm.methods.base import FitResult
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.metrics import best_permutation, l2_error, pairwise_errors
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import COSINE_LIMIT, MEAN_RANGE, WEIGHT_RANGE, largest_cosine

THROWS_EVERY = 5  # sweeps between two attempts to throw a component to a random point
TARGET_ACCEPTANCE = 0.3
GROUPS = 2  # chains from the truth, chains from EM
DRAWS = 400  # samples kept a group
FIXED_POINT_ROUNDS = 20


@dataclass(frozen=True)
class BayesSettings:
    """Settings of the chains.

    Attributes
    ----------
    sweeps : of every chain; the first third adapts the steps and is thrown away.
    temperatures : rungs of the ladder, geometric from the posterior itself to ``hottest``.
    hottest : smallest power of the likelihood on the ladder.
    disagreement : l2-error between the estimates of the two groups above which a task is a failure.
    tasks_at_once : tasks in memory together.
    """

    sweeps: int = 3000
    temperatures: int = 10
    hottest: float = 0.02
    disagreement: float = 0.05
    tasks_at_once: int = 64


class Chains:
    """Tempered chains of B tasks: R replicas each, ``GROUPS`` ladders one after the other.

    Parameters
    ----------
    points : Tensor (B, N, d).
    start : for every group, a Mixture of B tasks.
    settings : of the ladder.
    generator : of the randomness.

    Attributes
    ----------
    means, raw : Tensors (B, R, K, d) and (B, R, K); weights are ``raw`` divided by its sum over K.
    """

    def __init__(self, points: Tensor, start: list[Mixture], settings: BayesSettings, generator: torch.Generator):
        self.points, self.generator = points, generator
        rungs = torch.arange(settings.temperatures) / max(1, settings.temperatures - 1)
        self.power = (settings.hottest**rungs).repeat(GROUPS).to(points)
        self.rungs = settings.temperatures
        wide = lambda tensor: tensor[:, None].expand(-1, settings.temperatures, *tensor.shape[1:])  # noqa: E731
        self.means = torch.cat([wide(inside_box(group.means.to(points))) for group in start], 1).contiguous()
        self.raw = torch.cat([wide(raw_weights(group.weights.to(points))) for group in start], 1).contiguous()
        self.squares = points.square().sum(-1)
        self.densities = torch.stack([self._density(self.means[:, :, k]) for k in range(start[0].n_components)], -2)
        self.log_likelihood = self._total(self.densities, self.raw)
        size = 0.1 * self.power.rsqrt()
        self.step = size.repeat(len(points), 1)
        self.accepted = torch.zeros_like(self.step)

    @property
    def n_components(self) -> int:
        return self.means.shape[2]

    def _density(self, means: Tensor) -> Tensor:
        """-|x - mean|^2 / 2 of one component's means (B, R, d), (B, R, N)."""
        norms = means.square().sum(-1, keepdim=True)
        return (means @ self.points.mT) - 0.5 * (norms + self.squares[:, None])

    def _total(self, densities: Tensor, raw: Tensor) -> Tensor:
        """Log-likelihood (B, R) up to a constant, of densities (B, R, K, N) and raw weights (B, R, K)."""
        log_weights = (raw / raw.sum(-1, keepdim=True)).log()
        return (densities + log_weights[..., None]).logsumexp(-2).sum(-1)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=self.points.dtype)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=self.points.dtype)

    def sweep(self, adapt: bool, throw: bool) -> None:
        """One update of every component, then exchanges between neighbouring rungs."""
        tasks, replicas = self.power.numel() and self.log_likelihood.shape
        for component in range(self.n_components):
            move = self._normal(tasks, replicas, self.means.shape[-1]) * self.step[..., None]
            change = self._normal(tasks, replicas) * 0.3 * self.step
            self._try(component, self.means[:, :, component] + move, self.raw[:, :, component] + change, adapt=adapt)
        if throw:
            self._throw()
        self._exchange()

    def _try(
        self, component: int, mean: Tensor, raw: Tensor, correction: Tensor | float = 0.0, adapt: bool = False
    ) -> None:
        """Accept or refuse a new mean (B, R, d) and raw weight (B, R) of a component (Metropolis and Hastings)."""
        means, raws, densities = self.means.clone(), self.raw.clone(), self.densities.clone()
        means[:, :, component], raws[:, :, component] = mean, raw
        densities[:, :, component] = self._density(mean)
        allowed = (mean.abs() <= MEAN_RANGE).all(-1) & (raw > WEIGHT_RANGE[0]) & (raw < WEIGHT_RANGE[1])
        allowed &= largest_cosine(means) < COSINE_LIMIT
        found = self._total(densities, raws.clamp_min(1e-3))
        gain = self.power * (found - self.log_likelihood) + correction
        accepted = allowed & (self._uniform(*found.shape).log() < gain)
        self.means = torch.where(accepted[..., None, None], means, self.means)
        self.raw = torch.where(accepted[..., None], raws, self.raw)
        self.densities = torch.where(accepted[..., None, None], densities, self.densities)
        self.log_likelihood = torch.where(accepted, found, self.log_likelihood)
        if adapt:
            growth = torch.where(accepted, 1.0 - TARGET_ACCEPTANCE, -TARGET_ACCEPTANCE)
            self.step = (self.step * (0.1 * growth).exp()).clamp(1e-3, MEAN_RANGE)

    def _throw(self) -> None:
        """Throw one component near a random point: an independence proposal, unit normals mixed at the points."""
        tasks, replicas = self.log_likelihood.shape
        component = int(torch.randint(self.n_components, (), generator=self.generator))
        chosen = torch.randint(self.points.shape[1], (tasks, replicas), generator=self.generator)
        centre = self.points.gather(1, chosen[..., None].expand(-1, -1, self.points.shape[-1]))
        mean = centre + self._normal(*centre.shape)
        raw = WEIGHT_RANGE[0] + (WEIGHT_RANGE[1] - WEIGHT_RANGE[0]) * self._uniform(tasks, replicas)
        # The proposal's density is the same sum of kernels for both, up to the constant that cancels.
        back = self._density(self.means[:, :, component]).logsumexp(-1) - self._density(mean).logsumexp(-1)
        self._try(component, mean, raw, back)

    def _exchange(self) -> None:
        """Exchange states of neighbouring rungs, even and odd pairs in turn, within each group."""
        replicas = self.power.numel()
        order = torch.arange(replicas).repeat(len(self.points), 1)
        for parity in (0, 1):
            lower = torch.tensor(
                [group * self.rungs + rung for group in range(GROUPS) for rung in range(parity, self.rungs - 1, 2)]
            )
            if not len(lower):
                continue
            likelihood = self.log_likelihood.gather(1, order)
            gain = (self.power[lower] - self.power[lower + 1]) * (likelihood[:, lower + 1] - likelihood[:, lower])
            swap = self._uniform(*gain.shape).log() < gain
            first, second = order[:, lower], order[:, lower + 1]
            order[:, lower], order[:, lower + 1] = torch.where(swap, second, first), torch.where(swap, first, second)
        rows = torch.arange(len(self.points))[:, None]
        self.means, self.raw = self.means[rows, order], self.raw[rows, order]
        self.densities, self.log_likelihood = self.densities[rows, order], self.log_likelihood[rows, order]

    def current(self) -> Mixture:
        """The states at power one, tasks times groups: row b * GROUPS + g."""
        cold = [group * self.rungs for group in range(GROUPS)]
        raw = self.raw[:, cold].flatten(0, 1)
        return Mixture(raw / raw.sum(-1, keepdim=True), self.means[:, cold].flatten(0, 1))


def inside_box(means: Tensor) -> Tensor:
    """Means of a start, moved into the prior's support: off the walls, and apart in direction."""
    means = means.clamp(-MEAN_RANGE + 1e-3, MEAN_RANGE - 1e-3)
    noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(0), dtype=means.dtype)
    for attempt in range(200):
        close = largest_cosine(means) >= COSINE_LIMIT
        if not close.any():
            break
        moved = (means + 0.05 * (attempt + 1) * noise.roll(attempt, 0)).clamp(-MEAN_RANGE + 1e-3, MEAN_RANGE - 1e-3)
        means = torch.where(close[:, None, None], moved, means)
    return means


def raw_weights(weights: Tensor) -> Tensor:
    """Uniforms in [0.2, 0.8] whose shares are nearest to some weights (B, K)."""
    low, high = WEIGHT_RANGE
    return (weights * weights.shape[1] * 0.5).clamp(low + 1e-3, high - 1e-3)


def estimate_bayes(
    points: Tensor, n_components: int, settings: BayesSettings | None = None, *, seed: int, index: Tensor,
    truth: Mixture,
) -> FitResult:  # fmt: skip
    """The Bayes estimate of isotropic tasks.

    Parameters
    ----------
    points : Tensor (B, N, d).
    n_components : K.
    seed, index : what the chains depend on.
    truth : where one of the groups of chains starts.

    Returns
    -------
    FitResult in float64; ``iterations`` counts sweeps. A task whose two groups disagree is a failure.
    """
    settings = settings or BayesSettings()
    results = []
    for first in range(0, len(points), settings.tasks_at_once):
        part = slice(first, first + settings.tasks_at_once)
        results.append(_estimate(points[part], n_components, settings, seed, index[part], truth[part]))
    failures = {
        number * settings.tasks_at_once + task: reason
        for number, result in enumerate(results)
        for task, reason in result.failures.items()
    }
    weights = torch.cat([result.mixture.weights for result in results])
    means = torch.cat([result.mixture.means for result in results])
    return FitResult(Mixture(weights, means), torch.cat([result.iterations for result in results]), failures)


def _estimate(
    points: Tensor, n_components: int, settings: BayesSettings, seed: int, index: Tensor, truth: Mixture
) -> FitResult:
    em = EMSettings(start="k-means++", starts=10)
    start = estimate_em(points.double(), n_components, em, seed=derive_seed(seed, "bayes"), index=index).mixture
    generator = torch.Generator().manual_seed(derive_seed(seed, "bayes chains", int(index[0]), len(index)))
    chains = Chains(points.float(), [truth, start], settings, generator)
    burn_in = settings.sweeps // 3
    keep_every = max(1, (settings.sweeps - burn_in) // DRAWS)
    draws = []
    for sweep in range(settings.sweeps):
        chains.sweep(adapt=sweep < burn_in, throw=sweep % THROWS_EVERY == 0)
        if sweep >= burn_in and (sweep - burn_in) % keep_every == 0:
            draws.append(chains.current())
    weights = torch.stack([draw.weights for draw in draws], 1).double()  # (B GROUPS, S, K)
    means = torch.stack([draw.means for draw in draws], 1).double()
    per_group = [least_error(Mixture(weights[g::GROUPS].flatten(0, 1), means[g::GROUPS].flatten(0, 1)),
                             len(draws), [truth, start])[0] for g in range(GROUPS)]  # fmt: skip
    both = Mixture(weights.unflatten(0, (-1, GROUPS)).flatten(1, 2).flatten(0, 1),
                   means.unflatten(0, (-1, GROUPS)).flatten(1, 2).flatten(0, 1))  # fmt: skip
    estimate, _ = least_error(both, GROUPS * len(draws), [truth, start, *per_group])
    apart = l2_error(per_group[0], per_group[1])
    failures = {
        task: f"two groups of chains disagree: l2-error {apart[task]:.2g} between their estimates"
        for task in (apart > settings.disagreement).nonzero()[:, 0].tolist()
    }
    return FitResult(estimate, torch.full((len(points),), settings.sweeps), failures)


def least_error(samples: Mixture, n_samples: int, starts: list[Mixture]) -> tuple[Mixture, Tensor]:
    """The estimate of least expected matched l2-error under samples of a posterior.

    Parameters
    ----------
    samples : Mixture of B * S rows, row b * S + s being the s-th sample of task b.
    n_samples : S.
    starts : mixtures of B tasks to begin the fixed point from; the best result is kept.

    Returns
    -------
    estimate : Mixture of B tasks.
    error : Tensor (B,), its expected l2-error.
    """
    best, least = None, None
    for start in starts:
        estimate = start.to(samples.means.dtype)
        for _ in range(FIXED_POINT_ROUNDS):
            wide = estimate.map(lambda tensor: tensor.repeat_interleave(n_samples, 0))
            lined_up = samples.permute_components(best_permutation(pairwise_errors(samples, wide)))
            following = lined_up.map(lambda tensor: tensor.unflatten(0, (-1, n_samples)).mean(1))
            settled = torch.allclose(following.means, estimate.means, atol=1e-6)
            estimate = following
            if settled:
                break
        wide = estimate.map(lambda tensor: tensor.repeat_interleave(n_samples, 0))
        error = l2_error(samples, wide).unflatten(0, (-1, n_samples)).mean(1)
        if best is None:
            best, least = estimate, error
            continue
        better = error < least
        best = Mixture(
            torch.where(better[:, None], estimate.weights, best.weights),
            torch.where(better[:, None, None], estimate.means, best.means),
        )
        least = torch.where(better, error, least)
    return best, least
