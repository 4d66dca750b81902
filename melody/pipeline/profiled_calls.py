"""One call of each network at a stated shape, to be counted or timed: on whatever device and dtype the network is.

``setup`` makes what goes in, and is to run before each ``run``; the device is looked up by it, so that a network may be
moved in between. On the meta device a call has shapes and no values, so it goes past the checks of values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melody.conditioning.joint import MulanEmbedder
from melody.conditioning.kmeans import nearest
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.conditioning.semantic import ConformerTokenizer
from melody.lm.decoder_only import DecoderOnly
from melody.protocols import JointEmbedder
from melody.vae.variational import VariationalCodec

TEXT_TOKENS = 32
"""Length of the text that a call of a text tower has, [CLS] and [SEP] included: a caption of two lines."""


@dataclass(frozen=True)
class Call:
    """What must run before, and the call."""

    setup: Callable[[], None]
    run: Callable[[], Any]


def draw_token(model: DecoderOnly, cached: int, new: int = 1, rows: int = 1) -> Call:
    """The pass over ``new`` tokens after ``cached`` ones in the cache."""
    held: list[Any] = []

    def setup() -> None:
        tokens = torch.zeros(rows, cached + new, dtype=torch.int64, device=_place(model).device)
        held[:] = [tokens[:, cached:], model.empty_cache(rows, capacity=cached + new)]
        if cached:
            model(tokens[:, :cached], held[1])

    return Call(setup, lambda: model(*held))


def condition(denoiser: Any, tokens: int) -> Call:
    """What a denoiser computes of the semantic tokens, once for each run of the sampler."""
    held: list[Tensor] = []

    def setup() -> None:
        held[:] = [_semantic(denoiser, tokens)]

    return Call(setup, lambda: denoiser.prepare(*held))


def denoise(denoiser: Any, frames: int, tokens: int, *, guided: bool) -> Call:
    """One evaluation of the velocity; guided, of both halves in one call."""
    held: list[Any] = []

    def setup() -> None:
        prepared, rows = denoiser.prepare(_semantic(denoiser, tokens)), 1 + guided
        latents = _zeros(denoiser, rows, frames, denoiser.latent_dim)
        held[:] = [latents, _zeros(denoiser, rows, frames), prepared]
        if guided:
            where = "cpu" if latents.is_meta else latents.device  # rows are chosen by its values
            held[2:] = [denoiser.repeat(prepared, 2), torch.tensor([False, True], device=where)]

    return Call(setup, lambda: denoiser(*held))


def encode(codec: Any, frames: int) -> Call:
    """The waveform of so many latent frames to the codec's statistics."""
    held: list[Tensor] = []

    def setup() -> None:
        held[:] = [_zeros(codec, 1, 1, frames * codec.hop_length)]

    own = isinstance(codec, VariationalCodec)
    return Call(setup, lambda: (codec.statistics if own else codec.encode)(*held))


def decode(codec: Any, frames: int) -> Call:
    """So many latent frames to the waveform."""
    held: list[Tensor] = []

    def setup() -> None:
        held[:] = [_zeros(codec, 1, frames, codec.latent_dim)]

    own = isinstance(codec, VariationalCodec)
    return Call(setup, lambda: (codec.synthesize if own else codec.decode)(*held))


def embed_text(embedder: JointEmbedder) -> Call:
    """One text of ``TEXT_TOKENS`` tokens; of an embedder that is not ours, one of as many words."""
    if not isinstance(embedder, MulanEmbedder):
        return Call(lambda: None, lambda: embedder.embed_text([" ".join(["music"] * TEXT_TOKENS)]))
    own, held = embedder, list[Tensor]()

    def setup() -> None:
        held[:] = [torch.zeros(1, text_tokens(own), dtype=torch.int64, device=_place(own).device)]

    return Call(setup, lambda: own.embed_tokens(*held))


def text_tokens(embedder: MulanEmbedder) -> int:
    """Of the text that ``embed_text`` takes."""
    return min(TEXT_TOKENS, embedder.vocabulary.max_tokens)


def embed_music(embedder: MulanEmbedder) -> Call:
    """One window of music."""
    held: list[Tensor] = []

    def setup() -> None:
        held[:] = [_zeros(embedder, 1, embedder.window_length) + 1]

    return Call(setup, lambda: embedder.embed_windows(*held))


def quantise(rvq: ResidualVectorQuantizer) -> Call:
    """One vector through every level."""
    held: list[Tensor] = []

    def setup() -> None:
        held[:] = [_zeros(rvq, 1, rvq.dim)]

    return Call(setup, lambda: rvq.rows(*held))


def tokenize(tokenizer: ConformerTokenizer, tokens: int) -> Call:
    """The waveform of so many semantic tokens to them."""
    held: list[Tensor] = []

    def setup() -> None:
        held[:] = [_zeros(tokenizer, 1, tokens * tokenizer.hop_length) + 1]

    return Call(setup, lambda: nearest(tokenizer.encode_samples(*held).flatten(0, 1), tokenizer.centroids))


def _semantic(module: nn.Module, tokens: int) -> Tensor:
    return torch.zeros(1, tokens, dtype=torch.int64, device=_place(module).device)


def _zeros(module: nn.Module, *shape: int) -> Tensor:
    weight = _place(module)
    return torch.zeros(*shape, dtype=weight.dtype, device=weight.device)


def _place(module: nn.Module) -> Tensor:
    """A tensor on the network's device and of its dtype; of a network without any, as torch makes one."""
    return next((tensor for tensors in (module.parameters(), module.buffers()) for tensor in tensors), torch.zeros(()))
