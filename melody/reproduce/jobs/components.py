"""Units on the parts of the system, each by itself on held-out clips: codec, language model, denoiser, embedding.

A unit is a batch of clips. The denoiser's angles and noise are drawn for the whole set, so that batches agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.data.audio import resampled
from melody.data.corpus import Corpus
from melody.diffusion.angles import add_noise, velocity_target
from melody.errors import MelodyError
from melody.metrics.reconstruction import log_mel_distance, mr_stft_distance, si_sdr
from melody.reproduce.context import SEED_STRIDE, Context
from melody.reproduce.jobs.clip_variants import caption_of
from melody.reproduce.jobs.generation import flac
from melody.reproduce.jobs.job import Job, JobResult, float32

BATCH = 16
TOKEN_BATCH = 128
STORED_CLIPS = 3
CLIPPED_FROM = 1 - 1e-6
"""Of latents, which a codec scales to [-1, 1]."""


def codec_jobs(context: Context, *, clips: int) -> list[Job]:
    """The first held-out clips through the codec."""
    return _batches(context, "codec", clips, BATCH, {}, "codec")


def token_jobs(context: Context, *, clips: int) -> list[Job]:
    """Semantic tokens of the first training clips."""
    facts = {**context.common, "corpus": context.content_hash(context.training(clips)), "clips": clips}
    return [
        Job(
            "tokens",
            facts | {"begin": begin, "end": min(begin + TOKEN_BATCH, clips), "measuring": source_hash(__name__)},
            f"tokens of training clips from {begin}",
        )
        for begin in range(0, clips, TOKEN_BATCH)
    ]


def language_model_jobs(context: Context, *, clips: int) -> list[Job]:
    """Loss of the language model on the first held-out clips."""
    return _batches(context, "language-model", clips, BATCH, {}, "language model")


def denoiser_jobs(context: Context, *, clips: int, seed: int, guidance_scale: float) -> list[Job]:
    """Velocity error of the denoiser with tokens, without, and guided, on the first held-out clips."""
    facts = {"seed": seed, "guidance_scale": guidance_scale}
    return _batches(context, "denoiser", clips, BATCH, facts, f"denoiser, seed {seed}")


def pairs_job(context: Context, *, places: Sequence[int], held_out: int) -> Job:
    """Joint embeddings of held-out clips and of their captions."""
    facts = {
        **context.common,
        "corpus": context.corpus_hash(held_out),
        "places": list(places),
        "measuring": source_hash(__name__),
    }
    return Job("pairs", facts, f"joint embedding of {len(places)} pairs")


@torch.inference_mode()
def through_codec(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a codec unit: distances to the original and, as a control, to the original of the clip before."""
    codec = context.parts.codec
    waveform = _held_out(context, config, codec.sample_rate)  # (B, T)
    # The clip before, of the whole set: neither the size of a batch nor a last batch of one may decide the pairs.
    before = [(place - 1) % config["clips"] for place in range(config["begin"], config["end"])]
    another = _waveforms(context.corpus, before, codec.sample_rate)
    latents = codec.encode(waveform[:, None].to(context.device))
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
    for row in range(min(STORED_CLIPS, len(decoded)) if config["begin"] == 0 else 0):
        clips[f"{row:02d}-original"] = flac(waveform[row], codec.sample_rate)
        clips[f"{row:02d}-decoded"] = flac(decoded[row], codec.sample_rate)
    return JobResult({"rows": values}, {}, clips)


