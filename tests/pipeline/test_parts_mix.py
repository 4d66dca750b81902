"""Parts of several folders in one pipeline: what is taken from the base, what needs no file, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from melody.artifacts.weights import save_weights
from melody.config import Component, Preset, load_preset, with_changes
from melody.errors import MelodyError, MelodyWarning
from melody.pipeline import (
    MelodyPipeline,
    build_part,
    latent_statistics,
    shipped_weights,
    weight_files,
)
from melody.protocols import Codec
from melody.registry import Entry, codecs


class Blocks(Codec):
    """Samples as they are, 480 a frame, of which the first few are latents; nothing is learnt."""

    sample_rate, hop_length = 24_000, 480

    def __init__(self, latent_dim: int = 4) -> None:
        self.latent_dim = latent_dim

    def encode(self, waveform: Tensor) -> Tensor:
        padded = nn.functional.pad(waveform[:, 0], (0, -waveform.shape[-1] % 480))
        return padded.unflatten(1, (-1, 480))[..., : self.latent_dim].clamp(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.repeat(1, 1, 480 // self.latent_dim).flatten(1)[:, None]


@pytest.fixture
def blocks() -> Iterator[None]:
    codecs._load_plugins()["blocks"] = Entry("blocks", "plug-in (elsewhere:Blocks)", Blocks, version="1")
    yield
    del codecs._load_plugins()["blocks"]


@pytest.fixture
def lighter(tmp_path: Path) -> Path:
    """A preset on the demo's base with a small language model of its own."""
    path = tmp_path / "lighter.toml"
    path.write_text("""
base = "demo"
name = "lighter"
description = "A smaller language model"
[language_model]
use = "llama"
prefix_codebook_size = 64
codebook_size = 512
hidden_size = 16
num_layers = 1
num_heads = 1
feed_forward_size = 16
""")
    return path


def _save(preset: Preset, part: str, folder: Path) -> None:
    torch.manual_seed(3)
    save_weights(build_part(preset, part), folder / f"{part}.safetensors", preset.component_of(part))


def test_what_a_folder_lacks_is_taken_from_the_base(lighter: Path, tmp_path: Path) -> None:
    preset, folder = load_preset(lighter), tmp_path / "weights"
    _save(preset, "language_model", folder)
    with pytest.warns(MelodyWarning, match="lacks joint_embedder, .*: taken from the weights shipped with 'demo'"):
        pipeline = MelodyPipeline.from_preset(preset, weights=folder)
    files, shipped = weight_files(preset, folder), shipped_weights(load_preset("demo"))
    assert files["language_model"].parent == folder
    assert {path.parent for part, path in files.items() if part != "language_model"} == {shipped}
    generation = pipeline("a slow piano piece", duration_s=0.5, num_steps=2, seeds=0)
    assert generation.trace.passes == {"language_model": 13, "denoiser": 2}
    pipeline.save_pretrained(tmp_path / "whole")
    whole = MelodyPipeline.from_pretrained(tmp_path / "whole")
    assert torch.equal(
        whole("a flute", duration_s=0.5, num_steps=2, seeds=0).waveform[..., :9],
        pipeline("a flute", duration_s=0.5, num_steps=2, seeds=0).waveform[..., :9],
    )
    assert set(json.loads((tmp_path / "whole" / "card.json").read_text())) == set(files) - {"language_model"}


def test_a_part_that_is_nowhere_is_named_with_its_stage(lighter: Path) -> None:
    with pytest.raises(
        MelodyError, match=r"lacks weights in .*lighter: language_model.safetensors; train them \(melody train lm"
    ):
        MelodyPipeline.from_preset(lighter)


def test_a_single_part_may_be_given(tmp_path: Path) -> None:
    demo = load_preset("demo")
    _save(demo, "language_model", tmp_path)
    for given in (tmp_path, tmp_path / "language_model.safetensors"):
        files = weight_files(demo, parts={"language_model": given})
        assert files["language_model"] == tmp_path / "language_model.safetensors"
    own = MelodyPipeline.from_preset(demo, parts={"language_model": tmp_path})
    assert own.weights_hash != MelodyPipeline.from_preset(demo).weights_hash


def test_a_component_without_weights_needs_no_file(
    blocks: None, tiny_preset: Preset, tiny_weights: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_weights, tmp_path / "weights", ignore=shutil.ignore_patterns("codec.*"))
    preset = with_changes(tiny_preset, ["codec.use=blocks", "codec.latent_dim=4"])
    pipeline = MelodyPipeline.from_preset(preset, weights=folder)
    assert pipeline("a flute", duration_s=0.5).waveform.shape == (1, 1, 12_000)
    pipeline.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "codec.safetensors").exists()
    assert isinstance(MelodyPipeline.from_pretrained(tmp_path / "saved").codec, Blocks)
    assert isinstance(Codec.from_pretrained(tmp_path / "saved"), Blocks)


@pytest.mark.parametrize(
    ("component", "arguments", "message"),
    [
        ("blocks", {"latent_dim": 3}, "makes latents of 3 values a frame, but denoiser 'dual-path' takes 4"),
        (
            "fourier-vae",
            {"hop_length": 240, "latent_dim": 4},
            "of 100 frames a second, but denoiser 'dual-path' takes 50",
        ),
    ],
)
def test_latents_of_another_width_or_rate_are_refused(
    blocks: None, tiny_preset: Preset, component: str, arguments: dict[str, Any], message: str
) -> None:
    codec = Component(use=component, arguments=codecs.validate(component, arguments, where="a test"))
    with pytest.raises(MelodyError, match=message):
        MelodyPipeline.random(tiny_preset.model_copy(update={"codec": codec}))


def test_latents_of_other_statistics_are_refused(tiny_preset: Preset, tiny_weights: Path, tmp_path: Path) -> None:
    """The same component by another seed: only what it makes tells it from the one that the denoiser learnt."""
    _save(tiny_preset, "codec", tmp_path)
    with pytest.raises(
        MelodyError, match=r"makes other latents than those that denoiser 'dual-path' .* learnt: .*differ by"
    ):
        MelodyPipeline.from_preset(tiny_preset, weights=tiny_weights, parts={"codec": tmp_path})
    shutil.copy(tiny_weights / "codec.safetensors", tmp_path)
    MelodyPipeline.from_preset(tiny_preset, weights=tiny_weights, parts={"codec": tmp_path})


def test_the_card_of_a_denoiser_tells_what_it_learnt(tiny_preset: Preset, tiny_weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_weights, tmp_path / "weights")
    (folder / "codec.safetensors").rename(tmp_path / "codec.safetensors")
    codec: Any = MelodyPipeline.from_preset(tiny_preset, weights=tiny_weights).codec
    told = latent_statistics(codec)
    for factor, fits in ((1.0, True), (1.5, False)):
        latents = {name: [factor * value for value in values] for name, values in told.items()}
        (folder / "card.json").write_text(json.dumps({"denoiser": {"latents": latents, "sha256": ""}}))
        if fits:
            MelodyPipeline.from_preset(tiny_preset, weights=folder, parts={"codec": tmp_path})
            continue
        with pytest.raises(MelodyError, match="differ by"):
            MelodyPipeline.from_preset(tiny_preset, weights=folder, parts={"codec": tmp_path})
