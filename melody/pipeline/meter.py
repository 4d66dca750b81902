"""What one call of a system costs: seconds by part, and forward passes by hooks, held to the formula."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from melody.devices import synchronize
from melody.errors import MelodyError
from melody.pipeline.counters import counting
from melody.protocols import GenerationStats


class PassCounter:
    """Clock and counters of one call that makes ``rows`` clips on a device; ``trace`` is what they read."""

    def __init__(self, device: torch.device, rows: int) -> None:
        self.device, self.rows = device, rows
        self.trace = GenerationStats()

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds spent within to a part's."""
        synchronize(self.device)
        begin = time.perf_counter()
        yield
        synchronize(self.device)
        self.trace.seconds[part] = self.trace.seconds.get(part, 0.0) + time.perf_counter() - begin

    @contextmanager
    def counted(self, part: str, network: nn.Module, windows: int = 1) -> Iterator[None]:
        """Count the network's forward calls, and those weighted by guidance: two for a call on both halves.

        Args:
            windows: of each clip, side by side as rows of a call; they are no halves of guidance.
        """
        passes, weighted = self.trace.passes, self.trace.weighted_passes

        def note(rows: int) -> None:
            passes[part] = passes.get(part, 0) + 1
            weighted[part] = weighted.get(part, 0) + rows // (self.rows * windows)

        with counting(network, note):
            yield

    @contextmanager
    def metered(self, part: str, network: nn.Module) -> Iterator[None]:
        """Both."""
        with self.timed(part), self.counted(part, network):
            yield

    def check_passes(self, formula: dict[str, int]) -> None:
        """Hold the hooks to the formula; a part that makes another number of passes than it declares is refused.

        Raises:
            MelodyError: the two differ.
        """
        self.trace.formula = formula
        for part, expected in formula.items():
            counted = self.trace.passes.get(part, 0)
            if counted != expected:
                raise MelodyError(f"{part}: {counted} forward passes were counted, but the formula gives {expected}")
