"""Well-known data sets, fitted by the estimator and by scikit-learn's mixtures: what the reviewers asked for.

Columns are standardised; where there are many they are reduced to principal components. Covariances are diagonal, as in
the paper's anisotropic tasks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from tgmm.errors import UserError
from tgmm.estimator import TransformerGaussianMixture

FOLDS = 5
NETWORK, LABELS = "network-em", "labels"
COLUMNS = ["data", "rows", "d", "K", "method", "repeats", "seed", "seconds"]
COLUMNS += [f"{name}{part}" for name in ("held_out", "rand_index") for part in ("", "_low", "_high")]
PICTURE_COLUMNS = ["data", "d", "K", "part", "component", "true_class", "x", "y", "xx", "xy", "yy"]


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes
    ----------
    load : gives points and labels; it is given the file of Old Faithful, which scikit-learn does not bring.
    K : number of components.
    reduced : number of principal components that take the place of the columns; 0 leaves them.
    """

    load: Callable[[Path], tuple[np.ndarray, np.ndarray | None]]
    K: int
    reduced: int = 0

    def read(self, faithful: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """Standardised points (n, d) and labels (n,), or None where there are none."""
        X, labels = self.load(faithful)
        X = StandardScaler().fit_transform(X)
        return (PCA(self.reduced, random_state=0).fit_transform(X) if self.reduced else X), labels


def read_faithful(path: Path) -> tuple[np.ndarray, None]:
    """Old Faithful (Azzalini & Bowman 1990): eruption and waiting times.

    Raises
    ------
    UserError : where the file is not there or holds something else.
    """
    try:
        X = pd.read_csv(path)[["eruptions", "waiting"]].to_numpy(float)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not Old Faithful's columns 'eruptions' and 'waiting' ({error})") from error
    return X, None


SETS = {
    "iris": DataSet(lambda _: load_iris(return_X_y=True), 3),
    "wine": DataSet(lambda _: load_wine(return_X_y=True), 3),
    "breast-cancer": DataSet(lambda _: load_breast_cancer(return_X_y=True), 2, 5),
    "digits": DataSet(lambda _: load_digits(return_X_y=True), 10, 10),
    "old-faithful": DataSet(read_faithful, 2),
}


def estimators(K: int, seed: int) -> dict[str, BaseEstimator]:
    """What is compared, by name: all but k-means have a likelihood."""
    shape = {"covariance_type": "diag", "random_state": seed}
    return {
        "network": TransformerGaussianMixture(K, refine=0, n_views=1, **shape),
        NETWORK: TransformerGaussianMixture(K, **shape),
        "gmm": GaussianMixture(K, **shape),
        "gmm-10": GaussianMixture(K, n_init=10, **shape),
        "variational": BayesianGaussianMixture(n_components=K, max_iter=500, **shape),
        "k-means": KMeans(K, n_init=10, random_state=seed),
    }


def measure_real_data(faithful: Path, repeats: int, seed: int, report=print) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit every data set by every method.

    Parameters
    ----------
    faithful : Old Faithful, .csv.
    repeats : times that a method is fitted to all data and cross-validated, each with a seed and folds of its own.
    seed : of the first repeat.
    report : takes a line for every method.

    Returns
    -------
    A row for each data set and method (`COLUMNS`): nats a row that was left out and adjusted Rand index, each the mean
    over the repeats with the lowest and the highest; processor seconds of a fit, the median. The row `labels` is what
    the mean, spread and share of each class give: no clustering, but a mark to aim at. And the points, ellipses and
    labels of one fit by the network and EM (`PICTURE_COLUMNS`), in the plane of the two main axes.
    """
    rows, pictures = [], []
    TransformerGaussianMixture(2).fit(np.eye(4))  # the network loads outside the clock
    for name, entry in SETS.items():
        X, labels = entry.read(faithful)
        same = {"data": name, "rows": len(X), "d": X.shape[1], "K": entry.K, "repeats": repeats, "seed": seed}
        for method in estimators(entry.K, seed):
            fits = [_measured(estimators(entry.K, seed + r)[method], X, labels, seed + r) for r in range(repeats)]
            rows.append(same | {"method": method} | _over_repeats(fits))
            report(f"{name}, {method}: {rows[-1]['held_out']:.3f} nats, Rand index {rows[-1]['rand_index']:.3f}")
        if labels is not None:
            fits = [_by_labels(X, labels, seed + r) for r in range(repeats)]
            rows.append(same | {"method": LABELS} | _over_repeats(fits))
        model = estimators(entry.K, seed)[NETWORK].fit(X)
        pictures.append(picture(model, X, labels).assign(data=name, d=X.shape[1], K=entry.K))
    return pd.DataFrame(rows)[COLUMNS], pd.concat(pictures, ignore_index=True)[PICTURE_COLUMNS]


def _measured(model: BaseEstimator, X: np.ndarray, labels: np.ndarray | None, seed: int) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that stops at the limit is judged as it is
        started = time.process_time()
        found = model.fit(X).predict(X)
        seconds = time.process_time() - started
        held_out = np.nan if isinstance(model, KMeans) else likelihood_left_out(model, X, seed)
    rand_index = np.nan if labels is None else adjusted_rand_score(labels, found)
    return {"held_out": held_out, "rand_index": rand_index, "seconds": seconds}


def likelihood_left_out(model: BaseEstimator, X: np.ndarray, seed: int) -> float:
    """The mean log-likelihood of rows that were left out, over five folds."""
    folds = KFold(FOLDS, shuffle=True, random_state=seed).split(X)
    return float(np.mean([clone(model).fit(X[seen]).score(X[fresh]) for seen, fresh in folds]))


def _by_labels(X: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    scores = []
    for seen, fresh in KFold(FOLDS, shuffle=True, random_state=seed).split(X):
        joint = GaussianNB().fit(X[seen], labels[seen]).predict_joint_log_proba(X[fresh])
        scores.append(np.logaddexp.reduce(joint, axis=1).mean())
    found = GaussianNB().fit(X, labels).predict(X)
    return {"held_out": np.mean(scores), "rand_index": adjusted_rand_score(labels, found), "seconds": np.nan}


def _over_repeats(fits: list[dict[str, float]]) -> dict[str, float]:
    values = pd.DataFrame(fits)
    row = {"seconds": values["seconds"].median()}
    for name in ("held_out", "rand_index"):
        row |= {name: values[name].mean(), f"{name}_low": values[name].min(), f"{name}_high": values[name].max()}
    return row


def picture(model: TransformerGaussianMixture, X: np.ndarray, labels: np.ndarray | None) -> pd.DataFrame:
    """Points (n rows) and ellipses (K rows) of a fit with diagonal covariances in the plane of the two main axes."""
    axes = PCA(2, random_state=0).fit(X)
    places, means = axes.transform(X), axes.transform(model.means_)
    spreads = np.einsum("id,kd,jd->kij", axes.components_, model.covariances_, axes.components_)
    points = pd.DataFrame({
        "part": "point", "component": model.predict(X), "true_class": -1 if labels is None else labels,
        "x": places[:, 0], "y": places[:, 1],
    })  # fmt: skip
    ellipses = pd.DataFrame({
        "part": "ellipse", "component": np.arange(len(means)), "true_class": -1, "x": means[:, 0], "y": means[:, 1],
        "xx": spreads[:, 0, 0], "xy": spreads[:, 0, 1], "yy": spreads[:, 1, 1],
    })  # fmt: skip
    return pd.concat([points, ellipses], ignore_index=True)
