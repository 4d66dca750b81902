"""Files and checkpoints have our own names for what another library's modules hold, and older spellings still load."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from melody import registry
from melody.artifacts.weights import load_weights, save_weights
from melody.errors import MelodyError
from melody.paths import PACKAGE
from melody.tensor_names import Names, own_names

SHIPPED = sorted((PACKAGE / "presets" / "weights").rglob("*.safetensors"))
NAMES = {
    "layernorm", "cls_token", "q_proj", "fc1", "encoder", "LayerNorm", "embeddings", "linear_q", "ffn1", "conv_module",
    "self_attn", "inv_freq", "masked_spec_embed", "lm_head", "embed_tokens", "to_q", "resnets", "transformer_blocks",
}  # fmt: skip
"""Words of transformers and diffusers that are none of ours within the attributes that hold their modules."""
OURS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "mulan": (
        "joint_embedders",
        {"audio_hidden_size": 8, "audio_layers": 2, "audio_heads": 2, "text_hidden_size": 8, "text_layers": 2}
        | {"text_heads": 2, "vocabulary_size": 300, "max_text_tokens": 8, "window_s": 1.0},
        {"audio_tower.class_token", "audio_tower.blocks.1.attention.query.weight", "text_tower.words.weight"}
        | {"audio_tower.blocks.0.feed_forward.up.bias", "text_tower.blocks.0.feed_forward_norm.weight"},
    ),
    "wav2vec2-conformer": (
        "semantic_tokenizers",
        {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "intermediate_size": 16, "feature_layer": 1}
        | {"conv_width": 4, "codebook_size": 4, "target_codebook_size": 4},
        {"model.mask_vector", "model.front.0.conv.weight", "model.rotary.frequencies"}
        | {"model.blocks.1.convolution.norm.running_mean", "model.blocks.0.feed_forward_2.down.weight"},
    ),
    "unet-2d": (
        "denoisers",
        {"channels": (4, 8), "layers": 1, "attention": (False, True), "heads": 2, "semantic_dim": 8, "norm_groups": 2}
        | {"latent_dim": 4, "position_channels": 2},
        {"network.down.1.attention.0.cross.key.weight", "network.middle.residual.1.conv_2.bias", "network.time.up.bias"}
        | {"network.up.0.wider.weight", "network.down.0.narrower.weight", "network.up.1.residual.1.skip.weight"},
    ),
}
"""Component -> registry, small sizes, and some of the names of its file."""


def _built(use: str, seed: int = 0) -> tuple[nn.Module, dict[str, Any]]:
    kind, arguments, _ = OURS[use]
    components = getattr(registry, kind)
    torch.manual_seed(seed)
    module: nn.Module = components.create(use, arguments, where="a test")
    return module, {"use": use, "arguments": arguments}


def _saved(use: str, path: Path) -> nn.Module:
    module, component = _built(use)
    save_weights(module, path, component, dtype="float32")
    return module


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_files_have_our_names_and_say_whose_tensors_they_are(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata, names = file.metadata(), list(file.keys())
    assert metadata["format"] == "pt"
    held = [name for name in names if name.startswith(("audio_tower.", "text_tower.", "model.", "network."))]
    assert not [name for name in held if NAMES & {*name.split(".")}]
    use = json.loads(metadata["component"]).get("use")
    assert bool(held) == (use in OURS)


@pytest.mark.parametrize("use", OURS)
def test_a_file_has_our_names_alone_and_comes_back_to_the_bit(use: str, tmp_path: Path) -> None:
    module = _saved(use, tmp_path / "part.safetensors")
    names = load_file(tmp_path / "part.safetensors").keys()
    assert OURS[use][2] <= names
    assert not [name for name in names if NAMES & {*name.split(".")}]
    other, component = _built(use, seed=1)
    load_weights(other, tmp_path / "part.safetensors", component)
    expected = module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())


def _before_5_9(name: str) -> str:
    """The AST's tensor as transformers 5.0 to 5.8 call it, from its name in 5.9 to 5.24."""
    name = re.sub(r"^audio_tower\.layers\.(\d+)", r"audio_tower.encoder.layer.\1", name)
    for letter, word in {"q": "query", "k": "key", "v": "value"}.items():
        name = re.sub(rf"(audio_tower.*)\.attention\.{letter}_proj", rf"\1.attention.attention.{word}", name)
    name = re.sub(r"(audio_tower.*)\.attention\.o_proj", r"\1.attention.output.dense", name)
    return name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")


@pytest.mark.parametrize("spelling", [str, _before_5_9], ids=["installed", "before-5.9"])
@pytest.mark.parametrize("use", OURS)
def test_files_keyed_by_the_librarys_own_names_still_load(use: str, spelling: Any, tmp_path: Path) -> None:
    """As every file was before, whatever release it was made with."""
    module, component = _built(use)
    path = tmp_path / "part.safetensors"
    tensors = {spelling(name): tensor.contiguous() for name, tensor in module.state_dict().items()}
    assert not OURS[use][2] & tensors.keys()
    save_file(tensors, path, {"format_version": "1", "component": json.dumps(component)})
    other, _ = _built(use, seed=1)
    load_weights(other, path, component)
    expected = module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())


def test_what_does_not_fit_is_told_by_our_name(tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"
    _saved("mulan", path)
    # Copies: older safetensors hand out views of the file, which is written over below.
    tensors, other = {name: tensor.clone() for name, tensor in load_file(path).items()}, _built("mulan")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    name = "audio_tower.blocks.0.attention.query.bias"
    cases = {
        rf"it lacks tensor '{name}'$": {key: tensor for key, tensor in tensors.items() if key != name},
        rf"tensor '{name}' has shape \(3,\), expected \(8,\)": {**tensors, name: torch.zeros(3)},
        r"unknown tensor, 'audio_tower\.blocks\.0\.attention\.qux'": {
            **tensors,
            "audio_tower.blocks.0.attention.qux": torch.zeros(3),
        },
    }
    for message, content in cases.items():
        save_file(content, path, metadata)
        with pytest.raises(MelodyError, match=message):
            load_weights(*other[:1], path, other[1])


def test_a_release_with_names_that_we_do_not_know_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    module, component = _built("mulan")
    module.audio_tower.normaliser = module.audio_tower.layernorm
    del module.audio_tower.layernorm
    with pytest.raises(MelodyError, match=r"calls a tensor of transformers' ASTModel 'normaliser\.weight', a name"):
        save_weights(module, tmp_path / "part.safetensors", component)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("use", OURS)
def test_every_tensor_has_one_name_of_ours_and_it_stays_the_same(use: str) -> None:
    module, _ = _built(use)
    ours = own_names(module, dict.fromkeys(module.state_dict()))
    assert len(ours) == len(module.state_dict())
    assert own_names(module, ours) == ours


def test_an_index_is_kept_in_its_place() -> None:
    names = Names("Net", {"down.#.block.#": "d.#.b.#"})
    assert names.ours("d.3.b.12.weight") == "down.3.block.12.weight"
    assert names.ours("d.x.b.12.weight") is None
