"""Where the sampler's runs begin and end, and what they cost by formula (Algorithms 1 and 2, Table 3)."""

from __future__ import annotations

import math

from melody.config import Preset


def segment_ends(duration_s: float, segment_s: float, chunks: int) -> list[float]:
    """Where each sampler run ends, in seconds: one segment, then a chunk more at a time (Algorithm 2).

    >>> segment_ends(15.0, 10.0, 4)
    [10.0, 12.5, 15.0]
    """
    if duration_s <= segment_s:
        return [duration_s]
    chunk_s = segment_s / chunks
    count = math.ceil((duration_s - segment_s) / chunk_s - 1e-9)
    return [segment_s + index * chunk_s for index in range(count + 1)]


def expected_passes(
    preset: Preset, token_rate: float, duration_s: float, num_steps: int, evaluations_per_step: int
) -> dict[str, int]:
    """Forward passes by part, by formula: 25·T + num_steps at one segment (Table 3), more sampler runs beyond it."""
    ends = segment_ends(duration_s, preset.generation.segment_s, preset.generation.chunks)
    return {
        "language_model": whole(ends[-1] * token_rate),
        "denoiser": len(ends) * num_steps * evaluations_per_step,
    }


def whole(count: float) -> int:
    """The next whole number, where rounding of a duration must not add one: 0.28 s hold 7.000000000000001 at 25 Hz."""
    return math.ceil(count - 1e-9)
