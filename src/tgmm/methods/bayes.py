"""The Bayes estimate under the paper's prior: the estimate of least expected matched error, which no method can beat.

The posterior of weights and means given the points is sampled by tempered Markov chains (parallel tempering: Geyer
1991, Hukushima & Nemoto 1996) with random-walk steps for one component at a time and now and then a component thrown
to a random point. Two groups of chains never exchange anything: one starts from the truth, one from EM's best start.
Their estimates must agree, at last after more sweeps, or the task is a failure. The estimate is the mean of the
samples, each with its components in the order that is nearest to the estimate (a fixed point of that rule), from the
start of least expected error.

Only isotropic tasks, whose prior (section 4.1 of arXiv 2505.11918) is: means uniform on [-5, 5]^d with pairwise
cosines below 0.8, weights proportional to independent uniforms on [0.2, 0.8].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tgmm.counter_random import derive_seed
from tgmm.methods.base import FitResult
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.metrics import l2_error, pairwise_errors, permutations
from tgmm.mixture import Mixture, concatenate
from tgmm.tasks.sampler import COSINE_LIMIT, MEAN_RANGE, WEIGHT_RANGE, largest_cosine

THROWS_EVERY = 2  # sweeps between two attempts to throw a component to a random point
TARGET_ACCEPTANCE = 0.3
GROUPS = 2  # chains from the truth, chains from EM
DRAWS = 200  # samples kept a group
FIXED_POINT_ROUNDS = 20
LONGER = 4  # times the sweeps for a task whose two groups disagree
# Of a point that is some 13 standard deviations from every component: single precision has no smaller numbers. Only hot
# rungs see such states, and any function of a state will do for them.
SMALLEST_DENSITY = 1e-37


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

    sweeps: int = 1000
    temperatures: int = 6
    hottest: float = 0.1
    disagreement: float = 0.05
    tasks_at_once: int = 64


class Chains:
    """Tempered chains of B tasks: R replicas each, ``GROUPS`` ladders one after the other.

    A replica keeps its state and changes its rung, so that an exchange moves two numbers.

    Parameters
    ----------
    points : Tensor (B, N, d).
    start : for every group, a Mixture of B tasks.
    settings : of the ladder.
    generator : of the randomness.

    Attributes
    ----------
    means, raw : Tensors (B, R, K, d) and (B, R, K); weights are ``raw`` divided by its sum over K.
    kernels : Tensor (B, R, K, N), exp(-|x - mean|^2 / 2).
    place : int64 Tensor (B, R), the replica at every rung.
    step : Tensor (B, R), size of the steps at every rung.
    """

    def __init__(self, points: Tensor, start: list[Mixture], settings: BayesSettings, generator: torch.Generator):
        self.points, self.generator, self.rungs = points, generator, settings.temperatures
        self.squares = points.square().sum(-1)
        wide = lambda tensor: tensor[:, None].expand(-1, settings.temperatures, *tensor.shape[1:])  # noqa: E731
        self.means = torch.cat([wide(inside_box(group.means.to(points))) for group in start], 1).contiguous()
        self.raw = torch.cat([wide(raw_weights(group.weights.to(points))) for group in start], 1).contiguous()
        self.kernels = self._kernel(self.means.flatten(1, 2)).unflatten(1, self.raw.shape[1:])
        self.log_likelihood = self._total((self.raw[..., None] * self.kernels).sum(2), self.raw.sum(-1))
        rungs = torch.arange(settings.temperatures) / max(1, settings.temperatures - 1)
        self.power = (settings.hottest**rungs).repeat(GROUPS).to(points).expand(len(points), -1)
        self.step = 0.1 * self.power.rsqrt()
        self.place = torch.arange(self.power.shape[1]).repeat(len(points), 1)

    @property
    def n_components(self) -> int:
        return self.means.shape[2]

    def _kernel(self, means: Tensor) -> Tensor:
        """exp(-|x - mean|^2 / 2) of means (B, M, d), (B, M, N)."""
        norms = means.square().sum(-1, keepdim=True) + self.squares[:, None]
        return torch.baddbmm(norms, means, self.points.mT, beta=-0.5).exp_()

    @staticmethod
    def _total(densities: Tensor, raw: Tensor) -> Tensor:
        """Log-likelihood (B, R) up to a constant, of densities (B, R, N) and sums of raw weights (B, R)."""
        return densities.clamp_min(SMALLEST_DENSITY).log().sum(-1) - densities.shape[-1] * raw.log()

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=self.points.dtype)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=self.points.dtype)

    def sweep(self, adapt: bool, throw: bool) -> None:
        """One update of every component, then exchanges between neighbouring rungs."""
        rung = self.place.argsort(1)
        power, step = self.power.gather(1, rung), self.step.gather(1, rung)
        moves, changes = self._normal(*self.means.shape), 0.3 * self._normal(*self.raw.shape)
        for component in range(self.n_components):
            mean = self.means[:, :, component] + moves[:, :, component] * step[..., None]
            raw = self.raw[:, :, component] + changes[:, :, component] * step
            accepted = self._try(component, mean, raw, self._kernel(mean), power)
            if adapt:
                growth = torch.where(accepted, 1.0 - TARGET_ACCEPTANCE, -TARGET_ACCEPTANCE)
                step = (step * (0.1 * growth).exp()).clamp(1e-3, MEAN_RANGE)
        if adapt:
            self.step = step.gather(1, self.place)
        if throw:
            self._throw(power)
        self._exchange()

    def _try(
        self, component: int, mean: Tensor, raw: Tensor, kernel: Tensor, power: Tensor,
        correction: Tensor | float = 0.0,
    ) -> Tensor:  # fmt: skip
        """Accept or refuse a new mean (B, R, d) and raw weight (B, R) of a component (Metropolis and Hastings).

        Returns
        -------
        accepted : bool Tensor (B, R).
        """
        others = self.raw.clone()
        others[:, :, component] = 0.0
        densities = (others[:, :, None] @ self.kernels)[:, :, 0].addcmul_(raw.clamp_min(1e-3)[..., None], kernel)
        found = self._total(densities, others.sum(-1) + raw.clamp_min(1e-3))
        allowed = (mean.abs() <= MEAN_RANGE).all(-1) & (raw > WEIGHT_RANGE[0]) & (raw < WEIGHT_RANGE[1])
        allowed &= self._apart(component, mean)
        gain = power * (found - self.log_likelihood) + correction
        accepted = allowed & (self._uniform(*found.shape).log() < gain)
        tasks, replicas = accepted.nonzero(as_tuple=True)
        for state, new in ((self.means, mean), (self.raw, raw), (self.kernels, kernel)):
            state[tasks, replicas, component] = new[tasks, replicas]
        self.log_likelihood = torch.where(accepted, found, self.log_likelihood)
        return accepted

    def _apart(self, component: int, mean: Tensor) -> Tensor:
        """Whether a component at new means (B, R, d) keeps the prior's limit on cosines with the others, (B, R)."""
        cosines = (F.normalize(self.means, dim=-1) @ F.normalize(mean, dim=-1)[..., None])[..., 0]
        cosines[:, :, component] = -1.0
        return cosines.amax(-1) < COSINE_LIMIT

    def _throw(self, power: Tensor) -> None:
        """Throw one component near a random point: an independence proposal, unit normals mixed at the points."""
        tasks, replicas = self.log_likelihood.shape
        component = int(torch.randint(self.n_components, (), generator=self.generator))
        chosen = torch.randint(self.points.shape[1], (tasks, replicas), generator=self.generator)
        centre = self.points.gather(1, chosen[..., None].expand(-1, -1, self.points.shape[-1]))
        mean = centre + self._normal(*centre.shape)
        raw = WEIGHT_RANGE[0] + (WEIGHT_RANGE[1] - WEIGHT_RANGE[0]) * self._uniform(tasks, replicas)
        # The proposal's density is the same sum of kernels for both, up to the constant that cancels.
        kernel = self._kernel(mean)
        sums = [tensor.sum(-1).clamp_min(SMALLEST_DENSITY).log() for tensor in (self.kernels[:, :, component], kernel)]
        self._try(component, mean, raw, kernel, power, sums[0] - sums[1])

    def _exchange(self) -> None:
        """Exchange neighbouring rungs, even and odd pairs in turn, within each group."""
        for parity in (0, 1):
            lower = torch.tensor(
                [group * self.rungs + rung for group in range(GROUPS) for rung in range(parity, self.rungs - 1, 2)]
            )
            if not len(lower):
                continue
            likelihood = self.log_likelihood.gather(1, self.place)
            difference = self.power[:, lower] - self.power[:, lower + 1]
            gain = difference * (likelihood[:, lower + 1] - likelihood[:, lower])
            swap = self._uniform(*gain.shape).log() < gain
            first, second = self.place[:, lower], self.place[:, lower + 1]
            self.place[:, lower], self.place[:, lower + 1] = (
                torch.where(swap, second, first), torch.where(swap, first, second)
            )  # fmt: skip

    def current(self) -> Mixture:
        """The states at power one, tasks times groups: row b * GROUPS + g."""
        cold = self.place[:, :: self.rungs]
        rows = torch.arange(len(cold))[:, None]
        raw = self.raw[rows, cold].flatten(0, 1)
        return Mixture(raw / raw.sum(-1, keepdim=True), self.means[rows, cold].flatten(0, 1))


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
    FitResult in float64; ``iterations`` counts sweeps. A task whose two groups disagree is tried again with ``LONGER``
    times the sweeps; where they still do, it is a failure.
    """
    settings = settings or BayesSettings()
    result = _estimate_parts(points, n_components, settings, seed, index, truth)
    again = torch.tensor(sorted(result.failures), dtype=torch.int64)
    if not len(again):
        return result
    longer = replace(settings, sweeps=LONGER * settings.sweeps)
    second = _estimate_parts(points[again], n_components, longer, seed, index[again], truth[again])
    for tensor, new in zip(result.mixture.tensors()[:2], second.mixture.tensors()[:2], strict=True):
        tensor[again] = new
    result.iterations[again] += second.iterations
    return replace(result, failures={int(again[task]): reason for task, reason in second.failures.items()})


def _estimate_parts(
    points: Tensor, n_components: int, settings: BayesSettings, seed: int, index: Tensor, truth: Mixture
) -> FitResult:
    results = []
    for first in range(0, len(points), settings.tasks_at_once):
        part = slice(first, first + settings.tasks_at_once)
        results.append(_estimate(points[part], n_components, settings, seed, index[part], truth[part]))
    failures = {
        number * settings.tasks_at_once + task: reason
        for number, result in enumerate(results)
        for task, reason in result.failures.items()
    }
    mixture = concatenate([result.mixture for result in results])
    return FitResult(mixture, torch.cat([result.iterations for result in results]), failures)


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
        lined_up, order = nearest_order(samples, start.to(samples.means.dtype), n_samples)[:2]
        for _ in range(FIXED_POINT_ROUNDS):
            estimate = lined_up.map(lambda tensor: tensor.unflatten(0, (-1, n_samples)).mean(1))
            before = order
            lined_up, order, error = nearest_order(samples, estimate, n_samples)
            if torch.equal(order, before):
                break
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


def nearest_order(samples: Mixture, estimate: Mixture, n_samples: int) -> tuple[Mixture, Tensor, Tensor]:
    """The samples with their components in the order that is nearest to an estimate.

    Parameters
    ----------
    samples : Mixture of B * S rows, row b * S + s being the s-th sample of task b.
    estimate : Mixture of B tasks.
    n_samples : S.

    Returns
    -------
    lined_up : Mixture of B * S rows.
    order : int64 Tensor (B * S,), the number of each row's permutation.
    error : Tensor (B,), the mean l2-error of the estimate, averaged over the samples.
    """
    size = samples.n_components
    every = permutations(size)
    # The error of a permutation is a sum of entries of the cost matrix: one product of matrices gives those of all.
    chosen = F.one_hot(every, size).permute(2, 1, 0).flatten(0, 1).to(samples.means.dtype)  # (K K, K!)
    wide = estimate.map(lambda tensor: tensor.repeat_interleave(n_samples, 0))
    least, order = (pairwise_errors(samples, wide).flatten(1) @ chosen).min(1)
    return samples.permute_components(every[order]), order, least.unflatten(0, (-1, n_samples)).mean(1) / size
