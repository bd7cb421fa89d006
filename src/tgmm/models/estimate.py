"""What a network returns: the estimate with its weights as logarithms."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tgmm.mixture import ComponentParameters, Mixture
from tgmm.models.settings import NetworkSettings


@dataclass(frozen=True)
class LogEstimate(ComponentParameters):
    """Estimated parameters, K padded to the network's largest.

    Attributes
    ----------
    log_weights : Tensor (B, K), log-probabilities; very negative at padding.
    means : Tensor (B, K, d).
    standard_deviations : Tensor (B, K, d), or None for unit covariances.

    Several estimates of the same tasks may be stacked along a first axis; :meth:`split` takes them apart.
    """

    log_weights: Tensor
    means: Tensor
    standard_deviations: Tensor | None = None

    def split(self) -> list[LogEstimate]:
        """The estimates that are stacked in this one."""
        return [self.map(lambda tensor, position=position: tensor[position]) for position in range(len(self.means))]

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
    size = torch.searchsorted(_served(settings.n_components, n_components.device), n_components)
    return size, component_mask(n_components, settings.largest)


def count_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@functools.cache
def _served(n_components: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept on the device: a copy in every step would make a GPU's host wait."""
    return torch.tensor(n_components, device=device)
