"""The paper's preset builds parts of the paper's sizes; the demo's weights load and make sound."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from melody.artifacts.weights import load_weights, save_weights
from melody.config import Component, Preset, load_preset
from melody.pipeline import MelodyPipeline, build_part, shipped_weights
from melody.registry import codecs

PAPER_MILLIONS = {
    "language_model": 429.5,
    "denoiser": 296.6,
    "codec": 100.1,
    "joint_embedder": 195.3,
    "semantic_tokenizer": 199.5,
}
"""Main text and appendix B.1 of the paper."""


@pytest.mark.parametrize("part", sorted(PAPER_MILLIONS))
def test_paper_preset_has_the_papers_parameters(part: str) -> None:
    with torch.device("meta"):
        module = build_part(load_preset("paper"), part)
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(PAPER_MILLIONS[part], rel=0.01)


@pytest.fixture(scope="module")
def demo() -> MelodyPipeline:
    return MelodyPipeline.from_preset("demo")


def test_demo_card_speaks_of_the_weights_that_are_there() -> None:
    from melody.artifacts.files import file_hash

    folder = shipped_weights(load_preset("demo"))
    card = json.loads((folder / "card.json").read_text())
    assert set(card) == {path.stem for path in folder.glob("*.safetensors")}
    for part, entry in card.items():
        assert file_hash(folder / f"{part}.safetensors") == entry["sha256"]
    assert len({entry["data"]["train_hash"] for entry in card.values()}) == 1


def test_the_paper_preset_trains_as_the_paper_says_and_the_demo_as_its_weights_were_trained() -> None:
    paper, demo = (load_preset(name).training for name in ("paper", "demo"))
    assert paper is not None
    assert demo is not None
    # Eq. 34 to 36 sum; samples are mapped between sample and decoder, and learnt; prefixes are the audio's.
    assert (paper.vae.reduction, paper.vae.map_samples, paper.dpd.latents, paper.lm.audio_share) == (
        "sum",
        True,
        "sample",
        1.0,
    )
    assert (demo.vae.reduction, demo.vae.map_samples, demo.dpd.latents) == ("mean", False, "mean")
    assert demo.lm.audio_share == 1 / 3
    card = json.loads((shipped_weights(load_preset("demo")) / "card.json").read_text())
    for entry in card.values():
        now = getattr(demo, entry["stage"]).model_dump()
        assert {key: now[key] for key in entry["settings"]} == entry["settings"], entry["stage"]


def test_demo_makes_sound_of_the_right_length_and_level(demo: MelodyPipeline) -> None:
    generation = demo("a slow piano piece in a minor key", duration_s=3.0, num_steps=5, seeds=0)
    assert generation.waveform.shape == (1, 1, 72_000)
    assert 0.01 < float(generation.waveform.square().mean().sqrt()) < 0.5


def test_demo_embeds_the_right_caption_nearest() -> None:
    """Retrieval on held-out clips is far above chance, so the prompt can steer anything at all."""
    from melody.data.embedded import distinct_prompts

    joint = MelodyPipeline.from_preset("demo").joint_embedder
    clips = distinct_prompts(24)
    with torch.inference_mode():
        audio = joint.embed_audio(torch.stack([clip.waveform(24_000) for clip in clips])[:, None])
        text = joint.embed_text([clip.text for clip in clips])
    right = (audio @ text.T).argmax(dim=1) == torch.arange(len(clips))
    assert right.float().mean() > 0.4


def test_a_pipeline_folds_weight_norms_when_it_loads(tiny_preset: Preset, tiny_weights: Path, tmp_path: Path) -> None:
    sizes = {
        "latent_dim": 4,
        "encoder_rates": (4, 4, 5, 6),
        "encoder_widths": (4,) * 4,
        "encoder_units": 1,
        "decoder_rates": (6, 5, 4, 4),
        "decoder_widths": (4,) * 4,
        "decoder_input_width": 4,
    }
    arguments = codecs.validate("hifi-vae", sizes, where="a test")
    preset = tiny_preset.model_copy(update={"codec": Component(use="hifi-vae", arguments=arguments)})
    weights = shutil.copytree(tiny_weights, tmp_path / "weights")
    trained = build_part(preset, "codec")
    save_weights(trained, weights / "codec.safetensors", preset.component_of("codec"))
    codec = MelodyPipeline.from_preset(preset, weights=weights).codec
    assert not [name for name in codec.state_dict() if "parametrizations" in name]
    load_weights(trained, weights / "codec.safetensors", preset.component_of("codec"))
    latents = torch.rand(1, 6, 4) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(codec.decode(latents), trained.decode(latents), rtol=0, atol=1e-6)
