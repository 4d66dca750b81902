"""Public towers to begin from (appendix B.3): what the AST hears, BERT's words, and one line where they do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from tokenizers import BertWordPieceTokenizer

from melody.artifacts.weights import load_weights, save_weights
from melody.conditioning.ast_bands import AstBands
from melody.conditioning.joint import MulanEmbedder
from melody.config import load_preset
from melody.errors import MelodyError
from melody.pipeline import build_part

SMALL: dict[str, Any] = {
    "front_end": "ast",
    "embedding_dim": 8,
    "window_s": 1.0,
    "num_mels": 32,
    "patch_size": 16,
    "patch_stride": 16,
    "audio_hidden_size": 16,
    "audio_layers": 2,
    "audio_heads": 2,
    "text_hidden_size": 16,
    "text_layers": 2,
    "text_heads": 2,
    "vocabulary_size": 300,
    "max_text_tokens": 12,
    "dropout": 0.0,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "slow", "piano", "##s", "gui", "##tar", ","]


def sounds(rows: int, samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``ast`` and ``bert`` as transformers writes them, tiny and random; BERT with its WordPiece vocabulary."""
    from transformers import ASTConfig, ASTForAudioClassification, BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("public")
    torch.manual_seed(7)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    music = ASTConfig(**sizes, patch_size=16, frequency_stride=16, time_stride=16, max_length=1024, num_mel_bins=32)
    ASTForAudioClassification(music).save_pretrained(folder / "ast")
    BertForMaskedLM(BertConfig(**sizes, vocab_size=300, max_position_embeddings=12)).save_pretrained(folder / "bert")
    words = BertWordPieceTokenizer({word: row for row, word in enumerate(WORDS)}, lowercase=True)
    words.save(str(folder / "bert" / "tokenizer.json"))
    return folder


@pytest.fixture
def embedder(public: Path) -> MulanEmbedder:
    torch.manual_seed(0)
    embedder = MulanEmbedder(**SMALL).eval()
    embedder.begin_music(public / "ast")
    embedder.begin_text(public / "bert")
    return embedder


