"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598) over a denoiser that predicts velocity."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.protocols import Denoiser, Velocity


def guided_velocity(denoiser: Denoiser, condition: Any, guidance_scale: float) -> Velocity:
    """The velocity that a sampler sees: ``v = v_uncond + scale·(v_cond − v_uncond)``.

    Both halves go through the network in one call, a batch of 2B with the conditional rows first. At scale 1 the
    unconditional half would cancel, so only B rows are computed. The paper's scale is
    ``melody.config.PAPER_GUIDANCE_SCALE``.

    Args:
        denoiser: called as a module, so that hooks on it see every pass.
        condition: what ``denoiser.prepare`` returned for B rows.
    Raises:
        MelodyError: the scale is not a finite number.
    """
    if not math.isfinite(guidance_scale):
        raise MelodyError(f"guidance_scale: expected a finite number, got {guidance_scale}")
    network = denoiser if callable(denoiser) else denoiser.forward

    def conditional(latents: Tensor, angle: Tensor) -> Tensor:
        velocity: Tensor = network(latents, angle, condition)
        return velocity

    if guidance_scale == 1.0:
        return conditional
    doubled = denoiser.repeat(condition, 2)

    def guided(latents: Tensor, angle: Tensor) -> Tensor:
        unconditional = torch.arange(2 * len(latents), device=latents.device) >= len(latents)  # (2B,)
        both = network(torch.cat([latents] * 2), torch.cat([angle] * 2), doubled, unconditional)  # (2B, L, D)
        with_tokens, without_tokens = both.chunk(2)
        guided_velocity: Tensor = without_tokens + guidance_scale * (with_tokens - without_tokens)
        return guided_velocity

    return guided
