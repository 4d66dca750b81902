"""Latents decoded piece by piece are the whole, for both codecs, any length and any pieces."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melody.pipeline.decoding import PiecewiseDecoder
from melody.protocols import Codec
from melody.registry import codecs

SIZES: dict[str, dict[str, Any]] = {
    "fourier-vae": {"hop_length": 48, "latent_dim": 4, "hidden_dim": 16, "n_fft": 96, "stft_hop_length": 24},
    "hifi-vae": {
        "latent_dim": 4,
        "encoder_rates": (2, 3),
        "encoder_widths": (4, 8),
        "encoder_kernels": (5, 7),
        "encoder_residual_kernels": (3,),
        "encoder_units": 1,
        "decoder_rates": (3, 2),
        "decoder_widths": (8, 4),
        "decoder_kernels": (5, 7),
        "decoder_residual_kernels": (3, 5),
        "decoder_input_width": 8,
    },
}


def _codec(name: str) -> Codec:
    torch.manual_seed(0)
    codec: Any = codecs.create(name, SIZES[name])
    built: Codec = codec.eval().requires_grad_(False)
    return built


CODECS = {name: _codec(name) for name in SIZES}


def noise(frames: int) -> Tensor:
    return torch.rand(2, frames, 4, generator=torch.Generator().manual_seed(frames)) * 2 - 1


@pytest.mark.parametrize("name", sorted(SIZES))
@settings(max_examples=12, deadline=None)
@given(pieces=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any))
def test_pieces_of_any_length_make_the_whole(name: str, pieces: list[int]) -> None:
    codec, latents = CODECS[name], noise(sum(pieces))
    decoder = PiecewiseDecoder(codec)
    made, pushed = [], 0
    for index, piece in enumerate(latents.split(pieces, dim=1)):
        pushed += piece.shape[1]
        made.append(decoder.push(piece, last=index == len(pieces) - 1))
        assert decoder._held is not None
        assert decoder._held.shape[1] <= 2 * codec.decoder_context_frames + piece.shape[1]  # type: ignore[operator]
    torch.testing.assert_close(torch.cat(made, dim=-1), codec.decode(latents), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_what_comes_out_lags_by_the_context_and_no_more(name: str) -> None:
    codec = CODECS[name]
    decoder, context = PiecewiseDecoder(codec), codec.decoder_context_frames
    assert context is not None
    out = [decoder.push(piece).shape[-1] for piece in noise(context + 30).split([context, 1, 9, 20], dim=1)]
    assert out == [frames * codec.hop_length for frames in (0, 1, 9, 20)]


class Unbounded(Codec):
    """A decoder whose every sample depends on all latents, as a plug-in's may; it keeps the protocol's default."""

    sample_rate, hop_length, latent_dim = 100, 2, 4

    def encode(self, waveform: Tensor) -> Tensor:
        return waveform.new_zeros(len(waveform), -(-waveform.shape[-1] // 2), 4)

    def decode(self, latents: Tensor) -> Tensor:
        return (latents.mean(dim=(1, 2), keepdim=True) + latents.mean(dim=2)[:, None]).repeat_interleave(2, dim=-1)


def test_a_codec_without_a_bound_is_decoded_at_once() -> None:
    codec, latents = Unbounded(), noise(10)
    decoder = PiecewiseDecoder(codec)
    assert codec.decoder_context_frames is None
    assert decoder.push(latents[:, :6]).shape == (2, 1, 0)
    assert torch.equal(decoder.push(latents[:, 6:], last=True), codec.decode(latents))
