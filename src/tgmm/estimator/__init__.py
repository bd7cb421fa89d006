"""Gaussian mixtures for data of one's own: the estimator with scikit-learn's interface, and many fits at once."""

from tgmm.estimator.estimator import TransformerGaussianMixture
from tgmm.estimator.many import ManyFits, fit_many

__all__ = ["ManyFits", "TransformerGaussianMixture", "fit_many"]
