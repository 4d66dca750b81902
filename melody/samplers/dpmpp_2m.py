"""DPM-Solver++ (2M)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from melody.protocols import Sampler, Velocity
from melody.registry import samplers
from melody.samplers.rotation import clean, per_frame, step_ratio, toward


@dataclass(frozen=True)
class Previous:
    """The last evaluation: its angle ``(B, L)`` and the clean latents ``(B, L, D)`` that it implied."""

    angle: Tensor
    target: Tensor


@samplers.register("dpmpp_2m")
class DPMSolverPlusPlus2M(Sampler):
    """DPM-Solver++ (2M), Algorithm 2 of arXiv 2211.01095: clean latents extrapolated from two evaluations."""

    order: ClassVar[int] = 2

    def step(
        self,
        velocity: Velocity,
        latents: Tensor,
        angle: Tensor,
        next_angle: Tensor,
        state: Previous | None,
        generator: Sequence[torch.Generator] | torch.Generator | None,
    ) -> tuple[Tensor, Previous]:
        """Step towards the extrapolated clean latents; first step and step to 0 are of order 1."""
        target = clean(latents, velocity(latents, angle), angle)
        extrapolated = target
        if state is not None:
            weight = per_frame(step_ratio(state.angle, angle, next_angle) / 2, latents)
            extrapolated = target + weight * (target - state.target)
        return toward(latents, extrapolated, angle, next_angle), Previous(angle, target)
