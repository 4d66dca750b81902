"""``clipping-rate``, ``silence-rate`` and ``peak``: plain faults of a waveform, mean over clips. Definitions ours.
Version 2.

- ``clipping-rate``: share of all channels' samples that lie in a run, within a channel, of at least 3 at or above
  0.999 of full scale in magnitude, of either sign; single peaks, as peak normalisation leaves them, do not count.
  Lower is better.
- ``silence-rate``: share of frames of 100 ms, side by side, in which every channel's root mean square is below −60 dB
  of full scale. A last part that fills no frame is left out; a clip shorter than a frame is one frame. Lower is better.
- ``peak``: largest magnitude of a sample of any channel (not of the signal between samples), in units of full scale.
  No direction.

All take clips ``(B, C, T)`` as the file has them, at its own rate and never mixed (``hears = "file"``), full scale ±1;
every clip counts one. In an 8-bit file, whose positive full scale is 127/128, only negative samples can reach 0.999.
Until version 2 they heard the mean of the channels, and ``silence-rate`` that at 24 kHz.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import SampleRate
from melody.checks import check_finite
from melody.errors import MelodyError
from melody.metrics.clip_mean import ClipMean
from melody.registry import metrics

CLIPPED_LEVEL = 0.999
CLIPPED_RUN = 3
SILENCE_DB = -60.0
FRAME_S = 0.1
FRAMES_AT_ONCE = 600
"""In float64 an hour at 44.1 kHz takes 1.3 GB."""


def clipping_rate(waveform: Tensor) -> Tensor:
    """Clips ``(B, C, T)`` -> share of clipped samples ``(B,)``, in [0, 1]."""
    samples = _samples(waveform)
    hot = (samples >= CLIPPED_LEVEL) | (samples <= -CLIPPED_LEVEL)
    if hot.shape[2] < CLIPPED_RUN:
        return torch.zeros(len(hot), dtype=torch.float64, device=hot.device)
    places = hot.shape[2] - CLIPPED_RUN + 1
    full, clipped = hot[..., :places].clone(), torch.zeros_like(hot)
    for later in range(1, CLIPPED_RUN):
        full &= hot[..., later : later + places]  # a run begins or goes on here
    for later in range(CLIPPED_RUN):
        clipped[..., later : later + places] |= full  # a sample is clipped if one of the runs that hold it is full
    return torch.stack([clip.count_nonzero() for clip in clipped]).double() / hot[0].numel()


def silence_rate(waveform: Tensor, sample_rate: int) -> Tensor:
    """Clips ``(B, C, T)`` -> share of silent frames ``(B,)``, in [0, 1]."""
    samples = _samples(waveform)
    frame = min(round(FRAME_S * sample_rate), samples.shape[2])
    groups = samples.unfold(2, frame, frame).split(FRAMES_AT_ONCE, dim=2)
    power = torch.cat([group.double().square().mean(dim=3) for group in groups], dim=2)  # (B, C, frames)
    return (power.amax(dim=1) < 10 ** (SILENCE_DB / 10)).double().mean(dim=1)


def peak(waveform: Tensor) -> Tensor:
    """Clips ``(B, C, T)`` -> largest magnitude ``(B,)``."""
    low, high = _samples(waveform).flatten(1).aminmax(dim=1)
    return torch.maximum(high, -low).double()


class _Level(ClipMean):
    """A metric of a file's own samples."""

    version: ClassVar[str] = "2"
    hears: ClassVar[Literal["mix", "file"]] = "file"


@metrics.register("clipping-rate")
class ClippingRate(_Level):
    """Share of samples in runs at full scale (lower is better)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset()
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    def of_clips(self, waveform: Tensor) -> Tensor:
        return clipping_rate(waveform)


@metrics.register("silence-rate")
class SilenceRate(_Level):
    """Share of 100 ms frames below −60 dB of full scale in all channels (lower is better)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"silence"})
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    def __init__(self, sample_rate: SampleRate = 24_000) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def of_clips(self, waveform: Tensor) -> Tensor:
        return silence_rate(waveform, self.sample_rate)


@metrics.register("peak")
class Peak(_Level):
    """Largest magnitude of a sample, in units of full scale."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "none"
    tells: ClassVar[frozenset[str] | None] = frozenset({"silence"})
    unit: ClassVar[str] = "full scale"

    def of_clips(self, waveform: Tensor) -> Tensor:
        return peak(waveform)


def _samples(waveform: Tensor) -> Tensor:
    if waveform.ndim != 3 or waveform.numel() == 0:
        raise MelodyError(f"levels: clips have shape {tuple(waveform.shape)}; expected (B, channels, T) with T > 0")
    check_finite(waveform, "levels: the waveform")
    return waveform.detach()