@pytest.mark.parametrize("samples", [16_000, 160_000, 164_000])
def test_bands_are_the_public_extractors(samples: int) -> None:
    from transformers import ASTFeatureExtractor

    waveform = sounds(2, samples) + 0.02  # with an offset, which it takes away
    expected = ASTFeatureExtractor()(list(waveform.numpy()), sampling_rate=16_000, return_tensors="pt")
    bands = AstBands(16_000, 128)(waveform)
    assert bands.shape == (2, 1024, 128)
    torch.testing.assert_close(bands, expected["input_values"].float(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("rate", [24_000, 44_100, 8_000])
def test_other_rates_are_resampled(rate: int) -> None:
    time_s = torch.arange(rate) / rate
    waveform = sum(torch.sin(2 * torch.pi * hertz * time_s + hertz) for hertz in (110, 1_234, 3_500))
    resampled = AstBands(rate, 128).resample(waveform[None])[0]  # type: ignore[index]
    expected = torch.from_numpy(soxr.resample(np.asarray(waveform), rate, 16_000, quality="VHQ"))
    assert resampled.shape == expected.shape == (16_000,)
    error = (resampled - expected)[400:-400].square().mean() / expected.square().mean()
    assert 10 * torch.log10(error) < -40  # dB


def test_what_is_above_8_khz_is_not_heard() -> None:
    tone = torch.sin(2 * torch.pi * 10_000 * torch.arange(24_000) / 24_000)
    assert AstBands(24_000, 128).resample(tone[None])[:, 400:-400].abs().max() < 1e-2


def test_towers_begin_as_the_public_models(embedder: MulanEmbedder, public: Path) -> None:
    from transformers import ASTModel, BertModel

    music, text = ASTModel.from_pretrained(public / "ast"), BertModel.from_pretrained(public / "bert")
    windows = sounds(2, 24_000)
    with torch.inference_mode():
        hidden = music.eval()(AstBands(24_000, 32)(windows)).last_hidden_state[:, :2].mean(dim=1)
        expected = torch.nn.functional.normalize(embedder.audio_projection(hidden), dim=-1)
        torch.testing.assert_close(embedder.embed_audio(windows[:, None]), expected)
        ids = torch.tensor([[2, 6, 7, 8, 3]])  # [CLS] slow piano ##s [SEP], by BERT's own WordPiece
        first = text.eval()(input_ids=ids).last_hidden_state[:, 0]
        expected = torch.nn.functional.normalize(embedder.text_projection(first), dim=-1)
        torch.testing.assert_close(embedder.embed_text(["Slow pianos"]), expected)
    assert embedder.vocabulary.pieces("a guitar, slow") == ["[CLS]", "a", "gui", "##tar", ",", "slow", "[SEP]"]
    assert embedder.vocabulary(["a " * 50])[0].shape == (1, 12)


def test_loudness_is_heard_as_the_public_model_hears_it(embedder: MulanEmbedder) -> None:
    quiet = sounds(1, 24_000)[:, None]
    assert not torch.allclose(embedder.embed_audio(quiet), embedder.embed_audio(3 * quiet), atol=1e-4)


def test_once_trained_the_public_models_are_needed_no_more(embedder: MulanEmbedder, tmp_path: Path) -> None:
    save_weights(embedder, tmp_path / "joint.safetensors", {"use": "x"}, dtype="float32")
    again = MulanEmbedder(**SMALL).eval()
    load_weights(again, tmp_path / "joint.safetensors", {"use": "x"})
    waveform = sounds(2, 30_000)[:, None]
    assert torch.equal(again.embed_audio(waveform), embedder.embed_audio(waveform))
    assert torch.equal(again.embed_text(["slow guitars"]), embedder.embed_text(["slow guitars"]))


def test_what_does_not_fit_is_one_line(public: Path, tmp_path: Path) -> None:
    def refused(pattern: str, changes: dict[str, Any], method: str, source: str | Path) -> None:
        with pytest.raises(MelodyError, match=pattern) as caught:
            getattr(MulanEmbedder(**{**SMALL, **changes}), method)(source)
        assert "\n" not in str(caught.value)

    refused("audio_weights: there is no folder nowhere; .*leave it out", {}, "begin_music", "nowhere")
    refused(
        "audio_weights: .* has num_hidden_layers = 2, but .* has 1", {"audio_layers": 1}, "begin_music", public / "ast"
    )
    refused("num_attention_heads = 2, but .* has 4", {"text_heads": 4}, "begin_text", public / "bert")
    refused("vocab_size = 300, but .* has 301", {"vocabulary_size": 301}, "begin_text", public / "bert")
    refused("needs front_end 'ast', got 'log-mel'", {"front_end": "log-mel", "mel_hop_length": 240}, "begin_music", "x")
    (tmp_path / "empty").mkdir()
    refused("has no config.json with .*pickles are never", {}, "begin_music", tmp_path / "empty")
    shutil.copytree(public / "bert", tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").unlink()
    refused("text_weights: cannot read the vocabulary .*: no such file", {}, "begin_text", tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").write_text("{}")
    refused("text_weights: cannot read the vocabulary", {}, "begin_text", tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").write_bytes((public / "ast" / "model.safetensors").read_bytes())
    refused("text_weights: .* lacks tensor .*another kind of model", {}, "begin_text", tmp_path / "bert")
    with pytest.raises(MelodyError, match=r"window_s is 11: expected at most 10.24 s"):
        MulanEmbedder(**{**SMALL, "window_s": 11.0})


def test_the_paper_preset_has_the_papers_towers() -> None:
    preset = load_preset("paper")
    assert preset.training is not None
    assert preset.training.joint.audio_weights == "MIT/ast-finetuned-audioset-10-10-0.4593"
    assert preset.training.joint.text_weights == "google-bert/bert-base-uncased"
    with torch.device("meta"):
        joint: Any = build_part(preset, "joint_embedder")
    assert sum(p.numel() for p in joint.parameters()) == pytest.approx(195.3e6, rel=1e-3)
    assert joint.audio_tower.config.max_length == 1024
    assert joint.embed_windows(torch.zeros(1, joint.window_length, device="meta")).shape == (1, 128)
