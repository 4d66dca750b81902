"""Which function computes which kind of unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from melody.harness.context import Context
from melody.harness.measuring.generation import count_passes, generate_and_embed, time_generation
from melody.harness.measuring.published import describe_samples
from melody.harness.measuring.reference import denoise_reference, embed_reference
from melody.harness.units import Outcome, Unit

COMPUTE: dict[str, Callable[[dict[str, Any], Context], Outcome]] = {
    "generation": generate_and_embed,
    "timing": time_generation,
    "count": count_passes,
    "reference": embed_reference,
    "denoising": denoise_reference,
    "samples": describe_samples,
}


def compute(unit: Unit, context: Context) -> Outcome:
    """The outcome of a unit, from its config alone; where things lie is in the context."""
    return replace(COMPUTE[unit.kind](unit.config, context), origin=context.origin)
