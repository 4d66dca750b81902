"""The algebra of angles (Eq. 2–9 of the paper): noisy latents are a rotation of clean latents towards noise.

Latents, noise and velocity are ``(B, L, D)``; an angle ``(B, L)`` in [0, π/2] belongs to a frame, not to a whole row,
because the chunks of a row may be at different angles.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melody.errors import MelodyError


def add_noise(latents: Tensor, noise: Tensor, angle: Tensor) -> Tensor:
    """Noisy latents ``z_δ = cos(δ)·z + sin(δ)·ε`` (Eq. 2–9), ``(B, L, D)``."""
    cos, sin = _cos_sin(angle, latents)
    return cos * latents + sin * noise


def velocity_target(latents: Tensor, noise: Tensor, angle: Tensor) -> Tensor:
    """Velocity ``v_δ = dz_δ/dδ = cos(δ)·ε − sin(δ)·z`` (Eq. 2–9), what the denoiser learns, ``(B, L, D)``."""
    cos, sin = _cos_sin(angle, latents)
    return cos * noise - sin * latents


def latents_from_velocity(noisy: Tensor, velocity: Tensor, angle: Tensor) -> Tensor:
    """Clean latents ``z = cos(δ)·z_δ − sin(δ)·v`` (Eq. 2–9), ``(B, L, D)``."""
    cos, sin = _cos_sin(angle, noisy)
    return cos * noisy - sin * velocity


def chunk_bounds(length: int, chunks: int) -> list[tuple[int, int]]:
    """First frame and end of each of M chunks: chunk m is frames [⌊(m−1)L/M⌋, ⌊mL/M⌋) (appendix A, multi-chunk).

    >>> chunk_bounds(10, 4)
    [(0, 2), (2, 5), (5, 7), (7, 10)]

    Raises:
        MelodyError: no chunk at all, or more chunks than frames.
    """
    if not 1 <= chunks <= length:
        raise MelodyError(f"cannot cut {length} frames into {chunks} chunks: expected from 1 to {length}")
    return [(m * length // chunks, (m + 1) * length // chunks) for m in range(chunks)]


def draw_chunk_angles(batch: int, length: int, chunks: int, generator: torch.Generator | None = None) -> Tensor:
    """One angle a chunk, uniform in [0, π/2), repeated over its frames: ``(batch, length)``.

    Appendix A prints the interval as [0, 1]; the main text and the sampler need [0, π/2].
    """
    sizes = torch.tensor([end - begin for begin, end in chunk_bounds(length, chunks)])
    device = None if generator is None else generator.device
    angle = torch.rand(batch, chunks, generator=generator, device=device) * (math.pi / 2)
    return angle.repeat_interleave(sizes.to(angle.device), dim=1)


def _cos_sin(angle: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``(B, L, 1)`` in the precision of ``like``."""
    return torch.cos(angle).unsqueeze(-1).to(like.dtype), torch.sin(angle).unsqueeze(-1).to(like.dtype)
