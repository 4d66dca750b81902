"""What a public Audio Spectrogram Transformer hears: its mel bands at 16 kHz, in plain torch (appendix B.3).

The same numbers as transformers' ``ASTFeatureExtractor``, whose defaults are those of the checkpoint that the paper
names: Kaldi's log-mel energies, 25 ms frames each 10 ms, 1,024 of them (10.24 s), normalised by AudioSet's statistics.
Audio at another rate is resampled first, by a windowed sinc.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 16_000
FRAMES = 1024
MEAN, SPREAD = -4.2677393, 2 * 4.5689974
"""Of AudioSet's bands: the extractor's, which divides by two standard deviations."""
FRAME, HOP, N_FFT = 400, 160, 512
PREEMPHASIS = 0.97
FLOOR = 1.192092955078125e-07
ZERO_CROSSINGS, ROLLOFF = 16, 0.97
"""Of the sinc, on each side, and its cut-off in Nyquist rates: ours."""


class AstBands(nn.Module):
    """Waveform to normalised bands, ``FRAMES`` of them: what is shorter ends in zeros, as the extractor's."""

    kernel: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, num_mels: int) -> None:
        super().__init__()
        common = math.gcd(sample_rate, SAMPLE_RATE)
        self.old, self.new = sample_rate // common, SAMPLE_RATE // common
        # Derived from the arguments, so not part of the stored weights.
        self.register_buffer("kernel", _sinc(self.old, self.new), persistent=False)
        self.register_buffer("window", torch.hann_window(FRAME, periodic=False), persistent=False)
        self.register_buffer("filters", _kaldi_filters(num_mels), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, T)`` in [-1, 1] -> ``(B, FRAMES, num_mels)``."""
        frames = self.resample(waveform).unfold(-1, FRAME, HOP)[:, :FRAMES]  # (B, frames, 400)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = F.pad(frames, (1, 0), mode="replicate")[..., :-1]
        spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * self.window, N_FFT)
        bands = (spectrum.abs().square() @ self.filters).clamp(min=FLOOR).log()
        return (F.pad(bands, (0, 0, 0, FRAMES - bands.shape[1])) - MEAN) / SPREAD

    def resample(self, waveform: Tensor) -> Tensor:
        """``(B, T)`` -> the same at 16 kHz, ``(B, ceil(T · 16,000 / rate))``."""
        if self.old == self.new:
            return waveform
        reach = (self.kernel.shape[2] - self.old) // 2
        padded = F.pad(waveform[:, None], (reach, reach + self.old))
        phases = F.conv1d(padded, self.kernel, stride=self.old)  # (B, new, T / old)
        return phases.transpose(1, 2).flatten(1)[:, : -(-waveform.shape[1] * self.new // self.old)]


def resampling_taps(sample_rate: int) -> tuple[int, int, int]:
    """Samples that go in at once, samples that come out of them, and taps of each; nothing at 16 kHz."""
    common = math.gcd(sample_rate, SAMPLE_RATE)
    old, new = sample_rate // common, SAMPLE_RATE // common
    return old, new, 2 * _reach(old, new) + old


def _reach(old: int, new: int) -> int:
    """Samples on each side that a resampled one depends on."""
    return math.ceil(ZERO_CROSSINGS * old / (min(old, new) * ROLLOFF))


def _sinc(old: int, new: int) -> Tensor:
    """Kernels ``(new, 1, taps)``, one for each phase: a low-pass below both Nyquist rates under a squared cosine."""
    cutoff, reach = min(old, new) * ROLLOFF, _reach(old, new)
    taps = torch.arange(-reach, reach + old, dtype=torch.float64) / old
    phases = torch.arange(new, dtype=torch.float64) / new
    time = ((taps[None] - phases[:, None]) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    taper = torch.cos(time * math.pi / ZERO_CROSSINGS / 2).square()
    return (torch.sinc(time) * taper * cutoff / old).float()[:, None]


def _kaldi_filters(num_mels: int) -> Tensor:
    """Kaldi's triangles on its mel scale from 20 Hz on: ``(N_FFT / 2 + 1, num_mels)``."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the lowest of 128 bands hear nothing, in the public model as well
        filters = mel_filter_bank(
            num_frequency_bins=N_FFT // 2 + 1,
            num_mel_filters=num_mels,
            min_frequency=20,
            max_frequency=SAMPLE_RATE // 2,
            sampling_rate=SAMPLE_RATE,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return torch.tensor(filters.tolist(), dtype=torch.float32)
