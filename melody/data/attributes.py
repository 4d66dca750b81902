"""What a clip of the embedded corpus is: the attributes that the composer writes from and the captions tell.

The whole vocabulary is ours; it is narrow on purpose, so that a small model can learn it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

Mode = Literal["major", "minor"]
Density = Literal["sparse", "busy"]

TONICS = ("C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
MODES: tuple[Mode, Mode] = ("major", "minor")
DENSITIES: tuple[Density, Density] = ("sparse", "busy")

# Lowest and highest BPM by tempo word. Bands as narrow as these are within 8 % of each other's middle, and far from the
# next band: so a tempo word tells the tempo, as far as a listener can, and a model of the corpus can be held to it.
TEMPO_BPM: dict[str, tuple[int, int]] = {"slow": (68, 76), "medium": (98, 110), "fast": (134, 150)}
# The keys that pieces are written in: half of the chromatic scale, so that a small model hears each often enough.
DRAWN_TONICS = ("C", "D", "E", "F", "G", "A")

# General MIDI programs (counted from 0) and the range of the melody in MIDI pitches. No accompaniment uses these
# programs, so an instrument is heard if and only if the caption names it.
INSTRUMENTS: dict[str, tuple[int, int, int]] = {
    "piano": (0, 60, 84),
    "acoustic guitar": (24, 55, 79),
    "violin": (40, 62, 88),
    "flute": (73, 67, 91),
    "saxophone": (65, 55, 79),
    "organ": (16, 60, 84),
}

# Tempo words, each as often, and the share of pieces with drums.
STYLES: dict[str, tuple[tuple[str, ...], float]] = {
    "ballad": (("slow", "medium"), 0.4),
    "waltz": (("slow", "medium", "fast"), 0.4),
    "rock": (("medium", "fast"), 0.75),
    "jazz": (("slow", "medium", "fast"), 0.6),
    "folk": (("slow", "medium", "fast"), 0.4),
    "electronic": (("medium", "fast"), 0.75),
}

MOODS: dict[tuple[str, Mode], tuple[str, ...]] = {
    ("slow", "major"): ("calm", "peaceful", "gentle"),
    ("medium", "major"): ("cheerful", "warm", "bright"),
    ("fast", "major"): ("joyful", "happy", "uplifting"),
    ("slow", "minor"): ("sad", "melancholic", "mournful"),
    ("medium", "minor"): ("pensive", "wistful", "moody"),
    ("fast", "minor"): ("tense", "dramatic", "urgent"),
}


def tempo_word(bpm: int) -> str:
    """The word whose band the tempo is in, or nearest to.

    >>> [tempo_word(bpm) for bpm in (68, 84, 104, 130)]
    ['slow', 'slow', 'medium', 'fast']
    """
    return min(TEMPO_BPM, key=lambda word: max(TEMPO_BPM[word][0] - bpm, bpm - TEMPO_BPM[word][1]))


@dataclass(frozen=True)
class Attributes:
    """The facts of one clip; everything that a caption may say follows from them."""

    instrument: str
    style: str
    bpm: int
    tonic: str
    mode: Mode
    drums: bool
    density: Density

    @property
    def tempo(self) -> str:
        """``slow``, ``medium`` or ``fast``."""
        return tempo_word(self.bpm)

    @property
    def key(self) -> str:
        """As in ``B flat minor``."""
        return f"{self.tonic} {self.mode}"

    @property
    def beats_per_bar(self) -> int:
        """3 in a waltz, otherwise 4."""
        return 3 if self.style == "waltz" else 4

    @property
    def moods(self) -> tuple[str, ...]:
        """Words for the mood that follows from tempo, mode and drums; the first is the canonical one."""
        words = MOODS[self.tempo, self.mode]
        if self.tempo == "fast" and self.drums:
            return (*words, "energetic")
        if self.tempo == "slow" and not self.drums:
            return (*words, "relaxed") if self.mode == "major" else (*words, "dark")
        return words

    @property
    def combination(self) -> tuple[str, str, str, str, bool, str]:
        """What a listener can tell without perfect pitch or a metronome."""
        return (self.instrument, self.style, self.tempo, self.mode, self.drums, self.density)

    def as_mapping(self) -> dict[str, str | float | int]:
        """Plain values for a clip's ``attributes``; tempo word, key and mood are added."""
        facts = {**asdict(self), "drums": "yes" if self.drums else "no"}
        return {**facts, "tempo": self.tempo, "key": self.key, "mood": self.moods[0]}

    @staticmethod
    def from_mapping(values: Mapping[str, str | float | int]) -> Attributes:
        """The inverse of ``as_mapping``."""
        own = {name: values[name] for name in Attributes.__dataclass_fields__}
        return Attributes(**{**own, "drums": values["drums"] == "yes"})  # type: ignore[arg-type]


def draw_attributes(index: int, rng: np.random.Generator) -> Attributes:
    """Attributes of clip ``index``: of every 36 clips in a row each pair of instrument and style is one."""
    instrument = list(INSTRUMENTS)[index % len(INSTRUMENTS)]
    style = list(STYLES)[index // len(INSTRUMENTS) % len(STYLES)]
    words, share_with_drums = STYLES[style]
    low, high = TEMPO_BPM[words[int(rng.integers(len(words)))]]
    return Attributes(
        instrument=instrument,
        style=style,
        bpm=int(rng.integers(low, high + 1)),
        tonic=DRAWN_TONICS[int(rng.integers(len(DRAWN_TONICS)))],
        mode=MODES[int(rng.integers(2))],
        drums=bool(rng.random() < share_with_drums),
        density=DENSITIES[int(rng.integers(2))],
    )
