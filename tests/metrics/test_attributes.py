"""Judges of attributes on sounds that are known by construction."""

from __future__ import annotations

import math

import pytest
import torch

from melody.errors import MelodyError
from melody.metrics import attributes
from melody.metrics.attributes import BEATS, AttributeClassifiers, AttributePrediction, features, tempo_candidates

RATE = 24_000


def clicks(bpm: float, seconds: float = 6.0) -> torch.Tensor:
    waveform = torch.zeros(round(seconds * RATE))
    burst = torch.randn(600, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 0, 600)
    for beat in range(int(seconds * bpm / 60)):
        start = round(beat * 60 / bpm * RATE)
        waveform[start : start + 600] += burst[: len(waveform) - start]
    return 0.3 * waveform


def chord(pitches: tuple[int, ...], seconds: float = 3.0) -> torch.Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return torch.stack([0.1 * torch.sin(2 * math.pi * 440 * 2 ** ((p - 69) / 12) * time) for p in pitches]).sum(0)


@pytest.mark.parametrize("bpm", [75.0, 100.0, 150.0])
def test_rhythm_peaks_at_the_beat(bpm: float) -> None:
    rhythm = features(clicks(bpm)[None], RATE).rhythm[0, 0]
    lag = round(60 / bpm * attributes.FRAME_RATE)
    assert abs(int(rhythm[20 : lag + 20].argmax()) + 20 - lag) <= 1


def test_chroma_rolls_with_the_key() -> None:
    low, high = (features(chord(tuple(p + shift for p in (60, 64, 67)))[None], RATE).chroma[0, 1] for shift in (0, 2))
    assert set(low.topk(3).indices.tolist()) == {0, 4, 7}
    assert torch.allclose(low.roll(2), high, atol=0.3)


def test_features_ignore_level_and_rate() -> None:
    sound = clicks(120)
    first = features(sound[None], RATE)
    quiet = features(0.1 * sound[None, None], RATE)
    assert torch.allclose(first.timbre, quiet.timbre, rtol=1e-3, atol=1e-5)
    assert torch.allclose(first.rhythm, quiet.rhythm, atol=1e-4)
    other = features(sound.repeat_interleave(2)[None], 2 * RATE)
    assert other.timbre.shape == first.timbre.shape


def test_a_judged_tempo_does_not_depend_on_what_is_judged_beside_it() -> None:
    torch.manual_seed(0)
    judges = AttributeClassifiers(["flute", "piano"], tempo_candidates(60, 160))
    both = judges.predict(torch.stack([clicks(90), clicks(140)]), RATE)
    assert both == [judges.predict(clicks(bpm)[None], RATE)[0] for bpm in (90, 140)]
    assert {judgement.instrument for judgement in both} <= {"flute", "piano"}


def test_silence_and_short_sounds_are_judged_and_bad_ones_refused() -> None:
    torch.manual_seed(0)
    judges = AttributeClassifiers(["flute"], tempo_candidates(60, 160))
    (heard,) = judges.predict(torch.zeros(1, 100), RATE)
    assert 60 <= heard.bpm <= 163
    for bad in (torch.zeros(100), torch.zeros(2, 2, 100), torch.zeros(0, 100)):
        with pytest.raises(MelodyError, match="expected"):
            judges.predict(bad, RATE)
    with pytest.raises(MelodyError, match="NaN"):
        judges.predict(torch.full((1, 100), math.nan), RATE)


def test_agreement_is_within_eight_per_cent_and_never_double_time() -> None:
    facts = {"instrument": "organ", "bpm": 100, "mode": "major", "drums": "no"}
    tempi = {
        bpm: AttributePrediction("organ", bpm, "major", False).agreement(facts)["tempo"]
        for bpm in (92.5, 107.5, 109, 200)
    }
    assert tempi == {92.5: True, 107.5: True, 109: False, 200: False}
    assert min(BEATS) < 1 < max(BEATS)
