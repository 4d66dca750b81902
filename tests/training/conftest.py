"""A small corpus of tones, and a run on it with all stages trained, in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from melody.config import Preset, load_preset
from melody.training.stages import TrainingRun, train


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty noisy tones of a second and a half, with captions and tags."""
    folder = tmp_path_factory.mktemp("tones")
    rng, time = np.random.default_rng(0), np.arange(36_000) / 24_000
    rows = ["file_name,text,tags"]
    for i in range(20):
        noise = 0.05 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{i}.wav", 0.3 * np.sin(2 * np.pi * (200 + 40 * i) * time) + noise, 24_000)
        rows.append(f'{i}.wav,tone number {i},"tone, {"high" if i > 9 else "low"}"')
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def even_path(tiny_path: Path) -> Path:
    """The tiny preset with batches that two processes, or two parts, can share."""
    path = tiny_path.with_name("even.toml")
    text = tiny_path.read_text().replace('name = "tiny"', 'name = "even"')
    path.write_text(text.replace("batch_size = 3", "batch_size = 4").replace("batch_size = 2", "batch_size = 4"))
    return path


@pytest.fixture(scope="session")
def even_preset(even_path: Path) -> Preset:
    return load_preset(even_path)


@pytest.fixture(scope="session")
def tone_run(even_preset: Preset, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run of all stages on the tones."""
    folder = tmp_path_factory.mktemp("tone-run")
    train("all", TrainingRun(even_preset, tones, folder))
    return folder
