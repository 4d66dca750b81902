"""UniPC of order 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from melody.protocols import Sampler, Velocity
from melody.registry import samplers
from melody.samplers.rotation import clean, half_log_snr, per_frame, step_ratio, toward


@dataclass(frozen=True)
class Previous:
    """Where the last step stood, the clean latents that its evaluation implied, and the step before it, if any."""

    latents: Tensor
    angle: Tensor
    target: Tensor
    earlier: Previous | None


@samplers.register("unipc")
class UniPC(Sampler):
    """UniPC-2 with B₂(h), multi-step (arXiv 2302.04867): each evaluation first corrects the step that led to it."""

    # Of a whole run. In its interior the corrector raises the predictor's order to 3.
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
        """Evaluate, correct the present latents, predict the next; the step to 0 is of order 1, and not corrected."""
        target = clean(latents, velocity(latents, angle), angle)
        if state is None:
            return toward(latents, target, angle, next_angle), Previous(latents, angle, target, None)
        corrected = _correct(state, angle, target)
        # The predictor with B₂(h) is DPM-Solver++ (2M).
        weight = per_frame(step_ratio(state.angle, angle, next_angle) / 2, latents)
        predicted = toward(corrected, target + weight * (target - state.target), angle, next_angle)
        earlier = Previous(state.latents, state.angle, state.target, None)
        return predicted, Previous(corrected, angle, target, earlier)


def _correct(last: Previous, angle: Tensor, target: Tensor) -> Tensor:
    """Take the last step again (UniC), now with the evaluation at its end: quadrature through two or three points."""
    rise = target - last.target
    if last.earlier is None:
        return toward(last.latents, last.target + rise / 2, last.angle, angle)
    back = step_ratio(last.earlier.angle, last.angle, angle)  # h / h_previous, which is −1/r₁
    first, second = _moments(last.angle, angle)
    # Weights ρ₀, ρ₁ solve ρ₀ + ρ₁ = b₁ and r₁ρ₀ + ρ₁ = b₂; ρ₀/r₁ is written so that it has its limit 0 at r₁ = −∞.
    old = (second - first) * back**2 / (1 + back)
    new = first + (second - first) * back / (1 + back)
    slope = per_frame(old, rise) * (last.earlier.target - last.target)
    return toward(last.latents, last.target + slope + per_frame(new, rise) * rise, last.angle, angle)


def _moments(angle: Tensor, next_angle: Tensor) -> tuple[Tensor, Tensor]:
    """``b₁`` and ``b₂`` of UniPC: means of s and s² over the step, weighted by exp(λ); s goes from 0 to 1 with λ."""
    moving = next_angle < angle
    h = torch.where(moving, half_log_snr(next_angle) - half_log_snr(angle), 1.0)  # λ is infinite on frames at rest
    mass = -torch.expm1(-h)
    first = 1 / mass - 1 / h
    return first, 1 / mass - 2 * first / h
