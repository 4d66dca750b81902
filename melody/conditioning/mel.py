"""Log-mel spectrogram, the front end of the towers: plain torch, no weights to store."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.errors import MelodyError

LOG_FLOOR = 1e-3
"""Added to magnitudes before the logarithm: 60 dB below a sinusoid of amplitude 1 (ours)."""


class LogMel(nn.Module):
    """Waveform to natural-log mel magnitudes, exactly one frame a hop.

    Frame i is centred on samples ``[i * hop, (i + 1) * hop)``; the ends are padded with zeros. Magnitudes are divided
    by half the window's sum, so a sinusoid of amplitude 1 has magnitude 1 whatever the FFT's size.
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
        # Derived from the arguments, so not part of the stored weights.
        self.register_buffer("filters", mel_filters(sample_rate, n_fft, num_mels, f_min), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, T)``, T a multiple of the hop -> ``(B, T / hop, num_mels)``."""
        waveform = F.pad(waveform, ((self.n_fft - self.hop_length) // 2,) * 2)
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop_length, window=self.window, center=False, return_complex=True
        )  # (B, n_fft / 2 + 1, frames)
        magnitude = spectrum.abs() * (2 / self.window.sum())
        return torch.log(magnitude.transpose(1, 2) @ self.filters + LOG_FLOOR)  # (B, frames, num_mels)


def mel_filters(sample_rate: int, n_fft: int, num_mels: int, f_min: float) -> Tensor:
    """Triangular filters ``(n_fft / 2 + 1, num_mels)``, evenly spaced on the HTK mel scale, each summing to 1.

    Raises:
        MelodyError: more bands than the FFT resolves, so that one of them would hear nothing.
    """
    edges = _hertz(torch.linspace(_mel(f_min), _mel(sample_rate / 2), num_mels + 2, dtype=torch.float64))
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    total = filters.sum(dim=0)
    if total.device.type != "meta" and (total == 0).any():
        raise MelodyError(
            f"num_mels {num_mels} is too fine for n_fft {n_fft} at {sample_rate} Hz: some bands are empty"
        )
    return (filters / total).float()


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
