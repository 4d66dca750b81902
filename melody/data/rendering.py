"""Score to sound: symusic with the General MIDI SoundFont that pretty_midi ships, mixed to fixed levels."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melody.data.composer import DURATION_S, TICKS_PER_BEAT, Part, Piece
from melody.errors import MelodyError

SAMPLE_RATE = 24_000
NUM_SAMPLES = round(DURATION_S * SAMPLE_RATE)
SOUNDFONT = "TimGM6mb.sf2"
INTERPOLATION = 3  # symusic's quality 0 to 4; 3 is 42 dB from 4 at half its time

# Ours: how loud each part is beside the lead, and the level of the whole.
LEVELS = {"lead": 1.0, "chords": 0.4, "pad": 0.25, "bass": 0.55, "drums": 0.6}
TARGET_RMS = 0.1
MAX_PEAK = 0.9
FADE_S = 0.02
FRAME_S = 0.05
LOUD_PERCENTILE = 95


def soundfont() -> Path:
    """The SoundFont's path, found without importing pretty_midi (which takes seconds).

    Raises:
        MelodyError: pretty_midi is not installed, or does not ship the file.
    """
    spec = importlib.util.find_spec("pretty_midi")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (path := Path(folder) / SOUNDFONT).is_file():
            return path
    raise MelodyError(f"the embedded corpus needs {SOUNDFONT}, which pretty_midi ships: pip install pretty_midi")


def render(piece: Piece) -> NDArray[np.float32]:
    """A piece as mono float32 ``(NUM_SAMPLES,)`` at ``SAMPLE_RATE``; RMS about 0.1, peak at most 0.9."""
    mix = np.zeros(NUM_SAMPLES)
    for part in piece.parts:
        sound = _played(part, piece.bpm)
        mix += LEVELS[part.role] * sound / _loudness(sound)
    gain = min(TARGET_RMS / np.sqrt(np.mean(mix**2)), MAX_PEAK / np.abs(mix).max())
    fade = round(FADE_S * SAMPLE_RATE)
    mix[-fade:] *= np.linspace(1, 0, fade)
    waveform: NDArray[np.float32] = (gain * mix).astype(np.float32)
    return waveform


def _played(part: Part, bpm: int) -> NDArray[np.float64]:
    from symusic import Note, Score, Tempo, Track

    score: Any = Score(TICKS_PER_BEAT)
    score.tempos.append(Tempo(0, bpm))
    track: Any = Track(part.role, part.program, part.role == "drums")
    for note in part.notes:
        track.notes.append(Note(note.start, note.duration, note.pitch, note.velocity))
    score.tracks.append(track)
    sound = np.asarray(_synthesizer().render(score, stereo=False)[0], dtype=np.float64)[:NUM_SAMPLES]
    return np.pad(sound, (0, NUM_SAMPLES - len(sound)))


@lru_cache(maxsize=1)
def _synthesizer() -> Any:
    from symusic import Synthesizer

    return Synthesizer(sf_path=str(soundfont()), sample_rate=SAMPLE_RATE, quality=INTERPOLATION)


def _loudness(sound: NDArray[np.float64]) -> float:
    """Level of a part where it sounds: a high percentile of the RMS of short frames, so rests do not make it louder."""
    frames = sound[: len(sound) // (n := round(FRAME_S * SAMPLE_RATE)) * n].reshape(-1, n)
    return float(np.percentile(np.sqrt((frames**2).mean(axis=1)), LOUD_PERCENTILE))
