"""Log-mel front end, and what all front ends take of spectra."""

from __future__ import annotations

import math

import pytest
import torch

from melody.dsp.mel import LOG_FLOOR, LogMel, mel_filters
from melody.dsp.spectrum import magnitudes
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


def test_filters_may_be_triangles_over_mel() -> None:
    in_hertz, in_mel = (mel_filters(8, 512, 16_000, 100.0, 8_000.0, linear_in_mel=flag) for flag in (False, True))
    assert in_hertz.shape == in_mel.shape == (257, 8)
    assert ((in_hertz > 1e-9) == (in_mel > 1e-9)).all()
    assert not torch.equal(in_hertz, in_mel)


@pytest.mark.parametrize("centred", [False, True])
def test_a_full_scale_sine_has_peak_one(centred: bool) -> None:
    sine = torch.sin(2 * math.pi * 1_000 * torch.arange(8_000) / 8_000)
    spectrum = magnitudes(sine[None], 512, 128, centred=centred)
    assert spectrum.shape == (1, 257, 63 if centred else 59)
    assert float(spectrum[0, :, 30].max()) == pytest.approx(1, abs=1e-3)
    assert int(spectrum[0, :, 30].argmax()) == 64
