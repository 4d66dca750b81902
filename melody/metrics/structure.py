"""``structure`` and ``repetition``: proxies of form from a clip's self-similarity, mean over clips.

Proxies of one side of music each, and neither says whether a clip is musical: a loop that never changes repeats in
full, and two unrelated pieces cut together have more structure than either.

- *Features*: mono at 24 kHz, peak at full scale; Hann windows of 8,192 samples (341 ms) every 1,200 (50 ms). Harmony:
  the chroma of ``key-clarity``, each frame at norm 1 (0 without peaks). Timbre: log10(power + 1e-6) in 24 triangular
  bands of the HTK mel scale, 40 Hz to 12 kHz, divided by √24, so that a change of 10 dB in every band has norm 1. Both
  side by side, less their mean over the clip, at norm 1 in each frame; a frame nearer to the mean than 0.05 keeps its
  share.
- *Self-similarity* of two frames: their dot product, in [−1, 1]. What stays the same all through a clip is its mean,
  and so counts neither as structure nor as repetition; unrelated frames are near 0.
- ``structure``: features averaged over 5 frames (250 ms); at each place with 2 s on both sides, half the difference of
  the mean similarity within the sides and that across (pairs at least two frames apart); the highest, in [0, 1]. This
  is Foote's checkerboard kernel, flat instead of tapered. 1: two sections, each the same all through.
- ``repetition``: mean similarity of all pairs of frames at a lag (the beat spectrum), for lags from 1 s to half the
  clip, so that what repeats is heard twice; a peak counts with its height over the lowest value at any lesser lag, and
  at most with its own height; the highest peak, in [0, 1]. 1: a loop; a sound that merely lasts has no such peak. Where
  only a part returns, it is that part's share of the pairs. Beats that repeat alike count as well. Sections that sound
  quite unlike each other hide what repeats within them.

Direction: none, for more of either is better only up to what the reference has. White noise has 0.03 to 0.1 of both; a
clip that does not change (silence, one held tone) has 0 of both. Clips of less than 5 s are refused. Sources: Foote
(2000), doi:10.1109/ICME.2000.869637, for novelty by a checkerboard kernel; Foote and Uchihashi, The beat spectrum (ICME
2001, pages 881-884), for similarity by lag. Features and all constants are ours. Version 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.dsp.mel import mel_filterbank
from melody.metrics.clip_mean import SampledClipMean
from melody.metrics.spectra import SAMPLE_RATE, clip_at_full_scale, magnitude_blocks
from melody.metrics.tonality import FFT_SIZE, HOP, spectral_peaks
from melody.registry import metrics

SHORTEST_S = 5.0
FRAME_RATE = SAMPLE_RATE // HOP
NUM_BANDS, LOWEST_HZ, HIGHEST_HZ = 24, 40.0, 12_000.0
POWER_FLOOR = 1e-6
ROUNDING = 1e-12
"""What the transforms leave of a similarity that is 0, as in silence."""
LEAST_CHANGE = 0.05

POOL = 5
SIDE = 2 * FRAME_RATE // POOL
NEAREST = 2  # pooled frames; the windows of neighbours overlap
SHORTEST_LAG = FRAME_RATE


def clip_features(waveform: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Mono ``(T,)`` or ``(1, T)`` -> harmony ``(F, 12)`` and timbre ``(F, 24)``, float64, at 20 Hz.

    Raises:
        MelodyError: not mono, NaN, or shorter than 5 s.
    """
    samples = clip_at_full_scale(waveform, sample_rate, "structure and repetition", SHORTEST_S)
    bands = mel_filterbank(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ)
    power = torch.cat([bands @ block.square() for block in magnitude_blocks(samples, FFT_SIZE, HOP)], dim=1)
    chroma = spectral_peaks(samples).chroma()
    harmony = chroma / chroma.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return harmony, torch.log10(power.T.double() + POWER_FLOOR)


def embedded_frames(harmony: Tensor, timbre: Tensor) -> Tensor:
    """Features -> ``(F, 36)``, norm 1 at most, whose dot products are the self-similarity."""
    features = torch.cat([harmony, timbre / NUM_BANDS**0.5], dim=1)
    centred = features - features.mean(dim=0)
    frames: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp(min=LEAST_CHANGE)
    return frames


def self_similarity(waveform: Tensor, sample_rate: int) -> Tensor:
    """The self-similarity matrix of a mono clip, ``(F, F)`` in [−1, 1], at 20 Hz. Raises as ``clip_features``."""
    frames = embedded_frames(*clip_features(waveform, sample_rate))
    return frames @ frames.T


def structure(waveform: Tensor, sample_rate: int) -> float:
    """The strongest contrast of 2 s to the 2 s before, in [0, 1]. Raises as ``clip_features``."""
    features = (_pooled(part) for part in clip_features(waveform, sample_rate))
    return min(max(float(_contrast(embedded_frames(*features)).max()), 0.0), 1.0)


def repetition(waveform: Tensor, sample_rate: int) -> float:
    """How much of a mono clip returns after one and the same time, in [0, 1]. Raises as ``clip_features``."""
    frames = embedded_frames(*clip_features(waveform, sample_rate))
    half = (len(frames) + FFT_SIZE // HOP) // 2  # of the clip, which is a window longer than its frames
    spectrum = _similarity_by_lag(frames, half)
    rise = spectrum - spectrum.cummin(dim=0).values
    highest = float(torch.minimum(spectrum, rise)[SHORTEST_LAG:].max())
    return min(highest, 1.0) if highest > ROUNDING else 0.0


@metrics.register("structure")
class Structure(SampledClipMean):
    """How much sections contrast: a proxy, from 0 (none, as in noise) to 1."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "none"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    def of_clip(self, waveform: Tensor) -> float:
        return structure(waveform, self.sample_rate)


@metrics.register("repetition")
class Repetition(SampledClipMean):
    """How much of a clip returns: a proxy, from 0 (nothing, as in noise) to 1 (a loop)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "none"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    def of_clip(self, waveform: Tensor) -> float:
        return repetition(waveform, self.sample_rate)


def _pooled(features: Tensor) -> Tensor:
    """Means of ``POOL`` frames side by side; a last part is left out."""
    whole = len(features) // POOL * POOL
    return features[:whole].reshape(-1, POOL, features.shape[1]).mean(dim=1)


def _contrast(frames: Tensor) -> Tensor:
    """``(F, D)`` -> ``(F − 2 SIDE + 1,)``: half of similarity within less similarity across, by place."""
    windows = frames.unfold(0, 2 * SIDE, 1).transpose(1, 2)  # (places, 2 SIDE, D)
    similarity = windows @ windows.transpose(1, 2)
    index = torch.arange(2 * SIDE)
    counted = (index[:, None] - index).abs() >= NEAREST
    same = (index[:, None] < SIDE) == (index < SIDE)
    within, across = (similarity[:, counted & side].mean(dim=1) for side in (same, ~same))
    return (within - across) / 2


def _similarity_by_lag(frames: Tensor, longest: int) -> Tensor:
    """``(F, D)`` -> ``(longest + 1,)``: the self-similarity's mean along each diagonal, which needs no matrix."""
    count = len(frames)
    spectrum = torch.fft.rfft(frames, 2 * count, dim=0)
    sums = torch.fft.irfft(spectrum.abs().square().sum(dim=1), 2 * count)[: longest + 1]
    means: Tensor = sums / (count - torch.arange(longest + 1))
    return means
