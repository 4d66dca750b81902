"""Units on held-out real clips and on controls: their embeddings, and how well a denoiser predicts real latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.data.audio import resampled
from melody.evaluation.controls import NOISE, REPEATED, Synthetic
from melody.metrics import denoising, flops
from melody.protocols import Denoiser
from melody.reproduce.context import Context
from melody.reproduce.jobs.attribute_classifiers import instrument_agreement
from melody.reproduce.jobs.job import Job, JobResult, float32

BATCH = 8


def reference_job(
    context: Context, *, clips: int, embedders: Sequence[str], judges: Mapping[str, Any] | None = None
) -> Job:
    """Embeddings of the corpus's first clips, and of their captions; heard by judges if their facts are given."""
    clips = min(clips, len(context.corpus))
    config = {
        **context.hearing,
        "corpus": context.corpus_hash(clips),
        "clips": clips,
        "embedders": [context.embedder_facts(name) for name in embedders],
        "measuring": source_hash(__name__),
        **(judges or {}),
    }
    return Job("reference", config, f"{clips} held-out clips")


def control_job(
    context: Context,
    name: str,
    *,
    texts: Sequence[str],
    duration_s: float,
    embedders: Sequence[str],
    judges: Mapping[str, Any] | None = None,
    waveforms: bool = False,
) -> Job:
    """As ``reference_job``, of as many clips of a control as texts: white noise, silence, one clip repeated."""
    config = {
        **context.hearing,
        "control": name,
        "prompts": list(texts),
        "duration_s": duration_s,
        "corpus": context.corpus_hash(1),
        "embedders": [context.embedder_facts(name) for name in embedders],
        "measuring": source_hash(__name__),
        **(judges or {}),
        **({"waveforms": True} if waveforms else {}),
    }
    return Job("control", config, name)


def denoising_job(context: Context, *, clips: int, seed: int) -> Job:
    """Velocity error of the preset's denoiser on the corpus's first clips."""
    clips = min(clips, len(context.corpus))
    config = {
        **context.common,
        "corpus": context.corpus_hash(clips),
        "clips": clips,
        "seed": seed,
        "measuring": denoising_code(),
    }
    return Job("denoising", config, f"denoising, seed {seed}")


def embed_reference(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a reference unit."""
    corpus = context.corpus[: config["clips"]]
    names = [facts["name"] for facts in config["embedders"]]
    windows: dict[str, list[Tensor]] = {name: [] for name in names}
    joint: list[Tensor] = []
    agreement: dict[str, list[float]] = {}
    for clip in corpus:
        waveform = clip.waveform(corpus.sample_rate)
        for name, heard in instrument_agreement(
            config, context, waveform[None, None], corpus.sample_rate, [clip.text]
        ).items():
            agreement.setdefault(name, []).extend(heard)
        joint.append(context.embed_joint(waveform[None, None], corpus.sample_rate))
        for name in names:
            windows[name].append(context.embed_windows(name, waveform, corpus.sample_rate))
    arrays = {
        "joint_audio": float32(torch.cat(joint)),
        "joint_text": float32(context.embed_text([clip.text for clip in corpus])),
        **{f"embedding.{name}": float32(torch.cat(clips)) for name, clips in windows.items()},
    }
    counts = {name: [len(clip) for clip in clips] for name, clips in windows.items()}
    return JobResult({"clips": len(corpus), "windows": counts, **agreement}, arrays)


def embed_control(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a control unit."""
    rate, count = context.corpus.sample_rate, len(config["prompts"])
    sounds = _control_sounds(config["control"], count, round(config["duration_s"] * rate), context)
    times = count // len(sounds)
    arrays = {
        "joint_audio": float32(torch.cat([context.embed_joint(sound[None, None], rate) for sound in sounds] * times)),
        "joint_text": float32(context.embed_text(config["prompts"])),
    }
    windows = {}
    for facts in config["embedders"]:
        name = facts["name"]
        embedded = [context.embed_windows(name, sound, rate) for sound in sounds] * times
        windows[name] = [len(clip) for clip in embedded]
        arrays[f"embedding.{name}"] = float32(torch.cat(embedded))
    heard = instrument_agreement(config, context, torch.stack(sounds * times)[:, None], rate, config["prompts"])
    kept = {}
    if config.get("waveforms"):
        kept, arrays["waveform"] = {"sample_rate": rate}, float32(torch.stack(sounds * times))
    return JobResult({"clips": count, "windows": windows, **kept, **heard}, arrays)


def _control_sounds(name: str, count: int, samples: int, context: Context) -> list[Tensor]:
    """One sound ``(T,)``, or as many as there are clips where no two are alike."""
    if name == REPEATED:
        return [context.corpus[0].waveform(context.corpus.sample_rate)[:samples]]
    sound = Synthetic(name, [samples / context.corpus.sample_rate] * count, context.corpus.sample_rate, seed=0)
    return [sound.recording(place).waveform for place in range(count if name == NOISE else 1)]


def denoise_reference(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a denoising unit of the preset's denoiser."""
    return JobResult(denoising_values(context.parts.denoiser, config, context))


def denoising_values(denoiser: Denoiser, config: dict[str, Any], context: Context) -> dict[str, Any]:
    """Scores of every clip: one angle a clip, stratified over [0, π/2], noise and angles by the seed.

    Of a network also its parameters, and the FLOPs of a pass on one clip, without guidance.
    """
    count = config["clips"]
    batches = (_encoded(context, range(begin, min(begin + BATCH, count))) for begin in range(0, count, BATCH))
    generator = torch.Generator().manual_seed(config["seed"])
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
