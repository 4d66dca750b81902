"""What every codec of tokens keeps: lengths, fewer levels, determinism, files, sizes, clear errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melody.baselines.musiclm.preset import MusicLmPreset
from melody.config import load_preset
from melody.errors import MelodyError
from melody.protocols import TokenCodec
from melody.registry import token_codecs
from melody.vae.residual import ResidualCodec

TINY = {
    "fourier-rvq": {
        "hop_length": 48,
        "num_levels": 3,
        "codebook_size": 7,
        "latent_dim": 4,
        "hidden_dim": 16,
        "n_fft": 96,
        "stft_hop_length": 24,
    },
    "hifi-rvq": {
        "num_levels": 3,
        "codebook_size": 7,
        "latent_dim": 4,
        "encoder_rates": (2, 3),
        "encoder_widths": (4, 8),
        "encoder_kernels": (5, 7),
        "encoder_residual_kernels": (3, 5),
        "encoder_units": 1,
        "decoder_rates": (3, 2),
        "decoder_widths": (8, 4),
        "decoder_kernels": (5, 7),
        "decoder_residual_kernels": (3, 5),
        "decoder_input_width": 8,
    },
}


def tiny(name: str, **changes: object) -> ResidualCodec:
    torch.manual_seed(0)
    codec: ResidualCodec = token_codecs.create(name, {**TINY[name], **changes})
    return codec.eval()


CODECS = {name: tiny(name) for name in TINY}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(params=sorted(TINY))
def codec(request: pytest.FixtureRequest) -> ResidualCodec:
    return CODECS[request.param]


@pytest.mark.parametrize("name", sorted(TINY))
@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 3), samples=st.integers(1, 400), levels=st.integers(1, 3))
@torch.no_grad()
def test_any_length_gives_whole_frames_and_back_from_any_levels(
    name: str, batch: int, samples: int, levels: int
) -> None:
    codec = CODECS[name]
    waveform = noise(batch, 1, samples, seed=samples)
    tokens = codec.encode(waveform)
    frames = math.ceil(samples / codec.hop_length)
    assert tokens.shape == (batch, frames, 3)
    assert tokens.dtype == torch.int64
    assert ((tokens >= 0) & (tokens < 7)).all()
    decoded = codec.decode(tokens[..., :levels])
    assert decoded.shape == (batch, 1, frames * codec.hop_length)
    assert torch.isfinite(decoded).all()
    padded = torch.nn.functional.pad(waveform, (0, frames * codec.hop_length - samples))
    assert torch.equal(codec.encode(padded), tokens)


@torch.no_grad()
def test_training_and_inference_decode_alike_and_rows_do_not_touch(codec: ResidualCodec) -> None:
    waveform = noise(2, 1, 4 * codec.hop_length)
    tokens = codec.encode(waveform)
    assert torch.equal(tokens, codec.encode(waveform))
    preds, vectors, commitment = codec.reconstruct(waveform, torch.tensor([3, 1]))
    assert vectors.shape == (2, 4, 4)
    assert commitment > 0
    assert torch.allclose(preds[:1], codec.decode(tokens[:1]), atol=1e-5)
    assert torch.allclose(preds[1:], codec.decode(tokens[1:, :, :1]), atol=1e-5)


@pytest.mark.parametrize("name", sorted(TINY))
def test_gradients_reach_every_parameter(name: str) -> None:
    codec = tiny(name).train()
    codec(noise(2, 1, 600)).square().mean().backward()
    assert [n for n, p in codec.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_a_saved_codec_gives_the_same_tokens(codec: ResidualCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path, dtype="float32")
    loaded = TokenCodec.from_pretrained(tmp_path)
    waveform = noise(1, 1, 300)
    assert type(loaded) is type(codec)
    assert torch.equal(loaded.encode(waveform), codec.encode(waveform))


@torch.no_grad()
def test_folding_norms_keeps_tokens_and_sound() -> None:
    for name in TINY:
        codec, waveform = tiny(name), noise(1, 1, 300)
        tokens = codec.encode(waveform)
        before = codec.decode(tokens)
        codec.remove_weight_norm()
        assert torch.equal(codec.encode(waveform), tokens)
        assert torch.allclose(codec.decode(tokens), before, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), r"tokens of shape \(2, 3\), expected \(B, L, levels\)"),
        (torch.zeros(2, 0, 3, dtype=torch.int64), "without an empty axis"),
        (torch.zeros(2, 5, 4, dtype=torch.int64), "expected 1 to 3 levels"),
        (torch.full((2, 5, 3), 7), r"Rvq: token 7 is outside \[0, 7\)"),
        (torch.zeros(2, 5, 3), "expected whole numbers"),
    ],
)
def test_bad_tokens_are_refused(codec: ResidualCodec, tokens: Tensor, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        codec.decode(tokens)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(1, 100), r"shape \(1, 100\), expected \(B, 1, T\)"),
        (torch.zeros(1, 1, 0), "without an empty axis"),
        (torch.zeros(1, 1, 100, dtype=torch.int16), "torch.int16, expected torch.float32"),
        (torch.full((1, 1, 100), torch.nan), "NaN or infinity"),
    ],
)
def test_bad_waveforms_are_refused(codec: ResidualCodec, waveform: Tensor, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        codec.encode(waveform)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fourier-rvq", {"num_levels": 0}, "num_levels: .* equal to 1"),
        ("fourier-rvq", {"stft_hop_length": 25}, "fourier-rvq: stft_hop_length 25 does not divide hop_length 48"),
        ("hifi-rvq", {"codebook_size": 0}, "codebook_size: .* equal to 1"),
        ("hifi-rvq", {"encoder_rates": (2, 2)}, "hifi-rvq: encoder_rates .* differ in their product"),
    ],
)
def test_bad_settings_are_refused(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        tiny(name, **changes)


def test_presets_have_the_papers_rate_and_levels_and_the_size_is_known() -> None:
    """The size is ours, for none is printed: 40.65M and 67.5M beside hifi-vae's 40.2M and 59.7M; 1.6M of codebooks."""
    demo, paper = (load_preset(name, MusicLmPreset).build("codec") for name in ("demo", "paper"))
    for codec, codebook_size in ((demo, 128), (paper, 1024)):
        assert isinstance(codec, ResidualCodec)
        assert (codec.sample_rate, codec.frame_rate) == (24000, 50.0)
        assert (codec.num_levels, codec.codebook_size) == (12, codebook_size)
    counts = {"encoder": 0, "decoder": 0}
    for name, parameter in paper.named_parameters():
        if not name.endswith("original0"):  # weight norms folded in
            counts[name.partition("_")[0]] += parameter.numel()
    assert counts["encoder"] == pytest.approx(40.65e6, rel=0.01)
    assert counts["decoder"] == pytest.approx(67.7e6, rel=0.01)
    assert sum(buffer.numel() for buffer in paper.quantizer.buffers()) == 12 * 1024 * 128  # type: ignore[union-attr]


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(MelodyError, match="unknown preset 'dem' of musiclm; did you mean 'demo'"):
        load_preset("dem", MusicLmPreset)
