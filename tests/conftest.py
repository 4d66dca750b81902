"""What tests share: a tiny preset with random weights, and the published samples where they are there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from melody.artifacts.weights import save_weights
from melody.config import Preset, load_preset
from melody.pipeline import PARTS, MelodyPipeline
from melody.protocols import Generation

TINY = """
name = "tiny"
description = "Every part as small as it goes, for tests"

[codec]
use = "fourier-vae"
hop_length = 480
latent_dim = 4
hidden_dim = 8
encoder_layers = 1
decoder_layers = 1

[joint_embedder]
use = "mulan"
embedding_dim = 8
window_s = 1.0
num_mels = 16
n_fft = 1024
mel_hop_length = 480
patch_size = 8
patch_stride = 8
audio_hidden_size = 8
audio_layers = 1
audio_heads = 2
text_hidden_size = 8
text_layers = 1
text_heads = 2
vocabulary_size = 300
max_text_tokens = 16
pooling = "mean"
dropout = 0.0

[rvq]
num_levels = 3
codebook_size = 5

[semantic_tokenizer]
use = "wav2vec2-conformer"
codebook_size = 7
front_end = "mel"
hidden_size = 8
num_layers = 1
num_heads = 2
intermediate_size = 16
feature_layer = 1
depthwise_kernel = 3
num_mels = 16
mel_hop_length = 480
target_codebook_size = 8
dropout = 0.0

[language_model]
use = "llama"
num_prefix_tokens = 3
prefix_codebook_size = 5
codebook_size = 7
hidden_size = 16
num_layers = 1
num_heads = 2
feed_forward_size = 16
max_tokens = 64

[denoiser]
use = "dual-path"
latent_dim = 4
hidden_size = 16
num_blocks = 1
segment_size = 8
frame_rate = 50.0
codebook_size = 7
angle_embedding_dim = 4
merge_widths = [2]
num_heads = 2
coarse_layers = 1
feed_forward_size = 16
recurrent_size = 8

[generation]
segment_s = 1.0
chunks = 4
num_steps = 3

[training.joint]
steps = 4
batch_size = 3
clip_s = 1.0
learning_rate = 1e-3

[training.rvq]
clip_s = 1.0

[training.semantic]
steps = 4
batch_size = 2
clip_s = 1.0
learning_rate = 1e-3
ema_decay = 0.9

[training.lm]
steps = 4
batch_size = 2
clip_s = 1.0
learning_rate = 1e-3
token_dropout = 0.5
prefix_dropout = 0.2

[training.vae]
steps = 4
batch_size = 2
clip_s = 0.5
learning_rate = 1e-3
adversarial_start = 2
discriminator_width = 2

[training.dpd]
steps = 4
batch_size = 2
clip_s = 1.0
learning_rate = 1e-3
ema_decay = 0.9
"""


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny preset's file."""
    path = tmp_path_factory.mktemp("presets") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny_preset(tiny_path: Path) -> Preset:
    return load_preset(tiny_path)


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_preset: Preset) -> MelodyPipeline:
    """The tiny system with random weights."""
    return MelodyPipeline.random(tiny_preset, seed=1)


@pytest.fixture(scope="session")
def tiny_weights(tiny_pipeline: MelodyPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny system's weights; its tokenizer's centroids are random too."""
    folder = tmp_path_factory.mktemp("weights")
    tokenizer = tiny_pipeline.semantic_tokenizer
    generator = torch.Generator().manual_seed(0)
    tokenizer.fit_codebook(torch.randn(70, 8, generator=generator), 0)
    for part in PARTS:
        save_weights(
            getattr(tiny_pipeline, part), folder / f"{part}.safetensors", tiny_pipeline.preset.component_of(part)
        )
    return folder


@pytest.fixture(scope="session")
def published_samples() -> Path:
    """The authors' published samples: beside the checkout, or where MELODY_PUBLISHED_SAMPLES says; else skip."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "published-samples"
    folder = Path(os.environ.get("MELODY_PUBLISHED_SAMPLES") or beside)
    if not folder.is_dir():
        pytest.skip(f"the published samples are not in {folder}; MELODY_PUBLISHED_SAMPLES says where they are")
    return folder


SMALL_SUITE = """
name = "small"
title = "A table small enough for a test"
source = "Table 2"
version = "1"
kind = "quality-and-speed"

[settings]
prompts = 3
duration_s = 1.0
seeds = [0, 1]
reference_clips = 4

[axes]
sampler = ["ddim"]
grid = ["melody-linear"]
num_steps = [2, 3]

[[columns]]
name = "fad"
label = "FAD[mel-stats]"
measure = "fad"
embedder = "mel-stats"
reason = "a test's system"

[[columns]]
name = "passes"
label = "passes"
measure = "passes"
tolerance = 0.0
comparable_presets = ["*"]
reason = "the paper prints passes in Table 3"

[[paper]]
row = { sampler = "ddim", num_steps = 2 }
column = "fad"
value = 7.23
place = "Table 2, T = 5, FAD"

[[orderings]]
claim = "FAD of 3 steps is lower than of 2"
column = "fad"
lower = { num_steps = 3 }
higher = { num_steps = 2 }
each = "sampler"
"""


@pytest.fixture(scope="session")
def small_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two rows that the tiny system fills in seconds."""
    path = tmp_path_factory.mktemp("suites") / "small.toml"
    path.write_text(SMALL_SUITE)
    return path


@pytest.fixture(scope="session")
def differences_in_threads() -> Callable[..., list[str]]:
    """Bits and counts that calls give otherwise when each is made in a thread at once than one after the other."""

    def differences(calls: Sequence[Callable[[], Generation]], times: int = 3) -> list[str]:
        alone = [call() for call in calls]
        begin = threading.Barrier(len(calls))

        def again(number: int) -> list[Generation]:
            begin.wait(timeout=120)
            return [calls[number]() for _ in range(times)]

        with ThreadPoolExecutor(len(calls)) as pool:
            together = list(pool.map(again, range(len(calls))))
        return [
            f"call {number}: {name}"
            for number, (expected, made) in enumerate(zip(alone, together, strict=True))
            for generation in made
            for name in _differing(generation, expected)
        ]

    return differences


def _differing(made: Generation, expected: Generation) -> list[str]:
    counts = ("passes", "weighted_passes", "formula", "prefill_tokens")
    names = [name for name in counts if getattr(made.trace, name) != getattr(expected.trace, name)]
    return names if torch.equal(made.waveform, expected.waveform) else ["waveform", *names]
