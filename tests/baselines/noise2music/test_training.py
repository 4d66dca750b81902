from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from melody.artifacts.weights import read_weights
from melody.baselines.noise2music import PARTS, Noise2MusicPreset, Noise2MusicSystem
from melody.config import load_preset
from melody.errors import MelodyError
from melody.training.baselines import NOISE2MUSIC, stage_graph
from melody.training.stages import TrainingRun, train


@pytest.fixture(scope="module")
def trained_path(cascade_path: Path) -> Path:
    """The tiny cascade conditioned by the demo's joint embedder, whose weights are there."""
    path = cascade_path.with_name("trained.toml")
    lines = cascade_path.read_text().splitlines()
    path.write_text("\n".join('melody = "demo"' if line.startswith("melody") else line for line in lines))
    return path


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of a second: tones that swell, with captions."""
    folder = tmp_path_factory.mktemp("notes")
    time = np.arange(24_000) / 24_000
    rows = ["file_name,text"]
    for i in range(12):
        soundfile.write(folder / f"{i}.wav", 0.5 * time * np.sin(2 * np.pi * 220 * (1 + i % 3) * time), 24_000)
        rows.append(f"{i}.wav,a tone number {i}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(trained_path: Path, notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascade-run")
    train("all", TrainingRun(load_preset(trained_path, Noise2MusicPreset), notes, folder, plan=NOISE2MUSIC))
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_the_loss_of_every_stage_falls(finished: Path, part: str) -> None:
    rows = [json.loads(line) for line in (finished / part / "history.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows]
    assert len(losses) == 40
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    held_out = json.loads((finished / "weights" / "card.json").read_text())[part]["held_out"]
    assert set(held_out) == {"velocity_mse", "velocity_mse_unconditional", "velocity_mse_zero"}


def test_what_was_trained_makes_sound(finished: Path, trained_path: Path) -> None:
    system = Noise2MusicSystem(str(trained_path), weights=finished / "weights")
    made = system.generate(["a tone"], duration_s=1.0, seeds=[0])
    assert 1e-4 < float(made.waveform.square().mean().sqrt()) < 0.7


def test_a_killed_run_ends_with_the_same_weights(
    finished: Path, trained_path: Path, notes: Path, tmp_path: Path
) -> None:
    for stop_after in (17, None):
        run = TrainingRun(load_preset(trained_path, Noise2MusicPreset), notes, tmp_path, plan=NOISE2MUSIC)
        train("cascader", run, stop_after=stop_after)
    (_, once), (_, twice) = (
        read_weights(folder / "weights" / "cascader.safetensors") for folder in (finished, tmp_path)
    )
    for name, tensor in once.items():
        torch.testing.assert_close(twice[name], tensor, rtol=0, atol=0)


def test_pieces_longer_than_a_segment_are_refused(trained_path: Path, notes: Path, tmp_path: Path) -> None:
    preset = load_preset(str(trained_path), stage_graph("noise2music").preset_type)
    stage = preset.training.cascader.model_copy(update={"clip_s": 2.0})
    preset = preset.model_copy(update={"training": preset.training.model_copy(update={"cascader": stage})})
    with pytest.raises(MelodyError, match="stage cascader: clip_s is 2.0, expected"):
        train("cascader", TrainingRun(preset, notes, tmp_path, plan=NOISE2MUSIC))
