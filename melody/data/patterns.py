"""How each style sounds: the bass line, the chords' rhythm, the drums, and the rhythms that melodies are made of.

Times are in beats from the start of a bar. In jazz the second half of a beat is played late (swing).
"""

from __future__ import annotations

from dataclasses import dataclass

Hit = tuple[float, int, int]
"""Beat, General MIDI drum key, velocity."""

KICK, RIM, SNARE, CLAP, CLOSED_HAT, PEDAL_HAT, OPEN_HAT, CRASH, RIDE = 36, 37, 38, 39, 42, 44, 46, 49, 51
TAMBOURINE, SHAKER = 54, 70

SWING = {"jazz": 2 / 3}
"""Where the second half of a beat falls; 0.5 in the other styles."""


@dataclass(frozen=True)
class Accompaniment:
    """Bass and chords of one style.

    ``bass``: (beat, beats, tone), tone being ``root``, ``third``, ``fifth``, ``octave`` or ``approach`` (the scale
    step below the next root). ``sparse`` and ``busy``: (beat, beats, tone), tone being ``chord``, ``power`` (root and
    fifth) or the place of one note of the broken chord.
    """

    bass_program: int
    chord_program: int
    bass: tuple[tuple[float, float, str], ...]
    sparse: tuple[tuple[float, float, str | int], ...]
    busy: tuple[tuple[float, float, str | int], ...]
    pad_program: int | None = None


def _broken(step: float, places: tuple[int, ...]) -> tuple[tuple[float, float, str | int], ...]:
    return tuple((i * step, step, place) for i, place in enumerate(places))


ACCOMPANIMENTS: dict[str, Accompaniment] = {
    "ballad": Accompaniment(  # fretless bass, harp arpeggios over strings
        bass_program=35,
        chord_program=46,
        bass=((0, 2, "root"), (2, 2, "fifth")),
        sparse=_broken(1, (0, 1, 2, 1)),
        busy=_broken(0.5, (0, 1, 2, 3, 4, 3, 2, 1)),
        pad_program=48,
    ),
    "waltz": Accompaniment(  # acoustic bass, accordion: oom-pah-pah
        bass_program=32,
        chord_program=21,
        bass=((0, 0.9, "root"),),
        sparse=((1, 0.5, "chord"), (2, 0.5, "chord")),
        busy=((1, 0.4, "chord"), (1.5, 0.3, 2), (2, 0.4, "chord"), (2.5, 0.3, 2)),
    ),
    "rock": Accompaniment(  # picked bass in eighths, overdriven guitar
        bass_program=34,
        chord_program=29,
        bass=tuple((i / 2, 0.45, "root") for i in range(8)),
        sparse=((0, 1.9, "power"), (2, 1.9, "power")),
        busy=tuple((i / 2, 0.4, "power") for i in range(8)),
    ),
    "jazz": Accompaniment(  # walking acoustic bass, jazz guitar
        bass_program=32,
        chord_program=26,
        bass=((0, 0.9, "root"), (1, 0.9, "third"), (2, 0.9, "fifth"), (3, 0.9, "approach")),
        sparse=((0, 0.9, "chord"), (1.5, 0.4, "chord")),
        busy=((0, 0.6, "chord"), (1.5, 0.4, "chord"), (2.5, 0.4, "chord"), (3.5, 0.3, "chord")),
    ),
    "folk": Accompaniment(  # acoustic bass on one and three, banjo
        bass_program=32,
        chord_program=105,
        bass=((0, 0.9, "root"), (2, 0.9, "fifth")),
        sparse=((1, 0.5, "chord"), (3, 0.5, "chord")),
        busy=_broken(0.5, (0, 2, 1, 3, 0, 2, 1, 2)),
    ),
    "electronic": Accompaniment(  # synth bass off the beat, synth stabs over a pad
        bass_program=38,
        chord_program=81,
        bass=((0.5, 0.4, "root"), (1.5, 0.4, "root"), (2.5, 0.4, "root"), (3.5, 0.4, "octave")),
        sparse=((0, 0.3, "chord"), (0.75, 0.3, "chord"), (1.5, 0.3, "chord"), (3, 0.3, "chord")),
        busy=_broken(0.25, (0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 2, 1)),
        pad_program=89,
    ),
}

