"""The estimator beside scikit-learn's on well-known data: held-out likelihood, adjusted Rand index, seconds.

    python examples/compare.py                    # everything
    python examples/compare.py iris galaxies      # some of it

Held-out likelihood: nats a row, the mean of five folds. Adjusted Rand index: with the labels of the data, fitted to all
of it. Seconds: of that fit, in processor time. k-means has no likelihood.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.preprocessing import StandardScaler

from tgmm import TransformerGaussianMixture
from tgmm.real_data import likelihood_left_out, read_faithful

DATA = Path(__file__).parent / "data"
Labelled = tuple[np.ndarray, np.ndarray | None]


def old_faithful() -> Labelled:
    """Azzalini & Bowman (1990); see data/README.md."""
    return read_faithful(DATA / "faithful.csv")


def galaxies() -> Labelled:
    """Roeder (1990); see data/README.md. In thousands of km/s."""
    return np.genfromtxt(DATA / "galaxies.csv", skip_header=1)[:, None] / 1000, None


def from_scikit_learn(load: Callable, components: int | None = None) -> Labelled:
    """A data set of scikit-learn; standardised and reduced to principal components where there are many columns."""
    X, labels = load(return_X_y=True)
    if components is not None:
        X = PCA(components, random_state=0).fit_transform(StandardScaler().fit_transform(X))
    return X, labels


def cytometry() -> Labelled:
    """A table as flow cytometry gives it: 5,000 cells, 6 markers after arcsinh, 5 populations from 2 % to 40 %."""
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.18, 0.1, 0.02])
    positive = np.array(
        [[1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 1], [1, 1, 1, 0, 1, 1]]
    )
    labels = rng.choice(5, 5000, p=shares)
    intensity = np.where(positive == 1, 5000.0, 60.0)[labels]
    counts = intensity * np.exp(rng.normal(size=(5000, 6)) * np.array([0.35, 0.5, 0.4, 0.6, 0.45, 0.5]))
    background = rng.normal(size=(5000, 6)) * 40
    spill = counts @ (np.eye(6) + 0.02 * np.eye(6, k=1))  # of each marker into the next one
    return np.arcsinh((spill + background) / 150), labels


# Name, K, shape of the covariances, how to load.
SETS = {
    "iris": (3, "full", lambda: from_scikit_learn(load_iris)),
    "wine": (3, "diag", lambda: from_scikit_learn(load_wine)),
    "breast-cancer": (2, "full", lambda: from_scikit_learn(load_breast_cancer, 5)),
    "digits": (10, "full", lambda: from_scikit_learn(load_digits, 10)),
    "old-faithful": (2, "full", old_faithful),
    "galaxies": (4, "diag", galaxies),
    "cytometry": (5, "full", cytometry),
}


def estimators(K: int, shape: str) -> dict:
    """What is compared."""
    return {
        "network, 1 view": TransformerGaussianMixture(K, covariance_type=shape, n_views=1, random_state=0),
        "network, 4 views": TransformerGaussianMixture(K, covariance_type=shape, random_state=0),
        "GaussianMixture, 1 start": GaussianMixture(K, covariance_type=shape, random_state=0),
        "GaussianMixture, 10 starts": GaussianMixture(K, covariance_type=shape, n_init=10, random_state=0),
        "BayesianGaussianMixture": BayesianGaussianMixture(
            n_components=K, covariance_type=shape, max_iter=500, random_state=0
        ),
        "k-means": KMeans(K, n_init=10, random_state=0),
    }


def compare(name: str) -> None:
    """Print one data set's table."""
    K, shape, load = SETS[name]
    X, labels = load()
    print(f"\n{name}: {len(X)} rows x {X.shape[1]} columns, K = {K}, {shape} covariances")
    print(f"{'':28s} held-out   ARI  seconds")
    for method, model in estimators(K, shape).items():
        started = time.process_time()
        found = model.fit(X).predict(X)
        took = time.process_time() - started
        ari = "      " if labels is None else f"{adjusted_rand_score(labels, found):6.3f}"
        score = " " * 9 if method == "k-means" else f"{likelihood_left_out(model, X, 0):9.3f}"
        print(f"{method:28s} {score} {ari} {took:8.3f}", flush=True)


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SETS), help=f"Data sets: {', '.join(SETS)}. Default: all.")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in SETS]:
        parser.error(f"unknown data set '{unknown[0]}' (valid: {', '.join(SETS)})")
    warnings.filterwarnings("ignore")
    TransformerGaussianMixture(2).fit(np.eye(4))  # the network loads outside the clock
    for name in given.names:
        compare(name)


if __name__ == "__main__":
    main()
