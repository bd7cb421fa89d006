"""Linear probes: ridge regression from hidden tokens to parameters (Alain and Bengio 2016), in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = tuple(10.0**power for power in range(-6, 2))  # of the mean squared error of standardised features
VALIDATION_SHARE = 0.25


@dataclass(frozen=True)
class LinearProbe:
    """An affine map from features to targets.

    Attributes
    ----------
    centre, scale : Tensors (F,), by which features are standardised.
    coefficients : Tensor (F, T).
    intercept : Tensor (T,).
    penalty : the penalty that was chosen.
    """

    centre: Tensor
    scale: Tensor
    coefficients: Tensor
    intercept: Tensor
    penalty: float

    def __call__(self, features: Tensor) -> Tensor:
        """Predictions (..., T) from features (..., F)."""
        return (features.double() - self.centre) / self.scale @ self.coefficients + self.intercept


def fit_probe(features: Tensor, targets: Tensor) -> LinearProbe:
    """A probe for the tokens of all tasks; the penalty is that of least error on the last quarter of the tasks.

    Parameters
    ----------
    features : Tensor (B, K, F), the tokens of B tasks.
    targets : Tensor (B, K, T).
    """
    split = round(len(features) * (1.0 - VALIDATION_SHARE))
    held, true = features[split:].flatten(0, 1), targets[split:].flatten(0, 1)
    probes = [fit_ridge(features[:split].flatten(0, 1), targets[:split].flatten(0, 1), size) for size in PENALTIES]
    best = min(probes, key=lambda probe: (probe(held) - true).square().mean().item())
    return fit_ridge(features.flatten(0, 1), targets.flatten(0, 1), best.penalty)


def fit_ridge(features: Tensor, targets: Tensor, penalty: float) -> LinearProbe:
    """Minimise the mean squared error plus ``penalty`` times the squared coefficients of standardised features.

    Parameters
    ----------
    features : Tensor (n, F).
    targets : Tensor (n, T).
    """
    features, targets = features.double(), targets.double()
    centre, scale = features.mean(0), features.std(0).clamp_min(1e-12)
    standard, intercept = (features - centre) / scale, targets.mean(0)
    gram = standard.mT @ standard / len(standard)
    gram.diagonal().add_(penalty)
    coefficients = torch.linalg.solve(gram, standard.mT @ (targets - intercept) / len(standard))
    return LinearProbe(centre, scale, coefficients, intercept, penalty)
