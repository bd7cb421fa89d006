"""The M-step of every shape with floors of variances and shrinkage, and the loop of EM steps over a batch.

Shrinkage takes the covariances of a data set's components for draws from one inverse-Wishart distribution around their
pooled covariance W, and its strength for a number that the data tell: the posterior mean of a component with scatter
S and n rows is (a W + n S) / (a + n), and a, in units of d + 1 rows, is averaged over ``STRENGTHS`` with the marginal
likelihoods of all components as weights (empirical Bayes; Chen 1979, J. R. Stat. Soc. B 41, 235-248). Alike components
borrow strength from each other; unlike ones are left alone. Weights get one row a component more, whose prior is
Dirichlet(2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from tgmm.estimator.em import Direct, Mixtures, Moments, Quadratic

STRENGTHS = (0.02, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
REFRESHED = (0, 1, 3)  # steps in which strengths are told anew, and every fourth one
SMALLEST_WEIGHT = 1e-12
NEGLIGIBLE = 1e-9  # of a variance, added to scatters before their determinants are taken


@dataclass(frozen=True)
class Limits:
    """What bounds the M-step of a batch.

    Attributes
    ----------
    floors : Tensor (B, d), added to variances.
    rows : Tensor (B,), how many rows the data sets' weights stand for.
    shrink : whether covariances are shrunk.
    """

    floors: Tensor
    rows: Tensor
    shrink: bool

    def select(self, chosen: Tensor) -> Limits:
        """The same for some of the data sets."""
        return Limits(self.floors[chosen], self.rows[chosen], self.shrink)


@dataclass
class Fits:
    """What EM made of a batch.

    Attributes
    ----------
    mixtures : the parameters.
    likelihoods : list of Tensors (B,), mean log-likelihoods before each step; a data set's count up to its own last.
    steps, converged : int64 and bool Tensors (B,).
    """

    mixtures: Mixtures
    likelihoods: list[Tensor]
    steps: Tensor
    converged: Tensor

    def single(self, i: int) -> Fits:
        """The fit of one data set."""
        one = slice(i, i + 1)
        bounds = [line[one] for line in self.likelihoods[: max(1, int(self.steps[i]))]]
        return Fits(self.mixtures.select(one), bounds, self.steps[one], self.converged[one])

    def last(self) -> Tensor:
        """The last likelihood of each data set, (B,)."""
        every = torch.stack(self.likelihoods)
        return every.gather(0, (self.steps - 1).clamp_min(0)[None])[0]


def maximise(moments: Moments, shape: str, limits: Limits, posterior: Tensor | None = None) -> Mixtures:
    """The M-step.

    Parameters
    ----------
    moments : of a batch of B mixtures.
    shape : of the covariances.
    limits : floors and rows of the data sets.
    posterior : Tensor (B, len(STRENGTHS)) from :func:`strengths`; None where nothing is shrunk.
    """
    counts = moments.weight * limits.rows[:, None]
    K = counts.shape[1]
    weights = (counts + limits.shrink) / (limits.rows[:, None] + K * limits.shrink)
    scatter, floors = moments.scatter, limits.floors
    if shape == "tied":
        covariances = _pooled(moments)[:, 0] + torch.diag_embed(floors)
    else:
        if posterior is not None:
            units = _prior(shape, scatter.shape[2], counts.dtype, counts.device)[0]
            share = (posterior[:, None] * (units / (units + _freedom(counts, shape, scatter)[..., None]))).sum(-1)
            share = share.view(*share.shape, *[1] * (scatter.ndim - 2))
            scatter = scatter + share * (_pooled(moments) - scatter)
        covariances = scatter + (torch.diag_embed(floors) if shape == "full" else floors)[:, None]
        covariances = covariances.mean(-1) if shape == "spherical" else covariances
    return Mixtures(shape, weights.clamp_min(SMALLEST_WEIGHT).log(), moments.mean, covariances)


def strengths(moments: Moments, shape: str, limits: Limits) -> Tensor | None:
    """How likely each of ``STRENGTHS`` is given a batch's moments, (B, strengths); None where nothing is shrunk."""
    if not limits.shrink or shape == "tied" or moments.weight.shape[1] == 1:
        return None
    counts, scatter = moments.weight * limits.rows[:, None], moments.scatter
    d = scatter.shape[2]
    n = _freedom(counts, shape, scatter)
    units, freedom, prior = _prior(shape, d, counts.dtype, counts.device)
    eigenvalues = _relative_eigenvalues(moments, shape, limits)  # (B, K, q) of the scatter, by the pooled one
    q = d if shape == "full" else 1
    logs = (units + n[..., None, None] * eigenvalues[..., None]).log().sum(2)  # (B, K, strengths)
    n, columns = n[..., None], d if shape == "diag" else 1  # with diag, each column has variances of its own
    gain = columns * (prior + torch.special.multigammaln(0.5 * (freedom + n), q)) - 0.5 * (freedom + n) * logs
    return gain.sum(1).softmax(-1)


