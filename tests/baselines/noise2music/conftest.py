"""A cascade as small as it goes, with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from melody.baselines.noise2music import Noise2MusicSystem

TINY = """
name = "tiny-cascade"
description = "Every network as small as it goes, for tests"
melody = "MELODY"
hop_length = 480
middle_rate = 8_000
num_mels = 16
n_fft = 1024
power = 0.7
longest_s = 1.0

[generator]
hidden_size = 8
widths = [8, 16]
blocks = [1, 1]
num_heads = 2
patch = 2
num_steps = 10
guidance_scale = 2.5

[cascader]
hidden_size = 8
widths = [8]
blocks = [1]
num_heads = 2
num_steps = 8

[super_resolution]
hidden_size = 8
widths = [8]
blocks = [1]
num_heads = 2
num_steps = 8

[training.generator]
steps = 40
batch_size = 4
clip_s = 1.0
segment_s = 1.0
learning_rate = 1e-2
ema_decay = 0.9

[training.cascader]
steps = 40
batch_size = 4
clip_s = 0.4
segment_s = 1.0
learning_rate = 1e-2
lower_noise = 0.3

[training.super_resolution]
steps = 40
batch_size = 4
clip_s = 0.4
segment_s = 1.0
learning_rate = 1e-2
lower_noise = 0.3
"""


@pytest.fixture(scope="session")
def cascade_path(tiny_path: Path) -> Path:
    """The tiny cascade's preset, conditioned by the tiny preset of our own system."""
    path = tiny_path.with_name("cascade.toml")
    path.write_text(TINY.replace("MELODY", str(tiny_path)))
    return path


@pytest.fixture(scope="session")
def cascade(cascade_path: Path) -> Noise2MusicSystem:
    return Noise2MusicSystem.random(cascade_path, seed=1)
