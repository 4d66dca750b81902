"""``loudness``: integrated programme loudness by ITU-R BS.1770-4, mean over clips.

- Definition: K-weighting (a high shelf of about +4 dB, then a high-pass at 38 Hz); mean square in blocks of 400 ms
  every 100 ms, summed over channels with their weights; loudness of a block −0.691 + 10 log10; blocks at or below
  −70 LUFS dropped, then those at or below 10 LU under the mean of what is left. A part that fills no block is left out.
- It hears the file as it is (``hears = "file"``): all channels, at its own rate. Weights: 1, but 1.41 for the
  surround channels between 60° and 120° (annex 3), and none for the low-frequency effects (annex 1). Which channel is
  which the file says (a WAV's mask; the order of Vorbis and of Opus), else the order of WAV for 1 to 8 channels.
  ``BL BR`` without side channels are the standard's Ls and Rs; with them they lie behind 120°, and weigh 1.
- A full-scale 997 Hz sine in one channel has −3.01 LUFS; a mono file counts as one channel, so 3.01 LU less than
  the same in both.
- K-weighting at any rate: the standard prints coefficients for 48 kHz only. They are the bilinear transform, with
  pre-warping, of the two analogue filters below; the same transform at another rate of 16 kHz or more gives the same
  response to 0.07 dB below 3 kHz (0.02 dB at 997 Hz for 24 kHz). Below 16 kHz it does not (0.29 dB for 8 kHz, and
  0.20 dB at 997 Hz), so such sound is brought to 48 kHz first. The standard's second numerator is 1, −2, 1, which has
  a pass-band gain of 1.005; we keep that gain at every rate.
- No direction: neither louder nor softer is better. Unit: LUFS.
- Silence (no block above the gate) is −∞. Such clips are counted in ``silent`` and stay out of the mean; if all are
  silent the metric is −∞.

Sources: ITU-R BS.1770-4 (2015), annex 1; EBU Tech 3341 (2016) for the test signals. Version 2: until then it heard
the mean of the channels at 24 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.bounds import SampleRate
from melody.checks import check_finite, check_scored
from melody.data.audio import resampled
from melody.data.layouts import layout_of
from melody.errors import MelodyError
from melody.metrics.base import TorchMetric
from melody.protocols import InputKind, Metric
from melody.registry import metrics

Floats = NDArray[np.float64]

# The analogue filters whose bilinear transform at 48 kHz gives the coefficients of BS.1770-4, tables 1 and 2.
SHELF_HZ, SHELF_Q, SHELF_GAIN_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
SHELF_MIDDLE_EXPONENT = 0.4996667741545416  # gain at the corner, as a power of the shelf's gain
HIGH_PASS_HZ, HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773
STANDARD_RATE = 48_000
OFFSET_DB = -0.691
BLOCK_S, STEP_S = 0.4, 0.1
LOWEST_RATE = 16_000
"""Ours, in Hz: below it the bilinear transform bends the shelf, and sound is resampled to the standard's rate."""
LFE = ("LFE",)
SIDES = ("SL", "SR")
SURROUND_WEIGHT = 1.41
"""BS.1770-4, annex 1, table 3."""
PIECE_S = 60
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0


def k_weighting(sample_rate: int) -> list[tuple[Floats, Floats]]:
    """The two filters at ``sample_rate``, each as numerator and denominator ``(3,)``, denominator first 1.

    Raises:
        MelodyError: a rate below 16 kHz, where the shelf has no room.
    """
    if sample_rate < LOWEST_RATE:
        raise MelodyError(f"loudness: the sample rate is {sample_rate} Hz; expected at least {LOWEST_RATE} Hz")
    from scipy.signal import bilinear  # late: a second of every command that needs none of it

    shelf_omega = _prewarped(SHELF_HZ, sample_rate)
    gain = 10 ** (SHELF_GAIN_DB / 20)
    numerator = [gain, gain**SHELF_MIDDLE_EXPONENT * shelf_omega / SHELF_Q, shelf_omega**2]
    shelf = bilinear(numerator, [1.0, shelf_omega / SHELF_Q, shelf_omega**2], sample_rate)
    omega = _prewarped(HIGH_PASS_HZ, sample_rate)
    high, low = bilinear([1.0, 0.0, 0.0], [1.0, omega / HIGH_PASS_Q, omega**2], sample_rate)
    # Tangent of half the corner's angle at the standard's rate: its numerator, 1 −2 1, lacks this division.
    corner = math.tan(math.pi * HIGH_PASS_HZ / STANDARD_RATE)
    return [shelf, (high * (1 + corner / HIGH_PASS_Q + corner**2), low)]


def channel_weights(channels: int, layout: str = "") -> Floats:
    """Weights ``(channels,)`` of the standard by the speakers' names, those of WAV's order if none are given.

    >>> channel_weights(6).tolist()
    [1.0, 1.0, 1.0, 0.0, 1.41, 1.41]

    Raises:
        MelodyError: another number of names, or a number of channels that has no order.
    """
    names = (layout or layout_of(channels, "")).split()
    if len(names) != channels:
        raise MelodyError(f"loudness: {channels} channels whose speakers are not known; expected 1 to 8, or a layout")
    surround = SIDES if set(SIDES) & set(names) else ("BL", "BR")
    return np.array([0.0 if name in LFE else SURROUND_WEIGHT if name in surround else 1.0 for name in names])


