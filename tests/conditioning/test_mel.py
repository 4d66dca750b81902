"""Log-mel front end and the windows before it."""

from __future__ import annotations

import math

import pytest
import torch

from melody.conditioning.mel import LOG_FLOOR, LogMel
from melody.conditioning.windows import check_waveform, cut_windows, unit_gain
from melody.errors import MelodyError


def test_one_frame_a_hop() -> None:
    mel = LogMel(8_000, n_fft=256, hop_length=80, num_mels=16)
    assert mel(torch.zeros(2, 800)).shape == (2, 10, 16)


def test_silence_is_the_floor_and_a_tone_lands_in_its_band() -> None:
    mel = LogMel(8_000, n_fft=512, hop_length=64, num_mels=24)
    assert torch.allclose(mel(torch.zeros(1, 640)), torch.full((1, 10, 24), math.log(LOG_FLOOR)))
    time_s = torch.arange(6_400) / 8_000
    low, high = (mel(torch.sin(2 * math.pi * hertz * time_s)[None])[0, 50].argmax() for hertz in (220.0, 2_500.0))
    assert low < 8 < 16 < high


def test_filters_are_triangles_that_meet() -> None:
    """Every band has weights of sum 1, and a frequency is shared by two neighbours at most."""
    filters = LogMel(24_000, n_fft=2048, hop_length=240, num_mels=128).filters
    assert torch.allclose(filters.sum(dim=0), torch.ones(128))
    assert int((filters > 0).sum(dim=1).max()) <= 2


@pytest.mark.parametrize(("n_fft", "hop", "num_mels"), [(256, 80, 128), (64, 80, 4), (64, 33, 4)])
def test_bands_that_hear_nothing_are_refused(n_fft: int, hop: int, num_mels: int) -> None:
    with pytest.raises(MelodyError):
        LogMel(24_000, n_fft, hop, num_mels)


@pytest.mark.parametrize("samples", [1, 3, 10, 11, 20, 29])
def test_windows_cover_everything(samples: int) -> None:
    waveform = torch.arange(1.0, samples + 1)[None]
    windows = cut_windows(waveform, 10)
    assert windows.shape == (1, max(1, -(-samples // 10)), 10)
    assert set(windows.flatten().tolist()) == set(waveform.flatten().tolist())


def test_unit_gain_removes_loudness_and_leaves_silence() -> None:
    waveform = torch.randn(3, 1_000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(unit_gain(waveform * 0.01), unit_gain(waveform), atol=1e-5)
    assert torch.equal(unit_gain(torch.zeros(1, 5)), torch.zeros(1, 5))


@pytest.mark.parametrize(
    "waveform",
    [
        torch.zeros(2, 100),
        torch.zeros(1, 2, 100),
        torch.zeros(1, 1, 0),
        torch.zeros(0, 1, 9),
        torch.zeros(1, 1, 9).long(),
    ]
    + [torch.full((1, 1, 9), value) for value in (math.nan, math.inf)],
)
def test_bad_waveforms_are_refused(waveform: torch.Tensor) -> None:
    with pytest.raises(MelodyError, match="clip 4: the waveform"):
        check_waveform(waveform, "clip 4")
