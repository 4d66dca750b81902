"""Audio as the prompt: any rate, channels and length, through the audio tower and the same quantiser as text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from melody.data.audio import as_mono, read_audio
from melody.errors import MelodyError
from melody.pipeline import MelodyPipeline
from melody.pipeline.prompts import read_prompt


def tone(seconds: float, rate: int = 24_000) -> Tensor:
    return 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(round(seconds * rate)) / rate)


def test_the_audio_tower_and_the_same_quantiser_make_the_prefix(
    tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    generate = tiny_pipeline.language_model.generate
    monkeypatch.setattr(
        tiny_pipeline.language_model,
        "generate",
        lambda prefix, *a, **k: (seen.append(prefix), generate(prefix, *a, **k))[1],
    )
    audio = tone(2.3)
    made = tiny_pipeline(prompt_audio=(audio, 24_000), duration_s=0.5)
    expected = tiny_pipeline.rvq.encode(tiny_pipeline.joint_embedder.embed_audio(audio[None, None]))
    assert torch.equal(seen[0], expected)
    assert made.waveform.shape == (1, 1, 12_000)
    assert made.trace.passes == made.trace.formula


def test_several_of_different_lengths_are_rows(tiny_pipeline: MelodyPipeline) -> None:
    audio: list[tuple[Tensor, int]] = [(tone(0.3), 24_000), (tone(1.7, 44_100), 44_100)]
    batch = tiny_pipeline(prompt_audio=audio, duration_s=0.5, seeds=[4, 7]).waveform  # type: ignore[arg-type]
    for row, seed in enumerate((4, 7)):
        alone = tiny_pipeline(prompt_audio=audio[row], duration_s=0.5, seeds=seed).waveform
        torch.testing.assert_close(batch[row], alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [100, 8_000, 11_025, 24_000, 96_000, 192_000])
@pytest.mark.parametrize("shape", [(1,), (2, 1), (3, 1000), (1, 4801)])
def test_any_rate_channels_and_length_will_do(rate: int, shape: tuple[int, ...]) -> None:
    samples = torch.full(shape, 0.5)
    samples[..., 0] = -0.25
    mono = as_mono((samples, rate), 24_000, "it")
    assert mono.ndim == 1
    assert mono.dtype == torch.float32
    assert len(mono) == max(1, round(shape[-1] * 24_000 / rate)) or abs(len(mono) - shape[-1] * 24_000 / rate) <= 1
    assert torch.isfinite(mono).all()
    assert mono.abs().max() <= 1


def test_one_sample_and_minutes_make_music(tiny_pipeline: MelodyPipeline) -> None:
    long = torch.zeros(2, 2 * 60 * 8_000).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    for audio in ((torch.ones(1), 192_000), (long, 8_000)):
        waveform = tiny_pipeline(prompt_audio=audio, duration_s=0.2).waveform
        assert torch.isfinite(waveform).all()


def test_long_audio_is_embedded_in_groups_and_gives_the_same(
    tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = tone(5.5)[None, None]
    at_once = tiny_pipeline.joint_embedder.embed_audio(audio)
    monkeypatch.setattr("melody.conditioning.joint.WINDOWS_AT_ONCE", 2)
    torch.testing.assert_close(tiny_pipeline.joint_embedder.embed_audio(audio), at_once, atol=1e-6, rtol=0)


def test_a_file_of_many_channels_is_mixed(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).uniform(-0.5, 0.5, (4_000, 5))
    soundfile.write(tmp_path / "five.wav", channels, 24_000, subtype="FLOAT")
    expected = torch.from_numpy(channels.astype(np.float32).mean(axis=1))
    torch.testing.assert_close(as_mono(tmp_path / "five.wav", 24_000, "it"), expected, atol=1e-7, rtol=0)
    assert torch.equal(as_mono(str(tmp_path / "five.wav"), 24_000, "it"), read_audio(tmp_path / "five.wav", 24_000))


def test_an_array_that_is_read_backwards_will_do() -> None:
    rising = np.linspace(0, 0.5, 9, dtype=np.float32)
    assert as_mono((rising[::-1], 24_000), 24_000, "it").tolist() == rising.tolist()[::-1]


def test_a_file_shorter_than_a_sample_of_the_new_rate_is_a_sample(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), 192_000, subtype="FLOAT")
    assert read_audio(tmp_path / "one.wav", 24_000).tolist() == [0.5]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ((torch.zeros(0), 24_000), r"prompt audio is empty: shape \(0,\)"),
        ((torch.zeros(2, 0), 24_000), "prompt audio has shape|prompt audio is empty"),
        ((torch.tensor([0.0, torch.nan]), 24_000), "prompt audio holds NaN or infinity"),
        ((torch.zeros(9, dtype=torch.int16), 24_000), "prompt audio holds torch.int16"),
        ((torch.zeros(48_000, 2), 24_000), r"shape \(48000, 2\): expected \(samples,\) or \(channels, samples\)"),
        ((torch.zeros(1, 1, 9), 24_000), r"shape \(1, 1, 9\)"),
        ((torch.zeros(9), 0), r"got \(Tensor, 0\)"),
        ((torch.zeros(9), 44_100.5), "rate in whole Hz"),
        (torch.zeros(9), "got a Tensor"),
        ((None, 24_000), "prompt audio is no array of samples"),
        (([[0.0, 0.1], [0.2]], 24_000), "prompt audio is no array of samples"),
        ("absent.wav", "cannot read audio absent.wav: no such file"),
        ([], "no prompt audio was given"),
        ([(torch.zeros(9), 8_000), (torch.zeros(0), 8_000)], "prompt audio 2 is empty"),
    ],
)
def test_bad_audio_is_one_line(audio: object, message: str) -> None:
    with pytest.raises(MelodyError, match=message) as raised:
        read_prompt(None, audio, SimpleNamespace(sample_rate=24_000))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_exactly_one_of_text_and_audio(tiny_pipeline: MelodyPipeline) -> None:
    with pytest.raises(MelodyError, match="no prompt was given"):
        tiny_pipeline()
    with pytest.raises(MelodyError, match="text and audio were given as the prompt"):
        tiny_pipeline("a flute", prompt_audio=(tone(1), 24_000))