def integrated_loudness(waveform: Tensor, sample_rate: int, layout: str = "") -> float:
    """Integrated loudness in LUFS of ``(T,)`` or ``(channels, T)``; −∞ for silence.

    Args:
        layout: the channels' speakers, as in ``"FL FR FC LFE BL BR"``; WAV's order if none is given.
    Raises:
        MelodyError: channels whose speakers are not known, audio shorter than a block of 0.4 s, or NaN.
    """
    channels = _channels(waveform)
    weights = channel_weights(len(channels), layout)
    if sample_rate < LOWEST_RATE:
        rows = [resampled(torch.from_numpy(np.ascontiguousarray(row)), sample_rate, STANDARD_RATE) for row in channels]
        channels, sample_rate = torch.stack(rows).numpy(), STANDARD_RATE
    power = _block_power(channels, sample_rate, weights)
    loud = power[_lufs(power) > ABSOLUTE_GATE_LUFS]
    if len(loud) == 0:
        return -math.inf
    gate = float(_lufs(loud.mean())) + RELATIVE_GATE_LU
    return float(_lufs(loud[_lufs(loud) > gate].mean()))


@metrics.register("loudness")
class Loudness(TorchMetric, Metric):
    """Integrated loudness by ITU-R BS.1770-4, mean over the clips that are not silent."""

    version: ClassVar[str] = "2"
    input_kind: ClassVar[InputKind] = "waveforms"
    hears: ClassVar[Literal["mix", "file"]] = "file"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "none"
    tells: ClassVar[frozenset[str] | None] = frozenset({"silence"})
    unit: ClassVar[str] = "LUFS"
    full_state_update: bool | None = False

    total: Tensor
    count: Tensor
    silent: Tensor

    def __init__(self, sample_rate: SampleRate = 24_000, layout: str = "") -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.layout = layout
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("silent", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def of_clips(self, waveform: Tensor) -> Tensor:
        """Clips ``(B, channels, T)`` -> float64 ``(B,)``, −∞ for silence."""
        if waveform.ndim != 3:
            raise MelodyError(f"loudness: clips have shape {tuple(waveform.shape)}; expected (B, channels, T)")
        values = [integrated_loudness(clip, self.sample_rate, self.layout) for clip in waveform]
        return torch.tensor(values, dtype=torch.float64, device=waveform.device)

    def update(self, waveform: Tensor) -> None:
        """Add clips ``(B, channels, T)``, all of them or, if one is refused, none."""
        values = self.of_clips(waveform)
        audible = torch.isfinite(values)
        self.total += values[audible].sum()
        self.count += len(values)
        self.silent += (~audible).sum()

    def compute(self) -> Tensor:
        """Mean over clips that are not silent; −∞ if all are."""
        check_scored(self.scored, "loudness")
        audible = self.count - self.silent
        return self.total / audible if audible else torch.tensor(-math.inf, dtype=torch.float64)

    @property
    def scored(self) -> int:
        """Clips, silent ones included."""
        return int(self.count)


def _prewarped(frequency_hz: float, sample_rate: int) -> float:
    return 2 * sample_rate * math.tan(math.pi * frequency_hz / sample_rate)


def _channels(waveform: Tensor) -> NDArray[np.floating[Any]]:
    check_finite(waveform, "loudness: the waveform")
    channels: NDArray[np.floating[Any]] = np.atleast_2d(waveform.detach().cpu().numpy())
    if channels.ndim != 2:
        raise MelodyError(f"loudness: the waveform has shape {tuple(waveform.shape)}; expected (T,) or (channels, T)")
    return channels


def _block_power(channels: NDArray[np.floating[Any]], sample_rate: int, weights: Floats) -> Floats:
    """K-weighted mean square of each block, summed over channels by weight; a minute is filtered at a time."""
    block, step = round(BLOCK_S * sample_rate), round(STEP_S * sample_rate)
    if channels.shape[1] < block:
        raise MelodyError(f"loudness: {channels.shape[1] / sample_rate:.3f} s of audio; expected at least {BLOCK_S} s")
    power, square = [], np.zeros(0)
    for weighted in _weighted(channels, sample_rate):
        square = np.concatenate([square, weights @ np.square(weighted)])
        cumulative = np.concatenate([[0.0], np.cumsum(square)])
        starts = np.arange(0, len(square) - block + 1, step)
        power.append(np.maximum((cumulative[starts + block] - cumulative[starts]) / block, 0.0))
        square = square[len(starts) * step :]  # from the first block on that is not full yet
    return np.concatenate(power)


def _weighted(channels: NDArray[np.floating[Any]], sample_rate: int) -> Iterator[Floats]:
    """The K-weighted channels, a minute at a time, float64; the filters keep their states in between."""
    from scipy.signal import lfilter  # late: a second of every command that needs none of it

    filters = k_weighting(sample_rate)
    states = [np.zeros((len(channels), 2)) for _ in filters]
    length = PIECE_S * sample_rate
    for first in range(0, channels.shape[1], length):
        piece: Floats = channels[:, first : first + length].astype(np.float64)
        for index, (numerator, denominator) in enumerate(filters):
            piece, states[index] = lfilter(numerator, denominator, piece, zi=states[index])
        yield piece


def _lufs(power: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        loudness: Floats = OFFSET_DB + 10 * np.log10(power)
    return loudness
