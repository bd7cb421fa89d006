"""How coordinates become tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LONGEST_WAVE = 32.0  # beyond the diameter of the box that means are drawn from


class ReadIn(nn.Module):
    """A linear map of the coordinates and, if asked for, of their sines and cosines (Tancik et al. 2020).

    Parameters
    ----------
    dimension : number of coordinates.
    width : D.
    waves : number of waves that the coordinates share: each gets ``waves // dimension`` of them, of length 32, 16, 8,
        ...; 0 for the coordinates alone. Few coordinates have to carry more each.
    """

    def __init__(self, dimension: int, width: int, waves: int):
        super().__init__()
        self.octaves = waves // dimension
        self.linear = nn.Linear(dimension * (1 + 2 * self.octaves), width)

    def forward(self, points: Tensor) -> Tensor:
        """Tokens (B, N, D) of points (B, N, dimension)."""
        if not self.octaves:
            return self.linear(points)
        waves = 2.0 * math.pi / LONGEST_WAVE * 2.0 ** torch.arange(self.octaves, device=points.device)
        angles = (points[..., None] * waves).flatten(-2)
        return self.linear(torch.cat([points, angles.sin(), angles.cos()], dim=-1))
