"""Presets: what is read, what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from melody.config import PRESETS, load_preset, preset_names, with_changes
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


def test_an_inherited_setting_can_be_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "demo"\nname = "mine"\nunset = ["training.vae.adversarial_start", "generation.top_p"]')
    mine, demo = load_preset(path), load_preset("demo")
    assert mine.training is not None
    assert demo.training is not None
    assert mine.training.vae == demo.training.vae.model_copy(update={"adversarial_start": None})
    assert (mine.generation.top_p, demo.generation.top_p) == (None, 0.9)
    path.write_text('base = "demo"\nname = "mine"\nunset = ["training.vae.adversarial_strat"]')
    with pytest.raises(MelodyError, match=r"unset .*'training.vae.adversarial_strat' is not set; did you mean 'adv"):
        load_preset(path)
    path.write_text('base = "demo"\nname = "mine"\nunset = "generation"')
    with pytest.raises(MelodyError, match="mine.toml: unset is 'generation': expected a list of keys"):
        load_preset(path)


def test_single_keys_can_be_set_for_one_call() -> None:
    changes = ["training.vae.steps=5", "generation.sampler=heun", "generation.top_p="]
    changed, demo = with_changes(load_preset("demo"), changes), load_preset("demo")
    assert changed.training is not None
    assert (changed.training.vae.steps, changed.generation.sampler, changed.generation.top_p) == (5, "heun", None)
    assert changed.label == "demo with generation.sampler=heun, generation.top_p="
    assert changed.hash() != demo.hash()
    assert changed.decisive() != demo.decisive()
    # What a recipe says changes no number: the weights tell how they were trained.
    assert with_changes(load_preset("demo"), ["training.vae.steps=5"]).decisive() == demo.decisive()
    assert with_changes(load_preset("demo"), ["training.vae.steps=5"]).label == "demo"


def test_another_component_takes_over_what_its_data_are() -> None:
    """Its other arguments are its own defaults: those of the one before would not fit."""
    denoiser = with_changes(load_preset("demo"), ["denoiser.use=unet-1d", "denoiser.head_dim=8"]).denoiser
    taken = {name: denoiser.arguments[name] for name in ("latent_dim", "frame_rate", "codebook_size", "head_dim")}
    assert denoiser.use == "unet-1d"
    assert taken == {"latent_dim": 32, "frame_rate": 50.0, "codebook_size": 512, "head_dim": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.vae.stpes=5", r"--set training.vae.stpes=5: unknown key 'training.vae.stpes'; did you mean 'steps'"),
        ("trainign.vae.steps=5", "unknown key 'trainign'; did you mean 'training'"),
        ("training.vae.steps=many", "training.vae.steps: Input should be a valid integer"),
        ("denoiser.use=dual-pth", "unknown denoiser 'dual-pth'; did you mean 'dual-path'"),
        ("denoiser.hiden_size=4", "unknown key 'hiden_size'; did you mean 'hidden_size'"),
        ("training.vae.steps", "--set training.vae.steps: expected KEY=VALUE"),
        ("name.first=x", "'name' is no table, so it has no 'first'"),
        ("generation.top_q=", "'generation.top_q' is not set; did you mean 'top_"),
    ],
)
def test_a_bad_change_is_one_line(change: str, message: str) -> None:
    with pytest.raises(MelodyError, match=message) as caught:
        with_changes(load_preset("demo"), [change])
    assert "\n" not in str(caught.value)
