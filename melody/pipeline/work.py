"""What one clip of the pipeline is made of: every call of every network, by formula (Algorithms 1 and 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.errors import MelodyError
from melody.lm.decoder_only import DecoderOnly
from melody.pipeline import profiled_calls
from melody.pipeline.decoding import PiecewiseDecoder
from melody.pipeline.parts import Networks
from melody.pipeline.plan import Window
from melody.pipeline.settings import Settings
from melody.protocols import CallCost, Codec, JointEmbedder

CACHE_POINTS = 3
"""Lengths of the cache at which the tokens of a window are counted and timed, at least: ours."""


def pipeline_work(networks: Networks, duration_s: float, **options: Any) -> list[CallCost]:
    """The calls for one clip of a text, those of one shape together.

    Raises:
        MelodyError: settings that cannot be; a language model that is not decoder-only, whose passes nobody knows.
    """
    settings = Settings.of(networks.preset.generation, 1, **options)
    windows = list(networks.plan().windows(duration_s))
    return [
        *prompt_work(networks.joint_embedder, networks.rvq),
        *_language_model(networks, settings, windows),
        *_denoiser(networks, settings, windows),
        *_codec(networks.codec, windows),
    ]


def spread(first: int, count: int) -> list[tuple[int, int]]:
    """``count`` passes after ``first``, ``first + 1`` … tokens, as (tokens in the cache, passes) at a few lengths.

    What grows linearly with the cache comes out exactly, for each length is the middle of an odd number of passes.

    >>> spread(12, 249), spread(10, 4), spread(0, 0)
    ([(53, 83), (136, 83), (219, 83)], [(10, 1), (11, 1), (12, 1), (13, 1)], [])
    """
    if count == 0:
        return []
    parts = CACHE_POINTS + (count - CACHE_POINTS) % 2  # so many odd numbers add up to an odd number, or to an even one
    if count <= parts:
        return [(first + offset, 1) for offset in range(count)]
    base = (count // parts - 1) | 1
    extra = (count - parts * base) // 2  # passes that are left, two by two
    middles, begin = [], first
    for part in range(parts):
        length = base + 2 * (extra // parts + (part < extra % parts))
        middles.append((begin + length // 2, length))
        begin += length
    return middles


def prompt_work(joint_embedder: JointEmbedder, rvq: ResidualVectorQuantizer) -> Iterator[CallCost]:
    """A text to its MuLan tokens."""
    text, quantised = profiled_calls.embed_text(joint_embedder), profiled_calls.quantise(rvq)
    embedder: Any = joint_embedder
    yield CallCost(
        "joint_embedder", "text", f"{profiled_calls.TEXT_TOKENS} tokens", 1, embedder, text.run, text.setup, once=True
    )
    yield CallCost("rvq", "quantise", "1 vector", 1, rvq, quantised.run, quantised.setup, once=True)


def _language_model(networks: Networks, settings: Settings, windows: list[Window]) -> Iterator[CallCost]:
    model = networks.language_model
    if not isinstance(model, DecoderOnly):
        raise MelodyError(
            f"language model {networks.preset.language_model.use!r} is not decoder-only: its passes are not known"
        )
    rows = 1 if settings.defaults.token_guidance_scale == 1 else 2
    passes_by_length: Counter[tuple[int, int]] = Counter()  # passes by (tokens in the cache, new tokens)
    known = 0
    for window in windows:
        context, drawn = known - window.begin_token, window.end_token - known
        read = model.num_prefix_tokens + context
        known = window.end_token
        if drawn:
            passes_by_length[0, read] += 1
            passes_by_length.update({(cached, 1): passes for cached, passes in spread(read, drawn - 1)})
    for (cached, new), passes in passes_by_length.items():
        call = profiled_calls.draw_token(model, cached, new, rows)
        name, shape = ("prefill", f"{new} tokens") if not cached else ("one token", f"after {cached} tokens")
        prefill = 0 if cached else new * passes
        yield CallCost(
            "language_model", name, shape, passes, model, call.run, call.setup, rows=rows, prefill_tokens=prefill
        )


def _denoiser(networks: Networks, settings: Settings, windows: list[Window]) -> Iterator[CallCost]:
    denoiser: Any = networks.denoiser
    guided = settings.guidance_scale != 1
    sizes = Counter((w.end_frame - w.begin_frame, w.end_token - w.begin_token) for w in windows)
    for (frames, tokens), runs in sizes.items():
        once, step = (
            profiled_calls.condition(denoiser, tokens),
            profiled_calls.denoise(denoiser, frames, tokens, guided=guided),
        )
        yield CallCost(
            "denoiser", "tokens, once a run", f"{tokens} tokens", runs, denoiser, once.run, once.setup, once=True
        )
        evaluations = runs * settings.num_steps * settings.sampler.evaluations_per_step
        shape = f"{frames} frames, {tokens} tokens"
        name = "evaluation, guided" if guided else "evaluation"
        yield CallCost("denoiser", name, shape, evaluations, denoiser, step.run, step.setup, rows=1 + guided)


def _codec(codec: Codec, windows: list[Window]) -> Iterator[CallCost]:
    module: Any = codec
    if not isinstance(codec, nn.Module):
        return  # no network, so nothing of it is counted
    for frames, times in Counter(_pieces(codec, windows)).items():
        call = profiled_calls.decode(codec, frames)
        yield CallCost("codec", "decode", f"{frames} frames", times, module, call.run, call.setup, once=True)


@dataclass(frozen=True)
class _Lengths:
    """A codec that only notes how much it is asked to decode."""

    hop_length: int
    decoder_context_frames: int | None
    note: Callable[[int], None]

    def decode(self, latents: Tensor) -> Tensor:
        self.note(latents.shape[1])
        return latents.new_zeros(1, 1, latents.shape[1] * self.hop_length)


def _pieces(codec: Codec, windows: list[Window]) -> list[int]:
    """Frames of every piece that the decoder takes at once, as ``Stream`` hands them over."""
    frames: list[int] = []
    lengths: Any = _Lengths(codec.hop_length, codec.decoder_context_frames, frames.append)
    decoder = PiecewiseDecoder(lengths)
    known = 0
    for window in windows:
        latents = torch.zeros(1, window.end_frame - known, codec.latent_dim, device="meta")
        decoder.push(latents, last=window is windows[-1])
        known = window.end_frame
    return frames
