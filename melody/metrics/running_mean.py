"""The sum and the count of many numbers, and their mean: the state of every metric that is a mean over items."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from melody.checks import check_scored
from melody.metrics.base import TorchMetric
from melody.protocols import Metric


class RunningMean(TorchMetric, Metric):
    """Mean over items of a number that each has for itself; ``update`` calls ``add``."""

    version: ClassVar[str] = "1"
    unit: ClassVar[str] = ""
    full_state_update: bool | None = False

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add the numbers of some items ``(B,)``."""
        self.total += values.to(torch.float64).sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean over items; raises ``MelodyError`` if there are none."""
        check_scored(self.scored, type(self).__name__)
        return self.total / self.count

    @property
    def scored(self) -> int:
        """Items."""
        return int(self.count)
