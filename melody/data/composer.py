"""A seeded composer: attributes -> a short piece with melody, chords, bass and drums.

A piece fills its length, ``DURATION_S`` unless another is asked for: phrases of four chords, each starting on the
tonic, then V - I. The melody repeats one rhythm and contour (A A B A), puts chord tones on the beats and steps of the
scale between them, and ends on the tonic.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from melody.data.attributes import INSTRUMENTS, TONICS, Attributes, Mode
from melody.data.patterns import ACCOMPANIMENTS, BUSY_DRUMS, CELLS, CRASH, DRUMS, PROGRESSIONS, SWING, Hit

DURATION_S = 10.0
TICKS_PER_BEAT = 480
SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
DOMINANT = 4
LOWEST_CHORD_PITCH, LOWEST_BASS_PITCH = 52, 33
JITTER_S = {"lead": 0.008, "chords": 0.005, "pad": 0.005, "bass": 0.005, "drums": 0.003}
VELOCITY_SPREAD = 4.0
PHRASE_FORM = "AABA"
PHRASE_ARCH = (0, 2, 5, 1)  # semitones above the middle of the range, chord by chord

Role = Literal["lead", "chords", "pad", "bass", "drums"]


@dataclass(frozen=True)
class Note:
    """One note: start and duration in ticks, MIDI pitch (or drum key), MIDI velocity."""

    start: int
    duration: int
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one instrument plays; ``program`` is the General MIDI program, counted from 0."""

    role: Role
    program: int
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Piece:
    """A score, with ``TICKS_PER_BEAT`` ticks to the beat, and its length in seconds."""

    bpm: int
    parts: tuple[Part, ...]
    duration_s: float = field(default=DURATION_S, repr=False)  # not in the hash, which is over every note

    def content_hash(self) -> str:
        """SHA-256 over every note."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def part(self, role: Role) -> Part | None:
        """The part in a role, or None where the piece has none."""
        return next((part for part in self.parts if part.role == role), None)


@dataclass(frozen=True)
class Chord:
    """A chord of the progression: its place in beats, its root as a step of the scale, its tones as pitch classes."""

    start: float
    beats: float
    root: int
    tones: tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """A note before humanising: times in beats, velocity as written."""

    start: float
    beats: float
    pitch: int
    velocity: int


def compose(attributes: Attributes, rng: np.random.Generator, duration_s: float = DURATION_S) -> Piece:
    """Write a piece of ``duration_s`` seconds, ``DURATION_S`` or more, that has the attributes."""
    chords = harmony(attributes, rng, duration_s)
    style = ACCOMPANIMENTS[attributes.style]
    events: list[tuple[Role, int, list[Event]]] = [
        ("lead", INSTRUMENTS[attributes.instrument][0], melody_line(attributes, chords, rng)),
        ("chords", style.chord_program, comping(attributes, chords)),
        ("bass", style.bass_program, bass_line(attributes, chords)),
    ]
    if style.pad_program is not None:
        events.append(("pad", style.pad_program, pad(chords)))
    if attributes.drums:
        events.append(("drums", 0, drum_beat(attributes, duration_s)))
    parts = [
        Part(role, program, _humanised(role, written, attributes, rng, duration_s)) for role, program, written in events
    ]
    return Piece(attributes.bpm, tuple(parts), duration_s)


def total_beats(bpm: int, duration_s: float = DURATION_S) -> float:
    """Beats in a clip."""
    return duration_s * bpm / 60


def harmony(attributes: Attributes, rng: np.random.Generator, duration_s: float = DURATION_S) -> list[Chord]:
    """Phrases of one progression, then dominant and tonic; the last chord lasts to the end of the clip."""
    beats = total_beats(attributes.bpm, duration_s)
    length = attributes.beats_per_bar
    if length == 4 and attributes.tempo == "slow":
        length = 2
    count = int(beats // length)
    kind = f"{attributes.mode} jazz" if attributes.style == "jazz" else attributes.mode
    progression = PROGRESSIONS[kind][int(rng.integers(len(PROGRESSIONS[kind])))]
    roots = [progression[i % 4] for i in range(count - 2)] + [DOMINANT, 0]
    starts = [i * length for i in range(count)]
    ends = [*starts[1:], beats]
    return [
        Chord(start, end - start, root, _tones(attributes, root, cadence=i == count - 2))
        for i, (root, start, end) in enumerate(zip(roots, starts, ends, strict=True))
    ]


def melody_line(attributes: Attributes, chords: list[Chord], rng: np.random.Generator) -> list[Event]:
    """The lead: A A B A over the chords, chord tones on the beats, the tonic last."""
    _, low, high = INSTRUMENTS[attributes.instrument]
    scale = _scale_pitches(attributes, low, high)
    motifs = {name: _draw_motif(chords[0].beats, attributes.density, rng) for name in sorted(set(PHRASE_FORM))}
    events: list[Event] = []
    for i, chord in enumerate(chords[:-1]):
        aim = (low + high) // 2 + PHRASE_ARCH[i % 4] + int(rng.integers(-2, 3))
        place = _nearest(scale, aim, chord.tones)
        for start, beats, step in motifs[PHRASE_FORM[i % 4]]:
            before = events[-1].pitch if events else None
            target = int(np.clip(place + step, 0, len(scale) - 1))
            if start == int(start):
                target = _nearest(scale, scale[target], chord.tones, but=before)
            elif scale[target] == before:
                target += 1 if target + 1 < len(scale) else -1
            velocity = 84 + 6 * (i % 4) + (8 if start == 0 else 0)
            pitch = _in_chord(scale[target], chord, attributes)
            events.append(Event(chord.start + start, beats * 0.95, pitch, velocity))
    last = chords[-1]
    tonic = scale[_nearest(scale, events[-1].pitch, (last.tones[0],))]
    events.append(Event(last.start, last.beats * 0.9, tonic, 96))
    return events


def comping(attributes: Attributes, chords: list[Chord]) -> list[Event]:
    """The chords in the style's rhythm, voiced close to the chord before."""
    style = ACCOMPANIMENTS[attributes.style]
    pattern = style.busy if attributes.density == "busy" else style.sparse
    events: list[Event] = []
    for chord, voicing in zip(chords, voicings(chords), strict=True):
        for start, beats, tone in _repeated(pattern, chord, attributes.beats_per_bar):
            at, length = chord.start + start, min(beats, chord.beats - start)
            events.extend(Event(at, length, pitch, 76) for pitch in _comped(tone, chord, voicing))
    return events


