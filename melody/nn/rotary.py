"""Rotary positions (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2


class Rotation(NamedTuple):
    """Cosines and sines of positions, to multiply heads with; a named tuple, for ``torch.compile`` can follow those."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, head_dim: int) -> Rotation:
        """Of positions of any shape ``(...)``, whole numbers or not: cosines and sines ``(..., head_dim / 2)``.

        Attention sees differences of positions only, so their unit and their origin are free.
        """
        exponent = torch.arange(0, head_dim, 2, device=positions.device) / head_dim
        angle = positions[..., None] * ROTARY_BASE**-exponent
        return cls(angle.cos(), angle.sin())

    def __call__(self, heads: Tensor) -> Tensor:
        """Turn heads ``(..., head_dim)``, with which the cosines broadcast."""
        first, second = heads.chunk(2, dim=-1)
        rotated = torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)
        return rotated.to(heads.dtype)  # positions keep their precision where heads have less