@torch.inference_mode()
def tokenize(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a tokens unit."""
    corpus, tokenizer = context.training(config["clips"]), context.parts.semantic_tokenizer
    rows = [
        tokenizer.tokenize(_waveforms(corpus, range(b, min(b + BATCH, config["end"])), tokenizer.sample_rate)[:, None])
        for b in range(config["begin"], config["end"], BATCH)
    ]
    return JobResult({"size": tokenizer.codebook_size}, {"tokens": torch.cat(rows).cpu().int().numpy()})


@torch.inference_mode()
def predict_tokens(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a language-model unit: loss of each clip's tokens after its sound, and after its full caption."""
    parts = context.parts
    if parts.rvq is None or parts.language_model is None:
        raise MelodyError("the system under test shows no language model of its own")
    tokenizer = parts.semantic_tokenizer
    waveform = _held_out(context, config, tokenizer.sample_rate)
    tokens = tokenizer.tokenize(waveform[:, None].to(context.device))
    texts = [caption_of(context.corpus[place]) for place in range(config["begin"], config["end"])]
    prompts = {
        "sound": context.embed_joint(waveform[:, None], tokenizer.sample_rate),
        "text": context.embed_text(texts),
    }
    values = {}
    for name, embedded in prompts.items():
        prefix = parts.rvq.encode(embedded.to(context.device))
        losses = [parts.language_model.loss(prefix[i : i + 1], tokens[i : i + 1]) for i in range(len(tokens))]
        values[name] = [float(loss) for loss in losses]
    return JobResult({"rows": values}, {"tokens": tokens.cpu().int().numpy()})


@torch.inference_mode()
def predict_velocity(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a denoiser unit: errors, and the moments that the best constant and linear predictors follow from."""
    begin, end, count = config["begin"], config["end"], config["clips"]
    latents, tokens = _encoded(context, config)
    denoiser = context.parts.denoiser
    generators = [torch.Generator().manual_seed(config["seed"] * SEED_STRIDE + place) for place in range(begin, end)]
    # One angle in each of `count` equal strata: uniform as in training, with less spread than independent draws.
    strata = (torch.arange(begin, end) + torch.stack([torch.rand((), generator=g) for g in generators])) / count
    angle = (strata * (math.pi / 2))[:, None].expand(-1, latents.shape[1]).to(latents)
    noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(latents)
    noisy, target = add_noise(latents, noise, angle), velocity_target(latents, noise, angle)
    condition, every = denoiser.prepare(tokens), torch.ones(len(latents), dtype=torch.bool, device=latents.device)
    with_tokens, without = (denoiser.forward(noisy, angle, condition, dropped) for dropped in (~every, every))
    guided = without + config["guidance_scale"] * (with_tokens - without)
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


def embed_pairs(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a pairs unit."""
    rate = context.corpus.sample_rate
    clips = [context.corpus[place] for place in config["places"]]
    arrays = {
        "sound": float32(torch.cat([context.embed_joint(clip.waveform(rate)[None, None], rate) for clip in clips])),
        "own_caption": float32(context.embed_text([clip.text for clip in clips])),
        "full_caption": float32(context.embed_text([caption_of(clip) for clip in clips])),
    }
    return JobResult({"clips": len(clips)}, arrays)


def _batches(context: Context, kind: str, clips: int, size: int, facts: dict[str, Any], label: str) -> list[Job]:
    clips = min(clips, len(context.corpus))
    shared = {
        **context.common,
        **facts,
        "corpus": context.corpus_hash(clips),
        "clips": clips,
        "measuring": source_hash(__name__),
    }
    return [
        Job(kind, shared | {"begin": b, "end": min(b + size, clips)}, f"{label}, clips from {b}")
        for b in range(0, clips, size)
    ]


def _held_out(context: Context, config: dict[str, Any], sample_rate: int) -> Tensor:
    """``(B, T)`` at a part's rate."""
    return _waveforms(context.corpus, range(config["begin"], config["end"]), sample_rate)


def _waveforms(corpus: Corpus, rows: Sequence[int], sample_rate: int) -> Tensor:
    return torch.stack([resampled(row, corpus.sample_rate, sample_rate) for row in corpus.waveforms(rows)])


def _encoded(context: Context, config: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Latents ``(B, L, D)`` and semantic tokens ``(B, N)`` of the unit's clips."""
    codec, tokenizer = context.parts.codec, context.parts.semantic_tokenizer
    latents = codec.encode(_held_out(context, config, codec.sample_rate)[:, None].to(context.device))
    return latents, tokenizer.tokenize(_held_out(context, config, tokenizer.sample_rate)[:, None].to(context.device))


def _mean(a: Tensor, b: Tensor) -> list[float]:
    """Mean product of each clip."""
    means: list[float] = (a.double() * b.double()).mean(dim=(1, 2)).tolist()
    return means
