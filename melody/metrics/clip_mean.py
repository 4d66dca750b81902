"""Metrics that each clip has for itself: the number of one clip, and its mean over clips."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from melody.bounds import SampleRate
from melody.errors import MelodyError
from melody.metrics.running_mean import RunningMean
from melody.protocols import InputKind


class ClipMean(RunningMean):
    """Mean over clips of a number that each clip has for itself."""

    input_kind: ClassVar[InputKind] = "waveforms"

    @abstractmethod
    def of_clips(self, waveform: Tensor) -> Tensor:
        """Clips ``(B, 1, T)`` -> float64 ``(B,)``: what the mean and intervals over clips are made of."""

    def update(self, waveform: Tensor) -> None:
        """Add clips ``(B, 1, T)``."""
        self.add(self.of_clips(waveform))


class SampledClipMean(ClipMean):
    """``ClipMean`` of a function of one clip and its sample rate."""

    def __init__(self, sample_rate: SampleRate = 24_000) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    @abstractmethod
    def of_clip(self, waveform: Tensor) -> float:
        """One clip ``(T,)`` at the metric's sample rate -> its number."""

    def of_clips(self, waveform: Tensor) -> Tensor:
        """Clips ``(B, 1, T)`` -> float64 ``(B,)``, each by itself."""
        if waveform.ndim != 3 or waveform.shape[1] != 1 or waveform.numel() == 0:
            shape = tuple(waveform.shape)
            raise MelodyError(f"{type(self).__name__}: clips have shape {shape}; expected mono (B, 1, T) with T > 0")
        values = [self.of_clip(clip) for clip in waveform[:, 0]]
        return torch.tensor(values, dtype=torch.float64, device=waveform.device)
