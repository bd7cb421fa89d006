"""The criterion network: from the fits of a data set with 1, 2, ... components, how many components it has.

Information criteria weigh a fit's likelihood against its parameters by one formula. The network weighs, for each number
of components K, the criteria themselves, Bayesian evidence, what the likelihood gains from the last K and to the next,
how clear-cut, how small and how far from Gaussian the components are, and the assignment network's own P(K | data). It
sees differences between fits alone, so it does not know the data's units.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tgmm.models.assignment import LARGEST
from tgmm.models.settings import CriterionSettings

# What is known of a fit, in order; the evidence of several priors follows.
SUMMARY = (
    "log_likelihood", "parameters", "rows", "columns", "entropy", "log_shares", "smallest_share", "vaguest",
    "two_vaguest", "clearness", "steps", "converged", "flattest", "heaviest", "flatness", "most_skewed", "closest",
    "smallest_volume",
)  # fmt: skip
PRIORS = (
    (0.5, 0.5),
    (0.2, 0.2),
    (0.1, 0.05),
    (0.03, 0.03),
    (0.01, 0.005),
)  # of the evidence: scale, certainty of means
LENGTH = len(SUMMARY) + len(PRIORS)
LIMIT = 10.0  # of what the network sees, in standard deviations
FEATURES = 3 * (3 + len(PRIORS)) + 6 + 8 + 6 + 2 + 4 + 1


def compare_fits(summaries: np.ndarray, told: np.ndarray) -> np.ndarray:
    """What the network sees of the fits of S data sets, an array (S, LARGEST, FEATURES).

    Parameters
    ----------
    summaries : array (S, LARGEST, LENGTH), the summary of each fit; NaN where K was not fitted.
    told : array (S, LARGEST), the assignment network's P(K | data).
    """
    there = ~np.isnan(summaries[..., 0])
    known = dict(zip(SUMMARY, np.moveaxis(summaries[..., : len(SUMMARY)], 2, 0), strict=True))
    rows, columns = (np.nanmax(known[name], 1, keepdims=True) for name in ("rows", "columns"))
    likelihood, free = known["log_likelihood"], known["parameters"]
    bic = -2 * likelihood + free * np.log(rows)
    criteria = [bic, -2 * likelihood + 2 * free, bic + 2 * known["entropy"]]
    criteria += list(-2 * np.moveaxis(summaries[..., len(SUMMARY) :], 2, 0))
    sizes = np.arange(1, LARGEST + 1) * np.ones_like(told)
    seen = [feature for criterion in criteria for feature in _standing(criterion)]
    seen += _gains(likelihood, free)
    seen += [
        known["entropy"] / rows, np.log(np.maximum(known["smallest_share"] * rows, 1e-3)), known["vaguest"],
        known["two_vaguest"], known["clearness"], known["log_shares"] / sizes, np.log1p(known["steps"]),
        known["converged"], known["closest"], known["smallest_volume"],
    ]  # fmt: skip
    # Where a component is no Gaussian: standard errors from nothing at all to hundreds.
    seen += [np.arcsinh(known[name]) for name in ("flattest", "heaviest", "flatness", "most_skewed")]
    seen = [np.where(there, feature, 0.0) for feature in seen]
    seen += [np.log(np.maximum(told, 1e-8)), told]
    seen += [np.log(sizes), sizes / LARGEST, np.log(rows) + 0 * sizes, np.log(columns) + 0 * sizes]
    seen += [1.0 - there]
    return np.stack(seen, 2)


def _standing(criterion: np.ndarray) -> list[np.ndarray]:
    """How far behind the best K every K is, on three scales."""
    behind = (criterion - np.nanmin(criterion, 1, keepdims=True)) / 2
    return [np.log1p(behind), np.exp(-np.minimum(behind, 50)), behind == 0]


def _gains(likelihood: np.ndarray, free: np.ndarray) -> list[np.ndarray]:
    """What a component more has gained, and what the next one gains: per parameter, in all, and whether one knows."""
    steps = np.diff(likelihood, axis=1, prepend=np.nan, append=np.nan)
    shares = steps / np.diff(free, axis=1, prepend=np.nan, append=np.nan)
    totals = np.log(np.maximum(steps, 1e-3))
    last, following = slice(None, -1), slice(1, None)
    return [
        *(np.tanh(np.nan_to_num(shares[:, side], nan=unknown) / 5) for side, unknown in ((following, 0), (last, 20))),
        *(np.nan_to_num(totals[:, side], nan=unknown) for side, unknown in ((following, 0), (last, 8))),
        *(np.isnan(steps[:, side]) for side in (following, last)),
    ]


class CriterionNetwork(nn.Module):
    """Logits of K: a transformer whose tokens are the numbers of components, each with what is seen of its fit."""

    def __init__(self, settings: CriterionSettings | None = None):
        super().__init__()
        self.settings = settings = settings or CriterionSettings()
        width = settings.width
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.read_in = nn.Linear(FEATURES, width)
        self.sizes = nn.Parameter(0.02 * torch.randn(LARGEST, width))
        block = nn.TransformerEncoderLayer(
            width, settings.heads, 2 * width, settings.dropout, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, settings.blocks, enable_nested_tensor=False)
        self.read_out = nn.Linear(width, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """Logits (S, LARGEST) of K = 1 ... LARGEST.

        Parameters
        ----------
        seen : float32 Tensor (S, LARGEST, FEATURES), from :func:`compare_fits`.
        """
        tokens = self.read_in(((seen - self.centre) / self.spread).clamp(-LIMIT, LIMIT)) + self.sizes
        return self.read_out(self.blocks(tokens))[..., 0]
