"""The two discriminators of the audio VAE-GAN (appendix B.1): waveforms folded by periods, and spectrograms.

Both return one tensor of logits and one list of feature maps for each of their parts. The paper names the two kinds;
layers and sizes are those of the works that they come from, all scaled by ``width``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from melody.vae.losses import stft_magnitude

PERIODS = (2, 3, 5, 7, 11)
"""HiFi-GAN (arXiv 2010.05646), section 2.3."""
PERIOD_GROWTH = (1, 4, 16, 32, 32)
"""Channels of the five layers in multiples of ``width``: 32 … 1,024 as in HiFi-GAN's released sizes."""
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT size, hop, window: UnivNet (arXiv 2106.07889), section 2.2."""
SLOPE = 0.1
"""Of the leaky ReLU: HiFi-GAN's."""

Judgement = tuple[list[Tensor], list[list[Tensor]]]


class PeriodDiscriminator(nn.Module):
    """Convolutions over every ``period``-th sample (HiFi-GAN, section 2.3)."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        channels = [1, *(width * growth for growth in PERIOD_GROWTH)]
        strides = [3, 3, 3, 3, 1]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(n_in, n_out, (5, 1), (stride, 1), (2, 0)))
            for n_in, n_out, stride in zip(channels, channels[1:], strides, strict=False)
        )
        self.output = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waveform ``(B, 1, T)`` -> logits ``(B, N)`` and feature maps."""
        padded = F.pad(waveform, (0, -waveform.shape[-1] % self.period))
        return _judge(padded.unflatten(-1, (-1, self.period)), self.layers, self.output)  # (B, 1, T / period, period)


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over a magnitude spectrogram (UnivNet, section 2.2)."""

    window: Tensor

    def __init__(self, fft_size: int, hop_length: int, window_length: int, width: int) -> None:
        super().__init__()
        self.fft_size, self.hop_length = fft_size, hop_length
        self.register_buffer("window", torch.hann_window(window_length), persistent=False)
        strides = [(1, 1), (1, 2), (1, 2), (1, 2)]  # along time, halving it
        wide = [weight_norm(nn.Conv2d(1 if i == 0 else width, width, (3, 9), s, (1, 4))) for i, s in enumerate(strides)]
        self.layers = nn.ModuleList([*wide, weight_norm(nn.Conv2d(width, width, 3, padding=1))])
        self.output = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waveform ``(B, 1, T)`` -> logits ``(B, N)`` and feature maps."""
        magnitude = stft_magnitude(waveform, self.fft_size, self.hop_length, self.window)
        return _judge(magnitude.unsqueeze(1), self.layers, self.output)  # (B, 1, bins, frames)


class MultiPeriodDiscriminator(nn.Module):
    """Period discriminators side by side (HiFi-GAN, section 2.3); ``width`` 32 is HiFi-GAN's size."""

    def __init__(self, width: int = 32, periods: Sequence[int] = PERIODS) -> None:
        super().__init__()
        self.parts = nn.ModuleList(PeriodDiscriminator(period, width) for period in periods)

    def forward(self, waveform: Tensor) -> Judgement:
        """Waveform ``(B, 1, T)`` -> for each period, logits ``(B, N)`` and feature maps."""
        return _gather(self.parts, waveform)


class MultiResolutionDiscriminator(nn.Module):
    """Spectrogram discriminators side by side (UnivNet, section 2.2); ``width`` 32 is UnivNet's size."""

    def __init__(self, width: int = 32, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS) -> None:
        super().__init__()
        self.parts = nn.ModuleList(SpectrogramDiscriminator(*resolution, width) for resolution in resolutions)

    def forward(self, waveform: Tensor) -> Judgement:
        """Waveform ``(B, 1, T)`` -> for each resolution, logits ``(B, N)`` and feature maps."""
        return _gather(self.parts, waveform)


def _judge(x: Tensor, layers: nn.ModuleList, output: nn.Module) -> tuple[Tensor, list[Tensor]]:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    logits = output(x)
    return logits.flatten(1), [*features, logits]


def _gather(parts: nn.ModuleList, waveform: Tensor) -> Judgement:
    judgements = [part(waveform) for part in parts]
    return [logits for logits, _ in judgements], [features for _, features in judgements]
