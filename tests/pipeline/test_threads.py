"""One pipeline, called from several threads at once: the bits and counts of one call after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from melody.embedders.mel_stats import MelStats
from melody.pipeline import MelodyPipeline
from melody.protocols import Generation

Check = Callable[..., list[str]]


@pytest.fixture(scope="module")
def pipeline(tiny_preset: Any) -> MelodyPipeline:
    made = MelodyPipeline.random(tiny_preset, seed=1)
    made.semantic_tokenizer.fit_codebook(torch.randn(70, 8, generator=torch.Generator().manual_seed(0)), 0)  # type: ignore[attr-defined]
    return made


def _given(seconds: float) -> tuple[torch.Tensor, int]:
    return torch.rand(round(24_000 * seconds), generator=torch.Generator().manual_seed(3)) - 0.5, 24_000


def test_calls_of_other_prompts_steps_and_samplers(pipeline: MelodyPipeline, differences_in_threads: Check) -> None:
    calls = [
        partial(pipeline, "a flute", duration_s=1.0, num_steps=12, sampler="ddim", seeds=1),
        partial(pipeline, ["a drum", "a harp"], duration_s=2.0, num_steps=5, sampler="heun", seeds=2),
        partial(pipeline, "a flute", duration_s=1.0, num_steps=7, sampler="unipc", seeds=1, guidance_scale=1.0),
        partial(pipeline, "a flute", duration_s=1.0, num_steps=9, sampler="dpmpp_2m", grid="uniform", seeds=4),
    ]
    assert differences_in_threads(calls) == []


def test_continuation_inpainting_and_streams(pipeline: MelodyPipeline, differences_in_threads: Check) -> None:
    def streamed() -> Generation:
        stream = pipeline.stream("a flute", duration_s=2.0, seeds=5)
        return Generation(torch.cat(list(stream), dim=-1), stream.sample_rate, stream.trace)

    calls = [
        partial(pipeline.continue_from, _given(0.4), duration_s=0.5, seeds=1),
        partial(pipeline.continue_from, _given(0.7), duration_s=0.5, seeds=1),
        partial(pipeline.inpaint, _given(1.0), (0.3, 0.6), seeds=1),
        streamed,
    ]
    assert differences_in_threads(calls) == []


def test_a_stream_goes_on_in_another_thread(pipeline: MelodyPipeline, differences_in_threads: Check) -> None:
    """As a server does that asks for each chunk wherever a worker is free."""
    expected = list(pipeline.stream("a flute", duration_s=2.0, seeds=5))
    stream = pipeline.stream("a flute", duration_s=2.0, seeds=5)
    found = [next(stream)]

    def rest() -> Generation:
        found.extend(stream)
        return pipeline("a drum", duration_s=1.0, seeds=3)

    assert differences_in_threads([rest, partial(pipeline, "a drum", duration_s=1.0, seeds=8)]) == []
    assert torch.equal(torch.cat(found, dim=-1), torch.cat(expected, dim=-1))


def test_embedders(differences_in_threads: Check) -> None:
    from melody.protocols import GenerationStats

    embedder = MelStats()
    calls = [
        lambda s=s: Generation(embedder.embed(_given(s)[0]), 1, GenerationStats())  # type: ignore[misc]
        for s in (0.5, 1.0, 1.5, 2.0)
    ]
    assert differences_in_threads(calls) == []
