"""``si-snr``: scale-invariant signal-to-noise ratio of latents or samples in dB.

    SI-SNR(ẑ, z) = 10 log10(|a z|² / |a z − ẑ|²),  a = ⟨ẑ, z⟩ / |z|²

- Axes: each item is flattened over L × D to one vector, and its mean is subtracted (as torchmetrics does over its
  last axis). The paper does not say over which axes it goes; this is our choice.
- Of waveforms ``(B, 1, T)`` it is ``si-sdr`` with the mean subtracted.
- Every item counts one; the mean is over items. Direction: higher is better. Unit: dB.
- Float64; energies carry float64's epsilon, so perfect estimates end near 156 dB (for energies about 1) and not at
  infinity.

Sources: Le Roux et al. (2019), arXiv 1811.02508; Luo and Mesgarani (2018), arXiv 1711.00541. Version 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.checks import check_audible, check_finite, check_same_shape
from melody.metrics.running_mean import RunningMean
from melody.protocols import InputKind
from melody.registry import metrics

ROUNDING = 1e-12


def si_snr(preds: Tensor, target: Tensor) -> Tensor:
    """SI-SNR per item in dB: two ``(B, ...)`` -> ``(B,)``, float64.

    Raises:
        MelodyError: shapes that differ, NaN, or a constant: as a target nothing can be measured against it, and an
            estimate would have 0 dB.
    """
    check_same_shape(preds, target, "si-snr")
    check_finite(preds, "si-snr: preds")
    check_finite(target, "si-snr: target")
    estimate, truth = _centred(preds), _centred(target)
    check_audible(estimate, "si-snr: the estimate")
    check_audible(truth, "si-snr: the target")
    epsilon = torch.finfo(torch.float64).eps
    scale = ((estimate * truth).sum(1, keepdim=True) + epsilon) / (truth.square().sum(1, keepdim=True) + epsilon)
    signal = scale * truth
    return 10 * torch.log10((signal.square().sum(1) + epsilon) / ((signal - estimate).square().sum(1) + epsilon))


@metrics.register("si-snr")
class SISNR(RunningMean):
    """Scale-invariant signal-to-noise ratio, per item over flattened latents or samples (higher is better)."""

    input_kind: ClassVar[InputKind] = "waveform_pairs"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "targets shuffled"})
    unit: ClassVar[str] = "dB"

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add estimates and truths, two ``(B, ...)``."""
        self.add(si_snr(preds, target))


def _centred(values: Tensor) -> Tensor:
    rows = values.detach().to(torch.float64).flatten(1)
    centred = rows - rows.mean(dim=1, keepdim=True)
    loudest, largest = (x.abs().amax(dim=1, keepdim=True) for x in (centred, rows))
    return torch.where(loudest <= ROUNDING * largest, 0.0, centred)  # a constant is 0, whatever its mean's last bit
