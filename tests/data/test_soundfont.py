from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melody.data.attributes import INSTRUMENTS
from melody.data.composer import Note, Part
from melody.data.patterns import ACCOMPANIMENTS
from melody.data.rendering import SAMPLE_RATE, num_samples, played
from melody.data.soundfont import SoundFont, original_soundfont
from melody.errors import MelodyError

SAMPLES = num_samples(10.0)
BASSES = sorted({a.bass_program for a in ACCOMPANIMENTS.values()})


def single_note(program: int, pitch: int, synth: object, velocity: int = 90) -> np.ndarray:
    return played(Part("lead", program, (Note(0, 1200, pitch, velocity),)), 60, synth, SAMPLES)


def cents_off(sound: np.ndarray, pitch: int) -> float:
    """How far the loudest of the first four harmonics, or the octave below, is from where it should be."""
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(sound[3000:27000] * np.hanning(24000), size))
    strongest = np.argmax(spectrum) * SAMPLE_RATE / size
    ratio = strongest / (440 * 2 ** ((pitch - 69) / 12))
    harmonic = min((0.5, 1, 2, 3, 4, 5, 6), key=lambda h: abs(np.log2(ratio / h)))
    return float(1200 * np.log2(ratio / harmonic))


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_leads_are_in_tune_over_their_range(instrument: str, synth: object) -> None:
    program, low, high = INSTRUMENTS[instrument]
    for pitch in range(low, high + 1, 3):
        assert abs(cents_off(single_note(program, pitch, synth), pitch)) < 20, pitch


@pytest.mark.parametrize("program", BASSES)
def test_basses_are_in_tune(program: int, synth: object) -> None:
    for pitch in range(33, 57, 4):
        assert abs(cents_off(single_note(program, pitch, synth), pitch)) < 20, pitch


def test_plucked_strings_fade_and_bowed_ones_do_not(synth: object) -> None:
    def level_after(program: int, seconds: float) -> float:
        sound = single_note(program, 69, synth)
        rms = [np.sqrt(np.mean(sound[int(t * SAMPLE_RATE) :][:2400] ** 2)) for t in (0.1, seconds)]
        return float(rms[1] / rms[0])

    guitar, violin, piano = (INSTRUMENTS[name][0] for name in ("acoustic guitar", "violin", "piano"))
    assert level_after(guitar, 1.5) < 0.4
    assert level_after(piano, 1.5) < 0.4
    assert level_after(violin, 1.5) > 0.6


def test_velocity_is_loudness(synth: object) -> None:
    soft, loud = (np.abs(single_note(0, 60, synth, velocity=v)).max() for v in (48, 96))
    assert loud / soft == pytest.approx(4)


def test_long_notes_go_on(synth: object) -> None:
    sound = played(Part("lead", INSTRUMENTS["violin"][0], (Note(0, 480 * 6, 70, 90),)), 60, synth, SAMPLES)
    early, late = (np.sqrt(np.mean(sound[t * SAMPLE_RATE :][:12000] ** 2)) for t in (1, 5))
    assert late / early > 0.5
    assert np.abs(sound).max() < 4 * early


def test_bad_soundfont(tmp_path: Path) -> None:
    (tmp_path / "x.sf2").write_bytes(b"RIFF\0\0\0\0sfbk")
    with pytest.raises(MelodyError, match=r"x.sf2 is not a SoundFont 2 file"):
        SoundFont(tmp_path / "x.sf2")
    with pytest.raises(MelodyError, match="no program 3 in bank 77"):
        SoundFont(original_soundfont()).zones(77, 3)


def test_missing_soundfont_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MelodyError, match="pip install pretty_midi"):
        original_soundfont()
