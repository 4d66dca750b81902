"""Loudness against the standard's printed coefficients and calibration signals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.signal import freqz

from melody.errors import MelodyError
from melody.metrics import loudness
from melody.metrics.loudness import Loudness, integrated_loudness, k_weighting

# ITU-R BS.1770-4, tables 1 and 2: 48 kHz.
SHELF = ([1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585])
HIGH_PASS = ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621])


def sine(level_dbfs: float, sample_rate: int, seconds: float = 5.0, frequency_hz: float = 997.0) -> torch.Tensor:
    phase = 2 * math.pi * frequency_hz * torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    return 10 ** (level_dbfs / 20) * torch.sin(phase)


def test_coefficients_at_48_khz_are_the_standards() -> None:
    for ours, printed in zip(k_weighting(48_000), (SHELF, HIGH_PASS), strict=True):
        np.testing.assert_allclose(ours[0], printed[0], atol=1e-8)
        np.testing.assert_allclose(ours[1], printed[1], atol=1e-8)


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 24_000, 32_000, 44_100, 96_000, 192_000])
def test_response_is_the_same_at_other_rates(sample_rate: int) -> None:
    frequencies = np.geomspace(20, 3_000, 40)
    for ours, printed in zip(k_weighting(sample_rate), (SHELF, HIGH_PASS), strict=True):
        response = 20 * np.log10(np.abs(freqz(*ours, worN=frequencies, fs=sample_rate)[1]))
        expected = 20 * np.log10(np.abs(freqz(*printed, worN=frequencies, fs=48_000)[1]))
        np.testing.assert_allclose(response, expected, atol=0.07)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 12_000, 16_000, 24_000, 44_100, 48_000, 192_000])
def test_calibration_sines(sample_rate: int) -> None:
    full_scale = sine(0, sample_rate)
    within = 0.06 if sample_rate == 16_000 else 0.03  # of the 0.1 LU that EBU Tech 3341 allows
    assert integrated_loudness(full_scale, sample_rate) == pytest.approx(-3.01, abs=within)
    stereo = sine(-23, sample_rate).expand(2, -1)  # case 1
    assert integrated_loudness(stereo, sample_rate) == pytest.approx(-23.0, abs=within)
    mono = sine(-23, sample_rate)[None]
    assert integrated_loudness(mono, sample_rate) == pytest.approx(-26.01, abs=within)


@pytest.mark.parametrize("rate", [8_000, 11_025, 24_000, 48_000])
def test_gates(rate: int) -> None:
    loud, soft, quiet = sine(-23, rate, 20), sine(-36, rate, 10), sine(-80, rate, 10)
    gated = torch.cat([soft, loud, soft]).expand(2, -1)  # EBU Tech 3341, case 3, shortened
    assert integrated_loudness(gated, rate) == pytest.approx(-23.0, abs=0.1)
    with_silence = torch.cat([quiet, loud, quiet]).expand(2, -1)
    assert integrated_loudness(with_silence, rate) == pytest.approx(-23.0, abs=0.1)


EBU_3341 = {
    1: (-23.0, [(-23, 20.0)]),
    2: (-33.0, [(-33, 20.0)]),
    3: (-23.0, [(-36, 10.0), (-23, 60.0), (-36, 10.0)]),
    4: (-23.0, [(-72, 10.0), (-36, 10.0), (-23, 60.0), (-36, 10.0), (-72, 10.0)]),
    5: (-23.0, [(-26, 20.0), (-20, 20.1), (-26, 20.0)]),
}
"""EBU Tech 3341, table 1, its stereo sines of 1 kHz: loudness in LUFS, and (level in dBFS, seconds) in turn."""


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("case", EBU_3341)
def test_ebu_tech_3341(case: int, rate: int) -> None:
    expected, parts = EBU_3341[case]
    signal = torch.cat([sine(level, rate, seconds, 1000.0) for level, seconds in parts]).expand(2, -1)
    assert integrated_loudness(signal, rate) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 48_000])
def test_surround_is_weighed_as_the_standard_says(rate: int) -> None:
    """EBU Tech 3341, case 6: a sine in five channels at three levels has −23 LUFS, whatever the order and the LFE."""
    levels = {"FL": -28, "FR": -28, "FC": -24, "BL": -30, "BR": -30}
    sines = {name: sine(level, rate, 5.0, 1000.0) for name, level in levels.items()}
    five = torch.stack([sines[name] for name in ("FL", "FR", "FC", "BL", "BR")])
    assert integrated_loudness(five, rate) == pytest.approx(-23.0, abs=0.1)
    sines["LFE"] = sine(-3, rate, 5.0, 60.0)
    for layout in ("FL FR FC LFE BL BR", "FL FC FR BL BR LFE"):
        six = torch.stack([sines[name] for name in layout.split()])
        assert integrated_loudness(six, rate, layout) == pytest.approx(-23.0, abs=0.1)
    metric = Loudness(rate, "FL FC FR BL BR LFE")
    metric.update(six[None])
    assert float(metric.compute()) == pytest.approx(-23.0, abs=0.1)


def test_the_side_channels_are_the_surround_where_there_are_any() -> None:
    assert loudness.channel_weights(8).tolist() == [1, 1, 1, 0, 1, 1, 1.41, 1.41]
    assert loudness.channel_weights(4).tolist() == [1, 1, 1.41, 1.41]
    assert loudness.channel_weights(4, "FL FR FC LFE").tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_low_rates_are_heard_as_high_ones(rate: int) -> None:
    """At every frequency that a rate can hold well: there the filters themselves are up to 0.3 dB off."""
    for frequency_hz in (100.0, 1000.0, 2000.0, 3000.0):
        low, high = (integrated_loudness(sine(-20, r, 3.0, frequency_hz), r) for r in (rate, 48_000))
        assert low == pytest.approx(high, abs=0.05)


def test_gain_moves_loudness_by_as_much() -> None:
    noise = torch.randn(48_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    difference = integrated_loudness(0.1 * noise, 24_000) - integrated_loudness(0.05 * noise, 24_000)
    assert difference == pytest.approx(20 * math.log10(2))


def test_silence_is_minus_infinity_and_stays_out_of_the_mean() -> None:
    silence = torch.zeros(1, 24_000, dtype=torch.float64)
    assert integrated_loudness(silence, 24_000) == -math.inf
    assert integrated_loudness(sine(-90, 24_000), 24_000) == -math.inf
    metric = Loudness()
    metric.update(silence[None])
    assert float(metric.compute()) == -math.inf
    metric.update(sine(0, 24_000, 1.0)[None, None])
    assert float(metric.compute()) == pytest.approx(-3.01, abs=0.02)
    assert (metric.scored, int(metric.silent)) == (2, 1)


def test_a_refused_clip_leaves_the_metric_as_it_was() -> None:
    metric = Loudness()
    with pytest.raises(MelodyError, match="NaN"):
        metric.update(torch.stack([sine(0, 24_000, 1.0), torch.full((24_000,), math.nan)])[:, None])
    assert (metric.scored, float(metric.total)) == (0, 0)


def test_a_block_is_enough_and_a_sample_less_is_not() -> None:
    block = sine(0, 192_000, 0.4)
    assert integrated_loudness(block, 192_000) == pytest.approx(-3.01, abs=0.1)
    with pytest.raises(MelodyError, match=r"0\.400 s of audio; expected at least 0\.4 s"):
        integrated_loudness(block[1:], 192_000)
    with pytest.raises(MelodyError, match=r"0\.000 s of audio"):
        integrated_loudness(block[:1], 192_000)
    with pytest.raises(MelodyError, match=r"8000 Hz; expected at least 16000 Hz"):
        k_weighting(8_000)


def test_clips_keep_their_own_values() -> None:
    clips = torch.stack([sine(0, 24_000, 1.0), torch.zeros(24_000, dtype=torch.float64)])[:, None]
    values = Loudness().of_clips(clips)
    assert float(values[0]) == pytest.approx(-3.01, abs=0.02)
    assert float(values[1]) == -math.inf


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(MelodyError, match=r"0\.100 s of audio; expected at least 0\.4 s"):
        integrated_loudness(torch.zeros(2_400), 24_000)
    with pytest.raises(MelodyError, match=r"expected \(T,\) or \(channels, T\)"):
        integrated_loudness(torch.zeros(1, 6, 24_000), 24_000)
    with pytest.raises(MelodyError, match="16 channels whose speakers are not known; expected 1 to 8"):
        integrated_loudness(torch.zeros(16, 24_000), 24_000)
    with pytest.raises(MelodyError, match="NaN"):
        integrated_loudness(torch.full((24_000,), math.nan), 24_000)
    with pytest.raises(MelodyError, match=r"expected \(B, channels, T\)"):
        Loudness().update(torch.zeros(1, 24_000))


@pytest.mark.parametrize("sample_rate", [11_025, 24_000])  # at 11,025 Hz a block is not four steps
def test_a_minute_at_a_time_changes_nothing(sample_rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(2, 7 * sample_rate + 123, generator=torch.Generator().manual_seed(0))
    noise = noise * torch.linspace(0.01, 1, noise.shape[1])
    whole = loudness.integrated_loudness(noise, sample_rate)
    monkeypatch.setattr(loudness, "PIECE_S", 1)
    assert loudness.integrated_loudness(noise, sample_rate) == pytest.approx(whole, abs=1e-9)
