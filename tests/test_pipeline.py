"""The whole line from prompt to waveform, on the tiny preset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from melody.errors import MelodyError
from melody.pipeline import MelodyPipeline
from melody.protocols import Sampler

PROMPTS = ["a slow piano piece", "fast rock with drums", "a violin waltz"]


class WrongCost(Sampler):
    """Declares one evaluation a step and makes two."""

    order = 1

    def step(self, velocity, latents, angle, next_angle, state, generator):  # type: ignore[no-untyped-def]
        velocity(latents, angle)
        return latents - 0 * velocity(latents, angle), state


@pytest.mark.parametrize("duration", [0.1, 1.0, 1.3, 2.0])
def test_a_generation_has_the_duration_the_rate_and_the_range(tiny_pipeline: MelodyPipeline, duration: float) -> None:
    generation = tiny_pipeline(PROMPTS[:2], duration_s=duration)
    assert generation.waveform.shape == (2, 1, round(duration * 24_000))
    assert generation.sample_rate == 24_000
    assert torch.isfinite(generation.waveform).all()
    assert generation.waveform.abs().max() <= 1


def test_the_shortest_music_is_a_sample(tiny_pipeline: MelodyPipeline) -> None:
    assert tiny_pipeline(PROMPTS[0], duration_s=1e-5).waveform.shape == (1, 1, 1)


@pytest.mark.parametrize(("sampler", "evaluations"), [("ddim", 1), ("heun", 2)])
@pytest.mark.parametrize(("duration", "runs"), [(1.0, 1), (1.5, 3)])
def test_hooks_and_formula_count_alike(
    tiny_pipeline: MelodyPipeline, sampler: str, evaluations: int, duration: float, runs: int
) -> None:
    trace = tiny_pipeline(PROMPTS[0], duration_s=duration, sampler=sampler, num_steps=4).trace
    expected = {"language_model": -(-int(duration * 1000) * 25 // 1000), "denoiser": runs * 4 * evaluations}
    assert trace.passes == trace.formula == expected
    assert trace.weighted_passes["denoiser"] == 2 * expected["denoiser"]
    assert set(trace.seconds) == {"joint_embedder", "language_model", "denoiser", "codec"}


def test_without_guidance_a_pass_weighs_one(tiny_pipeline: MelodyPipeline) -> None:
    trace = tiny_pipeline(PROMPTS[0], duration_s=0.5, guidance_scale=1.0).trace
    assert trace.weighted_passes["denoiser"] == trace.passes["denoiser"] == 3


def test_a_sampler_that_costs_more_than_it_declares_is_refused(tiny_pipeline: MelodyPipeline) -> None:
    with pytest.raises(MelodyError, match="denoiser: 6 forward passes were counted, but the formula gives 3"):
        tiny_pipeline(PROMPTS[0], duration_s=0.5, sampler=WrongCost())


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "unipc"])
def test_same_seed_same_bits_and_another_seed_other_bits(tiny_pipeline: MelodyPipeline, sampler: str) -> None:
    first, again, other = (tiny_pipeline(PROMPTS[0], sampler=sampler, seeds=seed).waveform for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_a_prompt_in_a_batch_gives_what_it_gives_alone(tiny_pipeline: MelodyPipeline, sampler: str) -> None:
    batch = tiny_pipeline(PROMPTS, sampler=sampler, seeds=[3, 1, 4], duration_s=1.3).waveform
    for row, (prompt, seed) in enumerate(zip(PROMPTS, [3, 1, 4], strict=True)):
        alone = tiny_pipeline(prompt, sampler=sampler, seeds=seed, duration_s=1.3).waveform
        torch.testing.assert_close(batch[row], alone[0], atol=1e-4, rtol=0)


def test_more_steps_do_not_change_the_tokens(tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    prepare = tiny_pipeline.denoiser.prepare
    monkeypatch.setattr(tiny_pipeline.denoiser, "prepare", lambda tokens: (seen.append(tokens), prepare(tokens))[1])
    tiny_pipeline(PROMPTS[0], num_steps=2)
    tiny_pipeline(PROMPTS[0], num_steps=5)
    assert torch.equal(seen[0], seen[1])


def test_continuation_keeps_what_was_there(tiny_pipeline: MelodyPipeline) -> None:
    short = tiny_pipeline(PROMPTS[0], duration_s=1.0, seeds=2).waveform
    longer = tiny_pipeline(PROMPTS[0], duration_s=2.0, seeds=2).waveform
    # The last frames of the short clip see its end, so they are left out.
    kept = 24_000 - 12 * 480
    torch.testing.assert_close(longer[..., :kept], short[..., :kept], atol=1e-4, rtol=0)


def test_progress_reaches_the_end_of_every_part(tiny_pipeline: MelodyPipeline) -> None:
    last: dict[str, tuple[int, int]] = {}
    tiny_pipeline(PROMPTS[0], progress=lambda part, done, total: last.__setitem__(part, (done, total)))
    assert last == {"language_model": (25, 25), "denoiser": (3, 3)}


def test_saved_weights_give_the_same_bits_in_another_process(tiny_path: Path, tiny_weights: Path) -> None:
    code = f"""
import hashlib, melody
pipeline = melody.MelodyPipeline.from_preset({str(tiny_path)!r}, weights={str(tiny_weights)!r})
print(hashlib.sha256(pipeline("a flute", seeds=7).waveform.numpy().tobytes()).hexdigest(), pipeline.weights_hash)
"""
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration_s": 0}, "the duration is 0 s: expected more than 0"),
        ({"duration_s": -1}, "the duration is -1 s"),
        ({"duration_s": float("nan")}, "the duration is nan s"),
        ({"num_steps": 0}, "number of steps is 0: expected 1 or more"),
        ({"sampler": "ddmi"}, "unknown sampler 'ddmi'; did you mean 'ddim'"),
        ({"grid": "unifrom"}, "unknown grid 'unifrom'; did you mean 'uniform'"),
        ({"seeds": [1, 2]}, "got 2 seeds for 1 prompts"),
        ({"seeds": -1}, "a seed is 0 or more"),
    ],
)
def test_bad_options_are_one_line(tiny_pipeline: MelodyPipeline, options: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        tiny_pipeline(PROMPTS[0], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "message"), [("", "the prompt is empty"), (" \n", "is empty"), ("x" * 10_000, "10,000 characters")]
)
def test_bad_prompts_are_one_line(tiny_pipeline: MelodyPipeline, prompt: str, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        tiny_pipeline(prompt)


def test_missing_weights_name_the_folder_and_the_remedy(tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match=r"lacks weights in .*; train them"):
        MelodyPipeline.from_preset(tiny_path)
    with pytest.raises(MelodyError, match=r"there is no folder .*absent; expected a folder with model files"):
        MelodyPipeline.from_preset(tiny_path, weights=tmp_path / "absent")


def test_unknown_device_is_one_line(tiny_path: Path, tiny_weights: Path) -> None:
    with pytest.raises(MelodyError, match="unknown device 'gpu'"):
        MelodyPipeline.from_preset(tiny_path, weights=tiny_weights, device="gpu")
