"""Clipping, silence and peak on signals whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from melody.errors import MelodyError
from melody.metrics.levels import ClippingRate, Peak, SilenceRate, clipping_rate, peak, silence_rate


def test_clipping_counts_runs_of_three_and_not_single_peaks() -> None:
    clip = torch.zeros(1, 1, 20)
    clip[..., 2] = 1.0  # a single peak
    clip[..., 5:7] = -1.0  # two
    clip[..., 10:14] = 1.0  # four
    clip[..., 17:20] = torch.tensor([1.0, -1.0, 1.2])  # three, to the end
    assert float(clipping_rate(clip)) == pytest.approx(7 / 20)
    assert float(clipping_rate(torch.ones(1, 1, 2))) == 0
    assert float(clipping_rate(torch.ones(1, 1, 3))) == 1


def test_clipping_of_an_overdriven_sine() -> None:
    t = torch.arange(24_000) / 24_000
    wave = (2 * torch.sin(2 * math.pi * 50 * t)).clamp(-1, 1)[None, None]
    assert float(clipping_rate(wave)) == pytest.approx(2 / 3, abs=0.01)  # |sin| >= 1/2 two thirds of the time
    assert float(clipping_rate(wave * 0.9)) == 0


def test_silence_is_the_share_of_quiet_frames() -> None:
    clip = torch.full((1, 1, 10 * 2_400 + 5), 0.5)
    clip[..., : 3 * 2_400] = 0.0009  # −60.9 dB
    clip[..., 3 * 2_400 : 4 * 2_400] = 0.0011
    assert float(silence_rate(clip, 24_000)) == pytest.approx(0.3)
    assert float(silence_rate(torch.zeros(1, 1, 7), 24_000)) == 1


def test_peak_and_means_over_clips() -> None:
    clips = torch.tensor([[[0.2, -0.7]], [[0.1, 0.3]]])
    torch.testing.assert_close(peak(clips), torch.tensor([0.7, 0.3], dtype=torch.float64))
    metric = Peak()
    metric.update(clips)
    assert float(metric.compute()) == pytest.approx(0.5)
    assert metric.scored == 2


def test_every_channel_is_heard_for_itself() -> None:
    """One channel clipped and one silent: in their mean there is neither."""
    time = torch.arange(24_000) / 24_000
    tone = 0.9 * torch.sin(2 * math.pi * 100 * time)
    clip = torch.stack([(4 * tone).clamp(-1, 1), -(4 * tone).clamp(-1, 1)])[None]
    assert float(clipping_rate(clip)) == pytest.approx(float(clipping_rate(clip[:, :1])))
    assert float(clipping_rate(clip)) > 0.5
    assert float(peak(clip)) == 1
    assert float(silence_rate(clip, 24_000)) == 0  # their mean is silent
    half = torch.stack([tone, torch.zeros_like(tone)])[None]
    assert float(silence_rate(half, 24_000)) == 0
    assert float(silence_rate(torch.zeros(1, 2, 24_000), 24_000)) == 1
    assert float(clipping_rate(torch.stack([torch.ones(10), torch.zeros(10)])[None])) == 0.5


@pytest.mark.parametrize("metric", [ClippingRate, SilenceRate, Peak])
def test_bad_input_is_one_clear_line(metric: type[Peak]) -> None:
    with pytest.raises(MelodyError, match=r"expected \(B, channels, T\)"):
        metric().update(torch.zeros(2, 10))
    with pytest.raises(MelodyError, match=r"expected \(B, channels, T\)"):
        metric().update(torch.zeros(1, 1, 0))
    with pytest.raises(MelodyError, match="10 of 10 values are NaN or infinite"):
        metric().update(torch.full((1, 1, 10), math.inf))
