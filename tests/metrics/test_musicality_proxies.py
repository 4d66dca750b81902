"""Beat, key and form on signals whose answer is known, what holds of any proxy, and a corpus that knows its truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melody.data.loading import load_corpus
from melody.errors import MelodyError
from melody.metrics import spectra
from melody.metrics.clip_mean import SampledClipMean
from melody.metrics.rhythm import beat_strength, beats_s, tempo_bpm, tempo_stability
from melody.metrics.structure import clip_features, embedded_frames, repetition, self_similarity, structure
from melody.metrics.tonality import PROFILES, Key, chroma, key_clarity, key_of, key_of_chroma, spectral_peaks
from melody.registry import metrics

RATE = 24_000
SECONDS = 8.0
FIRST_CLICK_S = 0.1
PROXIES: dict[str, Callable[[Tensor, int], float]] = {
    "beat-strength": beat_strength,
    "tempo-stability": tempo_stability,
    "key-clarity": key_clarity,
    "structure": structure,
    "repetition": repetition,
}


def clicks(bpm: float, *, seconds: float = SECONDS, jitter_s: float = 0.0, rate: int = RATE, seed: int = 0) -> Tensor:
    """Short decaying 1 kHz clicks, each off its place by a Gaussian draw."""
    t = torch.arange(rate // 100) / rate
    click = torch.exp(-300 * t) * torch.sin(2 * math.pi * 1_000 * t)
    times = torch.arange(FIRST_CLICK_S, seconds - 0.1, 60 / bpm)
    times += jitter_s * torch.randn(len(times), generator=torch.Generator().manual_seed(seed))
    clip = torch.zeros(round(seconds * rate))
    for start in (times.clamp(min=0) * rate).long().tolist():
        clip[start : start + len(click)] += click[: len(clip) - start]
    return clip


def chord(pitches: Sequence[float], seconds: float, rate: int = RATE) -> Tensor:
    """Plucked notes of five harmonics; MIDI pitches."""
    t = torch.arange(round(seconds * rate)) / rate
    waves = [
        torch.sin(2 * math.pi * 440 * 2 ** ((pitch - 69) / 12) * harmonic * t) / harmonic
        for pitch in pitches
        for harmonic in range(1, 6)
    ]
    return torch.stack(waves).sum(dim=0) * torch.exp(-3 * t) * (200 * t).clamp(max=1)


def cadence(tonic: float, mode: str, seconds: float = 1.0) -> Tensor:
    """I IV V I, or i iv V i, on a MIDI pitch."""
    third = 4 if mode == "major" else 3
    triads = ((0, third, 7), (5, 5 + third, 12), (7, 11, 14), (0, third, 7))
    return torch.cat([chord([tonic + step for step in triad], seconds) for triad in triads])


def noise(seed: int, seconds: float = SECONDS) -> Tensor:
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def one_off_chords(seed: int) -> Tensor:
    """Sixteen random chords of half a second."""
    pitches = torch.randint(48, 72, (16, 3), generator=torch.Generator().manual_seed(seed))
    return torch.cat([chord(row, 0.5) for row in pitches.tolist()])


def loop(beat_s: float = 0.5) -> Tensor:
    bar = torch.cat([chord(triad, beat_s) for triad in ((60, 64, 67), (60, 65, 69), (59, 62, 67), (57, 60, 64))])
    return bar.repeat(5)[: round(SECONDS * RATE)]


# Rhythm


@pytest.mark.parametrize("bpm", [90, 120, 150])
def test_a_click_track_has_its_tempo_its_beats_and_a_full_clear_steady_beat(bpm: float) -> None:
    track = clicks(bpm)
    assert tempo_bpm(track, RATE) == pytest.approx(bpm, rel=0.01)
    assert beat_strength(track, RATE) > 0.95
    assert tempo_stability(track, RATE) > 0.99
    expected = torch.arange(FIRST_CLICK_S, SECONDS - 0.1, 60 / bpm, dtype=torch.float64)
    torch.testing.assert_close(beats_s(track, RATE), expected, atol=0.02, rtol=0)


@settings(max_examples=12, deadline=None)
@given(bpm=st.floats(86, 165), rate=st.sampled_from([16_000, 24_000, 44_100]), level=st.floats(0.001, 1))
def test_tempo_is_within_two_per_cent_at_any_rate_and_level(bpm: float, rate: int, level: float) -> None:
    assert tempo_bpm(level * clicks(bpm, seconds=6, rate=rate), rate) == pytest.approx(bpm, rel=0.02)


def test_the_prior_decides_between_octaves() -> None:
    assert tempo_bpm(clicks(200), RATE) == pytest.approx(100, rel=0.01)
    assert tempo_bpm(clicks(60), RATE) == pytest.approx(60, rel=0.01)


def test_jitter_takes_from_stability_and_strength() -> None:
    by_jitter = [[clicks(120, jitter_s=jitter, seed=seed) for seed in range(4)] for jitter in (0, 0.01, 0.03, 0.08)]
    for proxy in (beat_strength, tempo_stability):
        means = [sum(proxy(track, RATE) for track in tracks) / 4 for tracks in by_jitter]
        assert means == sorted(means, reverse=True)
        assert means[0] - means[-1] > 0.2


def test_noise_takes_from_beat_strength() -> None:
    strengths = [beat_strength(clicks(120) + level * noise(0), RATE) for level in (0, 0.03, 0.1, 0.3, 1)]
    assert strengths == sorted(strengths, reverse=True)
    assert max(beat_strength(noise(seed), RATE) for seed in range(6)) < 0.3


def test_a_change_of_tempo_is_less_steady() -> None:
    changing = torch.cat([clicks(105, seconds=6), clicks(120, seconds=6)])
    assert tempo_stability(changing, RATE) < 0.8
    silent_half = torch.cat([clicks(120, seconds=8), torch.zeros(8 * RATE)])
    assert tempo_stability(silent_half, RATE) < 0.75


# Tonality


def test_a_scale_and_a_cadence_in_c_major() -> None:
    scale = torch.cat([chord([pitch], 0.5) for pitch in (60, 62, 64, 65, 67, 69, 71, 72)])
    for clip in (scale, cadence(60, "major")):
        key = key_of(clip, RATE)
        assert key is not None
        assert key.name == "C major"
        assert key.clarity > 0.8
        assert key_clarity(clip, RATE) == key.clarity


@settings(max_examples=12, deadline=None)
@given(steps=st.integers(-6, 11), mode=st.sampled_from(["major", "minor"]), cents=st.floats(-40, 40))
def test_transposition_moves_the_key_and_tuning_does_not(steps: int, mode: str, cents: float) -> None:
    key = key_of(cadence(60 + steps + cents / 100, mode), RATE)
    assert key is not None
    assert (key.tonic, key.mode) == (steps % 12, mode)


@pytest.mark.parametrize("mode", ["major", "minor"])
def test_a_profile_is_its_own_key_and_a_flat_chroma_has_none(mode: str) -> None:
    for tonic in range(12):
        key = key_of_chroma(3 * torch.tensor(PROFILES[mode]).roll(tonic) + 1)  # type: ignore[index]
        assert key == Key(tonic, mode, pytest.approx(1.0))  # type: ignore[arg-type]
    assert key_of_chroma(torch.full((12,), 0.7)) is None


def test_chroma_of_a_sine_and_its_tuning() -> None:
    t = torch.arange(2 * RATE) / RATE
    strengths = chroma(torch.sin(2 * math.pi * 440 * t), RATE).sum(dim=0)
    assert int(strengths.argmax()) == 9
    assert float(strengths[9] / strengths.sum()) > 0.99
    sharp = spectral_peaks(torch.sin(2 * math.pi * 440 * 2 ** (0.3 / 12) * t))
    assert sharp.tuning == pytest.approx(0.3, abs=0.01)


def test_noise_has_no_clear_key() -> None:
    assert max(key_clarity(noise(seed), RATE) for seed in range(4)) < 0.6 < key_clarity(cadence(60, "minor"), RATE)


# Form


@pytest.mark.parametrize("beat_s", [0.5, 0.53, 1.0])
def test_a_loop_repeats_in_full_and_has_no_sections(beat_s: float) -> None:
    assert repetition(loop(beat_s), RATE) > 0.95
    assert structure(loop(beat_s), RATE) < 0.15


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_one_off_chords_do_not_repeat(seed: int) -> None:
    assert repetition(noise(seed), RATE) < 0.2
    assert structure(noise(seed), RATE) < 0.2
    assert repetition(one_off_chords(seed), RATE) < 0.4
    assert repetition(noise(seed, 2).repeat(4), RATE) > 0.95  # the same noise again


def test_less_of_a_loop_repeats_less() -> None:
    values = [
        repetition(torch.cat([loop()[: looped * RATE], one_off_chords(0)[: (8 - looped) * RATE]]), RATE)
        for looped in (8, 6, 4, 0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[1] + 0.1 > values[2] + 0.2 > values[3] + 0.2


def test_what_merely_lasts_neither_repeats_nor_has_sections() -> None:
    t = torch.arange(round(SECONDS * RATE)) / RATE
    held = sum(torch.sin(2 * math.pi * 261.6 * harmonic * t) / harmonic for harmonic in range(1, 6))
    assert isinstance(held, Tensor)
    assert repetition(held, RATE) < 0.05
    assert structure(held, RATE) < 0.05


def test_two_sections_have_structure() -> None:
    sections = torch.cat([loop()[: 4 * RATE], 0.3 * noise(0, 4)])
    assert structure(sections, RATE) > 0.6 > structure(loop(), RATE)
    faded = torch.cat([loop()[: 4 * RATE], loop()[: 4 * RATE] + 0.03 * noise(0, 4)])
    assert structure(loop(), RATE) < structure(faded, RATE) < structure(sections, RATE)


def test_repetition_is_read_off_the_self_similarity_matrix() -> None:
    clip = torch.cat([one_off_chords(0)[: 4 * RATE]] * 2)
    matrix = self_similarity(clip, RATE)
    torch.testing.assert_close(matrix, matrix.T)
    assert float(matrix.abs().max()) <= 1 + 1e-9
    spectrum = [float(matrix.diagonal(lag).mean()) for lag in range(81)]  # to half of 8 s, at 20 Hz
    expected = max(min(spectrum[lag], spectrum[lag] - min(spectrum[: lag + 1])) for lag in range(20, 81))
    assert repetition(clip, RATE) == pytest.approx(expected, abs=1e-9)
    assert expected > 0.9
    frames = embedded_frames(*clip_features(clip, RATE))
    torch.testing.assert_close(frames @ frames.T, matrix)


# All of them


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_is_a_share_on_any_signal_and_silence_has_none(name: str) -> None:
    impulse = torch.zeros(round(SECONDS * RATE))
    impulse[50_000] = 1
    odd = {
        "constant": torch.ones_like(impulse),
        "impulse": impulse,
        "clipped": (100 * noise(0)).clamp(-1, 1),
        "burst": torch.cat([noise(0, 0.2), torch.zeros(6 * RATE)]),
        "beyond full scale": 1e6 * noise(1),
        "clicks": clicks(113),
    }
    for signal, clip in odd.items():
        assert 0 <= PROXIES[name](clip, RATE) <= 1, signal
    assert PROXIES[name](torch.zeros_like(impulse), RATE) == 0
    assert PROXIES[name](3e-5 * noise(0).sign(), RATE) == 0  # the last of 16 bits


def test_silence_has_no_tempo_no_beats_and_no_key() -> None:
    silence = torch.zeros(6 * RATE)
    assert tempo_bpm(silence, RATE) is None
    assert key_of(silence, RATE) is None
    assert len(beats_s(silence, RATE)) == 0


@pytest.mark.parametrize("name", PROXIES)
def test_each_clip_has_its_own_value_whatever_its_level_and_company(name: str) -> None:
    metric = metrics.create(name)
    assert isinstance(metric, SampledClipMean)
    clips = torch.stack([loop(), one_off_chords(1), clicks(100)])
    values = metric.of_clips(clips[:, None])
    alone = [PROXIES[name](clip, RATE) for clip in clips]
    assert values.tolist() == alone
    assert [PROXIES[name](0.01 * clip[None].double(), RATE) for clip in clips] == pytest.approx(alone, abs=0.01)
    metric.update(clips[:, None])
    assert float(metric.compute()) == pytest.approx(sum(alone) / 3)


@pytest.mark.parametrize("name", PROXIES)
def test_the_sample_rate_matters_little(name: str) -> None:
    rate = 48_000
    t = 3 * RATE // 2
    bar = torch.cat([chord(p, 0.75, rate) for p in ((60, 64, 67), (55, 59, 62), (57, 60, 64), (53, 57, 60))])
    low_bar = torch.cat([chord(p, 0.75) for p in ((60, 64, 67), (55, 59, 62), (57, 60, 64), (53, 57, 60))])
    high, low = torch.cat([bar.repeat(2), bar[: 2 * t]]), torch.cat([low_bar.repeat(2), low_bar[:t]])
    assert PROXIES[name](high, rate) == pytest.approx(PROXIES[name](low, RATE), abs=0.02)


@pytest.mark.parametrize("name", PROXIES)
def test_long_clips_are_heard_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PROXIES[name](one_off_chords(2), RATE)
    monkeypatch.setattr(spectra, "BLOCK_FRAMES", 7)
    assert PROXIES[name](one_off_chords(2), RATE) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("name", PROXIES)
def test_bad_input_is_one_clear_line(name: str) -> None:
    shortest = 1 if name == "key-clarity" else 5
    with pytest.raises(MelodyError, match=rf"0\.500 s of audio; expected at least {shortest} s"):
        PROXIES[name](torch.zeros(RATE // 2), RATE)
    with pytest.raises(MelodyError, match="NaN"):
        PROXIES[name](torch.full((6 * RATE,), math.nan), RATE)
    with pytest.raises(MelodyError, match=r"expected mono \(T,\) or \(1, T\)"):
        PROXIES[name](torch.zeros(2, 6 * RATE), RATE)
    with pytest.raises(MelodyError, match=r"expected mono \(B, 1, T\) with T > 0"):
        metrics.create(name).update(torch.zeros(1, 2, 6 * RATE))


def test_embedded_clips_have_the_tempo_and_the_key_that_they_were_written_in() -> None:
    """Of 8 clips with every tempo word at least 7 tempi within 4 % (or at the octave) and 6 keys; all 128: docs."""
    clips = list(load_corpus("embedded", split="validation", num_clips=32))[2::4]
    tempi = keys = 0
    for clip in clips:
        tempo, key = tempo_bpm(clip.waveform(RATE), RATE), key_of(clip.waveform(RATE), RATE)
        assert tempo is not None
        assert key is not None
        ratio = tempo / float(clip.attributes["bpm"])
        tempi += any(abs(ratio * octave - 1) <= 0.04 for octave in (0.5, 1, 2))
        keys += key.name == clip.attributes["key"]
    assert tempi >= 7
    assert keys >= 6