DRUMS: dict[str, tuple[Hit, ...]] = {
    "ballad": ((0, KICK, 80), (2, RIM, 80), *((i, CLOSED_HAT, 55) for i in range(4))),
    "waltz": ((0, KICK, 85), (1, RIM, 70), (2, RIM, 70), (1, CLOSED_HAT, 60), (2, CLOSED_HAT, 60)),
    "rock": (
        *((0, KICK, 110), (2, KICK, 110), (2.5, KICK, 95), (1, SNARE, 110), (3, SNARE, 110)),
        *((i / 2, CLOSED_HAT, 80 if i % 2 == 0 else 65) for i in range(8)),
    ),
    "jazz": (
        *((0, RIDE, 85), (1, RIDE, 95), (1.5, RIDE, 70), (2, RIDE, 85), (3, RIDE, 95), (3.5, RIDE, 70)),
        *((1, PEDAL_HAT, 75), (3, PEDAL_HAT, 75), (0, KICK, 50)),
    ),
    "folk": ((0, KICK, 90), (2, KICK, 85), (1, TAMBOURINE, 85), (3, TAMBOURINE, 85)),
    "electronic": (
        *((i, KICK, 115) for i in range(4)),
        *((i + 0.5, OPEN_HAT, 75) for i in range(4)),
        *((1, CLAP, 100), (3, CLAP, 100)),
    ),
}

BUSY_DRUMS: dict[str, tuple[Hit, ...]] = {
    "ballad": tuple((i + 0.5, CLOSED_HAT, 45) for i in range(4)),
    "waltz": ((1.5, CLOSED_HAT, 45), (2.5, CLOSED_HAT, 45)),
    "rock": ((0.75, KICK, 85), (3.5, SNARE, 70)),
    "jazz": ((1.5, RIM, 60), (2.5, SNARE, 55)),
    "folk": tuple((i / 2, SHAKER, 70 if i % 2 == 0 else 55) for i in range(8)),
    "electronic": tuple((i / 4, CLOSED_HAT, 60) for i in range(16) if i % 4 != 2),
}

# Note lengths of one melody bar (or half bar), by beats and density: up to 1 note a beat, or 1.5 and more.
CELLS: dict[tuple[int, str], tuple[tuple[float, ...], ...]] = {
    (2, "sparse"): ((2,), (1, 1), (1.5, 0.5)),
    (3, "sparse"): ((3,), (2, 1), (1, 1, 1)),
    (4, "sparse"): ((2, 2), (3, 1), (2, 1, 1), (1, 1, 2)),
    (2, "busy"): ((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 1), (1, 0.5, 0.5), (0.5, 0.25, 0.25, 0.5, 0.5)),
    (3, "busy"): ((0.5, 0.5, 0.5, 0.5, 1), (1, 0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5, 0.5, 0.5)),
    (4, "busy"): (
        (0.5, 0.5, 1, 0.5, 0.5, 1),
        (1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1),
        (0.5, 1, 0.5, 0.5, 0.5, 1),
    ),
}

# Roots of the chords as steps of the scale (0 = tonic), one phrase each. A piece starts on the tonic and ends V - I.
PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (0, 2, 3, 4), (0, 3, 1, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 5, 3, 4), (0, 2, 6, 3)),
    "major jazz": ((0, 5, 1, 4), (0, 3, 1, 4), (0, 2, 1, 4)),
    "minor jazz": ((0, 5, 1, 4), (0, 3, 6, 2), (0, 3, 1, 4)),
}
