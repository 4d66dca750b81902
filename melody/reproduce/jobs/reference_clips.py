"""Jobs on held-out real clips and on controls: their embeddings, and how well a denoiser predicts real latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.data.audio import resampled
from melody.evaluation.control_sounds import NOISE, REPEATED, control_sound
from melody.metrics import denoising, flops
from melody.protocols import Denoiser
from melody.reproduce.context import Context
from melody.reproduce.jobs.attribute_classifiers import instrument_agreement
from melody.reproduce.jobs.embedded_clips import EmbeddedClipsJob, embedding_arrays, kept_waveforms
from melody.reproduce.jobs.job import JobResult, PresetJob
from melody.reproduce.loaded import Loaded

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class ReferenceJob(EmbeddedClipsJob):
    """Embeddings of the corpus's first clips and of their captions."""

    kind: ClassVar[str] = "reference"
    corpus: str
    clips: int
    measuring: str

    @classmethod
    def of(cls, context: Context, *, clips: int, embedding: Mapping[str, Any]) -> ReferenceJob:
        """The job of so many clips, or of all that there are, with ``embedding_facts``."""
        clips = min(clips, len(context.loaded.corpus))
        return cls(
            label=f"{clips} held-out clips",
            **context.arithmetic,
            **embedding,
            corpus=context.corpus_hash(clips),
            clips=clips,
            measuring=source_hash(__name__),
        )

    def compute(self, loaded: Loaded) -> JobResult:
        corpus = loaded.corpus[: self.clips]
        windows: dict[str, list[Tensor]] = {name: [] for name in self.embedder_names}
        joint: list[Tensor] = []
        agreement: dict[str, list[float]] = {}
        for clip in corpus:
            waveform, rate = clip.waveform(corpus.sample_rate), corpus.sample_rate
            heard = instrument_agreement(self.training_clips, loaded, waveform[None, None], rate, [clip.text])
            for name, agrees in heard.items():
                agreement.setdefault(name, []).extend(agrees)
            joint.append(loaded.embed_joint(waveform[None, None], rate))
            for name, embedded in windows.items():
                embedded.append(loaded.embed_windows(name, waveform, rate))
        arrays, counts = embedding_arrays(loaded, torch.cat(joint), [clip.text for clip in corpus], windows)
        return JobResult({"clips": len(corpus), "windows": counts, **agreement}, arrays)


@dataclass(frozen=True, kw_only=True)
class ControlJob(EmbeddedClipsJob):
    """As ``ReferenceJob``, of as many clips of a control as prompts: white noise, silence, one clip repeated."""

    kind: ClassVar[str] = "control"
    control: str
    prompts: list[str]
    duration_s: float
    corpus: str
    measuring: str

    @classmethod
    def of(
        cls, context: Context, name: str, *, texts: Sequence[str], duration_s: float, embedding: Mapping[str, Any]
    ) -> ControlJob:
        """The job of a control, with ``embedding_facts``."""
        return cls(
            label=name,
            **context.arithmetic,
            **embedding,
            control=name,
            prompts=list(texts),
            duration_s=duration_s,
            corpus=context.corpus_hash(1),
            measuring=source_hash(__name__),
        )

    def compute(self, loaded: Loaded) -> JobResult:
        rate, count = loaded.corpus.sample_rate, len(self.prompts)
        sounds = _control_sounds(self.control, count, round(self.duration_s * rate), loaded)
        times = count // len(sounds)
        joint = [loaded.embed_joint(sound[None, None], rate) for sound in sounds]
        windows = {
            name: [loaded.embed_windows(name, sound, rate) for sound in sounds] * times for name in self.embedder_names
        }
        arrays, counts = embedding_arrays(loaded, torch.cat(joint * times), self.prompts, windows)
        clips = torch.stack(sounds * times)
        facts, kept = kept_waveforms(clips, rate, self.waveforms)
        heard = instrument_agreement(self.training_clips, loaded, clips[:, None], rate, self.prompts)
        return JobResult({"clips": count, "windows": counts, **facts, **heard}, {**arrays, **kept})


