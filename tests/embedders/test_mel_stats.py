"""The weight-free embedder, against hand computations in plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from melody.dsp.mel import mel_filterbank
from melody.embedders import mel_stats
from melody.embedders.mel_stats import (
    DIMENSION,
    FFT_SIZE,
    FRAME_HOP,
    HIGHEST_HZ,
    LOWEST_HZ,
    NUM_BANDS,
    SAMPLE_RATE,
    MelStats,
    log_mel,
)
from melody.errors import MelodyError
from melody.metrics.frechet import Statistics, frechet_distance_of
from melody.registry import audio_embedders


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(round(seconds * SAMPLE_RATE), generator=torch.Generator().manual_seed(seed))


def sine(frequency_hz: float, seconds: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency_hz * torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def test_is_registered_and_declares_its_protocol() -> None:
    embedder = audio_embedders.create("mel-stats")
    assert (embedder.sample_rate, embedder.dimension, embedder.window_s, embedder.hop_s) == (24_000, 48, 1.0, 0.5)
    assert "demo embedder" in audio_embedders.entry("mel-stats").sentence


def test_filterbank_equals_a_hand_computation() -> None:
    bank = mel_filterbank(2, 8, 800, 0.0, 400.0)  # bins at 0, 100, 200, 300, 400 Hz
    top = 2595 * math.log10(1 + 400 / 700)
    first, second = (700 * (10 ** (top * part / 3 / 2595) - 1) for part in (1, 2))
    expected = [
        [0, 100 / first, (second - 200) / (second - first), 0, 0],
        [0, 0, (200 - first) / (second - first), (400 - 300) / (400 - second), 0],
    ]
    torch.testing.assert_close(bank, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_filterbank_equals_torchaudio_where_it_is_installed() -> None:
    torchaudio = pytest.importorskip("torchaudio.functional")
    ours = mel_filterbank(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ)
    theirs = torchaudio.melscale_fbanks(
        FFT_SIZE // 2 + 1, LOWEST_HZ, HIGHEST_HZ, NUM_BANDS, SAMPLE_RATE, mel_scale="htk"
    )
    torch.testing.assert_close(ours, theirs.T, atol=1e-4, rtol=0)


def test_every_band_sees_some_bins() -> None:
    bank = mel_filterbank(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ)
    assert bool((bank > 0).sum(dim=1).ge(3).all())


def test_embedding_equals_plain_numpy() -> None:
    waveform = noise(1.0, seed=3)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)
    bank = mel_filterbank(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ).double().numpy()
    frames = [
        np.abs(np.fft.rfft(taper * waveform.double().numpy()[start : start + FFT_SIZE])) ** 2 / (taper.sum() / 2) ** 2
        for start in range(0, SAMPLE_RATE - FFT_SIZE + 1, FRAME_HOP)
    ]
    bands = np.log10(bank @ np.array(frames).T + 1e-8)
    assert bands.shape[1] == 48
    expected = np.concatenate([bands.mean(1), bands.std(1), np.abs(np.diff(bands)).mean(1)])
    np.testing.assert_allclose(MelStats().embed(waveform)[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("seconds", "windows"), [(0.01, 1), (1.0, 1), (1.49, 1), (1.5, 2), (10.0, 19)])
def test_windows(seconds: float, windows: int) -> None:
    embedding = MelStats().embed(noise(seconds))
    assert embedding.shape == (windows, DIMENSION)
    assert embedding.dtype == torch.float32
    assert bool(embedding.isfinite().all())


def test_a_window_does_not_depend_on_its_neighbours() -> None:
    waveform = noise(3.0)
    torch.testing.assert_close(
        MelStats().embed(waveform)[2], MelStats().embed(waveform[SAMPLE_RATE : 2 * SAMPLE_RATE])[0]
    )


def test_a_long_signal_is_embedded_in_groups_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = torch.zeros(100 * SAMPLE_RATE)  # 199 windows: three groups and a rest
    for second in (0, 31, 32, 64, 99):
        waveform[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE] = noise(1.0, seed=second)
    in_groups = MelStats().embed(waveform)
    sizes: list[int] = []

    def seen(cut: torch.Tensor) -> torch.Tensor:
        sizes.append(len(cut))
        return log_mel(cut)

    monkeypatch.setattr(mel_stats, "log_mel", seen)
    MelStats().embed(waveform)
    assert sum(sizes) == 199
    assert max(sizes) == mel_stats.WINDOWS_AT_ONCE < 199
    monkeypatch.setattr(mel_stats, "WINDOWS_AT_ONCE", 1_000)
    torch.testing.assert_close(in_groups, MelStats().embed(waveform), rtol=0, atol=1e-6)


def test_reads_level_and_pitch_and_silence() -> None:
    bank = mel_filterbank(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ)
    bin_hz = SAMPLE_RATE / FFT_SIZE
    peak_bin = int(bank[5].argmax())
    steady = log_mel(sine(peak_bin * bin_hz)[None])[0]
    assert int(steady.mean(dim=1).argmax()) == 5
    assert float(steady[5].mean()) == pytest.approx(math.log10(float(bank[5].max())), abs=0.3)
    louder, softer = MelStats().embed(noise(1, level=0.1)), MelStats().embed(noise(1, level=0.01))
    torch.testing.assert_close(louder[0, :16] - softer[0, :16], torch.full((16,), 2.0), atol=1e-2, rtol=0)
    silent = MelStats().embed(torch.zeros(SAMPLE_RATE))[0]
    torch.testing.assert_close(silent, torch.cat([torch.full((16,), -8.0), torch.zeros(32)]))


def test_five_clips_of_ten_seconds_give_a_full_rank() -> None:
    sweep = torch.linspace(0.2, 1, 10 * SAMPLE_RATE)
    embeddings = [MelStats().embed(noise(10, seed) * sweep) for seed in range(5)]
    covariance = Statistics.of(torch.cat(embeddings)).covariance
    assert int(torch.linalg.matrix_rank(covariance)) == DIMENSION


def test_distance_grows_with_added_noise() -> None:
    tones = torch.cat([sine(220 * 2 ** (step / 12), 0.5) for step in range(20)]) * 0.3
    clean = Statistics.of(MelStats().embed(tones))
    distances = [
        frechet_distance_of(Statistics.of(MelStats().embed(tones + noise(10, level=level))), clean)
        for level in (0.001, 0.01, 0.1)
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0.1


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(MelodyError, match=r"shape \(0,\); expected mono"):
        MelStats().embed(torch.zeros(0))
    with pytest.raises(MelodyError, match=r"shape \(2, 100\); expected mono"):
        MelStats().embed(torch.zeros(2, 100))
    with pytest.raises(MelodyError, match="1 of 3 values are NaN"):
        MelStats().embed(torch.tensor([0.0, math.nan, 0.0]))
