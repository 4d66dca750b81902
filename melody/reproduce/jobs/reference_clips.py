"""Jobs on held-out real clips and on controls: their embeddings, and how well a denoiser predicts real latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.data.audio import resampled
from melody.evaluation.controls import NOISE, REPEATED, Synthetic
from melody.metrics import denoising, flops
from melody.protocols import Denoiser
from melody.reproduce.context import Context
from melody.reproduce.jobs.attribute_classifiers import instrument_agreement
from melody.reproduce.jobs.job import JobResult, NetworkJob, PresetJob, float32

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class ReferenceJob(NetworkJob):
    """Embeddings of the corpus's first clips and of their captions; heard by classifiers if they are named."""

    kind: ClassVar[str] = "reference"
    joint_embedder: dict[str, Any]
    corpus: str
    clips: int
    embedders: list[dict[str, Any]]
    measuring: str
    judges: str | None = None
    training_clips: int | None = None

    @classmethod
    def of(
        cls, context: Context, *, clips: int, embedders: Sequence[str], judges: Mapping[str, Any] | None = None
    ) -> ReferenceJob:
        """The job of so many clips, or of all that there are."""
        clips = min(clips, len(context.corpus))
        return cls(
            label=f"{clips} held-out clips",
            **context.hearing,
            corpus=context.corpus_hash(clips),
            clips=clips,
            embedders=[context.embedder_facts(name) for name in embedders],
            measuring=source_hash(__name__),
            **(judges or {}),
        )

    def compute(self, context: Context) -> JobResult:
        corpus = context.corpus[: self.clips]
        names = [facts["name"] for facts in self.embedders]
        windows: dict[str, list[Tensor]] = {name: [] for name in names}
        joint: list[Tensor] = []
        agreement: dict[str, list[float]] = {}
        for clip in corpus:
            waveform, rate = clip.waveform(corpus.sample_rate), corpus.sample_rate
            heard = instrument_agreement(self.training_clips, context, waveform[None, None], rate, [clip.text])
            for name, agrees in heard.items():
                agreement.setdefault(name, []).extend(agrees)
            joint.append(context.embed_joint(waveform[None, None], rate))
            for name in names:
                windows[name].append(context.embed_windows(name, waveform, rate))
        arrays = {
            "joint_audio": float32(torch.cat(joint)),
            "joint_text": float32(context.embed_text([clip.text for clip in corpus])),
            **{f"embedding.{name}": float32(torch.cat(clips)) for name, clips in windows.items()},
        }
        counts = {name: [len(clip) for clip in clips] for name, clips in windows.items()}
        return JobResult({"clips": len(corpus), "windows": counts, **agreement}, arrays)


@dataclass(frozen=True, kw_only=True)
class ControlJob(NetworkJob):
    """As ``ReferenceJob``, of as many clips of a control as prompts: white noise, silence, one clip repeated."""

    kind: ClassVar[str] = "control"
    joint_embedder: dict[str, Any]
    control: str
    prompts: list[str]
    duration_s: float
    corpus: str
    embedders: list[dict[str, Any]]
    measuring: str
    judges: str | None = None
    training_clips: int | None = None
    waveforms: bool | None = None
    """Whether all clips are kept, as float32, for metrics that hear them."""

    @classmethod
    def of(
        cls,
        context: Context,
        name: str,
        *,
        texts: Sequence[str],
        duration_s: float,
        embedders: Sequence[str],
        judges: Mapping[str, Any] | None = None,
        waveforms: bool = False,
    ) -> ControlJob:
        """The job of a control."""
        return cls(
            label=name,
            **context.hearing,
            control=name,
            prompts=list(texts),
            duration_s=duration_s,
            corpus=context.corpus_hash(1),
            embedders=[context.embedder_facts(embedder) for embedder in embedders],
            measuring=source_hash(__name__),
            waveforms=waveforms or None,
            **(judges or {}),
        )

    def compute(self, context: Context) -> JobResult:
        rate, count = context.corpus.sample_rate, len(self.prompts)
        sounds = _control_sounds(self.control, count, round(self.duration_s * rate), context)
        times = count // len(sounds)
        joint = [context.embed_joint(sound[None, None], rate) for sound in sounds]
        arrays = {
            "joint_audio": float32(torch.cat(joint * times)),
            "joint_text": float32(context.embed_text(self.prompts)),
        }
        windows = {}
        for name in (facts["name"] for facts in self.embedders):
            embedded = [context.embed_windows(name, sound, rate) for sound in sounds] * times
            windows[name] = [len(clip) for clip in embedded]
            arrays[f"embedding.{name}"] = float32(torch.cat(embedded))
        clips = torch.stack(sounds * times)
        values = {"clips": count, "windows": windows}
        if self.waveforms:
            values["sample_rate"], arrays["waveform"] = rate, float32(clips)
        heard = instrument_agreement(self.training_clips, context, clips[:, None], rate, self.prompts)
        return JobResult({**values, **heard}, arrays)


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
        clips = min(clips, len(context.corpus))
        return cls(
            label=f"denoising, seed {seed}",
            **context.common,
            corpus=context.corpus_hash(clips),
            clips=clips,
            seed=seed,
            measuring=denoising_code(),
        )

    def compute(self, context: Context) -> JobResult:
        return JobResult(denoising_values(context.parts.denoiser, self.clips, self.seed, context))


