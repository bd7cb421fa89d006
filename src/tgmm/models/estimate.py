"""What a network returns: the estimate with its weights as logarithms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.mixture import Mixture
from tgmm.models.settings import NetworkSettings


@dataclass(frozen=True)
class LogEstimate:
    """Estimated parameters, K padded to the network's largest.

    Attributes
    ----------
    log_weights : Tensor (B, K), log-probabilities; very negative at padding.
    means : Tensor (B, K, d).
    standard_deviations : Tensor (B, K, d), or None for unit covariances.
    """

    log_weights: Tensor
    means: Tensor
    standard_deviations: Tensor | None = None

    def mixture(self, n_components: int | None = None) -> Mixture:
        """The estimate as a mixture; with its first K components only, for a batch that shares one K."""
        kept = slice(None, n_components)
        scales = self.standard_deviations
        return Mixture(
            self.log_weights[:, kept].exp(), self.means[:, kept], None if scales is None else scales[:, kept]
        )


def component_mask(n_components: Tensor, largest: int) -> Tensor:
    """Bool tensor (B, largest), True at the components beyond each task's K."""
    return torch.arange(largest, device=n_components.device) >= n_components[:, None]


def component_slots(settings: NetworkSettings, n_components: Tensor) -> tuple[Tensor, Tensor]:
    """Where each task's K (B,) stands among those that a network serves, (B,), and its ``component_mask``."""
    size = torch.searchsorted(torch.tensor(settings.n_components, device=n_components.device), n_components)
    return size, component_mask(n_components, settings.largest)
