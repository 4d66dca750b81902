"""Equal bins over the angle's range [0, π/2], in which the denoiser's metrics are also shown (8: our choice)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from melody.checks import check_finite
from melody.errors import MelodyError

NUM_BINS = 8


@dataclass(frozen=True)
class AngleBin:
    """One bin's mean over ``n`` items; ``None`` where the bin is empty. Angles in radians."""

    low: float
    high: float
    value: float | None
    n: int


def bin_index(angle: Tensor, num_bins: int) -> Tensor:
    """Bin of each angle, of the same shape; raises ``MelodyError`` outside [0, π/2]."""
    check_finite(angle, "angle")
    # The float32 nearest to π/2 lies above it.
    if angle.numel() and (float(angle.min()) < -1e-6 or float(angle.max()) > math.pi / 2 + 1e-6):
        raise MelodyError(f"angles from {float(angle.min()):.4g} to {float(angle.max()):.4g} rad; expected 0 to π/2")
    return (angle.to(torch.float64) / (math.pi / 2) * num_bins).long().clamp(0, num_bins - 1)


def bin_means(totals: Tensor, counts: Tensor) -> list[AngleBin]:
    """Bins from sums and counts, both ``(num_bins,)``."""
    width = math.pi / 2 / len(totals)
    return [
        AngleBin(width * index, width * (index + 1), float(total) / int(n) if n else None, int(n))
        for index, (total, n) in enumerate(zip(totals, counts, strict=True))
    ]
