"""``si-snr`` and ``si-snri``: scale-invariant signal-to-noise ratio of latents or samples in dB, and its improvement by
the denoiser.

    SI-SNR(ẑ, z) = 10 log10(|a z|² / |a z − ẑ|²),  a = ⟨ẑ, z⟩ / |z|²
    SI-SNRi      = SI-SNR(cos(δ)·z_δ − sin(δ)·v̂, z) − SI-SNR(z_δ, z)

- Axes: each item is flattened over L × D to one vector, and its mean is subtracted (as torchmetrics does over its
  last axis). The paper does not say over which axes it goes; this is our choice.
- Of waveforms ``(B, 1, T)`` it is ``si-sdr`` with the mean subtracted.
- Every item counts one; the mean is over items. Direction: higher is better. Unit: dB.
- Float64; energies carry float64's epsilon, so perfect estimates end near 156 dB (for energies about 1) and not at
  infinity. At angle 0, z_δ is z itself and nothing can improve: draw the angles as in training, uniform over [0,
  π/2].
- ``by_angle`` shows the improvement per bin, each item in the bin of its mean angle.

Sources: Le Roux et al. (2019), arXiv 1811.02508; Luo and Mesgarani (2018), arXiv 1711.00541; Table 5 of the paper
for the improvement. Version 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import Width
from melody.checks import check_audible, check_finite, check_same_shape, check_scored
from melody.errors import MelodyError
from melody.metrics.angle_bins import NUM_BINS, AngleBin, bin_index, bin_means, check_num_bins
from melody.metrics.base import TorchMetric
from melody.metrics.running_mean import RunningMean
from melody.protocols import InputKind, Metric
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
    delta = angle.detach().to(torch.float64)[..., None]
    estimate = torch.cos(delta) * noisy.detach().to(torch.float64) - torch.sin(delta) * preds.detach().to(torch.float64)
    return si_snr(estimate, target) - si_snr(noisy, target)


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


@metrics.register("si-snri")
class SISNRImprovement(TorchMetric, Metric):
    """Improvement of SI-SNR by one denoising step, overall and per angle bin (higher is better)."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    unit: ClassVar[str] = "dB"
    full_state_update: bool | None = False

    totals: Tensor
    counts: Tensor

    def __init__(self, num_bins: Width = NUM_BINS) -> None:
        check_num_bins(num_bins)
        super().__init__()
        self.num_bins = num_bins
        self.add_state("totals", torch.zeros(num_bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, noisy: Tensor, angle: Tensor, target: Tensor) -> None:
        """Add velocities, noisy latents and true latents ``(B, L, D)``, and their angles ``(B, L)``."""
        values = si_snr_improvement(preds, noisy, angle, target)
        bins = bin_index(angle.to(torch.float64).mean(dim=1), self.num_bins)
        self.totals.index_add_(0, bins, values)
        self.counts += torch.bincount(bins, minlength=self.num_bins)

    def compute(self) -> Tensor:
        """The mean over items."""
        check_scored(self.scored, "si-snri")
        return self.totals.sum() / self.counts.sum()

    def by_angle(self) -> list[AngleBin]:
        """The mean per bin; ``n`` counts items."""
        return bin_means(self.totals, self.counts)

    @property
    def scored(self) -> int:
        """Items."""
        return int(self.counts.sum())


def _centred(values: Tensor) -> Tensor:
    rows = values.detach().to(torch.float64).flatten(1)
    centred = rows - rows.mean(dim=1, keepdim=True)
    loudest, largest = (x.abs().amax(dim=1, keepdim=True) for x in (centred, rows))
    return torch.where(loudest <= ROUNDING * largest, 0.0, centred)  # a constant is 0, whatever its mean's last bit
