"""The trigonometry that samplers share: coefficients of a frame's angle, exact at both ends.

With α = cos δ and σ = sin δ, half the logarithm of the signal-to-noise ratio is λ = log(cot δ). It is infinite at both
ends, so updates are written with sines, and λ appears only in ratios of differences, whose limits are put in by hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def per_frame(coefficient: Tensor, like: Tensor) -> Tensor:
    """A coefficient ``(B, L)``, computed in float64, as ``(B, L, 1)`` in the precision of the latents."""
    return coefficient.unsqueeze(-1).to(like.dtype)


def rotate(latents: Tensor, velocity: Tensor, omega: Tensor) -> Tensor:
    """``cos(ω)·z_δ − sin(ω)·v`` (Eq. 29, 32): latents at δ − ω, if clean latents and noise stay; ω is ``(B, L)``."""
    return per_frame(torch.cos(omega), latents) * latents - per_frame(torch.sin(omega), latents) * velocity


def clean(latents: Tensor, velocity: Tensor, angle: Tensor) -> Tensor:
    """The clean latents that a velocity at ``angle`` implies: the rotation all the way to angle 0."""
    return rotate(latents, velocity, angle)


def toward(latents: Tensor, target: Tensor, angle: Tensor, next_angle: Tensor) -> Tensor:
    """Step of DPM-Solver++ to clean latents ``target``: ``σ'/σ·z + sin(δ − δ')/σ·target``; at angle 0 nothing moves.

    The second coefficient is α'·(1 − exp(−h)) of arXiv 2211.01095 with h = λ' − λ, without its logarithms.
    """
    at_rest = angle == 0
    sigma = torch.where(at_rest, 1.0, torch.sin(angle))
    keep = torch.where(at_rest, 1.0, torch.sin(next_angle) / sigma)
    take = torch.sin(angle - next_angle) / sigma
    return per_frame(keep, latents) * latents + per_frame(take, latents) * target


def half_log_snr(angle: Tensor) -> Tensor:
    """``λ = log(cot δ)`` of an angle in (0, π/2)."""
    return torch.log(torch.cos(angle)) - torch.log(torch.sin(angle))


def step_ratio(previous: Tensor, angle: Tensor, next_angle: Tensor) -> Tensor:
    """``h / h_previous`` in λ ``(B, L)``: how far to extrapolate from two evaluations; 0 where either is infinite.

    That is the case on a step to angle 0 and on the step after π/2: both fall back to order 1, as the limit demands.
    """
    inside = (next_angle > 0) & (previous < math.pi / 2) & (angle < previous)
    last = torch.where(inside, half_log_snr(angle) - half_log_snr(previous), 1.0)
    following = torch.where(inside, half_log_snr(next_angle) - half_log_snr(angle), 0.0)
    return following / last