@dataclass(frozen=True, kw_only=True)
class DenoisingJob(PresetJob):
    """Velocity error of the preset's denoiser on the corpus's first clips."""

    kind: ClassVar[str] = "denoising"
    corpus: str
    clips: int
    seed: int
    measuring: list[str]

    @classmethod
    def of(cls, context: Context, *, clips: int, seed: int) -> DenoisingJob:
        """The job of so many clips, or of all that there are."""
        clips = min(clips, len(context.loaded.corpus))
        return cls(
            label=f"denoising, seed {seed}",
            **context.common,
            corpus=context.corpus_hash(clips),
            clips=clips,
            seed=seed,
            measuring=denoising_code(),
        )

    def compute(self, loaded: Loaded) -> JobResult:
        return JobResult(denoising_values(loaded.parts.denoiser, self.clips, self.seed, loaded))


@dataclass(frozen=True, kw_only=True)
class OtherDenoisingJob(DenoisingJob):
    """The same of the denoiser of another system of ours, on the preset's own latents and tokens."""

    kind: ClassVar[str] = "denoising-other"
    system: dict[str, Any]

    @classmethod
    def of_system(cls, context: Context, name: str, *, clips: int, seed: int) -> OtherDenoisingJob:
        """The job of so many clips, or of all that there are."""
        own = DenoisingJob.of(context, clips=clips, seed=seed)
        shared = {each.name: getattr(own, each.name) for each in fields(own) if each.name != "label"}
        return cls(label=f"denoising, {name}, seed {seed}", **shared, system=context.system_facts(name))

    @property
    def system_name(self) -> str:
        return str(self.system["name"])

    def compute(self, loaded: Loaded) -> JobResult:
        denoiser = loaded.system(self.system_name).pipeline.denoiser  # type: ignore[attr-defined]
        return JobResult(denoising_values(denoiser, self.clips, self.seed, loaded))


def _control_sounds(name: str, count: int, samples: int, loaded: Loaded) -> list[Tensor]:
    """One sound ``(T,)``, or as many as there are clips where no two are alike."""
    if name == REPEATED:
        return [loaded.corpus[0].waveform(loaded.corpus.sample_rate)[:samples]]
    rate, different = loaded.corpus.sample_rate, count if name == NOISE else 1
    return [control_sound(name, place, samples, rate, seed=0).waveform for place in range(different)]


def denoising_values(denoiser: Denoiser, count: int, seed: int, loaded: Loaded) -> dict[str, Any]:
    """Scores of every clip: one angle a clip, stratified over [0, π/2], noise and angles by the seed.

    Of a network also its parameters, and the FLOPs of a pass on one clip, without guidance.
    """
    batches = (_encoded(loaded, range(begin, min(begin + BATCH, count))) for begin in range(0, count, BATCH))
    generator = torch.Generator().manual_seed(seed)
    scored = denoising.score_denoiser(denoiser, batches, count, generator)
    values = {
        "angle": scored.angle,
        "velocity_mse": scored.velocity_mse,
        "si_snri": scored.si_snri,
        "zero_mse": scored.zero_mse,
    }
    return values | _size(denoiser, loaded)


def denoising_code() -> list[str]:
    """Hashes of the sources that decide what ``denoising_values`` gives."""
    return [source_hash(name) for name in (__name__, denoising.__name__, flops.__name__)]


@torch.inference_mode()
def _size(denoiser: Denoiser, loaded: Loaded) -> dict[str, int]:
    if not isinstance(denoiser, torch.nn.Module):
        return {}
    latents, tokens = _encoded(loaded, range(1))
    angle, condition = torch.zeros(latents.shape[:2]).to(latents), denoiser.prepare(tokens)
    counted = flops.count(denoiser, lambda: denoiser.forward(latents, angle, condition))
    return {"parameters": sum(p.numel() for p in denoiser.parameters()), "flops": counted.flops}


@torch.inference_mode()
def _encoded(loaded: Loaded, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Latents ``(B, L, D)`` and semantic tokens ``(B, N)`` of the corpus's clips."""
    corpus, parts = loaded.corpus, loaded.parts
    waveforms = corpus.waveforms(list(rows))
    codec, tokenizer = parts.codec, parts.semantic_tokenizer
    for_codec = torch.stack([resampled(row, corpus.sample_rate, codec.sample_rate) for row in waveforms])
    for_tokens = torch.stack([resampled(row, corpus.sample_rate, tokenizer.sample_rate) for row in waveforms])
    latents = codec.encode(for_codec[:, None].to(loaded.device))
    return latents, tokenizer.tokenize(for_tokens[:, None].to(loaded.device))
