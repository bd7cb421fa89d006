"""How well the estimator fits data sets that no training saw, beside scikit-learn with 1 and 10 starts.

    python benchmarks/estimator_levels.py --count 60             # 12 cells: held-out likelihood, adjusted Rand index
    python benchmarks/estimator_levels.py --count 200 --choose   # how often the true K is found

Held-out likelihood: nats a point below EM from the true labels, on 1,000 fresh points; smaller is better, and below
zero is better than EM from the labels. scikit-learn at its defaults, the shape of the covariances known.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from tgmm import TransformerGaussianMixture
from tgmm.tasks.prior import draw_tasks
from tgmm.tasks.settings import PriorSettings

SHAPES = ("spherical", "spherical", "diag", "full", "tied", "full")  # of tgmm.tasks.settings.KINDS
# Kind of covariance, d, K, N, distance of the means.
CELLS = (
    (3, 2, 3, 128, 4),
    (3, 2, 5, 256, 5),
    (3, 4, 4, 256, 4),
    (3, 4, 8, 512, 5),
    (3, 8, 6, 1024, 5),
    (1, 2, 5, 256, 5),
    (2, 4, 5, 256, 4),
    (4, 4, 4, 256, 4),
    (0, 8, 5, 128, 5),
    (2, 8, 8, 512, 5),
    (3, 16, 4, 1024, 5),
    (0, 32, 5, 256, 6),
)
FORMULAS = ("bic", "icl", "aic")
PRIOR = PriorSettings(concentrations=(2.0, 5.0, 20.0))


class FromLabels(GaussianMixture):
    """EM from the true labels."""

    def _initialize_parameters(self, X, random_state, xp=None):
        self._initialize(X, np.eye(self.n_components)[self.labels])


def estimators(K: int, shape: str, labels: np.ndarray) -> dict:
    """What is compared; the first one is the reference."""
    reference = FromLabels(K, covariance_type=shape)
    reference.labels = labels
    return {
        "labels": reference,
        "1 start": GaussianMixture(K, covariance_type=shape, random_state=0),
        "10 starts": GaussianMixture(K, covariance_type=shape, n_init=10, random_state=0),
        "network": TransformerGaussianMixture(K, covariance_type=shape, n_views=1, random_state=0),
        "4 views": TransformerGaussianMixture(K, covariance_type=shape, n_views=4, random_state=0),
        "no prior": TransformerGaussianMixture(K, covariance_type=shape, prior=None, random_state=0),
    }


def measure_cell(cell: tuple, count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Names and mean (nats below the reference, adjusted Rand index, milliseconds) of each estimator, (methods, 3)."""
    kind, d, K, N, distance = cell
    shape, generator = SHAPES[kind], torch.Generator().manual_seed(seed + kind * 100 + d * 10 + K)
    sizes = torch.full((count,), K)
    tasks = draw_tasks(PRIOR, sizes, d, N, generator, heldout=1000, kind=kind, distance=distance, nuisances=False)
    rows = []
    for points, labels in zip(tasks.points.double().numpy(), tasks.labels.numpy(), strict=True):
        seen, fresh, own = points[:N], points[N:], labels[:N]
        if np.bincount(own, minlength=K).min() < (d + 2 if shape == "full" else 3):
            continue
        row = []
        for model in estimators(K, shape, own).values():
            started = time.process_time()
            model.fit(seen)
            took = 1e3 * (time.process_time() - started)
            row.append((model.score(fresh), adjusted_rand_score(own, model.predict(seen)), took))
        rows.append(row)
    means = np.mean(rows, 0)
    means[:, 0] = means[0, 0] - means[:, 0]
    return list(estimators(K, shape, own)), means


def measure_levels(count: int, seed: int) -> None:
    """Print the table of the 12 cells."""
    every = []
    for cell in CELLS:
        names, means = measure_cell(cell, count, seed)
        if not every:
            print("kind d K N |", ", ".join(names), "| nats below EM from the labels | ARI | CPU ms")
        every.append(means)
        print_row(f"{SHAPES[cell[0]]} {cell[1]} {cell[2]} {cell[3]}", means)
    print_row("mean", np.mean(every, 0))


def print_row(name: str, means: np.ndarray) -> None:
    """One row of the table."""
    nats, ari = (" ".join(f"{value:6.3f}" for value in means[:, i]) for i in (0, 1))
    print(f"{name:20s} | {nats} | {ari} |", " ".join(f"{value:6.1f}" for value in means[:, 2]), flush=True)


def draw_choices(name: str, count: int, seed: int):
    """Data sets with their true K: the broad prior's full covariances, or the easy prior of Cluster-PFN."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    for _ in range(count):
        if name.startswith("full"):
            d, K = int(name.split()[1]), int(rng.integers(2, 7))
            tasks = draw_tasks(PRIOR, torch.tensor([K]), d, 256, generator, kind=3, nuisances=False)
            yield tasks.points[0].double().numpy(), K
        else:
            yield draw_easy(int(name.split()[1]), rng)


def draw_easy(d: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """The easy prior of arXiv 2510.24318: inverse-Wishart covariances, means N(0, covariance / 0.01), K = 1 ... 10."""
    K, N = int(rng.integers(1, 11)), int(rng.integers(100, 501))
    labels, points = rng.choice(K, N, p=rng.dirichlet(np.ones(K))), np.empty((N, d))
    for k in range(K):
        normal = rng.normal(size=(d, d))
        factor = np.linalg.inv(normal @ normal.T)  # inverse Wishart of d degrees of freedom
        mean = rng.multivariate_normal(np.zeros(d), factor / 0.01)
        points[labels == k] = rng.multivariate_normal(mean, factor, (labels == k).sum())
    return points, K


def measure_choices(count: int, seed: int) -> None:
    """Print how often each criterion finds the true K."""
    print("data sets | largest K |", ", ".join(("network", *FORMULAS)))
    for name, largest in (("full 2", 8), ("full 4", 8), ("full 8", 8), ("easy 2", 10), ("easy 5", 10)):
        chosen = [(*choose(X, range(1, largest + 1)), K) for X, K in draw_choices(name, count, seed)]
        *criteria, truth = np.array(chosen).T
        shares = " ".join(f"{np.mean(found == truth):5.2f}" for found in criteria)
        print(f"{name:10s} | {largest:2d} | {shares}", flush=True)


def choose(X: np.ndarray, sizes: range) -> list[int]:
    """The K that each criterion finds."""
    network = TransformerGaussianMixture(sizes, criterion="network").fit(X).n_components_
    fits = [TransformerGaussianMixture(K).fit(X) for K in sizes]
    return [network, *(min(fits, key=lambda fit: getattr(fit, name)(X)).n_components_ for name in FORMULAS)]


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="Data sets a cell.")
    parser.add_argument("--seed", type=int, default=999, help="Seed of the data sets; no training uses it.")
    parser.add_argument("--choose", action="store_true", help="How often the true K is found.")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    (measure_choices if given.choose else measure_levels)(given.count, given.seed)


if __name__ == "__main__":
    main()
