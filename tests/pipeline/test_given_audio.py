"""Continuation of given audio, and inpainting: what is kept, what is new, and that neither hears what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.pipeline import MelodyPipeline, parse_span
from melody.pipeline.editing import FADE_S, Gap, fill_gap, gap_tokens
from melody.pipeline.plan import WindowPlan

RATE, HOP, FADE = 24_000, 480, round(FADE_S * 24_000)
PROMPT = "a slow piano piece"


@pytest.fixture(scope="module")
def system(tiny_path: Path, tiny_weights: Path) -> MelodyPipeline:
    """The tiny system with a tokenizer whose centroids are fitted."""
    return MelodyPipeline.from_preset(tiny_path, weights=tiny_weights)


def music(seconds: float, seed: int = 0) -> Tensor:
    return torch.rand(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) - 0.5


class Spy:
    """What the denoiser is called with, and the tokens that it is told."""

    def __init__(self, system: MelodyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.latents: list[Tensor] = []
        self.angles: list[Tensor] = []
        self.tokens: list[Tensor] = []
        self.contexts: list[Tensor | None] = []
        forward, prepare = system.denoiser.forward, system.denoiser.prepare
        generate = system.language_model.generate

        def record(latents: Tensor, angle: Tensor, *rest: object) -> Tensor:
            self.latents.append(latents[:1])
            self.angles.append(angle[:1])
            return forward(latents, angle, *rest)  # type: ignore[arg-type]

        def draw(prefix: Tensor, count: int, **options: object) -> Tensor:
            self.contexts.append(options["semantic_tokens"])  # type: ignore[arg-type]
            return generate(prefix, count, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(system.denoiser, "forward", record)
        monkeypatch.setattr(system.denoiser, "prepare", lambda tokens: (self.tokens.append(tokens), prepare(tokens))[1])
        monkeypatch.setattr(system.language_model, "generate", draw)


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.3, 0.9, 1.0, 3.21])
@pytest.mark.parametrize("continuation", ["fixed", "as-printed"])
def test_the_given_audio_is_kept_and_goes_on(system: MelodyPipeline, seconds: float, continuation: str) -> None:
    given = music(seconds)
    made = system.continue_from((given, RATE), PROMPT, duration_s=0.6, continuation=continuation)
    assert made.waveform.shape == (1, 1, len(given) + round(0.6 * RATE))
    assert torch.equal(made.waveform[0, 0, : max(0, len(given) - FADE)], given[: max(0, len(given) - FADE)])
    assert torch.isfinite(made.waveform).all()
    assert made.waveform.abs().max() <= 1
    assert made.trace.passes == made.trace.formula


def test_a_continuation_knows_the_last_frames_and_tokens(
    system: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(system, monkeypatch)
    given = music(2.5037)
    made = system.continue_from((given, RATE), PROMPT, duration_s=0.26, num_steps=2)
    frames = 50 - 13  # L − L_M
    end = given[-frames * HOP :]
    for latents, angle in zip(spy.latents, spy.angles, strict=True):
        assert torch.equal(angle[0] == 0, torch.arange(50) < frames)
        # Encoded with what came before: all but the first frames as if cut out.
        torch.testing.assert_close(latents[0, 8:frames], system.codec.encode(end[None, None])[0, 8:], atol=1e-5, rtol=0)
    heard = system.semantic_tokenizer.tokenize(end[None, None])[:, : frames // 2]
    assert spy.contexts[0] is not None
    assert torch.equal(spy.contexts[0], heard)
    assert torch.equal(spy.tokens[0][:, : frames // 2], heard)
    assert made.trace.passes == {"language_model": 25 - frames // 2, "denoiser": 2}


def test_the_joint_is_the_decoders_own_and_has_no_step(system: MelodyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a codec that gives back what it got, the audio before and behind the joint must fit to the sample."""

    class Exact:
        def encode(self, waveform: Tensor) -> Tensor:
            frames = torch.nn.functional.pad(waveform[:, 0], (0, -waveform.shape[-1] % HOP)).unflatten(1, (-1, HOP))
            return frames[..., :4]

        def decode(self, latents: Tensor) -> Tensor:
            return latents.mean(dim=2).repeat_interleave(HOP, dim=1)[:, None] * 0 + 0.25

    monkeypatch.setattr(system.codec, "encode", Exact().encode)
    monkeypatch.setattr(system.codec, "decode", Exact().decode)
    given = torch.full((30_123,), 0.25)
    waveform = system.continue_from((given, RATE), PROMPT, duration_s=0.5).waveform
    torch.testing.assert_close(waveform, torch.full_like(waveform, 0.25))


