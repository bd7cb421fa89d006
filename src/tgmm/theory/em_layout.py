"""The tokens of Theorem 1: which channels hold what, and the way from points and mixtures to tokens and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tgmm.errors import UserError
from tgmm.mixture import Mixture
from tgmm.theory.maps import LOG_ZERO


@dataclass(frozen=True)
class EMLayout:
    """Channels of a token, as ranges, for at most ``d`` dimensions and ``K`` components.

    Attributes
    ----------
    d, K : the largest dimension and number of components.
    copies : tokens C that every component has.
    """

    d: int
    K: int
    copies: int

    def _range(self, n_vectors: int, n_labels: int, size: int) -> range:
        start = n_vectors * self.d + n_labels * self.K
        return range(start, start + size)

    @property
    def point(self) -> range:
        """x_i, in a point's token."""
        return self._range(0, 0, self.d)

    @property
    def mean(self) -> range:
        """mu_k, in a component's token."""
        return self._range(1, 0, self.d)

    @property
    def new_mean(self) -> range:
        """Scratch: the M-step's mean."""
        return self._range(2, 0, self.d)

    @property
    def label(self) -> range:
        """The unit vector e_k, in a component's token."""
        return self._range(3, 0, self.K)

    @property
    def responsibility(self) -> range:
        """Scratch: r_i of a point; the average of r_i in a component's token."""
        return self._range(3, 1, self.K)

    @property
    def log_responsibility(self) -> range:
        """Scratch: log r_i of a point."""
        return self._range(3, 2, self.K)

    @property
    def scalars(self) -> range:
        """b_k = log pi_k - |mu_k|^2 / 2, pi_k, scratch pi_k / (1 + pi_k), log N, "is a point", "is a component"."""
        return self._range(3, 3, 6)

    @property
    def copy(self) -> range:
        """Which of its component's copies a token is, as a unit vector."""
        return range(self.scalars.stop, self.scalars.stop + self.copies)

    @property
    def width(self) -> int:
        """Channels of a token, 3 d + 3 K + 6 + C."""
        return self.copy.stop

    @property
    def n_component_tokens(self) -> int:
        """Tokens that are components, C K."""
        return self.copies * self.K


def encode(layout: EMLayout, points: Tensor, mixture: Mixture) -> Tensor:
    """Tokens of points (B, N, d) and of the mixtures that EM starts from, padded with zeros.

    Returns
    -------
    Tensor (B, N + C K, width) of float64. Components beyond the mixtures' K have weight zero, as have those of the
    mixtures that are padded themselves.

    Raises
    ------
    UserError
        If the tasks have more dimensions or components than the layout.
    """
    (n_tasks, n_points, d), n_components = points.shape, mixture.n_components
    if d > layout.d or n_components > layout.K:
        raise UserError(
            f"the network is built for d <= {layout.d}, K <= {layout.K}; the tasks have {d}, {n_components}"
        )
    log_weight, weight, _, log_count, is_point, is_component = layout.scalars
    n_tokens = n_points + layout.n_component_tokens
    tokens = torch.zeros(n_tasks, n_tokens, layout.width, dtype=torch.float64, device=points.device)
    tokens[:, :n_points, layout.point[0] : layout.point[0] + d] = points
    tokens[:, :n_points, is_point] = 1.0
    components = tokens[:, n_points:].unflatten(1, (layout.copies, layout.K))
    components[..., layout.label] = torch.eye(layout.K, dtype=torch.float64, device=points.device)
    components[..., layout.copy] = torch.eye(layout.copies, dtype=torch.float64, device=points.device)[:, None]
    components[..., is_component] = 1.0
    components[..., log_count] = math.log(n_points)
    components[..., log_weight] = LOG_ZERO
    used = components[..., :n_components, :]
    log_weights = mixture.weights.log().clamp_min(LOG_ZERO)
    used[..., layout.mean[0] : layout.mean[0] + d] = mixture.means[:, None]
    used[..., weight] = mixture.weights[:, None]
    used[..., log_weight] = (log_weights - 0.5 * mixture.means.square().sum(-1))[:, None]
    return tokens


def decode(layout: EMLayout, tokens: Tensor, dimension: int, n_components: int) -> Mixture:
    """The mixtures (B) that the component tokens hold; copies agree, so the first ones are read."""
    used = tokens[:, tokens.shape[1] - layout.n_component_tokens :][:, :n_components]
    return Mixture(used[..., layout.scalars[1]], used[..., layout.mean[0] : layout.mean[0] + dimension])
