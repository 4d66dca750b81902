"""``key-clarity``: a proxy of how clearly a clip is in one major or minor key, mean over clips.

A proxy of one side of music, which says nothing of whether a clip is musical: a single chord held has it too.

- *Peaks*: mono at 24 kHz, peak at full scale; Hann windows of 8,192 samples (341 ms) every 1,200 (50 ms); local maxima
  of the magnitude above −60 dB of full scale, from C2 to C7 less a quarter tone each (63.5 to 2,033 Hz), placed between
  bins by a parabola through the logarithms.
- *Tuning*: the peaks' circular mean deviation from equal temperament at A4 = 440 Hz, weighted by magnitude, in
  semitones from −0.5 to 0.5; taken off all peaks. A clip half a semitone off may go either way.
- *Chroma*: each peak's magnitude, divided between the two nearest of twelve pitch classes in proportion to its nearness
  in pitch; C first. Octaves are folded together; the harmonics of a note stay where they are.
- *Key*: Pearson correlation of the chroma, summed over frames, with the major and minor probe-tone profiles of
  Krumhansl and Kessler in all twelve transpositions. The highest names the key and is the ``key-clarity``, in [0, 1].
- Noise is not 0: white and pink noise of 10 s have about 0.3, a random chroma about 0.5, as the highest of 24
  correlations. Read the number against the controls.

Direction: higher is clearer. A clip without peaks (silence), or with equal strength in all twelve classes, has clarity
0 and no key. Clips of less than 1 s are refused. Sources: Krumhansl and Kessler (1982),
doi:10.1037/0033-295X.89.4.334, for the profiles; Krumhansl, Cognitive Foundations of Musical Pitch (1990), chapter 4,
for the correlation; Gómez (2006), doi:10.1287/ijoc.1040.0126, for chroma from spectral peaks. The peaks' constants
are ours. Version 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.metrics.clip_mean import SampledClipMean
from melody.metrics.spectra import SAMPLE_RATE, clip_at_full_scale, magnitude_blocks
from melody.registry import metrics

SHORTEST_S = 1.0
FFT_SIZE, HOP = 8_192, 1_200
LOWEST_PITCH, PITCH_END = 35.5, 95.5  # C2 and C7 less a quarter tone: five whole octaves
FAINTEST_PEAK = 1e-3
FLATTEST = 1e-6
"""Deviation over the twelve classes, relative to their mean, below which a chroma is flat."""

TONICS = ("C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
PROFILES: dict[Literal["major", "minor"], tuple[float, ...]] = {  # Krumhansl and Kessler (1982), from the tonic up
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


@dataclass(frozen=True)
class Key:
    """A key, and how clear it is."""

    tonic: int
    """Pitch class, C = 0."""
    mode: Literal["major", "minor"]
    clarity: float
    """Correlation with the key's profile, in (0, 1]."""

    @property
    def name(self) -> str:
        """As in ``C major`` and ``F sharp minor``."""
        return f"{TONICS[self.tonic]} {self.mode}"


@dataclass(frozen=True)
class Peaks:
    """Spectral peaks of a clip, one an entry."""

    pitch: Tensor
    """MIDI pitch with its fraction, ``(P,)``."""
    magnitude: Tensor
    """A full-scale sine has 1."""
    frame: Tensor
    frames: int
    """Frames of the clip, those without peaks included."""

    @property
    def tuning(self) -> float:
        """Semitones above equal temperament at A4 = 440 Hz, from −0.5 to 0.5."""
        angle = 2 * math.pi * self.pitch
        return math.atan2(float(self.magnitude @ angle.sin()), float(self.magnitude @ angle.cos())) / (2 * math.pi)

    def chroma(self) -> Tensor:
        """``(frames, 12)``, float64, C first."""
        tuned = self.pitch - self.tuning
        below = tuned.floor()
        share = tuned - below
        chroma = torch.zeros(self.frames * 12, dtype=torch.float64)
        for pitch, weight in ((below, 1 - share), (below + 1, share)):
            chroma.index_add_(0, self.frame * 12 + pitch.long() % 12, self.magnitude * weight)
        return chroma.reshape(self.frames, 12)


