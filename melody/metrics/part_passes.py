"""The passes that a system of ours is made of, each at a stated shape: what runs it, and what it costs by formula.

``passes`` gives those of one part. A pass runs on whatever device the part is on: on the meta device to count it, on a
real one to time it. A component that is not ours has passes through the seam of its kind, and no formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from melody.conditioning.joint import MulanEmbedder
from melody.conditioning.semantic import TOKEN_RATE, ConformerTokenizer
from melody.config import Preset
from melody.lm.decoder_only import DecoderOnly
from melody.metrics import flop_formulas
from melody.metrics.flops import Cost
from melody.pipeline import profiled_calls
from melody.pipeline.profiled_calls import Call
from melody.protocols import Codec, Denoiser


@dataclass(frozen=True)
class Pass:
    """One pass of a part."""

    name: str
    shape: str
    """What goes in, in words."""
    call: Call
    formula: Cost | None


def passes(preset: Preset, part: str, module: nn.Module, frame_rate: float) -> list[Pass]:
    """The passes of a part, which may lie on any device, at the length of the preset's segment.

    Args:
        frame_rate: of the preset's codec, latent frames a second.
    Returns:
        No pass for a component whose seam has none: one of another project, beside denoisers and codecs.
    """
    if part == "denoiser" and isinstance(module, Denoiser):
        return _denoiser(preset, module, round(preset.generation.segment_s * frame_rate))
    if part == "codec" and isinstance(module, Codec):
        return _codec(preset, module)
    if part == "language_model" and isinstance(module, DecoderOnly):
        return _language_model(preset, module)
    if part == "joint_embedder" and isinstance(module, MulanEmbedder):
        return _joint_embedder(preset, module)
    if part == "semantic_tokenizer" and isinstance(module, ConformerTokenizer):
        return _semantic_tokenizer(preset, module)
    return []


def _language_model(preset: Preset, model: DecoderOnly) -> list[Pass]:
    """The last token of a segment: the longest cache, so the dearest token."""
    cached = model.num_prefix_tokens + _tokens(preset) - 1
    known = preset.language_model.use == "llama"
    formula = flop_formulas.llama(preset.language_model.arguments, 1, cached) if known else None
    return [Pass("one token", f"after {cached} tokens in the cache", profiled_calls.draw_token(model, cached), formula)]


def _denoiser(preset: Preset, denoiser: Any, frames: int) -> list[Pass]:
    a, tokens = preset.denoiser.arguments, _tokens(preset)
    costs: list[Cost | None] = [None] * 3
    if preset.denoiser.use == "dual-path":
        costs = [
            flop_formulas.dual_path_prepare(a, tokens),
            flop_formulas.dual_path(a, frames, tokens),
            flop_formulas.dual_path(a, frames, tokens, unconditional=1),
        ]
    shape = f"{frames} frames, {tokens} tokens"
    alone, both = (profiled_calls.denoise(denoiser, frames, tokens, guided=guided) for guided in (False, True))
    return [
        Pass("tokens, once", f"{tokens} tokens", profiled_calls.condition(denoiser, tokens), costs[0]),
        Pass("without guidance", shape, alone, costs[1]),
        Pass("with guidance", f"{shape}, 2 rows", both, costs[2]),
    ]


def _codec(preset: Preset, codec: Any) -> list[Pass]:
    frames = round(preset.generation.segment_s * codec.frame_rate)
    formulas = {
        "hifi-vae": (flop_formulas.hifi_encode, flop_formulas.hifi_decode),
        "fourier-vae": (flop_formulas.fourier_encode, flop_formulas.fourier_decode),
    }.get(preset.codec.use)
    costs = [f(preset.codec.arguments, frames) for f in formulas] if formulas else [None, None]
    return [
        Pass("encode", f"{frames * codec.hop_length} samples", profiled_calls.encode(codec, frames), costs[0]),
        Pass("decode", f"{frames} frames", profiled_calls.decode(codec, frames), costs[1]),
    ]


def _joint_embedder(preset: Preset, embedder: MulanEmbedder) -> list[Pass]:
    a, tokens = preset.joint_embedder.arguments, profiled_calls.text_tokens(embedder)
    seconds = embedder.window_length / embedder.sample_rate
    music, text = profiled_calls.embed_music(embedder), profiled_calls.embed_text(embedder)
    return [
        Pass("music", f"one window of {seconds:g} s", music, flop_formulas.mulan_audio(a)),
        Pass("text", f"{tokens} tokens", text, flop_formulas.mulan_text(a, tokens)),
    ]


def _semantic_tokenizer(preset: Preset, tokenizer: ConformerTokenizer) -> list[Pass]:
    tokens = _tokens(preset)
    cost = flop_formulas.conformer_tokens(preset.semantic_tokenizer.arguments, tokens, TOKEN_RATE)
    return [
        Pass("tokenize", f"{tokens * tokenizer.hop_length} samples", profiled_calls.tokenize(tokenizer, tokens), cost)
    ]


def _tokens(preset: Preset) -> int:
    return round(preset.generation.segment_s * TOKEN_RATE)
