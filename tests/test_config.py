"""Presets: what is read, what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from melody.config import PRESETS, load_preset, preset_names
from melody.errors import MelodyError


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    text = (PRESETS / "demo.toml").read_text()
    assert old in text
    path = tmp_path / "edited.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("name", preset_names())
def test_presets_of_the_package_are_valid(name: str) -> None:
    assert name in preset_names()
    assert load_preset(name).name == name


def test_hash_depends_on_content_not_on_layout(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text("# another comment\n" + (PRESETS / "demo.toml").read_text())
    assert load_preset(path).hash() == load_preset("demo").hash()
    assert load_preset(_edited(tmp_path, "num_levels = 12", "num_levels = 11")).hash() != load_preset("demo").hash()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[codec]", "[codecs]", "unknown key 'codecs'; did you mean 'codec'"),
        ("num_levels = 12", "num_level = 12", r"unknown key 'rvq.num_level'; did you mean 'num_levels'"),
        ('use = "llama"', 'use = "lama"', "unknown language model 'lama'; did you mean 'llama'"),
        ('use = "llama"', 'use = "llama"\nhiden_size = 8', "unknown key 'hiden_size'; did you mean 'hidden_size'"),
        ('use = "llama"', 'name = "llama"', r"\[language_model\]: expected use = "),
        ("num_levels = 12", 'num_levels = "twelve"', r"rvq.num_levels: Input should be a valid integer"),
        ("num_levels = 12", "num_levels = 0", r"rvq.num_levels: Input should be greater than or equal to 1, got 0"),
        ("num_levels = 12", "num_levels = = 12", "is not valid TOML: .*line"),
    ],
)
def test_a_bad_preset_is_one_line_with_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _edited(tmp_path, old, new)
    with pytest.raises(MelodyError, match=message) as caught:
        load_preset(path)
    assert "\n" not in str(caught.value)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(MelodyError, match="unknown preset 'dmeo'; did you mean 'demo'"):
        load_preset("dmeo")


def test_missing_preset_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match=r"cannot read .*absent\.toml: No such file"):
        load_preset(tmp_path / "absent.toml")


def test_a_default_that_is_written_out_changes_nothing(tmp_path: Path) -> None:
    written = _edited(tmp_path, 'use = "llama"', 'use = "llama"\nnum_prefix_tokens = 12')
    assert load_preset(written).hash() == load_preset("demo").hash()


def test_a_base_gives_the_tables_that_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("""
base = "demo"
name = "mine"
language_model = { use = "llama", num_layers = 2 }
training.vae = { steps = 7 }
""")
    mine, demo = load_preset(path), load_preset("demo")
    assert mine.name == "mine"
    # A component's table replaces the base's whole one, other tables are laid over key by key.
    assert mine.language_model.arguments["num_layers"] == 2
    assert mine.language_model.arguments["hidden_size"] != demo.language_model.arguments["hidden_size"]
    assert mine.denoiser == demo.denoiser
    assert mine.training is not None
    assert demo.training is not None
    assert mine.training.dpd == demo.training.dpd
    assert mine.training.vae == demo.training.vae.model_copy(update={"steps": 7})


def test_an_unknown_base_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "dmeo"\nname = "mine"')
    with pytest.raises(MelodyError, match=r"mine.toml: unknown base 'dmeo'; did you mean 'demo'\?"):
        load_preset(path)


def test_the_codecs_that_are_compared_have_the_same_latents_and_about_the_same_size() -> None:
    from melody.pipeline import build_part

    codecs = [build_part(load_preset(name), "codec") for name in ("demo", "demo-hifi")]
    assert {(codec.sample_rate, codec.hop_length, codec.latent_dim) for codec in codecs} == {(24_000, 480, 32)}
    sizes = [sum(p.numel() for p in codec.parameters()) for codec in codecs]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