def _control_sounds(name: str, count: int, samples: int, context: Context) -> list[Tensor]:
    """One sound ``(T,)``, or as many as there are clips where no two are alike."""
    if name == REPEATED:
        return [context.corpus[0].waveform(context.corpus.sample_rate)[:samples]]
    sound = Synthetic(name, [samples / context.corpus.sample_rate] * count, context.corpus.sample_rate, seed=0)
    return [sound.recording(place).waveform for place in range(count if name == NOISE else 1)]


def denoising_values(denoiser: Denoiser, count: int, seed: int, context: Context) -> dict[str, Any]:
    """Scores of every clip: one angle a clip, stratified over [0, π/2], noise and angles by the seed.

    Of a network also its parameters, and the FLOPs of a pass on one clip, without guidance.
    """
    batches = (_encoded(context, range(begin, min(begin + BATCH, count))) for begin in range(0, count, BATCH))
    generator = torch.Generator().manual_seed(seed)
    scored = denoising.score_denoiser(denoiser, batches, count, generator)
    values = {
        "angle": scored.angle,
        "velocity_mse": scored.velocity_mse,
        "si_snri": scored.si_snri,
        "zero_mse": scored.zero_mse,
    }
    return values | _size(denoiser, context)


def denoising_code() -> list[str]:
    """Hashes of the sources that decide what ``denoising_values`` gives."""
    return [source_hash(name) for name in (__name__, denoising.__name__, flops.__name__)]


@torch.inference_mode()
def _size(denoiser: Denoiser, context: Context) -> dict[str, int]:
    if not isinstance(denoiser, torch.nn.Module):
        return {}
    latents, tokens = _encoded(context, range(1))
    angle, condition = torch.zeros(latents.shape[:2]).to(latents), denoiser.prepare(tokens)
    counted = flops.count(denoiser, lambda: denoiser.forward(latents, angle, condition))
    return {"parameters": sum(p.numel() for p in denoiser.parameters()), "flops": counted.flops}


@torch.inference_mode()
def _encoded(context: Context, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Latents ``(B, L, D)`` and semantic tokens ``(B, N)`` of the corpus's clips."""
    corpus, parts = context.corpus, context.parts
    waveforms = corpus.waveforms(list(rows))
    codec, tokenizer = parts.codec, parts.semantic_tokenizer
    for_codec = torch.stack([resampled(row, corpus.sample_rate, codec.sample_rate) for row in waveforms])
    for_tokens = torch.stack([resampled(row, corpus.sample_rate, tokenizer.sample_rate) for row in waveforms])
    latents = codec.encode(for_codec[:, None].to(context.device))
    return latents, tokenizer.tokenize(for_tokens[:, None].to(context.device))
