"""Losses of the audio VAE-GAN (appendix B.1): spectra, features, least-squares GAN, KL.

Eq. 34 sums over resolutions, Eq. 35 and 36 over discriminators: the reduction ``sum``. ``mean`` averages there instead,
over the discriminators of one kind; it is ours, and our small presets are trained with it. Within one resolution, layer
or discriminator the mean over bins, frames and places is taken in both (ours: an L1 norm of a longer clip would be
larger). The KL is a sum over the latent width, as the KL of one frame is. Magnitudes are of an unnormalised transform
with a Hann window, centred, the ends reflected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melody.errors import MelodyError

Reduction = Literal["sum", "mean"]

LOG_FLOOR = 1e-3
"""Of magnitudes under the logarithm: ours, 60 dB below full scale."""

FFT_SIZES = (8192, 4096, 2048, 512, 128, 64, 32)
"""Appendix B.1."""
WINDOW_LENGTHS = (4096, 2048, 1024, 256, 64, 32, 16)
"""Appendix B.1."""
HOP_LENGTHS = (2048, 1024, 512, 128, 32, 16, 8)
"""Appendix B.1."""


class MultiResolutionStftLoss(nn.Module):
    """Mean absolute difference of STFT magnitudes, summed over resolutions (Eq. 34).

    Args:
        reduction: over resolutions; ``mean`` is ours.
    Raises:
        MelodyError: the three lists differ in length, or a window is longer than its transform.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = FFT_SIZES,
        window_lengths: Sequence[int] = WINDOW_LENGTHS,
        hop_lengths: Sequence[int] = HOP_LENGTHS,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        self.reduction = reduction
        if not len(fft_sizes) == len(window_lengths) == len(hop_lengths) > 0:
            raise MelodyError(
                f"{len(fft_sizes)} FFT sizes, {len(window_lengths)} windows and {len(hop_lengths)} hops: "
                "expected as many of each"
            )
        if too_long := [w for n, w in zip(fft_sizes, window_lengths, strict=True) if w > n]:
            raise MelodyError(f"windows {too_long} are longer than their transforms {tuple(fft_sizes)}")
        self.resolutions = tuple(zip(fft_sizes, window_lengths, hop_lengths, strict=True))
        for length in sorted(set(window_lengths)):
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Loss of waveforms ``(B, 1, T)`` against ``(B, 1, T)``, any ``T >= 1``: a scalar."""
        return self.linear_and_log(preds, target)[0]

    def linear_and_log(self, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the mean absolute difference of log magnitudes in nepers, over all resolutions (ours).

        A linear difference hears only what is loud; timbre is in quiet partials, too. Magnitudes are divided by the
        norm of the window, so that noise of RMS r has magnitudes about r at every resolution, and ``LOG_FLOOR`` is
        added to them.
        """
        if preds.shape != target.shape:
            raise MelodyError(f"STFT loss of {tuple(preds.shape)} against {tuple(target.shape)}: expected one shape")
        linear, log = [], []
        for fft_size, window_length, hop_length in self.resolutions:
            window = self.get_buffer(f"window_{window_length}")
            with torch.no_grad():
                wanted = stft_magnitude(target, fft_size, hop_length, window)
            magnitude = stft_magnitude(preds, fft_size, hop_length, window)
            linear.append(F.l1_loss(magnitude, wanted))
            norm = torch.linalg.vector_norm(window)
            log.append(F.l1_loss((magnitude / norm + LOG_FLOOR).log(), (wanted / norm + LOG_FLOOR).log()))
        return _reduced(linear, self.reduction), torch.stack(log).mean()


def stft_magnitude(waveform: Tensor, fft_size: int, hop_length: int, window: Tensor) -> Tensor:
    """Magnitudes ``(B, fft_size // 2 + 1, frames)`` of a waveform ``(B, 1, T)``.

    A clip that is too short for its ends to be reflected by half a transform gets zeros at its end.
    """
    missing = fft_size // 2 + 1 - waveform.shape[-1]
    samples = F.pad(waveform, (0, max(0, missing))).flatten(0, 1)  # (B, T)
    return torch.stft(samples, fft_size, hop_length, len(window), window, return_complex=True).abs()


def kl_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence (nats) of N(mean, variance) from N(0, I) for ``(B, L, D)``: sum over D, mean over frames."""
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return divergence.sum(-1).mean()


def feature_matching_loss(
    real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]], reduction: Reduction = "sum"
) -> Tensor:
    """Mean absolute difference of features over a discriminator's layers, summed over discriminators (Eq. 35).

    All have as many layers, their output counted as one, as in HiFi-GAN's released form.
    """
    each = [
        torch.stack([F.l1_loss(f, r.detach()) for r, f in zip(reals, fakes, strict=True)])
        for reals, fakes in zip(real, fake, strict=True)
    ]  # (layers,) of each discriminator
    return torch.cat(each).mean() if reduction == "mean" else _reduced([layers.mean() for layers in each], "sum")


def generator_loss(fake_logits: Sequence[Tensor], reduction: Reduction = "sum") -> Tensor:
    """Least-squares GAN, the generator's side: (D(x̂) − 1)², summed over discriminators (Eq. 36)."""
    return _reduced([(logits - 1).square().mean() for logits in fake_logits], reduction)


def discriminator_loss(
    real_logits: Sequence[Tensor], fake_logits: Sequence[Tensor], reduction: Reduction = "sum"
) -> Tensor:
    """Least-squares GAN, the discriminators' side: (D(x) − 1)² + D(x̂)², summed as the generator's (HiFi-GAN, Eq. 1)."""
    pairs = zip(real_logits, fake_logits, strict=True)
    return _reduced([(real - 1).square().mean() + fake.square().mean() for real, fake in pairs], reduction)


def _reduced(terms: Sequence[Tensor], reduction: Reduction) -> Tensor:
    stacked = torch.stack(list(terms))
    return stacked.mean() if reduction == "mean" else stacked.sum()