def pad(chords: list[Chord]) -> list[Event]:
    """Held chords, an octave above the comping's lowest note at most."""
    return [
        Event(chord.start, chord.beats * 0.98, pitch, 70)
        for chord, voicing in zip(chords, voicings(chords), strict=True)
        for pitch in voicing
    ]


def bass_line(attributes: Attributes, chords: list[Chord]) -> list[Event]:
    """The style's bass figure on each chord."""
    style = ACCOMPANIMENTS[attributes.style]
    events: list[Event] = []
    for i, chord in enumerate(chords):
        following = chords[(i + 1) % len(chords)]
        for start, beats, tone in _repeated(style.bass, chord, attributes.beats_per_bar):
            pitch = _bass_pitch(str(tone), chord, following, attributes)
            events.append(Event(chord.start + start, min(beats, chord.beats - start), pitch, 88))
    return events


def drum_beat(attributes: Attributes, duration_s: float = DURATION_S) -> list[Event]:
    """The style's beat from the first bar to the end, with a crash on the first beat where the style has one."""
    busy = attributes.density == "busy"
    hits: tuple[Hit, ...] = DRUMS[attributes.style] + (BUSY_DRUMS[attributes.style] if busy else ())
    length, beats = attributes.beats_per_bar, total_beats(attributes.bpm, duration_s)
    events = [
        Event(bar + start, 0.25, key, velocity)
        for bar in np.arange(0, beats, length)
        for start, key, velocity in hits
        if bar + start < beats
    ]
    if attributes.style in ("rock", "electronic"):
        events.append(Event(0, 0.5, CRASH, 80))
    return events


def voicings(chords: list[Chord]) -> list[tuple[int, ...]]:
    """Pitches of each chord, the inversion that moves least from the chord before."""
    found: list[tuple[int, ...]] = []
    for chord in chords:
        candidates = [
            _stacked(pitch, chord.tones)
            for pitch in range(LOWEST_CHORD_PITCH, LOWEST_CHORD_PITCH + 12)
            if pitch % 12 in chord.tones
        ]
        centre = found[-1] if found else tuple(range(57, 57 + 4 * len(chord.tones), 4))
        found.append(min(candidates, key=lambda c: _movement(c, centre)))
    return found


def _tones(attributes: Attributes, root: int, *, cadence: bool) -> tuple[int, ...]:
    """Pitch classes of the triad (the seventh chord in jazz) on a step; the last dominant of a minor key is major."""
    tonic, scale = TONICS.index(attributes.tonic), SCALES[attributes.mode]
    steps = [root, root + 2, root + 4] + ([root + 6] if attributes.style == "jazz" else [])
    pitches = [scale[step % 7] for step in steps]
    if cadence and attributes.mode == "minor":
        pitches[1] = 11
    return tuple((tonic + pitch) % 12 for pitch in pitches)


