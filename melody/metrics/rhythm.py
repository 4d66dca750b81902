"""``beat-strength`` and ``tempo-stability``: proxies of how clear and how steady the beat is, mean over clips.

They are proxies of one side of music each, and say nothing of whether a clip is musical: a metronome has both in full.

- *Onset strength*: mono at 24 kHz, peak at full scale; power in 40 triangular bands of the HTK mel scale, 40 Hz to
  12 kHz, from Hann windows of 1,024 samples every 240 (10 ms); log10(power + 1e-6); its rise from frame to frame, falls
  as zero, mean over bands; smoothed by a Gaussian of deviation 15 ms, less its mean over the second around.
- *Tempo*: the autocorrelation of onset strength, each lag by the number of its products, 1 at lag 0, times a
  log-Gaussian prior centred on 120 BPM with a deviation of 1 octave; its highest value from 40 to 240 BPM, placed
  between lags by a parabola. Twice and half the tempo are told apart by the prior alone.
- ``beat-strength``: the autocorrelation (without the prior) at that tempo, in [0, 1]; 1 is a metronome. White noise
  has 0.05 to 0.2 over 10 s, as the highest of many lags. Higher is a stronger beat.
- ``tempo-stability``: windows of 4 s every 0.5 s; in each the highest autocorrelation within 20 % of the clip's tempo
  gives a local tempo; mean over windows of exp(−d² / 2), d the distance of the local tempo to the median local tempo,
  in units of 4 % (log ratio). In [0, 1]; a spread of 1 % gives about 0.97, of 4 % 0.7; white noise has 0.4 to 0.7, as
  windows overlap. Windows without onsets count 0. Higher is steadier.
- *Beats* are tracked by dynamic programming with a tightness of 100; no metric counts them.

A clip without onsets (silence, one held tone) has beat strength 0, stability 0 and no tempo. Clips of less than 5 s are
refused. Sources: Ellis (2007), doi:10.1080/09298210701653344, for onset strength, prior and beats; Lartillot, Eerola,
Toiviainen and Fornari, Multi-feature modeling of pulse clarity (ISMIR 2008, pages 521-526), for the height of the
autocorrelation as pulse clarity; Gouyon et al. (2006), doi:10.1109/TSA.2005.858509, for 4 % as the tolerance of tempo.
All other constants are ours. Version 1.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.dsp.mel import mel_filterbank
from melody.metrics.clip_mean import SampledClipMean
from melody.metrics.spectra import SAMPLE_RATE, clip_at_full_scale, magnitude_blocks
from melody.registry import metrics

SHORTEST_S = 5.0
FFT_SIZE, HOP = 1_024, 240
FRAME_RATE = SAMPLE_RATE // HOP
NUM_BANDS, LOWEST_HZ, HIGHEST_HZ = 40, 40.0, 12_000.0
POWER_FLOOR = 1e-6
SMOOTHING_FRAMES, MEAN_FRAMES = 1.5, 101
FAINTEST_ONSET = 1e-3  # root mean square; a hundredth of a decibel

SLOWEST_BPM, FASTEST_BPM = 40.0, 240.0
PRIOR_BPM, PRIOR_OCTAVES = 120.0, 1.0
WINDOW, WINDOW_HOP = 4 * FRAME_RATE, FRAME_RATE // 2
LOCAL_RANGE, TOLERANCE = 0.2, 0.04
TIGHTNESS = 100.0


def onset_strength(waveform: Tensor, sample_rate: int) -> Tensor:
    """Mono ``(T,)`` or ``(1, T)`` -> onset strength ``(F,)`` at 100 Hz, mean about 0; all 0 without onsets.

    Frame ``i`` tells of the time ``frame_time_s(i)``.

    Raises:
        MelodyError: not mono, NaN, or shorter than 5 s.
    """
    samples = clip_at_full_scale(waveform, sample_rate, "onset strength", SHORTEST_S)
    bands = mel_filterbank(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ)
    power = torch.cat([bands @ block.square() for block in magnitude_blocks(samples, FFT_SIZE, HOP)], dim=1)
    rise = torch.log10(power + POWER_FLOOR).diff(dim=1).clamp(min=0).mean(dim=0)
    smooth = _smoothed(rise, SMOOTHING_FRAMES)
    mean = torch.nn.functional.avg_pool1d(
        smooth[None], MEAN_FRAMES, stride=1, padding=MEAN_FRAMES // 2, count_include_pad=False
    )[0]
    onsets = smooth - mean
    return onsets if onsets.square().mean().sqrt() > FAINTEST_ONSET else torch.zeros_like(onsets)


def tempo_bpm(waveform: Tensor, sample_rate: int) -> float | None:
    """Tempo of a mono clip in BPM, 40 to 240; None without onsets. Raises as ``onset_strength``."""
    onsets = onset_strength(waveform, sample_rate)
    return 60 * FRAME_RATE / _period(_autocorrelation(onsets)) if onsets.any() else None


def beat_strength(waveform: Tensor, sample_rate: int) -> float:
    """Height of the autocorrelation of onset strength at the tempo, in [0, 1]. Raises as ``onset_strength``."""
    onsets = onset_strength(waveform, sample_rate)
    if not onsets.any():
        return 0.0
    correlation = _autocorrelation(onsets)
    return min(max(float(correlation[_tempo_lag(correlation)]), 0.0), 1.0)


def tempo_stability(waveform: Tensor, sample_rate: int) -> float:
    """How far local tempi agree with their median, in [0, 1]. Raises as ``onset_strength``."""
    onsets = onset_strength(waveform, sample_rate)
    if not onsets.any():
        return 0.0
    lag = _tempo_lag(_autocorrelation(onsets))
    low, high = math.floor(lag * (1 - LOCAL_RANGE)), math.ceil(lag * (1 + LOCAL_RANGE))
    windows = onsets.unfold(0, WINDOW, WINDOW_HOP)
    heard = windows[windows.square().mean(dim=1).sqrt() > FAINTEST_ONSET]
    if not len(heard):
        return 0.0
    correlations = _autocorrelation(heard - heard.mean(dim=1, keepdim=True))
    lags = (low + correlations[:, low : high + 1].argmax(dim=1)).tolist()
    periods = torch.tensor([_between(row, local) for row, local in zip(correlations, lags, strict=True)])
    distance = (periods.double() / periods.median()).log() / TOLERANCE
    return float(torch.exp(-distance.square() / 2).sum()) / len(windows)


def beats_s(waveform: Tensor, sample_rate: int) -> Tensor:
    """Times of a mono clip's beats in seconds, rising, float64; none without onsets. Raises as ``onset_strength``."""
    onsets = onset_strength(waveform, sample_rate)
    if not onsets.any():
        return torch.zeros(0, dtype=torch.float64)
    period = _period(_autocorrelation(onsets))
    local = _smoothed(onsets / onsets.std(), period / 32).double().numpy()
    score, before = _best_paths(local, period)
    beat = len(score) - round(period) + int(np.argmax(score[-round(period) :]))
    beats = []
    while beat >= 0:
        beats.append(beat)
        beat = int(before[beat])
    return frame_time_s(torch.tensor(_without_weak_ends(beats[::-1], local), dtype=torch.float64))


