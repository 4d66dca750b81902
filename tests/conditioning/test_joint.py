"""MuLan-style embedder: unit vectors that do not depend on the batch, and a loss that learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from melody import registry
from melody.artifacts.weights import load_weights, save_weights
from melody.conditioning.joint import MulanEmbedder, contrastive_loss
from melody.errors import MelodyError
from melody.protocols import JointEmbedder

SMALL = {
    "sample_rate": 8_000,
    "embedding_dim": 16,
    "window_s": 1.0,
    "num_mels": 16,
    "n_fft": 256,
    "mel_hop_length": 160,
    "patch_size": 8,
    "patch_stride": 8,
    "audio_hidden_size": 32,
    "audio_layers": 1,
    "audio_heads": 2,
    "text_hidden_size": 32,
    "text_layers": 1,
    "text_heads": 2,
    "vocabulary_size": 300,
    "max_text_tokens": 24,
    "dropout": 0.0,
}
TEXTS = ["slow piano", "a fast and rather loud electric guitar", "flute", "drums 🥁"]


@pytest.fixture(params=["cls", "mean"])
def embedder(request: pytest.FixtureRequest) -> MulanEmbedder:
    torch.manual_seed(0)
    return MulanEmbedder(**SMALL, pooling=request.param).eval()


def _noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_is_registered_and_needs_no_weights() -> None:
    assert isinstance(registry.joint_embedders.create("mulan", SMALL), JointEmbedder)


def test_default_size_is_the_papers() -> None:
    """195.3M, main text, within 1 %."""
    with torch.device("meta"):
        embedder = MulanEmbedder()
    assert sum(p.numel() for p in embedder.parameters()) == pytest.approx(195.3e6, rel=0.01)


@torch.inference_mode()
def test_unit_norm_and_shapes(embedder: MulanEmbedder) -> None:
    for embeddings in (embedder.embed_text(TEXTS), embedder.embed_audio(_noise(4, 1, 12_345))):
        assert embeddings.shape == (4, 16)
        assert torch.allclose(embeddings.norm(dim=-1), torch.ones(4), atol=1e-5)


@torch.inference_mode()
def test_alone_as_in_a_batch(embedder: MulanEmbedder) -> None:
    waveform = _noise(4, 1, 20_000)
    texts, sounds = embedder.embed_text(TEXTS), embedder.embed_audio(waveform)
    for row in range(4):
        assert torch.allclose(embedder.embed_text(TEXTS[row : row + 1])[0], texts[row], atol=1e-5)
        assert torch.allclose(embedder.embed_audio(waveform[row : row + 1])[0], sounds[row], atol=1e-5)


@torch.inference_mode()
def test_same_bits_twice_and_loudness_does_not_matter(embedder: MulanEmbedder) -> None:
    waveform = _noise(2, 1, 8_000)
    assert torch.equal(embedder.embed_audio(waveform), embedder.embed_audio(waveform))
    assert torch.equal(embedder.embed_text(TEXTS), embedder.embed_text(TEXTS))
    assert torch.allclose(embedder.embed_audio(waveform * 0.05), embedder.embed_audio(waveform), atol=1e-4)


@torch.inference_mode()
def test_long_audio_is_the_mean_of_its_windows_and_short_audio_is_repeated(embedder: MulanEmbedder) -> None:
    first, second = _noise(2, 1, 8_000).split(1)
    mean = F.normalize((embedder.embed_audio(first) + embedder.embed_audio(second)) / 2, dim=-1)
    assert torch.allclose(embedder.embed_audio(torch.cat([first, second], dim=-1)), mean, atol=1e-5)
    short = first[..., :4_000]
    assert torch.allclose(embedder.embed_audio(short), embedder.embed_audio(short.repeat(1, 1, 2)), atol=1e-5)
    assert torch.isfinite(embedder.embed_audio(torch.ones(1, 1, 1))).all()
    assert torch.isfinite(embedder.embed_audio(torch.zeros(1, 1, 8_000))).all()


@torch.inference_mode()
def test_weights_carry_the_vocabulary(embedder: MulanEmbedder, tmp_path: Path) -> None:
    embedder.fit_vocabulary([*TEXTS, "slow guitar"] * 3)
    save_weights(embedder, tmp_path / "joint.safetensors", {"use": "mulan"})
    loaded = MulanEmbedder(**SMALL, pooling=embedder.pooling).eval()
    load_weights(loaded, tmp_path / "joint.safetensors", {"use": "mulan"})
    assert loaded.vocabulary.pieces("slow guitar") == embedder.vocabulary.pieces("slow guitar")
    assert torch.allclose(loaded.embed_text(TEXTS), embedder.embed_text(TEXTS), atol=5e-3)  # stored in float16


def test_loss_is_clips_when_texts_differ() -> None:
    logits = _noise(5, 5) * 50
    diagonal = torch.arange(5)
    expected = (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2
    assert torch.allclose(contrastive_loss(logits, list("abcde")), expected)


def test_equal_texts_are_positives_of_each_other() -> None:
    logits = torch.full((3, 3), -20.0)
    logits[:2, :2] = logits[2, 2] = 20.0  # rows 0 and 1 say the same
    assert float(contrastive_loss(logits, ["a", "a", "b"])) == pytest.approx(2 / 3 * math.log(2), abs=1e-5)
    assert float(contrastive_loss(logits, ["a", "c", "b"])) == pytest.approx(2 / 3 * math.log(2), abs=1e-5)
    logits[0, 1] = logits[1, 0] = -20.0  # pushed apart: right for different texts, wrong for equal ones
    assert float(contrastive_loss(logits, ["a", "c", "b"])) < 1e-5
    assert float(contrastive_loss(logits, ["a", "a", "b"])) == pytest.approx(2 / 3 * 20, abs=1e-4)


def test_loss_falls_on_toy_data() -> None:
    torch.manual_seed(0)
    embedder = MulanEmbedder(**SMALL, pooling="mean")
    time_s = torch.arange(8_000) / 8_000
    waveform = torch.stack([torch.sin(2 * math.pi * hertz * time_s) for hertz in (200, 500, 1_200, 3_000)])[:, None]
    optimizer = torch.optim.AdamW(embedder.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = embedder.loss(TEXTS, waveform)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    embedder.eval()
    with torch.inference_mode():
        similarity = embedder.embed_text(TEXTS) @ embedder.embed_audio(waveform).T
    assert similarity.argmax(dim=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.embed_audio(torch.full((1, 1, 99), torch.nan)), "NaN"),
        (lambda e: e.embed_audio(torch.zeros(1, 99)), "expected .batch, 1, samples."),
        (lambda e: e.embed_text("one string"), "expected a list"),
        (lambda e: e.embed_text([]), "expected a list"),
        (lambda e: e.loss(["a"], torch.zeros(2, 1, 99)), "1 texts for 2 waveforms"),
    ],
)
def test_bad_input(embedder: MulanEmbedder, call: Callable[[MulanEmbedder], object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        call(embedder)


@pytest.mark.parametrize("change", [{"audio_heads": 5}, {"text_heads": 5}, {"patch_size": 64}, {"vocabulary_size": 10}])
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(MelodyError):
        MulanEmbedder(**{**SMALL, **change})
