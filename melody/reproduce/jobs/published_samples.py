"""Jobs on published samples: what each file is, how loud it is, its embeddings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from melody.artifacts.code_identity import source_hash
from melody.data.corpus import Clip, Corpus
from melody.data.loading import load_corpus
from melody.data.recordings import read_recording
from melody.errors import MelodyError
from melody.metrics.levels import clipping_rate, peak, silence_rate
from melody.metrics.loudness import integrated_loudness
from melody.reproduce.context import Context
from melody.reproduce.jobs.embedded_clips import (
    EmbeddedClips,
    EmbeddedClipsJob,
    embedding_arrays,
    embedding_facts,
    kept_waveforms,
)
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.loaded import Loaded

SAMPLE_RATE = 24_000


@dataclass(frozen=True, kw_only=True)
class SamplesJob(EmbeddedClipsJob):
    """One set of published clips, in order: what each file is, how loud it is, its embeddings."""

    kind: ClassVar[str] = "samples"
    clips: list[dict[str, str]]
    measuring: str

    @classmethod
    def of(cls, context: Context, *, corpus: Corpus, embedders: Sequence[str], waveforms: bool = False) -> SamplesJob:
        """The job of a set."""
        return cls(
            label=f"{len(corpus)} published samples",
            **context.arithmetic,
            **embedding_facts(context, embedders, waveforms=waveforms),
            clips=[{"name": c.identifier, "text": c.text, "sound": _sound_hash(c)} for c in corpus],
            measuring=source_hash(__name__),
        )

    def compute(self, loaded: Loaded) -> JobResult:
        """A file that cannot be read ends it, for a dropped file would change the pairs."""
        corpus = published_corpus(loaded.inputs.published_samples)
        clips = [corpus.clip(facts["name"]) for facts in self.clips]
        rows: dict[str, list[Any]] = {
            key: [] for key in ("duration_s", "sample_rate", "loudness", "peak", "clipping", "silence")
        }
        windows: dict[str, list[torch.Tensor]] = {name: [] for name in self.embedder_names}
        joint, sounds = [], []
        for clip in clips:
            for key, value in _levels(clip).items():
                rows[key].append(value)
            waveform = clip.waveform(SAMPLE_RATE)
            joint.append(loaded.embed_joint(waveform[None, None], SAMPLE_RATE))
            sounds.append(waveform)
            for name, embedded in windows.items():
                embedded.append(loaded.embed_windows(name, waveform, SAMPLE_RATE))
        arrays, counts = embedding_arrays(loaded, torch.cat(joint), [clip.text for clip in clips], windows)
        facts, kept = kept_waveforms(sounds, SAMPLE_RATE, self.waveforms)
        return JobResult({"clips": len(clips), "windows": counts, "rows": rows, **facts}, {**arrays, **kept})


@dataclass(frozen=True)
class PublishedSet(EmbeddedClips):
    """What a ``SamplesJob`` found of a set."""

    def levels(self, name: str) -> list[float | None]:
        """A fact or level of each file; ``None`` for the loudness of silence."""
        return list(self.results[0].values["rows"][name])


def published_corpus(folder: Path | None) -> Corpus:
    """The folder of published samples; raises ``MelodyError`` if there is none, or it cannot be read."""
    if folder is None:
        raise MelodyError("no folder of published samples was given")
    return load_corpus(folder)


def _levels(clip: Clip) -> dict[str, Any]:
    """What a file is, and its levels as it is: all channels, at its own rate."""
    recording = read_recording(clip.audio.content(), keep_channels=True)
    facts, samples = recording.facts, recording.as_it_is
    loudness = integrated_loudness(samples, facts.sample_rate, facts.layout)
    return {
        "duration_s": clip.duration_s,
        "sample_rate": facts.sample_rate,
        "loudness": loudness if math.isfinite(loudness) else None,
        "peak": float(peak(samples[None])),
        "clipping": float(clipping_rate(samples[None])),
        "silence": float(silence_rate(samples[None], facts.sample_rate)),
    }


def _sound_hash(clip: Clip) -> str:
    return hashlib.sha256(clip.audio.content()).hexdigest()
