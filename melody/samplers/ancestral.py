"""Ancestral sampling on angles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from melody.bounds import Share
from melody.protocols import Sampler, Velocity
from melody.registry import samplers
from melody.samplers.noise import standard_normal
from melody.samplers.rotation import clean, per_frame


@samplers.register("ancestral")
class Ancestral(Sampler):
    """The rotation with part of the noise drawn anew, ancestral sampling at η = 1 (arXiv 2010.02502, Eq. 12 and 16).

    Args:
        eta: η in [0, 1]; 0 is ``ddim``.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def __init__(self, eta: Share = 1.0) -> None:
        self.eta = eta

    def step(
        self,
        velocity: Velocity,
        latents: Tensor,
        angle: Tensor,
        next_angle: Tensor,
        state: None,
        generator: Sequence[torch.Generator] | torch.Generator | None,
    ) -> tuple[Tensor, None]:
        """Keep ``sqrt(sin²δ' − τ²)`` of the noise seen in the latents, and draw ``τ`` of it anew."""
        predicted = velocity(latents, angle)
        target = clean(latents, predicted, angle)
        noise = clean(predicted, -latents, angle)  # cos(δ)·v + sin(δ)·z
        tau = self.eta * _fresh(angle, next_angle)
        kept = torch.sqrt((torch.sin(next_angle) ** 2 - tau**2).clamp(min=0))
        fresh = standard_normal(latents.shape, generator, latents.device, latents.dtype)
        mean = per_frame(torch.cos(next_angle), latents) * target + per_frame(kept, latents) * noise
        moved = mean + per_frame(tau, latents) * fresh
        return torch.where((angle == next_angle).unsqueeze(-1), latents, moved), None


def _fresh(angle: Tensor, next_angle: Tensor) -> Tensor:
    """``τ = sin δ'/sin δ · sqrt(1 − cos²δ/cos²δ')``, the deviation of ancestral sampling (Eq. 16 with η = 1)."""
    sigma = torch.where(angle == 0, 1.0, torch.sin(angle))
    return (
        torch.sin(next_angle) / sigma * torch.sqrt((1 - (torch.cos(angle) / torch.cos(next_angle)) ** 2).clamp(min=0))
    )
