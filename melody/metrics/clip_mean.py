"""Metrics that each clip has for itself: the number of one clip, and its mean over clips."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
import torchmetrics
from torch import Tensor

from melody.checks import check_scored
from melody.errors import MelodyError
from melody.protocols import Metric, Takes


class ClipMean(torchmetrics.Metric, Metric):
    """Mean over clips of a number that each clip has for itself."""

    version: ClassVar[str] = "1"
    takes: ClassVar[Takes] = "clips"
    unit: ClassVar[str] = ""
    full_state_update: bool | None = False

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def of_clips(self, waveform: Tensor) -> Tensor:
        """Clips ``(B, 1, T)`` -> float64 ``(B,)``: what the mean and intervals over clips are made of."""

    def update(self, waveform: Tensor) -> None:
        """Add clips ``(B, 1, T)``."""
        values = self.of_clips(waveform)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean over clips."""
        check_scored(self.scored, type(self).__name__)
        return self.total / self.count

    @property
    def scored(self) -> int:
        """Clips."""
        return int(self.count)


class SampledClipMean(ClipMean):
    """``ClipMean`` of a function of one clip and its sample rate."""

    def __init__(self, sample_rate: int = 24_000) -> None:
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