def spectral_peaks(samples: Tensor) -> Peaks:
    """Peaks of ``(T,)`` at 24 kHz with full scale 1."""
    parts = []
    frames = 0
    for magnitude in magnitude_blocks(samples, FFT_SIZE, HOP):
        pitch, strength, frame = _block_peaks(magnitude)
        parts.append((pitch, strength, frame + frames))
        frames += magnitude.shape[1]
    pitch, strength, frame = (torch.cat(column) for column in zip(*parts, strict=True))
    return Peaks(pitch, strength, frame, frames)


def chroma(waveform: Tensor, sample_rate: int) -> Tensor:
    """Mono ``(T,)`` or ``(1, T)`` -> chroma ``(frames, 12)``, float64, C first, at 20 Hz.

    Raises:
        MelodyError: not mono, NaN, or shorter than 1 s.
    """
    return spectral_peaks(clip_at_full_scale(waveform, sample_rate, "chroma", SHORTEST_S)).chroma()


def key_of_chroma(strengths: Tensor) -> Key | None:
    """The key of one chroma ``(12,)``, C first, on any scale; None if it is flat."""
    centred = strengths.double() - strengths.double().mean()
    if centred.norm() <= FLATTEST * strengths.double().norm():
        return None
    correlations = _key_profiles() @ (centred / centred.norm())  # (24,)
    best = int(correlations.argmax())
    mode: Literal["major", "minor"] = "major" if best < 12 else "minor"
    return Key(best % 12, mode, min(float(correlations[best]), 1.0))


def key_of(waveform: Tensor, sample_rate: int) -> Key | None:
    """The key of a mono clip; None for silence. Raises as ``chroma``."""
    return key_of_chroma(chroma(waveform, sample_rate).sum(dim=0))


def key_clarity(waveform: Tensor, sample_rate: int) -> float:
    """Correlation of a mono clip's chroma with its key's profile, in [0, 1]. Raises as ``chroma``."""
    key = key_of(waveform, sample_rate)
    return 0.0 if key is None else key.clarity


@metrics.register("key-clarity")
class KeyClarity(SampledClipMean):
    """How clearly a clip is in one key: a proxy, from 0 to 1; noise has about 0.3."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})

    def of_clip(self, waveform: Tensor) -> float:
        return key_clarity(waveform, self.sample_rate)


def _key_profiles() -> Tensor:
    """``(24, 12)``: major keys from C up, then minor, each with mean 0 and norm 1."""
    rows = [torch.tensor(PROFILES[mode], dtype=torch.float64).roll(tonic) for mode in PROFILES for tonic in range(12)]
    profiles = torch.stack(rows)
    centred = profiles - profiles.mean(dim=1, keepdim=True)
    rows_of_norm_1: Tensor = centred / centred.norm(dim=1, keepdim=True)
    return rows_of_norm_1


def _block_peaks(magnitude: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pitch, magnitude (float64) and frame of the peaks in ``(bins, frames)``."""
    lowest, end = (440 * 2 ** ((pitch - 69) / 12) * FFT_SIZE / SAMPLE_RATE for pitch in (LOWEST_PITCH, PITCH_END))
    first = math.floor(lowest)
    part = magnitude[first - 1 : math.ceil(end) + 2].double()
    before, here, after = part[:-2], part[1:-1], part[2:]
    bins, frame = torch.nonzero((here > before) & (here >= after) & (here > FAINTEST_PEAK), as_tuple=True)
    a, b, c = (side[bins, frame].clamp(min=1e-12).log() for side in (before, here, after))
    exact_bin = first + bins + 0.5 * (a - c) / (a - 2 * b + c)
    pitch = 69 + 12 * torch.log2(exact_bin * SAMPLE_RATE / FFT_SIZE / 440)
    inside = (pitch >= LOWEST_PITCH) & (pitch < PITCH_END)
    return pitch[inside], here[bins, frame][inside], frame[inside]
