"""README's table of where the demo differs from the paper: every cell is what the presets and the card say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from melody.config import ROLES, Preset, load_preset
from melody.paths import PACKAGE
from melody.reproduce.sizes import PAPER_MILLIONS

ROOT = Path(__file__).resolve().parents[1]
CARD = PACKAGE / "presets" / "weights" / "demo" / "card.json"


@pytest.fixture(scope="module")
def presets() -> tuple[Preset, Preset]:
    return load_preset("paper"), load_preset("demo")


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(CARD.read_text(encoding="utf-8"))
    return content


def _table() -> dict[str, tuple[str, str]]:
    """The rows under the heading: label -> the paper's cell and the demo's."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Where the demo differs from the paper\n", 1)[1].split("\n##", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {label: (paper, demo) for label, paper, demo in rows[2:]}


def _codec(preset: Preset) -> str:
    arguments = preset.codec.arguments
    hop = arguments["hop_length"] if "hop_length" in arguments else math.prod(arguments["encoder_rates"])
    rate = preset.sample_rate / hop
    return f"`{preset.codec.use}`, {preset.sample_rate // 1000} kHz to {rate:g} Hz × {arguments['latent_dim']}"


def _layers(preset: Preset) -> str:
    arguments = preset.language_model.arguments
    return f"{arguments['num_layers']} × {arguments['hidden_size']}"


def _blocks(preset: Preset) -> str:
    arguments = preset.denoiser.arguments
    return f"{arguments['num_blocks']} × {arguments['hidden_size']}, segments of {arguments['segment_size']}"


def _tokenizer(preset: Preset) -> str:
    arguments = preset.semantic_tokenizer.arguments
    return f"{arguments['codebook_size']:,}, `{arguments['objective']}`"


def _towers(preset: Preset) -> str:
    training = preset.training
    assert training is not None
    public = training.joint.audio_weights and training.joint.text_weights
    return "a public AST and BERT, fine-tuned" if public else "random weights"


def _judges(preset: Preset) -> str:
    training = preset.training
    assert training is not None
    vae = training.vae
    assert vae.adversarial_start is not None
    end = vae.steps if vae.decoder_only_from is None else vae.decoder_only_from
    steps = end - vae.adversarial_start
    return "in all steps" if steps == vae.steps else f"in {steps:,} of {vae.steps:,} steps"


def _own_losses(preset: Preset) -> str:
    training = preset.training
    assert training is not None
    weights = {"log magnitudes": training.vae.log_stft_weight, "waveform": training.vae.waveform_weight}
    return ", ".join(f"{name} × {weight:g}" for name, weight in weights.items() if weight) or "none"


def _of_training(get: Callable[[Any], object]) -> Callable[[Preset], str]:
    return lambda preset: str(get(preset.training))


FACTS: dict[str, Callable[[Preset], str]] = {
    "codec": _codec,
    "language model, layers × width": _layers,
    "denoiser, blocks × width": _blocks,
    "semantic tokens, objective of their tokenizer": _tokenizer,
    "MuLan tokens": lambda p: f"{p.rvq.num_levels} of {p.rvq.codebook_size:,}",
    "towers of the joint embedder begin as": _towers,
    "discriminators of the codec": _judges,
    "weight of the KL term": _of_training(lambda t: f"{t.vae.kl_weight:g}"),
    "losses of the codec that the paper has not": _own_losses,
    "losses over resolutions and discriminators": _of_training(lambda t: t.vae.reduction),
    "decoder trained on clamped samples": _of_training(lambda t: "yes" if t.vae.map_samples else "no"),
    "denoiser learns the posterior's": _of_training(lambda t: t.dpd.latents),
    "prefixes of audio, others of text": _of_training(lambda t: f"{100 * t.lm.audio_share:.0f} %"),
    "semantic tokens hidden from the language model": _of_training(
        lambda t: f"up to {100 * t.lm.token_dropout:.0f} %" if t.lm.token_dropout else "none"
    ),
    "guidance of the denoiser": lambda p: f"{p.generation.guidance_scale:g}",
    "guidance of the language model by its prefix": lambda p: (
        f"{p.generation.token_guidance_scale:.1f}" if p.generation.token_guidance_scale != 1 else "none"
    ),
    "temperature of the language model": lambda p: f"{p.generation.temperature:.1f}",
    "top-p of the language model": lambda p: "none" if p.generation.top_p is None else f"{p.generation.top_p:g}",
}
"""Row -> its cell for a preset; remarks may follow the cell in brackets."""


@pytest.mark.parametrize("label", FACTS)
def test_a_row_is_what_the_two_presets_say(label: str, presets: tuple[Preset, Preset]) -> None:
    shown = tuple(cell.split(" (")[0] for cell in _table()[label])
    assert shown == tuple(FACTS[label](preset) for preset in presets)


def test_sizes_are_the_printed_ones_and_those_of_the_card(card: dict[str, Any]) -> None:
    shown = _table()
    for role in ROLES:
        paper, demo = shown[f"{role.replace('_', ' ')}, parameters"]
        assert paper == f"{PAPER_MILLIONS[role][0]}M"
        assert demo == f"{card[role]['parameters'] / 1e6:.1f}M"


def test_the_demo_learnt_from_as_many_clips_as_the_card_says(card: dict[str, Any]) -> None:
    paper, demo = _table()["training data"]
    assert paper == "257k hours (main text)"
    assert demo.startswith(f"{card['denoiser']['data']['train_clips']:,} clips of 10 s")


def test_the_weights_were_made_with_what_the_preset_says(card: dict[str, Any], presets: tuple[Preset, Preset]) -> None:
    training = presets[1].training
    assert training is not None
    settings = card["codec"]["settings"]
    for name in ("steps", "adversarial_start", "decoder_only_from", "kl_weight"):
        assert settings[name] == getattr(training.vae, name), name


def test_the_remark_on_the_kl_term_is_its_ratio(presets: tuple[Preset, Preset]) -> None:
    paper, demo = (preset.training.vae.kl_weight for preset in presets if preset.training is not None)
    assert f"(× {demo / paper:g}" in _table()["weight of the KL term"][1]


def test_no_row_is_left_without_a_test() -> None:
    sizes = {f"{role.replace('_', ' ')}, parameters" for role in ROLES}
    assert set(_table()) == set(FACTS) | sizes | {"training data"}