def frame_time_s(frame: Tensor) -> Tensor:
    """Time that frames of onset strength tell of: an onset is strongest as it comes to the window's last quarter."""
    return ((frame + 1) * HOP + 0.75 * FFT_SIZE) / SAMPLE_RATE


@metrics.register("beat-strength")
class BeatStrength(SampledClipMean):
    """How clear the beat is: a proxy, from 0 to 1 (a metronome)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})

    def of_clip(self, waveform: Tensor) -> float:
        return beat_strength(waveform, self.sample_rate)


@metrics.register("tempo-stability")
class TempoStability(SampledClipMean):
    """How steady the tempo is: a proxy, from 0 to 1 (a metronome)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})

    def of_clip(self, waveform: Tensor) -> float:
        return tempo_stability(waveform, self.sample_rate)


def _smoothed(onsets: Tensor, deviation: float) -> Tensor:
    """Convolved with a Gaussian of this deviation in frames, of sum 1."""
    reach = math.ceil(4 * deviation)
    taps = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * deviation**2))
    return torch.nn.functional.conv1d(onsets[None, None], (taps / taps.sum())[None, None], padding=reach)[0, 0]


def _autocorrelation(onsets: Tensor) -> Tensor:
    """``(..., F)`` -> ``(..., F // 2)``: mean of the products at each lag, 1 at lag 0; 0 where there are no onsets."""
    frames = onsets.shape[-1]
    spectrum = torch.fft.rfft(onsets, 2 * frames)
    products = torch.fft.irfft(spectrum.abs().square(), 2 * frames)[..., : frames // 2]
    means = products / (frames - torch.arange(frames // 2))
    normalised: Tensor = means / means[..., :1].clamp(min=FAINTEST_ONSET**2)
    return normalised


def _tempo_lag(correlation: Tensor) -> int:
    """The lag in frames with the highest autocorrelation times prior."""
    low, high = math.ceil(60 * FRAME_RATE / FASTEST_BPM), math.floor(60 * FRAME_RATE / SLOWEST_BPM)
    lag = torch.arange(low, high + 1)
    octaves = torch.log2(60 * FRAME_RATE / lag / PRIOR_BPM)
    return low + int((correlation[lag].clamp(min=0) * torch.exp(-((octaves / PRIOR_OCTAVES) ** 2) / 2)).argmax())


def _period(correlation: Tensor) -> float:
    """Frames from beat to beat."""
    return _between(correlation, _tempo_lag(correlation))


def _between(correlation: Tensor, lag: int) -> float:
    """The top of the parabola through a lag and its neighbours; the lag itself where it is no peak."""
    before, here, after = (float(value) for value in correlation[lag - 1 : lag + 2])
    bend = before - 2 * here + after
    return lag + 0.5 * (before - after) / bend if here >= max(before, after) and bend < 0 else float(lag)


def _best_paths(local: NDArray[np.float64], period: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Best score of beats that end in each frame, and the beat before it (−1: none). Ellis (2007), section 2."""
    distance = np.arange(round(2 * period), round(period / 2) - 1, -1)
    penalty = -TIGHTNESS * np.log(distance / period) ** 2
    score, before = local.copy(), np.full(len(local), -1)
    for frame in range(distance[-1], len(local)):
        reach = distance <= frame  # of the beats before this frame, those inside the clip
        candidates = score[frame - distance[reach]] + penalty[reach]
        best = int(np.argmax(candidates))
        if candidates[best] > 0:  # else this frame is a first beat
            score[frame] += candidates[best]
            before[frame] = frame - distance[reach][best]
    return score, before


def _without_weak_ends(beats: list[int], local: NDArray[np.float64]) -> list[int]:
    """Beats from the first to the last with half the median beat's onset strength: silence at the ends has none."""
    strength = local[beats]
    strong = np.flatnonzero(strength >= 0.5 * np.median(strength))
    return beats[strong[0] : strong[-1] + 1] if len(strong) else []
