"""Gaussian mixtures for data of one's own: the estimator with scikit-learn's interface, and many fits at once."""

from tgmm.estimator.estimator import TransformerGaussianMixture

__all__ = ["TransformerGaussianMixture"]
