"""What a clip is made of by formula is what a real run does: every pass, every FLOP."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from melody.config import Component, Preset
from melody.errors import MelodyError
from melody.metrics.flops import count
from melody.pipeline import MelodyPipeline
from melody.pipeline.work import pipeline_work, spread
from melody.protocols import CallCost

PROMPT = "piano " * 40
"""As long as the text tower takes, which is what is counted."""


def counted(work: list[CallCost]) -> int:
    total = 0
    for one in work:
        if one.setup is not None:
            one.setup()
        total += one.calls * count(one.module, one.run).flops
    return total


def of_pipeline(pipeline: MelodyPipeline) -> torch.nn.Module:
    return torch.nn.ModuleList(pipeline.networks.modules.values())


@pytest.mark.parametrize(
    ("duration_s", "options"),
    [
        (1.0, {}),
        (0.4, {"guidance_scale": 1.0}),
        (3.0, {"num_steps": 2}),
        (2.6, {"num_steps": 2, "sampler": "heun"}),
    ],
)
def test_flops_and_passes_are_those_of_a_real_run(
    tiny_pipeline: MelodyPipeline, tiny_preset: Preset, duration_s: float, options: dict[str, Any]
) -> None:
    work = MelodyPipeline.random(tiny_preset, device="meta").work(duration_s, **options)
    made: list[Any] = []
    on_run = count(
        of_pipeline(tiny_pipeline), lambda: made.append(tiny_pipeline(PROMPT, duration_s=duration_s, **options))
    )
    trace = made[0].trace
    assert counted(work) == on_run.flops
    for part in ("language_model", "denoiser"):
        passes = [one for one in work if one.part == part and not one.once]
        assert sum(one.calls for one in passes) == trace.passes[part]
        assert sum(one.calls * one.rows for one in passes) == trace.weighted_passes[part]
    assert sum(one.prefill_tokens for one in work) == trace.prefill_tokens


def test_guided_tokens_go_in_as_two_rows(tiny_preset: Preset) -> None:
    generation = tiny_preset.generation.model_copy(update={"token_guidance_scale": 2.0})
    preset = tiny_preset.model_copy(update={"generation": generation})
    made: list[Any] = []
    pipeline = MelodyPipeline.random(preset)
    on_run = count(of_pipeline(pipeline), lambda: made.append(pipeline(PROMPT, duration_s=1.0)))
    work = MelodyPipeline.random(preset, device="meta").work(1.0)
    assert counted(work) == on_run.flops
    tokens = [one for one in work if one.part == "language_model"]
    assert sum(one.calls * one.rows for one in tokens) == made[0].trace.weighted_passes["language_model"] == 50


def test_the_meta_device_and_a_real_one_count_alike(tiny_pipeline: MelodyPipeline, tiny_preset: Preset) -> None:
    assert counted(tiny_pipeline.work(2.0)) == counted(MelodyPipeline.random(tiny_preset, device="meta").work(2.0))


@pytest.mark.parametrize("number", range(0, 70, 3))
def test_tokens_at_a_few_lengths_add_up_exactly(number: int) -> None:
    found = spread(12, number)
    assert sum(passes for _, passes in found) == number
    assert sum(cached * passes for cached, passes in found) == sum(range(12, 12 + number))
    assert len(found) <= 4


def test_a_language_model_whose_passes_nobody_knows_is_named(tiny_pipeline: MelodyPipeline) -> None:
    other = copy.copy(tiny_pipeline.networks)
    other.language_model = object()  # type: ignore[assignment]
    other.preset = tiny_pipeline.preset.model_copy(update={"language_model": Component(use="other", arguments={})})
    with pytest.raises(MelodyError, match="language model 'other' is not decoder-only"):
        pipeline_work(other, 1.0)