def test_without_a_prompt_the_audio_is_its_own(system: MelodyPipeline) -> None:
    audio = (music(1.5), RATE)
    own = system.continue_from(audio, duration_s=0.3).waveform
    assert torch.equal(own, system.continue_from(audio, prompt_audio=audio, duration_s=0.3).waveform)
    edited = system.inpaint(audio, (0.5, 0.9)).waveform
    remains = (torch.cat([audio[0][: RATE // 2], audio[0][round(0.9 * RATE) :]]), RATE)
    assert torch.equal(edited, system.inpaint(audio, (0.5, 0.9), prompt_audio=remains).waveform)


def test_several_prompts_are_several_continuations_of_one_file(system: MelodyPipeline, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", music(1.2).numpy(), RATE)
    prompts = [PROMPT, "fast rock with drums"]
    both = system.continue_from(tmp_path / "a.flac", prompts, duration_s=0.3, seeds=[1, 2]).waveform
    assert both.shape == (2, 1, 36_000)
    for row, prompt in enumerate(prompts):
        alone = system.continue_from(tmp_path / "a.flac", prompt, duration_s=0.3, seeds=row + 1).waveform
        torch.testing.assert_close(both[row], alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_silence_goes_on_and_is_filled(system: MelodyPipeline, prompt: str | None) -> None:
    silence = (torch.zeros(2 * RATE), RATE)
    for made in (system.continue_from(silence, prompt, duration_s=0.3), system.inpaint(silence, (0.5, 1.0), prompt)):
        assert torch.isfinite(made.waveform).all()


def test_outside_the_gap_the_latents_stay_to_the_bit(system: MelodyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(system, monkeypatch)
    decoded: list[Tensor] = []
    decode = system.codec.decode
    monkeypatch.setattr(system.codec, "decode", lambda z: (decoded.append(z), decode(z))[1])
    given = music(0.95)
    made = system.inpaint((given, RATE), (0.3, 0.5), PROMPT, num_steps=2)
    encoded, gap = system.codec.encode(given[None, None]), torch.zeros(48, dtype=torch.bool)
    gap[15:25] = True
    assert torch.equal(decoded[0][:, ~gap], encoded[:, ~gap])
    assert not torch.isclose(decoded[0][:, gap], encoded[:, gap]).any(dim=2).all()
    assert all(torch.equal(angle[0] != 0, gap) for angle in spy.angles)
    assert made.trace.passes == made.trace.formula == {"language_model": 6, "denoiser": 2}
    # Samples stay too, but for the gap and the cross-fades; and in the gap they are the decoder's.
    expected = given.clone()
    expected[7_200:12_000] = decode(decoded[0])[0, 0, 7_200:12_000].clamp(-1, 1)
    outside = torch.ones(len(given), dtype=torch.bool)
    outside[7_200 - FADE : 7_200], outside[12_000 : 12_000 + FADE] = False, False
    torch.testing.assert_close(made.waveform[0, 0, outside], expected[outside], atol=1e-6, rtol=0)
    assert torch.equal(made.waveform[0, 0, : 7_200 - FADE], given[: 7_200 - FADE])


def test_tokens_of_the_gap_are_drawn_after_those_before_it_and_hear_nothing_in_it(
    system: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(system, monkeypatch)
    given = music(0.96)
    other = given.clone()
    other[round(0.3 * RATE) : round(0.5 * RATE)] = 0.9
    for audio in (given, other):
        system.inpaint((audio, RATE), (0.3, 0.5), PROMPT, num_steps=1)
    before = system.semantic_tokenizer.tokenize(given[None, None, : 15 * HOP])
    behind = system.semantic_tokenizer.tokenize(given[None, None, 13 * 960 :])
    first, second = spy.tokens
    assert torch.equal(first, second)
    assert torch.equal(first[:, :7], before)
    assert torch.equal(first[:, 13:], behind)
    assert torch.equal(spy.contexts[0], before)  # type: ignore[arg-type]
    assert first.shape == (1, 24)


@pytest.mark.parametrize("span", [(0.0, 0.4), (2.1, 2.6), (5.0, 5.75), (6.6, 7.0), (6.9, 6.99)])
def test_in_long_audio_a_segment_around_the_gap_is_seen(
    system: MelodyPipeline, monkeypatch: pytest.MonkeyPatch, span: tuple[float, float]
) -> None:
    spy = Spy(system, monkeypatch)
    given = music(7.0)
    made = system.inpaint((given, RATE), span, PROMPT).waveform[0, 0]
    begin, end = (round(bound * RATE) for bound in span)
    assert spy.latents[0].shape[1] == 50
    assert torch.equal(made[: max(0, begin - FADE)], given[: max(0, begin - FADE)])
    assert torch.equal(made[end + FADE :], given[end + FADE :])
    assert not torch.isclose(made[begin:end], given[begin:end]).all()
    held = spy.angles[0][0] == 0
    # The window's latents are those of the whole file at that place.
    origin = Gap.of(span, len(given), RATE, HOP, system.plan()).window_begin_frame
    whole = system.codec.encode(given[None, None])[0, origin : origin + 50]
    torch.testing.assert_close(spy.latents[0][0, held], whole[held], atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [3_000, 24_000, 24_001, 100_000])
def test_a_gap_holds_its_span_in_a_window_in_the_file(samples: int) -> None:
    plan = WindowPlan(1.0, 4, 25.0, 50.0)
    frames = -(-samples // HOP)
    for begin_s in (0.0, 0.013, 0.1):
        gap = Gap.of((begin_s, begin_s + 0.02), samples, RATE, HOP, plan)
        assert gap.begin_frame * HOP <= gap.begin < gap.end <= gap.end_frame * HOP
        assert 0 <= gap.window_begin_frame <= gap.begin_frame < gap.end_frame <= gap.window_end_frame <= frames
        assert gap.window_end_frame - gap.window_begin_frame == min(50, frames)
        first, last = gap_tokens(gap, plan)
        assert (
            first * 2 <= gap.begin_frame - gap.window_begin_frame < gap.end_frame - gap.window_begin_frame <= last * 2
        )


@pytest.mark.parametrize("chunks", [1, 2, 50])
def test_a_gap_as_long_as_allowed_is_filled_from_its_window(chunks: int) -> None:
    """However little of the window is left to fade in."""
    plan, given = WindowPlan(1.0, chunks, 25.0, 50.0), music(4.0)
    begin_s, longest_s = 1.003, 1 - 1 / max(2, chunks)
    with pytest.raises(MelodyError, match="so that a part of a segment remains"):
        Gap.of((begin_s, begin_s + longest_s + 0.01), len(given), RATE, HOP, plan)
    gap = Gap.of((begin_s, begin_s + longest_s - 1e-6), len(given), RATE, HOP, plan)
    assert gap.window_begin_frame <= gap.begin_frame < gap.end_frame <= gap.window_end_frame
    filled = fill_gap(given, torch.full((1, 1, 50 * HOP), 0.75), gap, HOP, RATE)[0, 0]
    assert (filled[gap.begin : gap.end] == 0.75).all()
    assert torch.equal(filled[: gap.begin - FADE], given[: gap.begin - FADE])
    assert torch.equal(filled[gap.end + FADE :], given[gap.end + FADE :])


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ((2.0, 3.5), "cannot inpaint 2:3.5: the audio ends at 3 s"),
        ((4.0, 5.0), "the audio ends at 3 s"),
        ((-0.5, 1.0), "cannot inpaint -0.5:1: it begins before the audio does"),
        ((2.0, 1.0), "cannot inpaint 2:1: it ends before it begins"),
        ((1.0, 1.0), "cannot inpaint 1:1: it is empty"),
        ((1.0, 1.0 + 1e-6), "no sample lies in it"),
        ((1.0, 1.8), "it is 0.8 s long, expected at most 0.75 s"),
        ((1.0, float("nan")), "expected where it begins and ends, in seconds"),
        ((1.0,), "expected where it begins and ends, in seconds"),
    ],
)
def test_bad_spans_are_one_line(system: MelodyPipeline, span: tuple[float, float], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        system.inpaint((music(3.0), RATE), span, PROMPT)


def test_a_gap_that_leaves_nothing_is_refused(system: MelodyPipeline) -> None:
    with pytest.raises(MelodyError, match="that is all of the audio"):
        system.inpaint((music(0.5), RATE), (0.0, 0.5), PROMPT)


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "3-6", "a:b", "1:2:3", "1:inf"])
def test_a_malformed_span_is_one_line(text: str) -> None:
    with pytest.raises(MelodyError, match="cannot inpaint"):
        parse_span(text)


def test_a_span_is_two_numbers_of_seconds() -> None:
    assert parse_span("3.0:6.5") == (3.0, 6.5)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ((torch.zeros(0), RATE), "the audio to continue is empty"),
        ((torch.full((9,), torch.inf), RATE), "the audio to continue holds NaN or infinity"),
        ("absent.wav", "no such file"),
    ],
)
def test_bad_audio_cannot_be_continued(system: MelodyPipeline, audio: object, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        system.continue_from(audio, PROMPT)  # type: ignore[arg-type]
