"""Sounds that are no music, as controls: white noise at −20 dB of full scale, and silence."""

from __future__ import annotations

import torch

from melody.data.recordings import AudioInfo, Recording
from melody.protocols import CONTROLS

NOISE, SILENCE, REPEATED, TEXTS_SHUFFLED, TARGETS_SHUFFLED = CONTROLS
ALIKE = (SILENCE, REPEATED)
"""Controls whose clips are all one: their distance to a set has no interval."""
NOISE_LEVEL = 0.1


def control_sound(name: str, number: int, count: int, sample_rate: int, seed: int) -> Recording:
    """``count`` samples of a control's clip; noise is drawn by the seed and the clip's place."""
    waveform = torch.zeros(count)
    if name == NOISE:
        generator = torch.Generator().manual_seed(1_000_003 * seed + number)
        waveform = NOISE_LEVEL * torch.randn(count, generator=generator)
    return Recording(waveform, AudioInfo(sample_rate, 1, count, float(waveform.abs().max()), name))
