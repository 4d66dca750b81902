"""Heun's method on the paper's rotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from melody.protocols import Sampler, Velocity
from melody.registry import samplers
from melody.samplers.rotation import per_frame, rotate


@samplers.register("heun")
class Heun(Sampler):
    """Heun's method (as in arXiv 2206.00364, Algorithm 1) on the paper's rotation; two evaluations a step."""

    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 2

    def step(
        self,
        velocity: Velocity,
        latents: Tensor,
        angle: Tensor,
        next_angle: Tensor,
        state: None,
        generator: Sequence[torch.Generator] | torch.Generator | None,
    ) -> tuple[Tensor, None]:
        """Step by ``ddim``, evaluate there, turn that velocity back to ``angle``, step again by the mean of both."""
        to_zero = next_angle == 0
        # At angle 0 no noise is left to be seen, so the last step looks half way instead: the midpoint method.
        look = torch.where(to_zero, angle / 2, next_angle)
        weight = torch.where(to_zero, 1.0, 0.5).to(angle)
        begin = velocity(latents, angle)
        seen = rotate(latents, begin, angle - look)
        # dz/dδ turns as the latents do; two velocities are comparable only at one angle.
        turned_back = rotate(velocity(seen, look), seen, angle - look)
        return rotate(latents, torch.lerp(begin, turned_back, per_frame(weight, begin)), angle - next_angle), None
