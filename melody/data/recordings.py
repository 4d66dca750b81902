"""A file's sound as it is to be measured: at its own rate, with its own levels and channels, and whole.

Unlike ``read_audio``, which prompts and training use, nothing is clipped: samples beyond ±1 are measured as they are,
and ``peak`` tells them. Errors do not name the file; whoever lists files does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melody.data.audio import resampled
from melody.data.decoding import Source, decode


@dataclass(frozen=True)
class AudioInfo:
    """What came in: rate in Hz, channels, frames, largest magnitude of any channel, format as libsndfile calls it."""

    sample_rate: int
    channels: int
    frames: int
    peak: float
    format: str
    layout: str = ""
    """Which speakers the channels are for, by ``melody.data.layouts``; nothing where that is not known."""

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class Recording:
    """Mono float32 ``(T,)`` at the file's own rate, channels averaged, beyond ±1 where the file is."""

    waveform: Tensor
    facts: AudioInfo
    channels: Tensor | None = None
    """``(C, T)``, of a file with several channels, if they were asked for."""

    def at(self, sample_rate: int | None) -> Tensor:
        """``(T,)`` at a rate, or at its own; a resampler's overshoot beyond the file's own range is clipped."""
        if sample_rate is None or sample_rate == self.facts.sample_rate:
            return self.waveform
        limit = max(1.0, self.facts.peak)
        return resampled(self.waveform, self.facts.sample_rate, sample_rate).clamp_(-limit, limit)

    @property
    def as_it_is(self) -> Tensor:
        """``(C, T)``: the file's own samples."""
        if self.channels is not None:
            return self.channels
        assert self.facts.channels == 1
        return self.waveform[None]


def read_recording(source: Source, *, keep_channels: bool = False) -> Recording:
    """Read a whole file, or the bytes of one.

    Raises:
        MelodyError: it cannot be read, is empty or cut short, or holds NaN or infinity; without the file's name.
    """
    sound = decode(source, keep_channels=keep_channels)
    header = sound.header
    facts = AudioInfo(header.sample_rate, header.channels, header.frames, sound.peak, header.format, header.layout)
    channels = None if sound.channels is None else torch.from_numpy(sound.channels)
    return Recording(torch.from_numpy(sound.mono), facts, channels)
