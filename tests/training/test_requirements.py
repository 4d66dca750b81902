"""An outside component trains, or is refused before anything is computed, with what it lacks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from melody.config import Preset, with_changes
from melody.errors import MelodyError, MelodyWarning
from melody.pipeline import MelodyPipeline
from melody.protocols import Codec, JointEmbedder, LanguageModel
from melody.registry import Entry, codecs, joint_embedders, language_models
from melody.training.stages import TrainingRun, train

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Listener(nn.Module, Codec):
    """Encodes and decodes, and cannot train."""

    def __init__(self, latent_dim: int = 4) -> None:
        super().__init__()

    def encode(self, waveform: Any) -> Any: ...
    def decode(self, latents: Any) -> Any: ...


class Reader(nn.Module, JointEmbedder):
    """Has no vocabulary to learn."""

    def __init__(self, embedding_dim: int = 8) -> None:
        super().__init__()

    def embed_text(self, texts: Any) -> Any: ...
    def embed_audio(self, waveform: Any) -> Any: ...
    def loss(self, texts: Any, waveform: Any) -> Any: ...


class Forgetful(nn.Module, LanguageModel):
    """Hides nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def generate(self, prefix: Any, num_tokens: Any, **options: Any) -> Any: ...
    def loss(self, prefix: Any, semantic_tokens: Any, dropped: Any = None) -> Any:
        return prefix.sum() + semantic_tokens.sum()


class Fixed(Codec):
    """Is no network."""

    sample_rate, hop_length, latent_dim = 24_000, 480, 4

    def encode(self, waveform: Any) -> Any: ...
    def decode(self, latents: Any) -> Any: ...


PLUGINS: ClassVar = {codecs: {"listener": Listener, "fixed": Fixed}, joint_embedders: {"reader": Reader}}
PLUGINS[language_models] = {"forgetful": Forgetful}


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(EXAMPLES / "codec-plugin"))
    from melody_conv_codec import ConvCodec

    found = {**PLUGINS, codecs: {**PLUGINS[codecs], "conv-codec": ConvCodec}}
    for kind, components in found.items():
        for name, component in components.items():
            kind._load_plugins()[name] = Entry(name, f"elsewhere ({name})", component, version="1")
    yield
    for kind, components in found.items():
        for name in components:
            del kind._load_plugins()[name]
    sys.modules.pop("melody_conv_codec", None)


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        (
            "vae",
            "codec.use=listener",
            r"stage 'vae' cannot train codec 'listener' from elsewhere .*: it lacks reconstruct",
        ),
        (
            "vae",
            "codec.use=fixed",
            r"it is no torch.nn.Module; it lacks reconstruct \(see melody.trainable.TrainableCodec",
        ),
        ("joint", "joint_embedder.use=reader", "it lacks fit_vocabulary, contrast"),
        (
            "lm",
            "language_model.use=forgetful",
            "loss does not use dropped, which token_dropout = 0.5 needs .--set training",
        ),
        ("all", "language_model.use=forgetful", "stage 'lm' cannot train language model 'forgetful'"),
    ],
)
def test_what_a_component_lacks_is_told_before_anything_is_computed(
    tiny_preset: Preset, tones: Path, tmp_path: Path, stage: str, change: str, message: str
) -> None:
    run = TrainingRun(with_changes(tiny_preset, [change]), tones, tmp_path / "run")
    with pytest.raises(MelodyError, match=message) as caught:
        train(stage, run)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_codec_trains_on_a_few_clips_and_a_denoiser_on_its_latents(
    tiny_preset: Preset, tiny_weights: Path, tones: Path, tmp_path: Path
) -> None:
    preset = with_changes(tiny_preset, ["codec.use=conv-codec", "codec.width=8", "training.vae.adversarial_start="])
    for stage in ("vae", "dpd"):
        train(stage, TrainingRun(preset, tones, tmp_path, weights=tiny_weights, max_clips=3))
    card = json.loads((tmp_path / "weights" / "card.json").read_text())
    assert {part: entry["data"]["train_clips"] for part, entry in card.items()} == {"codec": 3, "denoiser": 3}
    assert len(card["denoiser"]["latents"]["mean"]) == 4
    parts = dict.fromkeys(("codec", "denoiser"), tmp_path / "weights")
    pipeline = MelodyPipeline.from_preset(preset, weights=tiny_weights, parts=parts)
    assert torch.isfinite(pipeline("a tone", duration_s=0.5).waveform).all()
    with pytest.raises(MelodyError, match="makes other latents than those that denoiser"):
        MelodyPipeline.from_preset(preset, weights=tiny_weights, parts={"codec": tmp_path / "weights"})


def test_earlier_stages_may_be_those_that_ship_with_the_base(tones: Path, tmp_path: Path) -> None:
    from melody.config import load_preset

    small = ["hidden_size=8", "num_layers=1", "num_heads=1", "feed_forward_size=8"]
    changes = [f"language_model.{one}" for one in small] + ["training.lm.steps=1", "training.lm.clip_s=1.0"]
    run = TrainingRun(with_changes(load_preset("demo"), changes), tones, tmp_path, max_clips=2)
    with pytest.warns(
        MelodyWarning, match="has joint_embedder, rvq, semantic_tokenizer: stage 'lm' uses those shipped"
    ):
        train("lm", run)
    assert (tmp_path / "weights" / "language_model.safetensors").is_file()
