"""Mel bands: filters that are triangles on HTK's scale, mel(f) = 2595 log10(1 + f / 700), and log-mel spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.errors import MelodyError

LOG_FLOOR = 1e-3
"""Added to magnitudes before the logarithm: 60 dB below a sinusoid of amplitude 1 (ours)."""


def mel_filters(
    num_bands: int,
    fft_size: int,
    sample_rate: int,
    lowest_hz: float,
    highest_hz: float,
    *,
    linear_in_mel: bool = False,
) -> Tensor:
    """Filters ``(fft_size // 2 + 1, num_bands)`` of peak 1, float64, each from its left to its right one's centre.

    Args:
        linear_in_mel: whether they rise and fall linearly in mel, not in Hz.
    """
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (lowest_hz, highest_hz))
    edges = torch.linspace(low, high, num_bands + 2, dtype=torch.float64)
    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / fft_size
    if linear_in_mel:
        bins = 2595 * torch.log10(1 + bins / 700)
    else:
        edges = 700 * (10 ** (edges / 2595) - 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    return torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)


def mel_filterbank(num_bands: int, fft_size: int, sample_rate: int, lowest_hz: float, highest_hz: float) -> Tensor:
    """``mel_filters`` to multiply spectra ``(..., bins, frames)`` with: ``(num_bands, fft_size // 2 + 1)``, float32."""
    return mel_filters(num_bands, fft_size, sample_rate, lowest_hz, highest_hz).T.float().contiguous()


class LogMel(nn.Module):
    """Waveform to natural-log mel magnitudes, exactly one frame a hop.

    Frame i is centred on samples ``[i * hop, (i + 1) * hop)``; the ends are padded with zeros. Magnitudes are divided
    by half the window's sum, so a sinusoid of amplitude 1 has magnitude 1 whatever the FFT's size. Each filter sums to
    1.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, n_fft: int, hop_length: int, num_mels: int, f_min: float = 30.0) -> None:
        super().__init__()
        if not 0 < hop_length <= n_fft or (n_fft - hop_length) % 2:
            raise MelodyError(
                f"hop_length {hop_length} does not fit n_fft {n_fft}: expected both even and hop <= n_fft"
            )
        self.n_fft = n_fft
        self.hop_length = hop_length
        filters = mel_filters(num_mels, n_fft, sample_rate, f_min, sample_rate / 2)
        total = filters.sum(dim=0)
        if total.device.type != "meta" and (total == 0).any():
            raise MelodyError(
                f"num_mels {num_mels} is too fine for n_fft {n_fft} at {sample_rate} Hz: some bands are empty"
            )
        # Derived from the arguments, so not part of the stored weights.
        self.register_buffer("filters", (filters / total).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, T)``, T a multiple of the hop -> ``(B, T / hop, num_mels)``."""
        waveform = F.pad(waveform, ((self.n_fft - self.hop_length) // 2,) * 2)
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop_length, window=self.window, center=False, return_complex=True
        )  # (B, n_fft / 2 + 1, frames)
        magnitude = spectrum.abs() * (2 / self.window.sum())
        return torch.log(magnitude.transpose(1, 2) @ self.filters + LOG_FLOOR)  # (B, frames, num_mels)
