"""``mel-stats``: an embedder without weights, for the Fréchet distance of the embedded default.

A demo embedder, and ours: it tells loudness, spectral balance and how busy the bands are, and so shows noise,
muffling and wrong instruments; it says little about perceived quality and nothing about melody, harmony or form.
Its distances compare with no other embedder's. The paper's FAD is on VGGish.

Definition, version 1: 24 kHz mono, taken as it is (no loudness normalisation). Windows of 1 s every 0.5 s; shorter
audio is padded with zeros to one window; a last part that fills no window is left out. In each window 48 frames
(Hann 1,024, hop 480, not centred) of power spectrum, scaled so that a full-scale sine has peak 1; 16 triangular
bands of peak 1, equally wide on the HTK mel scale, mel(f) = 2595 log10(1 + f / 700), from 40 Hz to 12 kHz;
log10(power + 1e-8). For each band over the frames: the mean, the standard deviation (ddof 0), and the mean
absolute difference of neighbouring frames. 3 × 16 = 48 dimensions, so that 49 windows (five clips of 10 s with
overlap) suffice for a covariance of full rank.

The floor of −80 dB was chosen among −100, −80, −70 and −60 dB by the distance of one half of MusicLM's published
samples to the other, with the distance of MeLoDy's to MusicLM's in view; the distances of the ``published-samples``
suite are therefore not independent of it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from melody.checks import check_clip
from melody.dsp.mel import mel_filterbank
from melody.dsp.spectrum import magnitudes
from melody.embedders.fad_protocols import EMBEDDED, prepared, windows
from melody.protocols import AudioEmbedder
from melody.registry import audio_embedders

SAMPLE_RATE = EMBEDDED.sample_rate
FFT_SIZE = 1_024
FRAME_HOP = 480
NUM_BANDS = 16
LOWEST_HZ = 40.0
HIGHEST_HZ = 12_000.0
POWER_FLOOR = 1e-8  # −80 dB; a lower one lets the few silent windows of a set decide its covariance
DIMENSION = 3 * NUM_BANDS
WINDOWS_AT_ONCE = 64


def log_mel(windows: Tensor) -> Tensor:
    """``(n, T)`` samples -> log10 band powers ``(n, NUM_BANDS, frames)``."""
    power = magnitudes(windows, FFT_SIZE, FRAME_HOP).square()  # (n, FFT_SIZE // 2 + 1, frames)
    bands = mel_filterbank(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ).to(windows.device)
    return torch.log10(bands @ power + POWER_FLOOR)


@audio_embedders.register("mel-stats")
class MelStats(AudioEmbedder):
    """Log-mel statistics of 1 s windows: a demo embedder without weights, which says little about perceived quality."""

    version: ClassVar[str] = "1"
    protocol = EMBEDDED.name
    sample_rate = EMBEDDED.sample_rate
    dimension = DIMENSION
    window_s = EMBEDDED.window_s
    hop_s = EMBEDDED.hop_s

    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at 24 kHz -> ``(windows, 48)``, float32; ``MelodyError`` if it is empty, not mono, or NaN."""
        check_clip(waveform, "mel-stats")
        groups = windows(prepared(waveform, EMBEDDED), EMBEDDED).split(WINDOWS_AT_ONCE)  # an hour has 7,199 windows
        return torch.cat([_statistics(log_mel(group)) for group in groups])


def _statistics(bands: Tensor) -> Tensor:
    """``(n, NUM_BANDS, frames)`` -> ``(n, DIMENSION)``."""
    mean, deviation = bands.mean(dim=2), bands.std(dim=2, correction=0)
    return torch.cat([mean, deviation, bands.diff(dim=2).abs().mean(dim=2)], dim=1)
