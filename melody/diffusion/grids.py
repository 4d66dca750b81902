"""Grids: where a sampler stops on its way from noise to music.

A grid maps a number of steps T to T + 1 angles in float64, falling from exactly π/2 (noise) to exactly 0 (clean).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melody.bounds import Steps
from melody.registry import grids

KARRAS_RHO = 7.0
"""Karras et al. 2022 (arXiv 2206.00364), Table 1."""
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
"""Karras et al. 2022, Table 1."""


@grids.register("uniform")
def uniform(num_steps: Steps) -> Tensor:
    """Equal steps ω_t = π/(2T), the baseline of Table 4; the cosine schedule of arXiv 2102.09672 at equal times."""
    return _pinned(torch.arange(num_steps, -1, -1, dtype=torch.float64) * (math.pi / 2) / num_steps)


@grids.register("melody-linear")
def melody_linear(num_steps: Steps) -> Tensor:
    """Steps that shrink linearly, ω_t = π/(6T) + 2πt/(3T(T+1)) for t = T … 1: the paper's schedule, Eq. 4."""
    t = torch.arange(num_steps, -1, -1, dtype=torch.float64)
    # The angle before step t is the sum of ω_1 … ω_t.
    return _pinned(math.pi * t / (6 * num_steps) + math.pi * t * (t + 1) / (3 * num_steps * (num_steps + 1)))


@grids.register("cosine")
def cosine(num_steps: Steps) -> Tensor:
    """Steps that shrink as a quarter of a cosine wave, δ_i = π/2·(1 − sin(πi/2T)): our smooth kin of Eq. 4."""
    i = torch.arange(num_steps + 1, dtype=torch.float64)
    return _pinned(math.pi / 2 * (1 - torch.sin(math.pi * i / (2 * num_steps))))


@grids.register("karras")
def karras(num_steps: Steps) -> Tensor:
    """Noise levels tan δ of Karras et al. 2022, Eq. 5 (ρ = 7, σ from 80 to 0.002), the first moved up to pure noise."""
    low, high = SIGMA_MIN ** (1 / KARRAS_RHO), SIGMA_MAX ** (1 / KARRAS_RHO)
    sigmas = torch.linspace(high, low, num_steps, dtype=torch.float64) ** KARRAS_RHO
    return _pinned(torch.cat([torch.atan(sigmas), torch.zeros(1, dtype=torch.float64)]))


@grids.register("log-snr")
def log_snr(num_steps: Steps) -> Tensor:
    """Equal steps of log tan δ, as DPM-Solver (arXiv 2206.00927) takes them, over the noise levels of ``karras``."""
    sigmas = torch.logspace(math.log10(SIGMA_MAX), math.log10(SIGMA_MIN), num_steps, dtype=torch.float64)
    return _pinned(torch.cat([torch.atan(sigmas), torch.zeros(1, dtype=torch.float64)]))


def _pinned(angles: Tensor) -> Tensor:
    """The grid with both ends free of rounding."""
    angles[0], angles[-1] = math.pi / 2, 0.0
    return angles
