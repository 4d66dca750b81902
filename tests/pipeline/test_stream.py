"""Streams: what one call makes, chunk by chunk, for ever, in memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.pipeline import MelodyPipeline
from melody.vae.fourier import FourierVae

PROMPT = "a slow piano piece"


@pytest.mark.parametrize("continuation", ["fixed", "as-printed"])
@pytest.mark.parametrize("duration", [0.4, 1.0, 1.7])
def test_a_stream_to_an_end_is_one_call_to_the_bit(
    tiny_pipeline: MelodyPipeline, continuation: str, duration: float
) -> None:
    options = {"duration_s": duration, "continuation": continuation, "seeds": [5, 9]}
    prompts = [PROMPT, "fast rock with drums"]
    stream = tiny_pipeline.stream(prompts, **options)  # type: ignore[arg-type]
    chunks = list(stream)
    assert torch.equal(torch.cat(chunks, dim=-1), tiny_pipeline(prompts, **options).waveform)  # type: ignore[arg-type]
    assert stream.position_s == pytest.approx(duration)
    assert stream.trace.passes == stream.trace.formula


@pytest.mark.parametrize("continuation", ["fixed", "as-printed"])
def test_a_stream_without_an_end_is_the_beginning_of_any_call(tiny_pipeline: MelodyPipeline, continuation: str) -> None:
    chunks = list(islice(tiny_pipeline.stream(PROMPT, continuation=continuation, seeds=3), 6))
    assert all(chunk.shape[:2] == (1, 1) and chunk.shape[2] > 0 and chunk.abs().max() <= 1 for chunk in chunks)
    made = torch.cat(chunks, dim=-1)
    whole = tiny_pipeline(PROMPT, continuation=continuation, seeds=3, duration_s=2.5).waveform
    torch.testing.assert_close(made, whole[..., : made.shape[-1]], atol=1e-4, rtol=0)


def test_chunks_are_a_segment_and_then_a_chunk_each(tiny_pipeline: MelodyPipeline) -> None:
    lengths = [chunk.shape[-1] for chunk in islice(tiny_pipeline.stream(PROMPT), 5)]
    context = tiny_pipeline.codec.decoder_context_frames
    assert lengths == [(50 - context) * 480, *(frames * 480 for frames in (13, 12, 13, 12))]  # type: ignore[operator]


def test_passes_are_counted_while_it_goes_on(tiny_pipeline: MelodyPipeline) -> None:
    stream = tiny_pipeline.stream(PROMPT, sampler="heun", num_steps=2)
    for runs, _ in enumerate(islice(stream, 4), start=1):
        # 25 tokens at first, then up to the end of each quarter of a second.
        expected = {"language_model": -(-(100 + 25 * (runs - 1)) // 4), "denoiser": 4 * runs}
        assert stream.trace.passes == stream.trace.formula == expected
    assert stream.trace.weighted_passes["denoiser"] == 2 * stream.trace.passes["denoiser"]


def test_a_new_prompt_takes_over_from_the_next_chunk(
    tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor | None]] = []
    generate = tiny_pipeline.language_model.generate

    def spy(prefix: Tensor, count: int, **options: object) -> Tensor:
        seen.append((prefix, options["semantic_tokens"]))  # type: ignore[arg-type]
        return generate(prefix, count, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tiny_pipeline.language_model, "generate", spy)
    other = (torch.linspace(-1, 1, 30_000).sin(), 24_000)
    prefixes = [
        tiny_pipeline.rvq.encode(tiny_pipeline.joint_embedder.embed_text([PROMPT])),
        tiny_pipeline.rvq.encode(tiny_pipeline.joint_embedder.embed_audio(other[0][None, None])),
    ]
    assert not torch.equal(*prefixes)
    stream = tiny_pipeline.stream(PROMPT, seeds=2)
    before = [next(stream), next(stream)]
    stream.change_prompt(prompt_audio=other)
    next(stream), next(stream)
    assert [torch.equal(prefix, prefixes[0]) for prefix, _ in seen] == [True, True, False, False]
    assert all(torch.equal(prefix, prefixes[1]) for prefix, _ in seen[2:])
    assert stream.trace.passes == stream.trace.formula
    unchanged = list(islice(tiny_pipeline.stream(PROMPT, seeds=2), 4))
    assert all(torch.equal(*pair) for pair in zip(before, unchanged[:2], strict=True))
    assert seen[2][1] is not None
    assert torch.equal(seen[2][1], seen[6][1])  # it goes on from the same tokens


def test_a_bad_new_prompt_is_refused_and_the_old_one_stays(tiny_pipeline: MelodyPipeline) -> None:
    stream = tiny_pipeline.stream(PROMPT, seeds=4)
    chunks = [next(stream)]
    for prompts, message in ((["a", "b"], "the stream has 1 rows: got 2 prompts"), ("", "the prompt is empty")):
        with pytest.raises(MelodyError, match=message):
            stream.change_prompt(prompts)
    chunks.append(next(stream))
    assert all(torch.equal(*pair) for pair in zip(chunks, tiny_pipeline.stream(PROMPT, seeds=4), strict=False))


def test_a_closed_stream_ends(tiny_pipeline: MelodyPipeline) -> None:
    stream = tiny_pipeline.stream(PROMPT)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_a_codec_without_a_bound_can_be_called_and_not_streamed(
    tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tiny_pipeline(PROMPT, duration_s=1.5).waveform
    monkeypatch.setattr(FourierVae, "decoder_context_frames", None)
    torch.testing.assert_close(tiny_pipeline(PROMPT, duration_s=1.5).waveform, usual, atol=1e-5, rtol=0)
    with pytest.raises(MelodyError, match="codec 'fourier-vae' has no decoder_context_frames"):
        tiny_pipeline.stream(PROMPT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration_s": 0}, "the duration is 0 s"),
        ({"num_steps": 0}, "number of steps is 0"),
        ({"continuation": "both"}, "unknown continuation 'both'"),
        ({"prompt_audio": (torch.zeros(9), 8000)}, "text and audio were given as the prompt"),
    ],
)
def test_bad_options_are_refused_when_the_stream_is_asked_for(
    tiny_pipeline: MelodyPipeline, options: dict[str, object], message: str
) -> None:
    with pytest.raises(MelodyError, match=message):
        tiny_pipeline.stream(PROMPT, **options)  # type: ignore[arg-type]


def test_memory_at_ten_minutes_is_that_at_one_minute() -> None:
    """Resident memory of the demo system, few steps: within 5 %."""
    code = """
import melody, torch
torch.set_num_threads(1)
pipeline = melody.MelodyPipeline.from_preset("demo")
stream = pipeline.stream("a slow piano piece in a minor key", num_steps=1, guidance_scale=1.0)

def resident():
    return int(open("/proc/self/statm").read().split()[1])

def play_to(second):
    while stream.position_s < second:
        next(stream)
    return resident()

print(play_to(60), play_to(600), stream.position_s, stream.trace.passes == stream.trace.formula)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc, which is not there")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=1800)
    minute, ten_minutes, position_s, counted = done.stdout.split()
    assert float(position_s) >= 600
    assert counted == "True"
    assert int(ten_minutes) <= 1.05 * int(minute), f"{minute} pages at 1 minute, {ten_minutes} at 10"