def _scale_pitches(attributes: Attributes, low: int, high: int) -> list[int]:
    tonic, scale = TONICS.index(attributes.tonic), SCALES[attributes.mode]
    return [pitch for pitch in range(low, high + 1) if (pitch - tonic) % 12 in scale]


def _nearest(scale: list[int], pitch: int, tones: tuple[int, ...], *, but: int | None = None) -> int:
    """Place in ``scale`` of the chord tone nearest to a pitch, other than the pitch ``but``."""
    places = [i for i, candidate in enumerate(scale) if candidate % 12 in tones and candidate != but]
    return min(places, key=lambda i: abs(scale[i] - pitch))


def _in_chord(pitch: int, chord: Chord, attributes: Attributes) -> int:
    """Over the major dominant of a minor key, the seventh step is the leading tone."""
    leading = (TONICS.index(attributes.tonic) + 11) % 12
    return pitch + 1 if leading in chord.tones and (pitch + 1) % 12 == leading else pitch


def _draw_motif(beats: float, density: str, rng: np.random.Generator) -> list[tuple[float, float, int]]:
    """(start, beats, steps from the first note): one rhythm of the table and a small contour."""
    cells = CELLS[int(beats), density]
    cell = cells[int(rng.integers(len(cells)))]
    starts = np.cumsum((0, *cell[:-1]))
    moves = rng.choice((-2, -1, -1, 1, 1, 2), size=len(cell))
    moves[0] = 0
    contour = np.clip(np.cumsum(moves), -4, 4)
    return [(float(s), float(b), int(c)) for s, b, c in zip(starts, cell, contour, strict=True)]


def _repeated(
    pattern: tuple[tuple[float, float, str], ...] | tuple[tuple[float, float, str | int], ...], chord: Chord, bar: int
) -> list[tuple[float, float, str | int]]:
    """The pattern as often as it fits into the chord, cut at its end."""
    return [
        (offset + start, beats, tone)
        for offset in range(0, int(np.ceil(chord.beats)), bar)
        for start, beats, tone in pattern
        if offset + start < chord.beats - 0.1
    ]


def _comped(tone: str | int, chord: Chord, voicing: tuple[int, ...]) -> tuple[int, ...]:
    if tone == "chord":
        return voicing
    if tone == "power":
        root = LOWEST_CHORD_PITCH - 12 + (chord.tones[0] - LOWEST_CHORD_PITCH) % 12
        return (root, root + (chord.tones[2] - chord.tones[0]) % 12, root + 12)
    ladder = (*voicing, *(pitch + 12 for pitch in voicing))
    return (ladder[int(tone)],)


def _bass_pitch(tone: str, chord: Chord, following: Chord, attributes: Attributes) -> int:
    if tone == "approach":
        goal = _bass_pitch("root", following, following, attributes)
        scale = _scale_pitches(attributes, goal - 3, goal - 1)
        return scale[-1]
    root = LOWEST_BASS_PITCH + (chord.tones[0] - LOWEST_BASS_PITCH) % 12
    if tone == "octave":
        return root + 12
    step = {"root": 0, "third": 1, "fifth": 2}[tone]
    return root + (chord.tones[step] - chord.tones[0]) % 12


def _stacked(lowest: int, tones: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(lowest + (tone - lowest) % 12 for tone in tones))


def _movement(voicing: tuple[int, ...], before: tuple[int, ...]) -> int:
    return sum(abs(a - b) for a, b in zip(voicing, before, strict=True))


def _humanised(
    role: Role, events: list[Event], attributes: Attributes, rng: np.random.Generator, duration_s: float
) -> tuple[Note, ...]:
    """Swing, small seeded deviations of time and velocity, beats to ticks; in the order of time."""
    ticks_per_second = TICKS_PER_BEAT * attributes.bpm / 60
    jitter = np.clip(rng.normal(0, JITTER_S[role], len(events)), -0.02, 0.02) * ticks_per_second
    touch = rng.normal(0, VELOCITY_SPREAD, len(events))
    end = int(duration_s * ticks_per_second)
    notes = []
    for event, late, louder in zip(events, jitter, touch, strict=True):
        start = min(max(0, round(_swung(event.start, attributes.style) * TICKS_PER_BEAT + late)), end - 1)
        duration = min(max(1, round(event.beats * TICKS_PER_BEAT)), end - start)
        notes.append(Note(start, duration, event.pitch, int(np.clip(round(event.velocity + louder), 1, 127))))
    return tuple(sorted(notes, key=lambda note: (note.start, note.pitch)))


def _swung(beat: float, style: str) -> float:
    return beat // 1 + SWING[style] if style in SWING and beat % 1 == 0.5 else beat
