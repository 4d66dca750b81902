"""Real-time factor, seconds of audio made per second of wall clock.

- Direction: higher is better, as the paper prints it ("7.5×" is 7.5). Unit: ×. Some fields print the inverse.
- One clip at a time is the headline; at a larger batch the audio of all its clips counts, and the batch size is
  stated beside it.
- Timing (``time_calls``): warm-up calls are not timed; the device is synchronised before the clock is read at both
  ends; the median of several runs is taken. Loading is not in it, for the function that is timed is given a system
  that is loaded.
- ``samples_per_second`` is the paper's other unit, Hz: 24,000 times the factor at 24 kHz.

Source: Table 2 of the paper. Version 1.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from melody.devices import synchronize
from melody.errors import MelodyError


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of each timed call, in order."""

    seconds: tuple[float, ...]
    warmup: int

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def real_time_factor(audio_s: float, wall_s: float) -> float:
    """Seconds of audio per second of wall clock; raises ``MelodyError`` unless both are above 0.

    >>> real_time_factor(10.0, 4.0)
    2.5
    """
    if not all(math.isfinite(seconds) and seconds > 0 for seconds in (audio_s, wall_s)):
        raise MelodyError(f"rtf: {audio_s} s of audio in {wall_s} s; expected both above 0")
    return audio_s / wall_s


def samples_per_second(factor: float, sample_rate: int = 24_000) -> float:
    """Audio samples made per second (Table 2's Hz); its 7.5× is 180 kHz, printed as 181.1 kHz.

    >>> samples_per_second(7.5)
    180000.0
    """
    return factor * sample_rate


def time_calls(
    function: Callable[[], object], *, warmup: int = 1, repeats: int = 3, device: str | torch.device = "cpu"
) -> Timing:
    """Time calls of ``function``, which holds a loaded system; first ``warmup`` calls that are not timed.

    Raises:
        MelodyError: fewer than one repeat, or less than no warm-up.
    """
    if repeats < 1 or warmup < 0:
        raise MelodyError(f"timing: {warmup} warm-up calls and {repeats} repeats; expected 0 or more, and 1 or more")
    for _ in range(warmup):
        function()
    return Timing(tuple(_seconds(function, torch.device(device)) for _ in range(repeats)), warmup)


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    begin = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - begin
