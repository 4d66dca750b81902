"""A unit that counts what training has met of a card's prompts, and the line that it makes at the head of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from melody.artifacts.code_identity import source_hash
from melody.data import overlap
from melody.data.embedded import DEFAULT_SIZES
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.clip_variants import caption_of
from melody.reproduce.jobs.job import Failure, Job, JobResult

TRAINING_CLIPS = DEFAULT_SIZES["train"]


def overlap_jobs(context: Context, places: Sequence[int]) -> list[Job]:
    """One unit for the full captions of the clips at ``places``; none where the run has no training split."""
    if context.training_of is None:
        return []
    texts = [caption_of(context.corpus[place]) for place in places]
    facts = {
        "places": list(places),
        "prompts": texts_hash(texts),
        "corpus": context.corpus.name,
        "training_clips": TRAINING_CLIPS,
        "measuring": [source_hash(name) for name in (__name__, overlap.__name__)],
    }
    return [Job("overlap", facts, "what training has met of the prompts")]


def count_overlap(config: dict[str, Any], context: Context) -> JobResult:
    """Compute an overlap unit."""
    clips = [context.corpus[place] for place in config["places"]]
    prompts = [(clip, caption_of(clip)) for clip in clips]
    return JobResult(asdict(overlap.overlap(prompts, context.training(config["training_clips"]))))


def overlap_notes(outcomes: Sequence[JobResult | Failure]) -> list[str]:
    """What the units found, a line each."""
    return [str(overlap.Overlap(**outcome.values)) for outcome in outcomes if isinstance(outcome, JobResult)]
