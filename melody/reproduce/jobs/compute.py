"""Which function computes which kind of unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from melody.reproduce.context import Context
from melody.reproduce.jobs.attribute_classifiers import train_classifiers
from melody.reproduce.jobs.clip_variants import hear_sounds
from melody.reproduce.jobs.components import embed_pairs, predict_tokens, predict_velocity, through_codec, tokenize
from melody.reproduce.jobs.continuation import continue_clips
from melody.reproduce.jobs.counting import count_work, run_counted
from melody.reproduce.jobs.denoiser_ablation import score_study
from melody.reproduce.jobs.generation import count_passes, generate_and_embed, time_generation
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.jobs.overlap import count_overlap
from melody.reproduce.jobs.published_samples import describe_samples
from melody.reproduce.jobs.reference_clips import denoise_reference, embed_control, embed_reference
from melody.reproduce.jobs.speed import time_system

COMPUTE: dict[str, Callable[[dict[str, Any], Context], JobResult]] = {
    "generation": generate_and_embed,
    "timing": time_generation,
    "count": count_passes,
    "continuation": continue_clips,
    "reference": embed_reference,
    "control": embed_control,
    "denoising": denoise_reference,
    "denoising-study": score_study,
    "samples": describe_samples,
    "judges": train_classifiers,
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


def compute(unit: Job, context: Context) -> JobResult:
    """The outcome of a unit, from its config alone; where things lie is in the context."""
    return replace(COMPUTE[unit.kind](unit.config, context), origin=context.origin)
