"""What a call may set, checked before anything is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch

from melody import registry
from melody.bounds import MAX_GUIDANCE, MAX_SEED, MAX_STEPS, shown
from melody.config import Generation as Defaults
from melody.errors import MelodyError
from melody.protocols import Sampler

MAX_DURATION_S = 3600.0
Progress = Callable[[str, int, int], None]
"""``progress(part, done, total)``, over the whole call."""


class Options(TypedDict, total=False):
    """What every way to make music takes; what is not given is the preset's."""

    num_steps: int | None
    """Sampler steps of each run."""
    sampler: Any
    """Name or instance."""
    grid: Any
    """Name, function or angles."""
    guidance_scale: float | None
    """1 is without guidance."""
    seeds: int | Sequence[int]
    """One a row; a single seed s gives row i the seed s + i. A row's seed decides its bits: the same alone as in a
    batch, to rounding."""
    progress: Progress | None


@dataclass(frozen=True)
class Settings:
    """Options with the preset's defaults filled in."""

    defaults: Defaults
    sampler: Sampler
    grid: Any
    num_steps: int
    guidance_scale: float
    seeds: list[int]
    progress: Progress | None

    @classmethod
    def of(
        cls,
        defaults: Defaults,
        rows: int,
        *,
        num_steps: int | None = None,
        sampler: Any = None,
        grid: Any = None,
        guidance_scale: float | None = None,
        seeds: int | Sequence[int] = 0,
        progress: Progress | None = None,
    ) -> Settings:
        """Raises ``MelodyError`` for settings that cannot be."""
        return cls(
            defaults,
            _sampler(sampler or defaults.sampler),
            defaults.grid if grid is None else grid,
            _check_steps(defaults.num_steps if num_steps is None else num_steps),
            _check_guidance(defaults.guidance_scale if guidance_scale is None else guidance_scale),
            _row_seeds(seeds, rows),
            progress,
        )

    def generators(self, purpose: str, device: torch.device) -> list[torch.Generator]:
        """One independent random stream a row and purpose, so that more steps do not change the tokens."""
        return [_generator(seed, purpose, device) for seed in self.seeds]


def check_duration(duration_s: float) -> float:
    """Raises ``MelodyError`` unless it is a number of seconds above 0, and an hour at most."""
    if not 0 < duration_s <= MAX_DURATION_S:
        raise MelodyError(
            f"the duration is {shown(duration_s)} s: expected more than 0 and at most {MAX_DURATION_S:.0f} s"
        )
    return float(duration_s)


def _generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    entropy = [seed, int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def _row_seeds(seeds: int | Sequence[int], rows: int) -> list[int]:
    given = [seeds + row for row in range(rows)] if isinstance(seeds, int) else list(seeds)
    if len(given) != rows:
        raise MelodyError(f"expected one seed a prompt: got {len(given)} seeds for {rows} prompts")
    if any(seed < 0 for seed in given):
        raise MelodyError(f"a seed is 0 or more, got {shown(min(given))}")
    if any(seed > MAX_SEED for seed in given):
        raise MelodyError(f"a seed is below 2^63, got {shown(max(given))}")
    return given


def _sampler(sampler: str | Sampler) -> Sampler:
    if isinstance(sampler, str):
        created: Sampler = registry.samplers.create(sampler)
        return created
    if not isinstance(sampler, Sampler):
        raise MelodyError(f"expected a sampler or the name of one, got {type(sampler).__name__}")
    return sampler


def _check_steps(num_steps: int) -> int:
    if not isinstance(num_steps, int) or not 1 <= num_steps <= MAX_STEPS:
        raise MelodyError(f"the number of steps is {shown(num_steps)}: expected 1 or more, and at most {MAX_STEPS:,}")
    return num_steps


def _check_guidance(scale: float) -> float:
    if not 0 <= scale <= MAX_GUIDANCE:
        raise MelodyError(f"the guidance scale is {shown(scale)}: expected a number from 0 to {MAX_GUIDANCE:,.0f}")
    return scale
