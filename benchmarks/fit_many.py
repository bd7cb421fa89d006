"""Throughput of ``fit_many`` beside a loop of scikit-learn's GaussianMixture with 1 and 10 starts.

    python benchmarks/fit_many.py --sets 10000 --loop 200
    python benchmarks/fit_many.py --points 1000000     # one large data set

Data sets of 128 points, K = 3, d = 2 and 8, of each shape of covariance; the loop runs on some of them, on one core
(more threads only contend), and its time is given per data set. Held-out likelihood: 500 fresh points of each.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

from tgmm import TransformerGaussianMixture, fit_many
from tgmm.tasks.prior import draw_tasks
from tgmm.tasks.settings import PriorSettings

KINDS = {"spherical": 1, "diag": 2, "full": 3, "tied": 4}
PRIOR = PriorSettings(concentrations=(2.0, 5.0, 20.0))
FRESH = 500


def draw(sets: int, d: int, shape: str, N: int, heldout: int, seed: int = 4242) -> np.ndarray:
    """Data sets (sets, N + heldout, d) of three components."""
    parts, generator = [], torch.Generator().manual_seed(seed + d)
    for i in range(0, sets, 500):
        sizes = torch.full((min(500, sets - i),), 3)
        options = {"heldout": heldout, "kind": KINDS[shape], "distance": 5.0, "nuisances": False}
        parts.append(draw_tasks(PRIOR, sizes, d, N, generator, **options).points.double().numpy())
    return np.concatenate(parts)


def peak_memory() -> float:
    """Of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_many(sets: int, loop: int, shape: str, d: int, jobs: int | None) -> None:
    """One row: milliseconds a data set and held-out likelihoods."""
    few = draw(loop, d, shape, 128, FRESH)
    rows = []
    for starts in (1, 10):
        started, score = time.perf_counter(), 0.0
        models = [GaussianMixture(3, covariance_type=shape, n_init=starts, random_state=0).fit(X[:128]) for X in few]
        rows.append(1e3 * (time.perf_counter() - started) / loop)
        score = np.mean([model.score(X[128:]) for model, X in zip(models, few, strict=True)])
        rows.append(score)
    fits = fit_many(few[:, :128], 3, covariance_type=shape, n_jobs=jobs)
    own = np.mean([fits.model(i).score(few[i, 128:]) for i in range(loop)])
    many = np.concatenate([few[:, :128]] * (1 + sets // loop))[:sets]
    started = time.perf_counter()
    fit_many(many, 3, covariance_type=shape, n_jobs=jobs)
    took = 1e3 * (time.perf_counter() - started) / sets
    print(
        f"{shape:9s} d = {d}: {took:6.3f} ms a set; one start {rows[0]:6.2f} ({rows[0] / took:5.1f} x), ten starts "
        f"{rows[2]:7.2f} ({rows[2] / took:5.1f} x); held-out {own:.4f}, {rows[1]:.4f}, {rows[3]:.4f}; "
        f"peak {peak_memory():.0f} MiB",
        flush=True,
    )


def measure_large(points: int, shape: str, d: int) -> None:
    """One row: seconds and likelihoods of one large data set."""
    X = draw(1, d, shape, points, 0)[0]
    started = time.perf_counter()
    model = TransformerGaussianMixture(3, covariance_type=shape, random_state=0).fit(X)
    took, peak = time.perf_counter() - started, peak_memory()
    started = time.perf_counter()
    other = GaussianMixture(3, covariance_type=shape, random_state=0).fit(X)
    took_other = time.perf_counter() - started
    print(
        f"{shape:9s} d = {d}, {points:,} points: {took:.1f} s, {model.n_iter_} steps, log-likelihood "
        f"{model.lower_bound_:.5f}, peak {peak:.0f} MiB; one start {took_other:.1f} s, {other.lower_bound_:.5f}",
        flush=True,
    )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10_000, help="Data sets that fit_many takes at once.")
    parser.add_argument("--loop", type=int, default=200, help="Data sets that the loop takes.")
    parser.add_argument("--points", type=int, default=0, help="Measure one data set of so many points instead.")
    parser.add_argument("--shapes", nargs="+", default=list(KINDS), choices=list(KINDS), help="Shapes of covariance.")
    parser.add_argument("--jobs", type=int, default=None, help="Threads of fit_many; default one a core.")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    for d in (2, 8):
        for shape in given.shapes:
            if given.points:
                measure_large(given.points, shape, d)
            else:
                measure_many(given.sets, given.loop, shape, d, given.jobs)


if __name__ == "__main__":
    main()
