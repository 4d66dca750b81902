"""Table 5's protocol: a denoiser's velocity error and SI-SNR improvement on held-out latents.

- One angle an item, the same for all its frames, stratified: one in each of ``n`` equal parts of [0, π/2], so uniform
  as in training, with less spread than independent draws (ours).
- ẑ = cos(δ)·z_δ − sin(δ)·v̂; with tokens, without guidance.
- ``velocity-mse``, lower is better: the mean over every element of the squared error of v = cos(δ)·ε − sin(δ)·z (Eq. 3
  ff.), in the unit of the latents, squared, so numbers of two codecs do not compare. Predicting zero gives the mean
  square of v, about 1 for latents of unit variance.
- ``si-snri`` in dB, higher is better: SI-SNR(ẑ, z) − SI-SNR(z_δ, z), each item flattened over L × D (``si_snr``). At
  angle 0, z_δ is z itself and nothing can improve.

Source: Table 5 and the training loss (Eq. 2–9) of the paper. Version 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from melody.checks import check_finite, check_same_shape
from melody.diffusion.angles import add_noise, latents_from_velocity, velocity_target
from melody.errors import MelodyError
from melody.metrics.angle_bins import NUM_BINS, bin_index, bin_means
from melody.metrics.si_snr import si_snr
from melody.protocols import Denoiser


def velocity_mse(preds: Tensor, target: Tensor) -> float:
    """Mean squared error over all elements of two tensors of one shape, in float64.

    >>> velocity_mse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    2.0
    """
    check_same_shape(preds, target, "velocity-mse")
    check_finite(preds, "velocity-mse: preds")
    check_finite(target, "velocity-mse: target")
    return float((preds.detach().to(torch.float64) - target.detach().to(torch.float64)).square().mean())


def si_snr_improvement(preds: Tensor, noisy: Tensor, angle: Tensor, target: Tensor) -> Tensor:
    """SI-SNRi per item in dB (Table 5), float64 ``(B,)``.

    Args:
        preds: velocity v̂ ``(B, L, D)``.
        noisy: z_δ ``(B, L, D)``.
        angle: δ ``(B, L)``.
        target: true latents z ``(B, L, D)``.
    """
    check_same_shape(preds, noisy, "si-snri")
    if preds.ndim != 3 or angle.shape != preds.shape[:2]:
        raise MelodyError(
            f"si-snri: velocity {tuple(preds.shape)} and angles {tuple(angle.shape)}; expected (B, L, D) and (B, L)"
        )
    check_finite(angle, "si-snri: angle")
    estimate = latents_from_velocity(*(tensor.detach().to(torch.float64) for tensor in (noisy, preds, angle)))
    return si_snr(estimate, target) - si_snr(noisy, target)


@dataclass(frozen=True)
class Denoised:
    """Per item: angle in radians, velocity MSE, SI-SNRi in dB, and the MSE of predicting zero."""

    angle: list[float]
    velocity_mse: list[float]
    si_snri: list[float]
    zero_mse: list[float]

    def means(self) -> dict[str, float]:
        """Over all items."""
        values = {"velocity_mse": self.velocity_mse, "zero_mse": self.zero_mse, "si_snri_db": self.si_snri}
        return {name: math.fsum(column) / len(column) for name, column in values.items()}

    def by_angle(self, num_bins: int = NUM_BINS) -> list[dict[str, Any]]:
        """The means of each angle bin, with ``n`` items; ``None`` where it is empty."""
        bins = bin_index(torch.tensor(self.angle, dtype=torch.float64), num_bins)
        counts = torch.bincount(bins, minlength=num_bins)
        columns = {"velocity_mse": self.velocity_mse, "zero_mse": self.zero_mse, "si_snri_db": self.si_snri}
        totals = {
            name: torch.zeros(num_bins, dtype=torch.float64).index_add_(0, bins, torch.tensor(values).double())
            for name, values in columns.items()
        }
        binned = {name: bin_means(total, counts) for name, total in totals.items()}
        return [
            {"low": edge.low, "high": edge.high, "n": edge.n, **{name: binned[name][i].value for name in binned}}
            for i, edge in enumerate(binned["velocity_mse"])
        ]


@torch.inference_mode()
def score_denoiser(
    denoiser: Denoiser, batches: Iterable[tuple[Tensor, Tensor]], count: int, generator: torch.Generator
) -> Denoised:
    """Score a denoiser on ``count`` items.

    Args:
        batches: latents ``(B, L, D)`` and semantic tokens ``(B, N)`` on the denoiser's device, ``count`` rows in all.
        generator: on the CPU; angles and noise come from it.
    Raises:
        MelodyError: a velocity that is not finite, or latents that are constant.
    """
    angles = (torch.arange(count) + torch.rand(count, generator=generator)) / count * (math.pi / 2)
    errors: list[float] = []
    zeros: list[float] = []
    improvements: list[float] = []
    for latents, tokens in batches:
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        own = angles[len(errors) : len(errors) + len(latents), None]
        angle = own.expand(-1, latents.shape[1]).to(latents)  # (B, L)
        noisy = add_noise(latents, noise, angle)
        preds = denoiser.forward(noisy, angle, denoiser.prepare(tokens))
        target = velocity_target(latents, noise, angle).cpu()
        errors += [velocity_mse(p, t) for p, t in zip(preds.cpu(), target, strict=True)]
        zeros += [velocity_mse(torch.zeros_like(t), t) for t in target]
        improvements += si_snr_improvement(preds.cpu(), noisy.cpu(), angle.cpu(), latents.cpu()).tolist()
    return Denoised(angles.tolist(), errors, improvements, zeros)