@lru_cache(maxsize=64)
def _prior(shape: str, d: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of each strength: rows of prior, degrees of freedom, and the log of its inverse Wishart's normaliser."""
    q, unit = (d, d + 1) if shape == "full" else (1, 2)
    units = torch.tensor(STRENGTHS, dtype=dtype, device=device) * unit
    freedom = units + q + 1
    return units, freedom, 0.5 * freedom * q * units.log() - torch.special.multigammaln(0.5 * freedom, q)


def _freedom(counts: Tensor, shape: str, scatter: Tensor) -> Tensor:
    return counts * scatter.shape[2] if shape == "spherical" else counts


def _pooled(moments: Moments) -> Tensor:
    share = moments.weight / moments.weight.sum(1, keepdim=True)
    return (moments.scatter * share.view(*share.shape, *[1] * (moments.scatter.ndim - 2))).sum(1, keepdim=True)


def _relative_eigenvalues(moments: Moments, shape: str, limits: Limits) -> Tensor:
    pooled, ridge = _pooled(moments), limits.floors[:, None] + NEGLIGIBLE * limits.floors.mean()
    if shape != "full":
        relative = (moments.scatter + ridge) / (pooled + ridge)
        return relative[..., :1] if shape == "spherical" else relative
    ridge = torch.diag_embed(ridge)
    factor, failed = torch.linalg.cholesky_ex(pooled + ridge)
    if bool(failed.any()):
        plain = torch.diag_embed((pooled + ridge).diagonal(dim1=-2, dim2=-1).sqrt())
        factor = torch.where((failed > 0)[..., None, None], plain, factor)
    half = torch.linalg.solve_triangular(factor, moments.scatter + ridge, upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    return torch.linalg.eigvalsh(0.5 * (whitened + whitened.mT)).clamp_min(1e-12)


def first_step(data: Quadratic | Direct, responsibilities: Tensor, limits: Limits) -> Mixtures:
    """One M-step from responsibilities (B, N, K)."""
    moments = data.moments(responsibilities)
    return maximise(moments, data.shape, limits, strengths(moments, data.shape, limits))


def run_em(data: Quadratic | Direct, mixtures: Mixtures, limits: Limits, steps: int, tol: float) -> Fits:
    """EM steps from given mixtures, until the mean log-likelihood changes by less than ``tol``.

    A data set that is done, or whose likelihood is not finite, changes no more and leaves the batch with time.

    Parameters
    ----------
    data : the data sets.
    mixtures, limits : where to start, and what bounds each step.
    steps : at most so many.
    tol : in nats a point.
    """
    B, device = len(mixtures.means), mixtures.means.device
    here, active = torch.arange(B, device=device), torch.ones(B, dtype=torch.bool, device=device)
    fits = Fits(mixtures, [], torch.zeros_like(here), torch.zeros_like(active))
    previous = torch.full((B,), -math.inf, dtype=mixtures.means.dtype, device=device)
    posterior = None
    for step in range(steps):
        likelihood, moments = data.expect(mixtures)
        if step in REFRESHED or step % 4 == 0:
            posterior = strengths(moments, data.shape, limits)
        better = maximise(moments, data.shape, limits, posterior)
        sound = active & torch.isfinite(likelihood)
        mixtures = better if bool(sound.all()) else mixtures.replaced(sound, better)
        _record(fits, here, active, likelihood)
        done = (likelihood - previous).abs() < tol
        fits.converged[here[active & done]] = True
        active, previous = sound & ~done, likelihood
        if step + 1 == steps or not bool(active.any()) or (len(active) > 8 and 2 * int(active.sum()) < len(active)):
            fits.mixtures = _scattered(fits.mixtures, here, mixtures)
            if not bool(active.any()):
                break
            here, previous, mixtures = here[active], previous[active], mixtures.select(active)
            data, limits = data.select(active), limits.select(active)
            posterior = None if posterior is None else posterior[active]
            active = active[active]
    return fits


def _record(fits: Fits, here: Tensor, active: Tensor, likelihood: Tensor) -> None:
    line = likelihood
    if len(here) < len(fits.steps):
        line = likelihood.new_full((len(fits.steps),), math.nan).index_copy(0, here, likelihood)
    fits.likelihoods.append(line)
    fits.steps[here] += active


def _scattered(whole: Mixtures, here: Tensor, part: Mixtures) -> Mixtures:
    """The batch with some of its mixtures replaced by others."""
    names = ("log_weights", "means", "covariances")
    return replace(whole, **{name: getattr(whole, name).index_copy(0, here, getattr(part, name)) for name in names})
