"""Every stage trains, saves, resumes to the same weights, and refuses what does not fit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from melody.config import Preset, load_preset
from melody.errors import MelodyError
from melody.pipeline import PARTS, MelodyPipeline
from melody.training import fit as fitting
from melody.training import stages
from melody.training.recipe import Recipe
from melody.training.stages import STAGES, Run, train


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty-two clips of the embedded corpus instead of all."""
    load_corpus = stages.load_corpus
    monkeypatch.setattr(stages, "load_corpus", lambda data, split: load_corpus(data, split=split, num_clips=12))


@pytest.fixture(scope="module")
def trained(tiny_preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with all six stages trained."""
    folder = tmp_path_factory.mktemp("run")
    load_corpus = stages.load_corpus
    stages.load_corpus = lambda data, split: load_corpus(data, split=split, num_clips=12)
    try:
        train("all", Run(tiny_preset, "embedded", folder))
    finally:
        stages.load_corpus = load_corpus
    return folder


def test_all_stages_leave_weights_that_a_pipeline_loads(trained: Path, tiny_preset: Preset) -> None:
    pipeline = MelodyPipeline.from_preset(tiny_preset, weights=trained / "weights")
    assert torch.isfinite(pipeline("a slow piano piece").waveform).all()


def test_the_card_tells_data_steps_seed_losses_and_held_out_figures(trained: Path) -> None:
    card = json.loads((trained / "weights" / "card.json").read_text())
    assert set(card) == set(PARTS)
    for part, entry in card.items():
        assert entry["data"]["name"] == "embedded/train"
        assert entry["data"]["train_clips"] == 12
        assert entry["held_out"]
        assert all(math.isfinite(value) for value in entry["held_out"].values())
        assert part == "rvq" or (entry["steps"] == 4 and entry["last_losses"]["loss"] > 0)
    text = (trained / "weights" / "CARD.md").read_text()
    assert all(part in text for part in PARTS)


def test_the_adversarial_terms_begin_when_they_should(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "vae" / "history.jsonl").read_text().splitlines()]
    assert ["discriminator" in row for row in rows] == [False, False, True, True]


@pytest.mark.parametrize("stage", ["joint", "semantic", "vae", "dpd"])
def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    trained: Path, tiny_preset: Preset, tmp_path: Path, stage: str
) -> None:
    (tmp_path / "weights").mkdir()
    for part in PARTS:
        if part != STAGES[stage]:
            (tmp_path / "weights" / f"{part}.safetensors").symlink_to(trained / "weights" / f"{part}.safetensors")
    run = Run(tiny_preset, "embedded", tmp_path)
    train(stage, run, stop_after=3)
    assert not run.weights_path(STAGES[stage]).exists()
    train(stage, run)
    resumed, whole = (load_file(folder / "weights" / f"{STAGES[stage]}.safetensors") for folder in (tmp_path, trained))
    assert set(resumed) == set(whole)
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.parametrize("stage", ["joint", "vae"])
def test_ctrl_c_in_the_middle_keeps_the_last_checkpoint_and_the_rest_ends_alike(
    trained: Path, tiny_preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    run = Run(tiny_preset, "embedded", tmp_path)
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "record", _interrupt_at_step_2)
        with pytest.raises(KeyboardInterrupt):
            train(stage, run)
    assert not run.weights_path(STAGES[stage]).exists()
    train(stage, run)
    resumed, whole = (load_file(folder / "weights" / f"{STAGES[stage]}.safetensors") for folder in (tmp_path, trained))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def _interrupt_at_step_2(recipe: Recipe, step: int) -> None:
    recipe.history.append({"step": step})
    if step == 2:
        raise KeyboardInterrupt


def test_a_stage_without_what_it_needs_names_the_stage(tiny_preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="stage 'joint' must be trained first: .*melody train joint"):
        train("rvq", Run(tiny_preset, "embedded", tmp_path))


def test_a_folder_begun_with_other_settings_is_refused(trained: Path, tiny_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(
        tiny_path.read_text().replace('name = "tiny"', 'name = "other"').replace("window_s = 1.0", "window_s = 0.9")
    )
    with pytest.raises(
        MelodyError, match="was begun with preset 'tiny', whose preset and component differ from those of 'other'"
    ):
        train("joint", Run(load_preset(other), "embedded", trained))


def test_unknown_stage_names_the_nearest(tiny_preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="unknown stage 'lmm'; did you mean 'lm'"):
        train("lmm", Run(tiny_preset, "embedded", tmp_path))


def test_a_damaged_checkpoint_is_named(tiny_preset: Preset, tmp_path: Path) -> None:
    run = Run(tiny_preset, "embedded", tmp_path)
    train("joint", run, stop_after=1)
    checkpoint = tmp_path / "joint" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(MelodyError, match=r"checkpoint .*last\.ckpt cannot be read"):
        train("joint", run)


def test_losses_that_are_not_finite_stop_the_run(
    tiny_preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melody.training.joint import Joint

    monkeypatch.setattr(Joint, "losses", lambda self, batch: {"loss": torch.full((), math.nan, requires_grad=True)})
    with pytest.raises(MelodyError, match="Joint: loss is nan at step 0"):
        train("joint", Run(tiny_preset, "embedded", tmp_path))
