from __future__ import annotations

from pathlib import Path

import torch

from melody.baselines.melody_system import MelodySystem
from melody.pipeline import MelodyPipeline
from melody.registry import systems

OPTIONS = {"sampler": "ddim", "grid": "uniform", "num_steps": 2, "guidance_scale": 2.5}


def test_system_makes_what_the_pipeline_makes(tiny_pipeline: MelodyPipeline) -> None:
    made = MelodySystem.around(tiny_pipeline).generate(["a flute", "a drum"], duration_s=1.0, seeds=[3, 8], **OPTIONS)
    expected = tiny_pipeline(["a flute", "a drum"], duration_s=1.0, seeds=[3, 8], **OPTIONS)
    torch.testing.assert_close(made.waveform, expected.waveform, rtol=0, atol=0)
    assert made.trace.passes == {"language_model": 25, "denoiser": 2}
    assert made.trace.weighted_passes["denoiser"] == 4


def test_system_is_registered_and_built_by_preset(tiny_path: Path, tiny_weights: Path) -> None:
    system = systems.create("melody", {"preset": str(tiny_path), "weights": str(tiny_weights)})
    assert system.sample_rate == 24_000
    assert system.capabilities == {"audio-continuation", "long-form"}


def test_system_goes_on_as_the_pipeline_does(tiny_pipeline: MelodyPipeline) -> None:
    given = torch.rand(24_000, generator=torch.Generator().manual_seed(0)) - 0.5
    made = MelodySystem.around(tiny_pipeline).continue_from(
        (given, 24_000), ["a flute"], duration_s=0.5, seeds=[3], **OPTIONS
    )
    expected = tiny_pipeline.continue_from((given, 24_000), ["a flute"], duration_s=0.5, seeds=[3], **OPTIONS)
    assert made.waveform.shape == (1, 1, 36_000)
    torch.testing.assert_close(made.waveform, expected.waveform, rtol=0, atol=0)
