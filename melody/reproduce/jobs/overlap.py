"""A job that counts what training has met of a card's prompts, and the line that it makes at the head of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from melody.artifacts.code_identity import source_hash
from melody.data import overlap
from melody.data.embedded import DEFAULT_SIZES
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.clip_variants import caption_of
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.loaded import Loaded

TRAINING_CLIPS = DEFAULT_SIZES["train"]


@dataclass(frozen=True, kw_only=True)
class OverlapJob(Job):
    """What training has met of the full captions of some held-out clips."""

    kind: ClassVar[str] = "overlap"
    places: list[int]
    prompts: str
    corpus: str
    training_clips: int
    measuring: list[str]

    @classmethod
    def of(cls, context: Context, places: Sequence[int]) -> OverlapJob:
        """The job of the clips at some places."""
        return cls(
            label="what training has met of the prompts",
            places=list(places),
            prompts=texts_hash([caption_of(context.loaded.corpus[place]) for place in places]),
            corpus=context.loaded.corpus.name,
            training_clips=TRAINING_CLIPS,
            measuring=[source_hash(name) for name in (__name__, overlap.__name__)],
        )

    def compute(self, loaded: Loaded) -> JobResult:
        clips = [loaded.corpus[place] for place in self.places]
        prompts = [(clip, caption_of(clip)) for clip in clips]
        return JobResult(asdict(overlap.overlap(prompts, loaded.training(self.training_clips))))


def overlap_notes(outcomes: Sequence[JobResult | Failure]) -> list[str]:
    """What the jobs found, a line each."""
    return [str(overlap.Overlap(**outcome.values)) for outcome in outcomes if isinstance(outcome, JobResult)]
