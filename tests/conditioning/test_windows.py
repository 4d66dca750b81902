"""Windows of a waveform, before any front end."""

from __future__ import annotations

import math

import pytest
import torch

from melody.conditioning.windows import check_waveform, cut_windows, unit_gain
from melody.errors import MelodyError


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
