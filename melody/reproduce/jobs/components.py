"""Jobs on the parts of the system, each by itself on held-out clips: codec, language model, denoiser, embedding.

A job is a batch of clips. The denoiser's angles and noise are drawn for the whole set, so that batches agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.data.audio import resampled
from melody.data.corpus import Corpus
from melody.diffusion.angles import add_noise, velocity_target
from melody.errors import MelodyError
from melody.metrics.reconstruction import log_mel_distance, mr_stft_distance, si_sdr
from melody.reproduce.context import Context
from melody.reproduce.jobs.clip_variants import caption_of
from melody.reproduce.jobs.generation import flac
from melody.reproduce.jobs.job import JobResult, PresetJob, float32
from melody.reproduce.loaded import SEED_STRIDE, Loaded

BATCH = 16
TOKEN_BATCH = 128
STORED_CLIPS = 3
CLIPPED_FROM = 1 - 1e-6
"""Of latents, which a codec scales to [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class BatchJob(PresetJob):
    """A part of the preset on a batch of the held-out clips."""

    corpus: str
    clips: int
    """Of all batches."""
    measuring: str
    begin: int
    end: int

    @classmethod
    def batches(cls, context: Context, *, clips: int, label: str, **facts: Any) -> list[Self]:
        """The first clips, or all that there are, in batches."""
        clips = min(clips, len(context.loaded.corpus))
        shared = {**context.common, **facts, "corpus": context.corpus_hash(clips), "clips": clips}
        return [
            cls(
                label=f"{label}, clips from {begin}",
                **shared,
                measuring=source_hash(__name__),
                begin=begin,
                end=min(begin + BATCH, clips),
            )
            for begin in range(0, clips, BATCH)
        ]

    def held_out(self, loaded: Loaded, sample_rate: int) -> Tensor:
        """The batch's clips ``(B, T)`` at a part's rate."""
        return _waveforms(loaded.corpus, range(self.begin, self.end), sample_rate)


def rows_of(results: Sequence[JobResult], name: str) -> list[float]:
    """A value of every clip of some batches, in order."""
    return [value for result in results for value in result.values["rows"][name]]


@dataclass(frozen=True, kw_only=True)
class CodecJob(BatchJob):
    """Clips through the codec: distances to the original and, as a control, to the original of the clip before."""

    kind: ClassVar[str] = "codec"

    @torch.inference_mode()
    def compute(self, loaded: Loaded) -> JobResult:
        codec = loaded.parts.codec
        waveform = self.held_out(loaded, codec.sample_rate)  # (B, T)
        # The clip before, of the whole set: neither the size of a batch nor a last batch of one may decide the pairs.
        before = [(place - 1) % self.clips for place in range(self.begin, self.end)]
        another = _waveforms(loaded.corpus, before, codec.sample_rate)
        latents = codec.encode(waveform[:, None].to(loaded.device))
        decoded = codec.decode(latents)[:, 0, : waveform.shape[1]].clamp(-1, 1).cpu()
        codes = latents.cpu().double().flatten(1)
        values: dict[str, list[float]] = {
            "latent_mean": codes.mean(dim=1).tolist(),
            "latent_square": codes.square().mean(dim=1).tolist(),
            "latent_clipped": (codes.abs() >= CLIPPED_FROM).double().mean(dim=1).tolist(),
        }
        for name, target in (("itself", waveform), ("another", another)):
            values[f"{name}.si_sdr"] = si_sdr(decoded, target).tolist()
            values[f"{name}.mr_stft"] = mr_stft_distance(decoded, target).tolist()
            values[f"{name}.log_mel"] = log_mel_distance(decoded, target, codec.sample_rate).tolist()
        clips = {}
        for row in range(min(STORED_CLIPS, len(decoded)) if self.begin == 0 else 0):
            clips[f"{row:02d}-original"] = flac(waveform[row], codec.sample_rate)
            clips[f"{row:02d}-decoded"] = flac(decoded[row], codec.sample_rate)
        return JobResult({"rows": values}, {}, clips)


@dataclass(frozen=True, kw_only=True)
class TokensJob(PresetJob):
    """Semantic tokens of a batch of the first training clips."""

    kind: ClassVar[str] = "tokens"
    corpus: str
    clips: int
    begin: int
    end: int
    measuring: str

    @classmethod
    def batches(cls, context: Context, *, clips: int) -> list[TokensJob]:
        """So many clips in batches; raises ``MelodyError`` where the run has no training split."""
        corpus = context.content_hash(context.loaded.training(clips))
        return [
            cls(
                label=f"tokens of training clips from {begin}",
                **context.common,
                corpus=corpus,
                clips=clips,
                begin=begin,
                end=min(begin + TOKEN_BATCH, clips),
                measuring=source_hash(__name__),
            )
            for begin in range(0, clips, TOKEN_BATCH)
        ]

    @torch.inference_mode()
    def compute(self, loaded: Loaded) -> JobResult:
        corpus, tokenizer = loaded.training(self.clips), loaded.parts.semantic_tokenizer
        rows = [
            tokenizer.tokenize(_waveforms(corpus, range(b, min(b + BATCH, self.end)), tokenizer.sample_rate)[:, None])
            for b in range(self.begin, self.end, BATCH)
        ]
        return JobResult({"size": tokenizer.codebook_size}, {"tokens": torch.cat(rows).cpu().int().numpy()})


@dataclass(frozen=True, kw_only=True)
class LanguageModelJob(BatchJob):
    """Loss of each clip's tokens after its sound, and after its full caption."""

    kind: ClassVar[str] = "language-model"

    @torch.inference_mode()
    def compute(self, loaded: Loaded) -> JobResult:
        parts = loaded.parts
        if parts.rvq is None or parts.language_model is None:
            raise MelodyError("the system under test shows no language model of its own")
        tokenizer = parts.semantic_tokenizer
        waveform = self.held_out(loaded, tokenizer.sample_rate)
        tokens = tokenizer.tokenize(waveform[:, None].to(loaded.device))
        texts = [caption_of(loaded.corpus[place]) for place in range(self.begin, self.end)]
        prompts = {
            "sound": loaded.embed_joint(waveform[:, None], tokenizer.sample_rate),
            "text": loaded.embed_text(texts),
        }
        values = {}
        for name, embedded in prompts.items():
            prefix = parts.rvq.encode(embedded.to(loaded.device))
            losses = [parts.language_model.loss(prefix[i : i + 1], tokens[i : i + 1]) for i in range(len(tokens))]
            values[name] = [float(loss) for loss in losses]
        return JobResult({"rows": values}, {"tokens": tokens.cpu().int().numpy()})


@dataclass(frozen=True, kw_only=True)
class DenoiserJob(BatchJob):
    """Errors with tokens, without and guided, and what the best constant and linear predictors follow from."""

    kind: ClassVar[str] = "denoiser"
    seed: int
    guidance_scale: float

    @torch.inference_mode()
    def compute(self, loaded: Loaded) -> JobResult:
        begin, end, count = self.begin, self.end, self.clips
        latents, tokens = self._encoded(loaded)
        denoiser = loaded.parts.denoiser
        generators = [torch.Generator().manual_seed(self.seed * SEED_STRIDE + place) for place in range(begin, end)]
        # One angle in each of `count` equal strata: uniform as in training, with less spread than independent draws.
        strata = (torch.arange(begin, end) + torch.stack([torch.rand((), generator=g) for g in generators])) / count
        angle = (strata * (math.pi / 2))[:, None].expand(-1, latents.shape[1]).to(latents)
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(latents)
        noisy, target = add_noise(latents, noise, angle), velocity_target(latents, noise, angle)
        condition, every = denoiser.prepare(tokens), torch.ones(len(latents), dtype=torch.bool, device=latents.device)
        with_tokens, without = (denoiser.forward(noisy, angle, condition, dropped) for dropped in (~every, every))
        guided = without + self.guidance_scale * (with_tokens - without)
        values = {
            "angle": angle[:, 0].tolist(),
            "guided": _mean(guided - target, guided - target),
            "with_tokens": _mean(with_tokens - target, with_tokens - target),
            "without_tokens": _mean(without - target, without - target),
            "velocity_square": _mean(target, target),
            "velocity_noisy": _mean(target, noisy),
            "noisy_square": _mean(noisy, noisy),
        }
        return JobResult({"rows": values}, {"velocity_mean": float32(target.double().mean(dim=1))})

    def _encoded(self, loaded: Loaded) -> tuple[Tensor, Tensor]:
        """Latents ``(B, L, D)`` and semantic tokens ``(B, N)`` of the batch's clips."""
        codec, tokenizer = loaded.parts.codec, loaded.parts.semantic_tokenizer
        latents = codec.encode(self.held_out(loaded, codec.sample_rate)[:, None].to(loaded.device))
        return latents, tokenizer.tokenize(self.held_out(loaded, tokenizer.sample_rate)[:, None].to(loaded.device))


@dataclass(frozen=True, kw_only=True)
class PairsJob(PresetJob):
    """Joint embeddings of held-out clips and of their captions."""

    kind: ClassVar[str] = "pairs"
    corpus: str
    places: list[int]
    measuring: str

    @classmethod
    def of(cls, context: Context, *, places: Sequence[int], held_out: int) -> PairsJob:
        """The job of the clips at some places."""
        return cls(
            label=f"joint embedding of {len(places)} pairs",
            **context.common,
            corpus=context.corpus_hash(held_out),
            places=list(places),
            measuring=source_hash(__name__),
        )

    def compute(self, loaded: Loaded) -> JobResult:
        rate = loaded.corpus.sample_rate
        clips = [loaded.corpus[place] for place in self.places]
        arrays = {
            "sound": float32(torch.cat([loaded.embed_joint(clip.waveform(rate)[None, None], rate) for clip in clips])),
            "own_caption": float32(loaded.embed_text([clip.text for clip in clips])),
            "full_caption": float32(loaded.embed_text([caption_of(clip) for clip in clips])),
        }
        return JobResult({"clips": len(clips)}, arrays)


def _waveforms(corpus: Corpus, rows: Sequence[int], sample_rate: int) -> Tensor:
    return torch.stack([resampled(row, corpus.sample_rate, sample_rate) for row in corpus.waveforms(rows)])


def _mean(a: Tensor, b: Tensor) -> list[float]:
    """Mean product of each clip."""
    means: list[float] = (a.double() * b.double()).mean(dim=(1, 2)).tolist()
    return means
