"""TransformerGaussianMixture: a Gaussian mixture through scikit-learn's interface, started by a pretrained network."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from tgmm.estimator.density import draw, log_joint, n_parameters, precision_factors, precisions
from tgmm.estimator.fit import FitOptions, Fitted, fit_mixture, network_counts
from tgmm.estimator.selection import CRITERIA, Choice, choose, information


class TransformerGaussianMixture(DensityMixin, BaseEstimator):
    """A Gaussian mixture that a pretrained network starts and EM refines: one pass instead of ten starts.

    Parameters
    ----------
    n_components : number of components, or several of them such as ``range(1, 9)``, of which ``criterion`` chooses.
    covariance_type : "full", "tied", "diag", "spherical", or "auto", chosen by ``criterion`` ("network" says nothing of
        shapes: between them the Bayesian information criterion chooses).
    criterion : what chooses: "bic", "icl", "aic" or "network" (a small network that has seen the fits of data sets
        whose K is known; K up to 10).
    refine : EM steps at most; None for convergence, 0 for the network's own estimate.
    tol : EM stops once the mean log-likelihood changes by less, in nats.
    reg_covar : added to variances, relative to the data's own scale: a fit commutes with shift and units.
    prior : "shrinkage" (covariances are drawn towards their pooled one as far as the data say, weights get one row
        each) or None for maximum likelihood.
    n_views : views of the data (other signs of its axes) that the network sees; the best likelihood wins. One is
        quicker, four find better fits where components are many.
    model : "assignment", or the name or folder of a family that the study has trained, such as
        "isotropic-d8-n128-components" (variances are one) or an anisotropic one (each column's own); these take data as
        they are, and their own shape of covariance.
    device : "cpu", "cuda" or "auto".
    random_state : of the rows that the network sees of large data sets, of k-means beyond 10 components, of ``sample``.
    warm_start : whether ``fit`` goes on from the last fit's parameters, where their shapes agree.

    Attributes
    ----------
    weights_, means_, covariances_, precisions_, precisions_cholesky_ : as in scikit-learn's ``GaussianMixture``.
    converged_, n_iter_, lower_bound_, lower_bounds_ : of EM; the bounds are mean log-likelihoods.
    n_components_, covariance_type_ : what was chosen.
    criterion_values_ : dict of (K, shape) and criterion where there was a choice; the smallest is the best.
    n_features_in_, feature_names_in_ : of the data.
    """

    _parameter_constraints: dict[str, list] = {  # noqa: RUF012
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like", range],
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical", "auto"})],
        "criterion": [StrOptions(set(CRITERIA))],
        "refine": [Interval(Integral, 0, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0, None, closed="left")],
        "prior": [StrOptions({"shrinkage"}), None],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "model": [str],
        "device": [StrOptions({"cpu", "cuda", "auto"})],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        criterion="bic",
        refine=None,
        tol=1e-3,
        reg_covar=1e-6,
        prior="shrinkage",
        n_views=4,
        model="assignment",
        device="cpu",
        random_state=None,
        warm_start=False,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.criterion = criterion
        self.refine = refine
        self.tol = tol
        self.reg_covar = reg_covar
        self.prior = prior
        self.n_views = n_views
        self.model = model
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit a mixture.

        Parameters
        ----------
        X : array-like (n_samples, n_features); NaN is a missing value.
        y : ignored.
        sample_weight : array-like (n_samples,), how often each row counts; None for once.
        """
        X = self._checked(X, reset=True)
        weights = self._checked_weights(X, sample_weight)
        choice = self._choose(X, weights)
        self._keep(choice)
        if not self.converged_ and self.refine != 0:
            warnings.warn(
                f"EM did not converge in {self.n_iter_} steps: increase refine or tol, or check the data",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _choose(self, X: np.ndarray, weights: np.ndarray) -> Choice:
        options, rng = self._options(), check_random_state(self.random_state)
        sizes = _sizes(self.n_components, self.criterion)
        start = self._start(sizes, X.shape[1])

        def fit(K: int, shape: str) -> Fitted:
            return fit_mixture(X, weights, K, shape, options, rng, start)

        def told(shape: str) -> np.ndarray:
            return network_counts(X, weights, shape, options, rng)

        if self.model != "assignment":
            from tgmm.estimator.families import fit_family

            return Choice(fit_family(self.model, X, weights, sizes, options))
        return choose(X, weights, sizes, self.covariance_type, self.criterion, fit, told)

    def _options(self) -> FitOptions:
        return FitOptions(
            refine=self.refine,
            tol=self.tol,
            reg_covar=self.reg_covar,
            shrink=self.prior is not None,
            n_views=self.n_views,
            device=_device(self.device),
        )

    def _start(self, sizes: list[int], d: int) -> tuple[np.ndarray, ...] | None:
        """The last fit's parameters where ``warm_start`` asks for them and their shapes agree."""
        if not (self.warm_start and hasattr(self, "weights_")):
            return None
        same = sizes == [self.n_components_] and self.covariance_type in (self.covariance_type_, "auto")
        if not same or self.means_.shape[1] != d:
            return None
        return self.weights_, self.means_, self.covariances_

    def _keep(self, choice: Choice) -> None:
        fitted = choice.fitted
        self.weights_, self.means_, self.covariances_ = fitted.weights, fitted.means, fitted.covariances
        self.precisions_cholesky_ = precision_factors(fitted.covariances, fitted.shape)
        self.precisions_ = precisions(self.precisions_cholesky_, fitted.shape)
        self.converged_, self.n_iter_ = fitted.converged, fitted.n_iter
        self.lower_bounds_, self.lower_bound_ = fitted.lower_bounds, fitted.lower_bounds[-1]
        self.n_components_, self.covariance_type_ = len(fitted.weights), fitted.shape
        self.criterion_values_ = choice.values

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit a mixture and return each row's component, (n_samples,)."""
        return self.fit(X, y, sample_weight).predict(X)

    def predict(self, X):
        """The most probable component of each row, (n_samples,)."""
        return self._log_joint(X).argmax(1)

    def predict_proba(self, X):
        """The responsibilities, (n_samples, n_components)."""
        values = self._log_joint(X)
        return np.exp(values - np.logaddexp.reduce(values, axis=1)[:, None])

    def score_samples(self, X):
        """The log-density of each row, (n_samples,); of a row with missing values, that of what it has."""
        return np.logaddexp.reduce(self._log_joint(X), axis=1)

    def score(self, X, y=None, sample_weight=None):
        """The mean log-density of rows, weighted where ``sample_weight`` is given."""
        values = self.score_samples(X)
        return float(np.average(values, weights=self._checked_weights(values, sample_weight)))

    def bic(self, X, sample_weight=None):
        """The Bayesian information criterion; smaller is better."""
        return self._information(X, sample_weight)["bic"]

    def aic(self, X, sample_weight=None):
        """The Akaike information criterion; smaller is better."""
        return self._information(X, sample_weight)["aic"]

    def icl(self, X, sample_weight=None):
        """The integrated completed likelihood as a criterion: BIC plus twice the entropy of the responsibilities."""
        return self._information(X, sample_weight)["icl"]

    def _information(self, X, sample_weight) -> dict[str, float]:
        values = self._log_joint(X)
        weights = None if sample_weight is None else self._checked_weights(values, sample_weight)
        return information(values, weights, *self.means_.shape, self.covariance_type_)

    def sample(self, n_samples=1):
        """Draw rows from the mixture, in the order of its components.

        Returns
        -------
        X, y : arrays (n_samples, n_features) and (n_samples,), the rows and their components.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample.")
        rng = check_random_state(self.random_state)
        return draw(n_samples, self.weights_, self.means_, self.covariances_, self.covariance_type_, rng)

    def to_sklearn(self) -> GaussianMixture:
        """The same mixture as a fitted ``GaussianMixture``."""
        check_is_fitted(self)
        mixture = GaussianMixture(
            self.n_components_,
            covariance_type=self.covariance_type_,
            weights_init=self.weights_,
            means_init=self.means_,
            precisions_init=self.precisions_,
            random_state=self.random_state,
        )
        names = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "converged_", "n_iter_")
        for name in (*names, "lower_bound_", "lower_bounds_", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(mixture, name, getattr(self, name))
        return mixture

    def _n_parameters(self) -> int:
        return n_parameters(*self.means_.shape, self.covariance_type_)

    def _checked(self, X, reset: bool) -> np.ndarray:
        least = 2 if reset else 1
        _refuse_infinite(X)
        return validate_data(
            self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=least
        )

    def _checked_weights(self, X, sample_weight) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():  # older versions of scikit-learn let it pass
            raise ValueError("sample weights must contain at least one non-zero number")
        return weights

    def _log_joint(self, X) -> np.ndarray:
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        factors = self.precisions_cholesky_
        return log_joint(X, self.weights_, self.means_, self.covariances_, factors, self.covariance_type_)


def _sizes(n_components: Any, criterion: str) -> list[int]:
    """Every K to compare."""
    if isinstance(n_components, Integral):
        return [int(n_components)]
    sizes = list(n_components) if isinstance(n_components, Iterable) else []
    if not sizes or not all(isinstance(K, Integral) and K >= 1 for K in sizes):
        raise ValueError(f"n_components must be an int of at least 1 or several of them, not {n_components!r}")
    sizes = sorted({int(K) for K in sizes})
    if criterion == "network" and len(sizes) > 1 and sizes[-1] > 10:
        raise ValueError(
            f"criterion='network' tells up to 10 components, not {sizes[-1]}: "
            "choose criterion='bic', or a smaller range"
        )
    return sizes


def _device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' needs a CUDA device, and torch finds none: take device='cpu'")
    return "cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu"


def _refuse_infinite(X) -> None:
    """Name the row and the column of the first infinite value."""
    try:
        values = np.asarray(X)
    except (TypeError, ValueError):
        return  # what scikit-learn has to say of it is clearer
    if values.ndim == 2 and values.dtype.kind == "f" and np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise ValueError(
            f"Input X contains infinity (inf) in row {row}, column {column}: replace it, or NaN for a missing value"
        )
