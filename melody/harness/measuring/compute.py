"""Which function computes which kind of unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from melody.harness.context import Context
from melody.harness.measuring.continuation import continue_clips
from melody.harness.measuring.counting import count_work, run_counted
from melody.harness.measuring.generation import count_passes, generate_and_embed, time_generation
from melody.harness.measuring.hearing import learn_judges
from melody.harness.measuring.overlap import count_overlap
from melody.harness.measuring.parts import embed_pairs, predict_tokens, predict_velocity, through_codec, tokenize
from melody.harness.measuring.published import describe_samples
from melody.harness.measuring.reference import denoise_reference, embed_control, embed_reference
from melody.harness.measuring.sounds import hear_sounds
from melody.harness.measuring.speed import time_system
from melody.harness.measuring.study import score_study
from melody.harness.units import Outcome, Unit

COMPUTE: dict[str, Callable[[dict[str, Any], Context], Outcome]] = {
    "generation": generate_and_embed,
    "timing": time_generation,
    "count": count_passes,
    "continuation": continue_clips,
    "reference": embed_reference,
    "control": embed_control,
    "denoising": denoise_reference,
    "denoising-study": score_study,
    "samples": describe_samples,
    "judges": learn_judges,
    "sounds": hear_sounds,
    "overlap": count_overlap,
    "codec": through_codec,
    "tokens": tokenize,
    "language-model": predict_tokens,
    "denoiser": predict_velocity,
    "pairs": embed_pairs,
    "work": count_work,
    "counted-run": run_counted,
    "speed": time_system,
}


def compute(unit: Unit, context: Context) -> Outcome:
    """The outcome of a unit, from its config alone; where things lie is in the context."""
    return replace(COMPUTE[unit.kind](unit.config, context), origin=context.origin)
