"""Score to sound: symusic with the General MIDI SoundFont that pretty_midi ships, mixed to fixed levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melody.data.attributes import INSTRUMENTS
from melody.data.composer import TICKS_PER_BEAT, Note, Part, Piece
from melody.data.patterns import ACCOMPANIMENTS

SAMPLE_RATE = 24_000
INTERPOLATION = 3  # symusic's quality 0 to 4; 3 is 42 dB from 4 at half its time

PROGRAMS = tuple(
    sorted(
        {program for program, _, _ in INSTRUMENTS.values()}
        | {
            p
            for a in ACCOMPANIMENTS.values()
            for p in (a.bass_program, a.chord_program, a.pad_program)
            if p is not None
        }
    )
)

# Ours: how loud each part is beside the lead, and the level of the whole.
LEVELS = {"lead": 1.0, "chords": 0.4, "pad": 0.25, "bass": 0.55, "drums": 0.6}
TARGET_RMS = 0.1
MAX_PEAK = 0.9
FADE_S = 0.02
FRAME_S = 0.05
LOUD_PERCENTILE = 95
VELOCITY_STEP = 12  # symusic ignores velocity: notes are played in layers of so many, each with its gain
BLOCK_DC = 0.992  # pole of a one-pole high-pass at 30 Hz: some samples have an offset


def synthesizer(soundfont: Path) -> Any:
    """symusic's synthesizer with the prepared SoundFont."""
    from symusic import Synthesizer

    return Synthesizer(sf_path=str(soundfont), sample_rate=SAMPLE_RATE, quality=INTERPOLATION)


def render(piece: Piece, synth: Any) -> NDArray[np.float32]:
    """A piece as mono float32 ``(T,)`` at ``SAMPLE_RATE``, of its length; RMS at most 0.1, peak at most 0.9."""
    mix = np.zeros(num_samples(piece.duration_s))
    for part in piece.parts:
        sound = played(part, piece.bpm, synth, len(mix))
        mix += LEVELS[part.role] * sound / _loudness(sound)
    gain = min(TARGET_RMS / np.sqrt(np.mean(mix**2)), MAX_PEAK / np.abs(mix).max())
    fade = round(FADE_S * SAMPLE_RATE)
    mix[-fade:] *= np.linspace(1, 0, fade)
    waveform: NDArray[np.float32] = (gain * mix).astype(np.float32)
    return waveform


def num_samples(duration_s: float) -> int:
    """Samples of a clip at ``SAMPLE_RATE``."""
    return round(duration_s * SAMPLE_RATE)


def played(part: Part, bpm: int, synth: Any, samples: int) -> NDArray[np.float64]:
    """One part alone, ``(samples,)``; amplitude goes with the square of velocity, as General MIDI advises."""
    from scipy.signal import lfilter  # late: a second of every command that needs none of it

    layers: dict[int, list[Note]] = {}
    for note in part.notes:
        layers.setdefault(round(note.velocity / VELOCITY_STEP) * VELOCITY_STEP, []).append(note)
    sound = np.zeros(samples)
    for velocity, notes in sorted(layers.items()):
        layer = np.asarray(synth.render(_score(part, notes, bpm), stereo=False)[0])[:samples]
        sound[: len(layer)] += (velocity / 127) ** 2 * layer
    high_passed: NDArray[np.float64] = lfilter([1, -1], [1, -BLOCK_DC], sound)
    return high_passed


def _score(part: Part, notes: list[Note], bpm: int) -> Any:
    import symusic

    score: Any = symusic.Score(TICKS_PER_BEAT)
    score.tempos.append(symusic.Tempo(0, bpm))
    track: Any = symusic.Track(part.role, part.program, part.role == "drums")
    for note in notes:
        track.notes.append(symusic.Note(note.start, note.duration, note.pitch, note.velocity))
    score.tracks.append(track)
    return score


def _loudness(sound: NDArray[np.float64]) -> float:
    """Level of a part where it sounds: a high percentile of the RMS of short frames, so rests do not make it louder."""
    frames = sound[: len(sound) // (n := round(FRAME_S * SAMPLE_RATE)) * n].reshape(-1, n)
    return float(np.percentile(np.sqrt((frames**2).mean(axis=1)), LOUD_PERCENTILE))
