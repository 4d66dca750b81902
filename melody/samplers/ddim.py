"""The paper's sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from melody.protocols import Sampler, Velocity
from melody.registry import samplers
from melody.samplers.rotation import rotate


@samplers.register("ddim")
class DDIM(Sampler):
    """The paper's update (Eq. 29, 32), a rotation by the step's angle; equal to DDIM and to DPM-Solver++ of order 1."""

    order: ClassVar[int] = 1

    def step(
        self,
        velocity: Velocity,
        latents: Tensor,
        angle: Tensor,
        next_angle: Tensor,
        state: None,
        generator: Sequence[torch.Generator] | torch.Generator | None,
    ) -> tuple[Tensor, None]:
        """Rotate by ``angle − next_angle``."""
        return rotate(latents, velocity(latents, angle), angle - next_angle), None
