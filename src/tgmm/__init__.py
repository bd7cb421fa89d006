"""Transformers as unsupervised learning algorithms on Gaussian mixtures, and a pretrained mixture estimator.

What is named here loads on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tgmm.estimator import ManyFits, TransformerGaussianMixture, fit_many

__all__ = ["ManyFits", "TransformerGaussianMixture", "__version__", "fit_many"]

_PLACES = dict.fromkeys(("ManyFits", "TransformerGaussianMixture", "fit_many"), "tgmm.estimator")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return version("tgmm")
        except PackageNotFoundError:  # from a source tree that is not installed
            return "0+unknown"
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'tgmm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
