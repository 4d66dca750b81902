from __future__ import annotations

import math

import pytest
import torch

from melody.baselines.noise2music.frames import Frames, mdct_basis
from melody.errors import MelodyError


@pytest.fixture
def frames() -> Frames:
    return Frames(24_000, 480, 8_000, 16, 1024, 0.7)


def _music(seconds: float) -> torch.Tensor:
    noise = torch.randn(1, 1, round(24_000 * seconds), generator=torch.Generator().manual_seed(0))
    time = torch.arange(noise.shape[-1]) / 24_000
    return 0.05 * noise + 0.3 * torch.sin(2 * math.pi * 440 * time)


def test_the_transform_is_orthonormal() -> None:
    """Noise on coefficients is noise on samples: each window's basis, and neighbours' overlap."""
    basis = mdct_basis(48)
    first, second = basis.chunk(2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(48), atol=1e-5, rtol=0)
    torch.testing.assert_close(second.T @ first, torch.zeros(48, 48), atol=1e-5, rtol=0)


def test_frames_go_there_and_back(frames: Frames) -> None:
    waveform = _music(1.0)
    spectrogram = frames.spectrogram(waveform)
    assert spectrogram.shape == (1, 50, 16)
    padded = torch.nn.functional.pad(waveform, (240, 240))
    excitation = frames.excitation(padded, spectrogram)
    assert excitation.shape == (1, 50, 480)
    rebuilt = frames.waveform(excitation, spectrogram)
    assert rebuilt.shape == waveform.shape
    torch.testing.assert_close(rebuilt[..., 240:-240], waveform[..., 240:-240], atol=1e-5, rtol=0)


def test_lower_coefficients_are_the_lower_band(frames: Frames) -> None:
    """The cascader's coefficients alone hold 440 Hz and nothing above the middle rate's half."""
    waveform = _music(1.0)
    spectrogram = frames.spectrogram(waveform)
    excitation = frames.excitation(torch.nn.functional.pad(waveform, (240, 240)), spectrogram)
    assert frames.lower == 160
    excitation[..., frames.lower :] = 0
    power = torch.fft.rfft(frames.waveform(excitation, spectrogram)[0, 0]).abs().square()
    assert int(power.argmax()) == 440
    assert power[4200:].sum() < 1e-3 * power.sum()


def test_the_envelope_makes_loud_and_quiet_alike(frames: Frames) -> None:
    waveform = torch.randn(1, 1, 24_480, generator=torch.Generator().manual_seed(0)) * 0.2
    inside = waveform[..., 240:-240]
    loud = frames.excitation(waveform, frames.spectrogram(inside))
    quiet = frames.excitation(0.1 * waveform, frames.spectrogram(0.1 * inside))
    assert float(quiet.std()) == pytest.approx(float(loud.std()), rel=0.1)


def test_a_middle_rate_that_does_not_fit_is_refused() -> None:
    with pytest.raises(MelodyError, match="middle_rate 7001 Hz does not fit 24000 Hz with 480 samples"):
        Frames(24_000, 480, 7_001, 16, 1024, 0.7)
