"""Magnitudes of short-time spectra."""

from __future__ import annotations

import torch
from torch import Tensor


def magnitudes(samples: Tensor, fft_size: int, hop: int, *, centred: bool = False) -> Tensor:
    """``(..., T)`` -> ``(..., fft_size // 2 + 1, frames)`` by Hann windows; a full-scale sine has peak 1.

    Args:
        centred: a frame in the middle of each hop, with the samples mirrored at both ends; else windows wholly inside.
    """
    taper = torch.hann_window(fft_size, device=samples.device)
    spectrum = torch.stft(samples, fft_size, hop, window=taper, center=centred, return_complex=True)
    return spectrum.abs() / (taper.sum() / 2)
