"""``clap`` and ``encodec`` with tiny random models, saved and loaded as published ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from melody.embedders.encodec import Encodec
from melody.errors import MelodyError
from melody.registry import audio_embedders


def noise(samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    folder = tmp_path_factory.mktemp("clap")
    text = {
        "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
    }  # fmt: skip
    audio = {
        "hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12)).save_pretrained(folder)
    ClapFeatureExtractor(max_length_s=1).save_pretrained(folder)  # a second, for the test's time
    return folder


def test_clap_embeds_fixed_windows_by_the_models_own_extractor(clap_folder: Path) -> None:
    from transformers import ClapFeatureExtractor, ClapModel

    embedder = audio_embedders.create("clap", {"weights": str(clap_folder)})
    facts = embedder.identity()
    assert (facts["sample_rate"], facts["dimension"], facts["window_s"]) == (48_000, 12, 1.0)
    clip = noise(48_000 * 2 + 100)
    vectors = embedder.embed(clip)
    assert vectors.shape == (3, 12)
    assert torch.equal(vectors, embedder.embed(clip))  # nothing is cropped at random
    extractor, model = ClapFeatureExtractor.from_pretrained(clap_folder), ClapModel.from_pretrained(clap_folder).eval()
    inputs = extractor(clip[-48_000:].numpy(), sampling_rate=48_000, truncation="rand_trunc", return_tensors="pt")
    with torch.inference_mode():
        pooled = model.audio_model(input_features=inputs["input_features"]).pooler_output
        expected = F.normalize(model.audio_projection(pooled), dim=-1)
    torch.testing.assert_close(vectors[2:], expected, atol=1e-5, rtol=1e-4)


def test_a_fused_clap_is_refused(clap_folder: Path, tmp_path: Path) -> None:
    from transformers import ClapConfig, ClapModel

    config = ClapConfig.from_pretrained(clap_folder)
    config.audio_config.enable_fusion = True
    ClapModel(config).save_pretrained(tmp_path)
    with pytest.raises(MelodyError, match=r"is a fused model, which crops at random.*clap-htsat-unfused"):
        audio_embedders.create("clap", {"weights": str(tmp_path)})


@pytest.fixture(scope="module")
def encodec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import EncodecConfig, EncodecModel

    folder = tmp_path_factory.mktemp("encodec")
    torch.manual_seed(0)
    config = EncodecConfig(num_filters=2, hidden_size=8, num_lstm_layers=1, codebook_size=8, codebook_dim=8)
    EncodecModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("samples", [1, 320, 24_000, 24_100])
def test_encodec_gives_a_latent_for_each_frame_begun(encodec_folder: Path, samples: int) -> None:
    from transformers import EncodecModel

    embedder = audio_embedders.create("encodec", {"weights": str(encodec_folder)})
    latents = embedder.embed(noise(samples))
    assert latents.shape == (-(-samples // 320), 8)
    with torch.inference_mode():
        expected = EncodecModel.from_pretrained(encodec_folder).eval().encoder(noise(samples)[None, None])[0].T
    torch.testing.assert_close(latents, expected)
    assert embedder.identity()["hop_s"] == pytest.approx(1 / 75)


def test_a_long_clip_is_encoded_in_pieces_and_no_frame_is_lost(encodec_folder: Path) -> None:
    embedder: Encodec = audio_embedders.create("encodec", {"weights": str(encodec_folder)})
    minute = 60 * 24_000
    lengths = {
        samples: [len(piece) for piece in embedder._pieces(torch.zeros(samples))]
        for samples in (minute, minute + 1_000, minute + 48_000, 2 * minute + 1)
    }
    assert lengths == {
        minute: [minute],
        minute + 1_000: [minute + 1_000],
        minute + 48_000: [minute, 48_000],
        2 * minute + 1: [minute, minute + 1],
    }


@pytest.mark.parametrize("name", ["clap", "encodec"])
def test_missing_folders_and_pickles_name_the_source(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MELODY_EMBEDDERS", raising=False)
    with pytest.raises(MelodyError, match=rf"{name}: no weights were given; expected model\.safetensors, usually from"):
        audio_embedders.create(name)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(MelodyError, match=rf"{name}: .*pickles are never opened.*huggingface\.co/"):
        audio_embedders.create(name, {"weights": str(tmp_path)})


def test_a_missing_tensor_is_an_error_and_not_a_random_one(encodec_folder: Path, tmp_path: Path) -> None:
    _without(encodec_folder, tmp_path, "encoder.layers.0.conv.bias")
    with pytest.raises(MelodyError, match=r"encodec: .* lacks tensor 'encoder\.layers\.0\.conv\.bias'"):
        audio_embedders.create("encodec", {"weights": str(tmp_path)})


def test_damaged_weights_are_one_line(clap_folder: Path, tmp_path: Path) -> None:
    for path in clap_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((clap_folder / "model.safetensors").read_bytes()[:1_000])
    with pytest.raises(MelodyError, match=r"clap: cannot load ") as raised:
        audio_embedders.create("clap", {"weights": str(tmp_path)})
    assert "\n" not in str(raised.value)


def _without(source: Path, target: Path, name: str) -> None:
    tensors: dict[str, Any] = load_file(source / "model.safetensors")
    del tensors[name]
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
