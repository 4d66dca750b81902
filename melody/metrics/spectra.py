"""What the musicality proxies hear: one clip at 24 kHz and full scale, and its spectra block by block."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from melody.checks import check_finite
from melody.data.audio import resampled
from melody.dsp.spectrum import magnitudes
from melody.errors import MelodyError

SAMPLE_RATE = 24_000
SILENT_PEAK = 1e-4
"""−80 dB of full scale: a clip without a greater sample counts as silence. Three steps of 16 bits reach it."""
BLOCK_FRAMES = 1_024


def clip_at_full_scale(waveform: Tensor, sample_rate: int, name: str, shortest_s: float) -> Tensor:
    """``(T,)`` or ``(1, T)`` at any rate -> ``(T',)`` at 24 kHz, float32, its peak at 1; silence as zeros.

    Raises:
        MelodyError: not mono, NaN or infinity, or shorter than ``shortest_s``; ``name`` says what was asked for.
    """
    if waveform.ndim not in (1, 2) or (waveform.ndim == 2 and waveform.shape[0] != 1):
        raise MelodyError(f"{name}: the waveform has shape {tuple(waveform.shape)}; expected mono (T,) or (1, T)")
    duration_s = waveform.numel() / sample_rate
    if duration_s < shortest_s:
        raise MelodyError(f"{name}: {duration_s:.3f} s of audio; expected at least {shortest_s:g} s")
    check_finite(waveform, f"{name}: the waveform")
    samples = resampled(waveform.detach().cpu().float().reshape(-1), sample_rate, SAMPLE_RATE)
    peak = torch.maximum(samples.max(), -samples.min())
    return samples / peak if peak >= SILENT_PEAK else torch.zeros_like(samples)


def magnitude_blocks(samples: Tensor, fft_size: int, hop: int) -> Iterator[Tensor]:
    """Magnitudes ``(fft_size // 2 + 1, frames)`` of Hann windows wholly inside ``(T,)``, some frames at a time.

    A full-scale sine has peak 1.
    """
    frames = (len(samples) - fft_size) // hop + 1
    for first in range(0, frames, BLOCK_FRAMES):
        last = min(first + BLOCK_FRAMES, frames) - 1
        yield magnitudes(samples[first * hop : last * hop + fft_size], fft_size, hop)
