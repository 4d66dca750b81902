"""Stages coarse and fine: what they are given, crops, learning, weights that load, a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from melody.baselines.musiclm.preset import AcousticTraining, MusicLmPreset
from melody.config import load_preset
from melody.errors import MelodyError
from melody.lm.multi_stream import MultiStream
from melody.pipeline import load_part
from melody.training import stages
from melody.training.baselines import MUSICLM
from melody.training.musiclm import AcousticData, AcousticModelling
from melody.training.shares import Share
from melody.training.stages import TrainingRun, train

PRESET = """
name = "tiny"
description = "For tests"
melody = "{melody}"

[codec]
use = "fourier-rvq"
num_levels = 5
codebook_size = 6
latent_dim = 4
hidden_dim = 8
encoder_layers = 1
decoder_layers = 1

[coarse]
hidden_size = 8
num_layers = 1
num_heads = 2
feed_forward_size = 8
num_levels = 2

[fine]
hidden_size = 8
num_layers = 1
num_heads = 2
feed_forward_size = 8

[training.codec]
steps = 1
batch_size = 2
clip_s = 0.2
learning_rate = 1e-3

[training.coarse]
steps = 3
batch_size = 2
clip_s = 1.0
learning_rate = 1e-3
ema_decay = 0.9
token_dropout = 0.3
shorter_times = 2

[training.fine]
steps = 3
batch_size = 2
clip_s = 0.4
learning_rate = 1e-3
"""


@pytest.fixture(scope="module")
def preset(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> MusicLmPreset:
    path = tmp_path_factory.mktemp("musiclm") / "tiny.toml"
    path.write_text(PRESET.format(melody=tiny_path))
    return load_preset(path, MusicLmPreset)


@pytest.fixture
def shipped(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MeLoDy's parts come from the tiny system."""
    monkeypatch.setattr(stages, "shipped_weights", lambda preset: tiny_weights)


def data(frames_per_given: int = 2, prefixes: bool = True) -> AcousticData:
    """Tokens that say what they are given: level 0 repeats it, level 1 is one more."""
    given = torch.randint(6, (12, 20, 1), generator=torch.Generator().manual_seed(0))
    frames = given.repeat_interleave(frames_per_given, dim=1)
    tokens = torch.cat([frames, (frames + 1) % 6], dim=2)
    return AcousticData(tokens, given, torch.arange(12 * 4 * 3).view(12, 4, 3) % 5 if prefixes else None)


def recipe(**changes: object) -> AcousticModelling:
    torch.manual_seed(0)
    part = MultiStream([(3, 5, 0.0), (1, 6, 4.0)], 2, 6, 16, num_layers=2, num_heads=2, feed_forward_size=24)
    table = {"steps": 30, "batch_size": 4, "clip_s": 0.8, "learning_rate": 1e-2, **changes}
    return AcousticModelling(part, AcousticTraining.model_validate(table), data(), data(), rate=25.0)


def test_the_loss_goes_down_in_thirty_steps() -> None:
    one = recipe(shorter_times=2)
    optimizer = one.optimizer(one.part)
    losses = []
    for step in range(30):
        loss = one.losses(one.batch(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    figures = one.validate()
    assert figures["loss"] < 0.8 * losses[0]
    assert figures["loss"] == pytest.approx((figures["loss_level_0"] + figures["loss_level_1"]) / 2)
    assert figures["loss"] < figures["bigram_loss"] < figures["unigram_loss"] + 0.1


def test_crops_begin_together_and_hold_as_many_tokens_whatever_their_length() -> None:
    one = recipe(shorter_times=4, token_dropout=0.5)
    shapes = set()
    for step in range(12):
        prefix, given, tokens, dropped = one.batch(step)
        assert torch.equal(tokens[..., 0], given[..., 0].repeat_interleave(2, dim=1))
        assert prefix.shape == (len(given), 1, 3)
        assert dropped.shape == tokens.shape
        shapes.add((len(given), given.shape[1]))
    assert shapes == {(4, 20), (16, 5)}


def test_parts_of_a_batch_are_rows_of_the_whole() -> None:
    one = recipe(shorter_times=2)
    for step in range(3):
        parts = [one.batch(step, Share(index, 2)) for index in range(2)]
        for whole, *pieces in zip(one.batch(step), *parts, strict=True):
            assert torch.equal(whole, torch.cat(pieces))


@pytest.mark.usefixtures("shipped")
def test_both_stages_train_resume_and_leave_weights_that_load(
    preset: MusicLmPreset, tones: Path, tmp_path: Path
) -> None:
    train("all", TrainingRun(preset, tones, tmp_path, plan=MUSICLM))
    for stage in ("coarse", "fine"):
        weights = tmp_path / "weights" / f"{stage}.safetensors"
        assert isinstance(load_part(preset, stage, weights), MultiStream)
        card = json.loads((tmp_path / "weights" / "card.json").read_text())
        assert {"loss", "unigram_loss", "bigram_loss", "loss_level_1"} <= set(card[stage]["held_out"])
        whole = _state(weights)
        for stop in (2, None):
            train(
                stage,
                TrainingRun(preset, tones, tmp_path / "again", plan=MUSICLM, weights=weights.parent),
                stop_after=stop,
            )
        resumed = _state(tmp_path / "again" / "weights" / weights.name)
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    needs = json.loads((tmp_path / "coarse" / "settings.json").read_text())["needs"]
    assert set(needs) == {"codec", "joint_embedder", "rvq", "semantic_tokenizer"}


def _state(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def test_a_stage_without_its_codec_is_refused(preset: MusicLmPreset, tones: Path, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="stage 'codec' must be trained first"):
        train("fine", TrainingRun(preset, tones, tmp_path, plan=MUSICLM))
