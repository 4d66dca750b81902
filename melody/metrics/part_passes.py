"""The passes that a system of ours is made of, each at a stated shape: what runs it, and what it costs by formula.

``passes`` gives those of one part. A pass runs on whatever device the part is on: on the meta device to count it, on a
real one to time it. A component that is not ours has passes through the seam of its kind, and no formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melody.conditioning.joint import MulanEmbedder
from melody.conditioning.kmeans import nearest
from melody.conditioning.semantic import TOKEN_RATE, ConformerTokenizer
from melody.config import Preset
from melody.lm.decoder_only import DecoderOnly
from melody.metrics import part_costs
from melody.metrics.flops import Cost
from melody.protocols import Codec, Denoiser
from melody.vae.variational import VariationalCodec

TEXT_TOKENS = 32
"""Length of the text that a pass of a text tower is counted for, [CLS] and [SEP] included: a caption of two lines."""


@dataclass(frozen=True)
class Pass:
    """One pass of a part."""

    name: str
    shape: str
    """What goes in, in words."""
    run: Callable[[], Any]
    formula: Cost | None
    setup: Callable[[], Any] | None = None
    """What must run before each ``run``, and is not part of it."""


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
    tokens = _tokens(preset)
    cached = model.num_prefix_tokens + tokens - 1
    rows = torch.zeros(1, cached + 1, dtype=torch.int64, device=model.head_weight.device)
    caches: list[Any] = []

    def fill() -> None:
        caches[:] = [model.empty_cache(1, capacity=cached + 1)]
        model(rows[:, :-1], caches[0])

    def token() -> Tensor:
        logits: Tensor = model(rows[:, -1:], caches[0])
        return logits

    a = preset.language_model.arguments
    known = preset.language_model.use in ("llama", "transformers-llama")
    formula = part_costs.llama(a, 1, cached) if known else None
    return [Pass("one token", f"after {cached} tokens in the cache", token, formula, fill)]


def _denoiser(preset: Preset, denoiser: Any, frames: int) -> list[Pass]:
    tokens, device = _tokens(preset), _device(denoiser)
    semantic = torch.zeros(1, tokens, dtype=torch.int64, device=device)
    latents = torch.zeros(2, frames, denoiser.latent_dim, device=device, dtype=_dtype(denoiser))
    angle = torch.zeros(2, frames, device=device, dtype=latents.dtype)
    mask = torch.tensor([False, True], device="cpu" if device.type == "meta" else device)
    conditions: list[Any] = []

    def prepare() -> Any:
        conditions[:] = [denoiser.prepare(semantic)]

    def doubled() -> None:
        conditions[:] = [denoiser.repeat(denoiser.prepare(semantic), 2)]

    def alone() -> Tensor:
        velocity: Tensor = denoiser(latents[:1], angle[:1], conditions[0])
        return velocity

    def guided() -> Tensor:
        velocity: Tensor = denoiser(latents, angle, conditions[0], mask)
        return velocity

    a = preset.denoiser.arguments
    costs: list[Cost | None] = [None] * 3
    if preset.denoiser.use == "dual-path":
        costs = [
            part_costs.dual_path_prepare(a, tokens),
            part_costs.dual_path(a, frames, tokens),
            part_costs.dual_path(a, frames, tokens, unconditional=1),
        ]
    shape = f"{frames} frames, {tokens} tokens"
    return [
        Pass("tokens, once", f"{tokens} tokens", prepare, costs[0]),
        Pass("without guidance", shape, alone, costs[1], prepare),
        Pass("with guidance", f"{shape}, 2 rows", guided, costs[2], doubled),
    ]


def _codec(preset: Preset, codec: Any) -> list[Pass]:
    frames, device = round(preset.generation.segment_s * codec.frame_rate), _device(codec)
    waveform = torch.zeros(1, 1, frames * codec.hop_length, device=device, dtype=_dtype(codec))
    latents = torch.zeros(1, frames, codec.latent_dim, device=device, dtype=waveform.dtype)
    # Behind the checks of values, which the meta device has none of.
    checked = not isinstance(codec, VariationalCodec)
    encode, decode = (codec.encode, codec.decode) if checked else (codec.statistics, codec.synthesize)
    formulas = {
        "hifi-vae": (part_costs.hifi_encode, part_costs.hifi_decode),
        "fourier-vae": (part_costs.fourier_encode, part_costs.fourier_decode),
    }.get(preset.codec.use)
    costs = [f(preset.codec.arguments, frames) for f in formulas] if formulas else [None, None]
    return [
        Pass("encode", f"{waveform.shape[-1]} samples", lambda: encode(waveform), costs[0]),
        Pass("decode", f"{frames} frames", lambda: decode(latents), costs[1]),
    ]


def _joint_embedder(preset: Preset, embedder: MulanEmbedder) -> list[Pass]:
    device, component = _device(embedder), preset.joint_embedder
    window = torch.ones(1, embedder.window_length, device=device, dtype=_dtype(embedder))
    tokens = min(TEXT_TOKENS, embedder.vocabulary.max_tokens)
    ids = torch.zeros(1, tokens, dtype=torch.int64, device=device)
    audio, text = part_costs.mulan_audio(component.arguments), part_costs.mulan_text(component.arguments, tokens)
    seconds = embedder.window_length / embedder.sample_rate
    return [
        Pass("music", f"one window of {seconds:g} s", lambda: embedder.embed_windows(window), audio),
        Pass("text", f"{tokens} tokens", lambda: embedder.embed_tokens(ids), text),
    ]


def _semantic_tokenizer(preset: Preset, tokenizer: ConformerTokenizer) -> list[Pass]:
    tokens, device = _tokens(preset), _device(tokenizer)
    samples = torch.ones(1, tokens * tokenizer.hop_length, device=device, dtype=_dtype(tokenizer))

    def tokenize() -> Tensor:
        return nearest(tokenizer.encode_samples(samples).flatten(0, 1), tokenizer.centroids)

    cost = part_costs.conformer_tokens(preset.semantic_tokenizer.arguments, tokens, TOKEN_RATE)
    return [Pass("tokenize", f"{samples.shape[1]} samples", tokenize, cost)]


def _tokens(preset: Preset) -> int:
    return round(preset.generation.segment_s * TOKEN_RATE)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
