"""Captions that are true: many wordings of a clip's attributes."""

from __future__ import annotations

import re

import numpy as np

from melody.data.attributes import INSTRUMENTS, Attributes

NOUNS = {
    "ballad": ("ballad", "ballad piece"),
    "waltz": ("waltz", "waltz in three-four time", "waltz piece"),
    "rock": ("rock song", "rock piece", "rock track"),
    "jazz": ("jazz tune", "jazz piece", "jazz number"),
    "folk": ("folk song", "folk tune", "folk piece"),
    "electronic": ("electronic track", "electronic piece", "electronic tune"),
}
INSTRUMENT_WORDS = {"acoustic guitar": ("acoustic guitar", "guitar"), "saxophone": ("saxophone", "sax")}
TEMPO_WORDS = {"slow": ("slow",), "medium": ("medium-tempo", "mid-tempo"), "fast": ("fast", "quick")}
TEMPO_PHRASES = {
    "slow": ("at a slow tempo", "played slowly"),
    "medium": ("at a medium tempo", "at a moderate tempo"),
    "fast": ("at a fast tempo", "played fast"),
}
DENSITY_PHRASES = {
    "sparse": ("with a sparse melody", "with few notes", "with long notes"),
    "busy": ("with a busy melody", "with many notes", "with lively running notes"),
}
DRUMS_PHRASES = {True: ("with drums", "with a drum beat"), False: ("without drums", "with no drums")}

# Every opening names the instrument and the style; what else it says is not said again.
OPENINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a {tempo} {instrument} {noun} in a {mode} key", ("tempo", "key")),
    ("a {tempo} {instrument} {noun}", ("tempo",)),
    ("a {mood} {instrument} {noun}", ("mood",)),
    ("a {mood} {tempo} {instrument} {noun}", ("mood", "tempo")),
    ("{instrument} {noun}", ()),
    ("a {noun} led by the {instrument}", ()),
    ("a {mood} {noun} played on the {instrument}", ("mood",)),
    ("{tempo} {style} music with the {instrument} in front", ("tempo",)),
    ("{mood} {style} music, {instrument} lead", ("mood",)),
    ("a {tempo} {noun} for {instrument} in {key}", ("tempo", "key")),
)


def caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """One wording: an opening with instrument and style, then up to four more facts in any order.

    >>> facts = Attributes("organ", "jazz", 140, "C", "major", True, "busy")
    >>> caption(facts, np.random.default_rng(0)) == caption(facts, np.random.default_rng(0))
    True
    """
    opening, said = OPENINGS[int(rng.integers(len(OPENINGS)))]
    words = {
        "tempo": _pick(TEMPO_WORDS[attributes.tempo], rng),
        "mood": _pick(attributes.moods, rng),
        "instrument": _pick(INSTRUMENT_WORDS.get(attributes.instrument, (attributes.instrument,)), rng),
        "noun": _pick(NOUNS[attributes.style], rng),
        "style": attributes.style,
        "mode": attributes.mode,
        "key": attributes.key,
    }
    details = [phrase for fact, phrase in _details(attributes, rng).items() if fact not in said]
    count = int(rng.integers(0 if said else 1, len(details) + 1))
    chosen = [details[i] for i in rng.permutation(len(details))[:count]]
    separator = (", ", "; ")[int(rng.integers(2))]
    return separator.join([_with_article(opening.format(**words)), *chosen])


def full_caption(attributes: Attributes) -> str:
    """The caption that leaves no fact out which a listener could check: one wording, the first of each list.

    >>> full_caption(Attributes("organ", "jazz", 140, "C", "major", True, "busy"))
    'a fast organ jazz tune in a major key, at 140 BPM, with drums, with a busy melody'
    """
    words = {
        "tempo": TEMPO_WORDS[attributes.tempo][0],
        "instrument": attributes.instrument,
        "noun": NOUNS[attributes.style][0],
        "mode": attributes.mode,
    }
    facts = (
        _with_article("a {tempo} {instrument} {noun} in a {mode} key".format(**words)),
        f"at {attributes.bpm} BPM",
        DRUMS_PHRASES[attributes.drums][0],
        DENSITY_PHRASES[attributes.density][0],
    )
    return ", ".join(facts)


def tags(attributes: Attributes) -> tuple[str, ...]:
    """The same facts as tag words.

    >>> tags(Attributes("flute", "folk", 70, "G", "minor", False, "sparse"))
    ('flute', 'folk', 'slow', 'minor', 'sad', 'no drums', 'sparse')
    """
    drums = "drums" if attributes.drums else "no drums"
    return (
        attributes.instrument,
        attributes.style,
        attributes.tempo,
        attributes.mode,
        attributes.moods[0],
        drums,
        attributes.density,
    )


def named_instrument(text: str) -> str | None:
    """The instrument of the corpus that a text names first, if it names one.

    >>> named_instrument("a slow jazz tune led by the sax"), named_instrument("something calm")
    ('saxophone', None)
    """
    places = {
        match.start(): instrument
        for instrument in INSTRUMENTS
        for word in INSTRUMENT_WORDS.get(instrument, (instrument,))
        if (match := re.search(rf"\b{word}\b", text, re.IGNORECASE))
    }
    return places[min(places)] if places else None


def _details(attributes: Attributes, rng: np.random.Generator) -> dict[str, str]:
    """One phrase for each fact that an opening may leave out; all are drawn, so that the draws never depend on it."""
    key = (f"in {attributes.key}", f"in a {attributes.mode} key", attributes.key)
    tempo = (*TEMPO_PHRASES[attributes.tempo], f"at {attributes.bpm} BPM")
    return {
        "key": _pick(key, rng),
        "tempo": _pick(tempo, rng),
        "mood": _pick((f"{(mood := _pick(attributes.moods, rng))} mood", mood), rng),
        "drums": _pick(DRUMS_PHRASES[attributes.drums], rng),
        "density": _pick(DENSITY_PHRASES[attributes.density], rng),
    }


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _with_article(text: str) -> str:
    """``a organ`` -> ``an organ`` at the start."""
    return f"an {text[2:]}" if text.startswith("a ") and text[2] in "aeiou" else text
