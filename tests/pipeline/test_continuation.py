"""Algorithm 2 in both readings: windows, passes, and what becomes of the frames that are known."""

from __future__ import annotations

import math
from itertools import islice, pairwise

import pytest
import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.pipeline import MelodyPipeline
from melody.pipeline.decoding import PiecewiseDecoder
from melody.pipeline.plan import Window, WindowPlan
from melody.registry import grids

PROMPT = "a slow piano piece"
PAPER = {"segment_s": 10.0, "chunks": 4, "token_rate": 25.0, "frame_rate": 250.0}


def test_fixed_windows_keep_to_time() -> None:
    windows = list(islice(WindowPlan(**PAPER).windows(), 5))
    assert [window.end_frame for window in windows] == [2500, 3125, 3750, 4375, 5000]
    assert [window.end_token for window in windows] == [250, 313, 375, 438, 500]  # 62.5 a chunk: never behind
    assert all(window.end_frame - window.begin_frame == 2500 for window in windows)
    assert all(window.end_token - window.begin_token == 250 for window in windows)


def test_printed_windows_move_by_whole_chunks_of_tokens() -> None:
    plan = WindowPlan(**PAPER, continuation="as-printed")
    assert (plan.chunk_tokens, plan.chunk_frames) == (63, 625)  # M_ST = ⌈250 / 4⌉, L_M = ⌈2500 / 4⌉
    assert list(islice(plan.windows(), 3)) == [Window(625 * i, 2500 + 625 * i, 63 * i, 250 + 63 * i) for i in range(3)]


@pytest.mark.parametrize("continuation", ["fixed", "as-printed"])
@pytest.mark.parametrize("duration", [0.03, 1.0, 1.01, 1.27, 1.5, 2.0, 2.27])
def test_windows_reach_the_duration_and_not_a_chunk_further(continuation: str, duration: float) -> None:
    plan = WindowPlan(1.0, 4, 25.0, 50.0, continuation)  # type: ignore[arg-type]
    windows = list(plan.windows(duration))
    assert len(windows) == plan.count(duration)
    assert windows[-1].end_frame >= duration * 50 - 1e-9
    assert len(windows) == 1 or windows[-2].end_frame < duration * 50
    for before, after in pairwise(windows):
        assert before.begin_frame < after.begin_frame <= before.end_frame < after.end_frame


def test_passes_by_formula_are_those_of_the_two_readings() -> None:
    fixed, printed = WindowPlan(**PAPER), WindowPlan(**PAPER, continuation="as-printed")
    assert fixed.passes(fixed.count(30), 20, 1) == {"language_model": 750, "denoiser": 180}
    assert printed.passes(printed.count(30), 20, 1) == {"language_model": 754, "denoiser": 180}


@pytest.mark.parametrize(("duration", "runs"), [(1.0, 1), (1.2, 2), (2.0, 5)])
def test_both_readings_are_counted(tiny_pipeline: MelodyPipeline, duration: float, runs: int) -> None:
    fixed = tiny_pipeline(PROMPT, duration_s=duration).trace
    tokens = -(-25 * (3 + runs) // 4)  # 25 at first, then up to the end of each quarter of a second
    assert fixed.passes == fixed.formula == {"language_model": tokens, "denoiser": 3 * runs}
    printed = tiny_pipeline(PROMPT, duration_s=duration, continuation="as-printed")
    assert (
        printed.trace.passes
        == printed.trace.formula
        == {
            "language_model": 25 + 7 * (runs - 1),  # ⌈25 / 4⌉ = 7
            "denoiser": 3 * runs,
        }
    )
    assert printed.waveform.shape == (1, 1, round(duration * 24_000))
    assert torch.isfinite(printed.waveform).all()


def test_within_a_segment_the_readings_agree_to_the_bit(tiny_pipeline: MelodyPipeline) -> None:
    fixed, printed = (tiny_pipeline(PROMPT, continuation=name).waveform for name in ("fixed", "as-printed"))
    assert torch.equal(fixed, printed)


class Spy:
    """Records what the denoiser is called with, and the latents that are final; its velocity is a known function."""

    def __init__(self, pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.final: list[Tensor] = []
        push = PiecewiseDecoder.push
        monkeypatch.setattr(pipeline.denoiser, "forward", self.forward)
        monkeypatch.setattr(
            PiecewiseDecoder, "push", lambda decoder, z, last: (self.final.append(z), push(decoder, z, last=last))[1]
        )

    def forward(self, latents: Tensor, angle: Tensor, condition: object, unconditional: object = None) -> Tensor:
        self.calls.append((latents.clone(), angle.clone()))
        return 0.5 * latents + angle[..., None]


def test_as_printed_turns_all_of_z_while_old_frames_are_told_angle_0(
    tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Algorithm 2, line by line, on a velocity that is known (Eq. 29, 32)."""
    spy = Spy(tiny_pipeline, monkeypatch)
    options = {"num_steps": 3, "guidance_scale": 1.0, "continuation": "as-printed"}
    tiny_pipeline(PROMPT, duration_s=1.26, **options)  # type: ignore[arg-type]
    angles = grids.get("melody-linear")(3).tolist()

    def run(z: Tensor, told: Tensor) -> Tensor:
        for step in range(3):
            omega = angles[step] - angles[step + 1]
            velocity = 0.5 * z + (told * angles[step])[:, None]
            z = math.cos(omega) * z - math.sin(omega) * velocity
        return z

    first, second = spy.calls[0][0], spy.calls[3][0]
    segment = run(first, torch.ones(50))
    chunk = 13  # ⌈50 / 4⌉
    new = torch.arange(50) >= 50 - chunk
    torch.testing.assert_close(second[:, :-chunk], segment[:, chunk:])
    for step in range(3):
        torch.testing.assert_close(spy.calls[3 + step][1][0], torch.where(new, angles[step], 0.0).float())
    expected = torch.cat([segment[:, :chunk], run(second, new.float())], dim=1)  # saved chunk ⊕ z
    torch.testing.assert_close(torch.cat(spy.final, dim=1), expected)


def test_fixed_holds_old_frames_to_the_bit(tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(tiny_pipeline, monkeypatch)
    tiny_pipeline(PROMPT, duration_s=1.25, guidance_scale=1.0)
    before, latents = spy.calls[3][0], torch.cat(spy.final, dim=1)
    assert torch.equal(before[:, :37], latents[:, 13:50])
    for seen, angle in spy.calls[3:]:
        assert torch.equal(seen[:, :37], before[:, :37])
        assert not angle[:, :37].any()
        assert angle[:, 37:].all()


def test_an_unknown_reading_is_one_line(tiny_pipeline: MelodyPipeline) -> None:
    with pytest.raises(MelodyError, match="unknown continuation 'printed'; did you mean 'as-printed'"):
        tiny_pipeline(PROMPT, continuation="printed")
