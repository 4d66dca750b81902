from __future__ import annotations

import re

import numpy as np

from melody.data.attributes import INSTRUMENTS, MODES, MOODS, STYLES, TONICS, Attributes
from melody.data.captions import DENSITY_PHRASES, INSTRUMENT_WORDS, TEMPO_PHRASES, TEMPO_WORDS, caption, tags
from melody.data.embedded import clip_attributes, embedded_corpus, further_captions

MOOD_WORDS = {word for words in MOODS.values() for word in words} | {"energetic", "relaxed", "dark"}


def has(words: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(words)}\b", text) is not None


def test_captions_say_only_what_is_true() -> None:
    for index in range(600):
        facts = clip_attributes("train", index)
        text = caption(facts, np.random.default_rng(index))
        assert_true(facts, text)


def assert_true(facts: Attributes, text: str) -> None:
    for instrument in INSTRUMENTS:
        said = any(has(word, text) for word in INSTRUMENT_WORDS.get(instrument, (instrument,)))
        assert said == (instrument == facts.instrument), text
    assert [style for style in STYLES if has(style, text)] == [facts.style], text
    for tempo in TEMPO_WORDS:
        if any(has(phrase, text) for phrase in (*TEMPO_WORDS[tempo], *TEMPO_PHRASES[tempo])):
            assert tempo == facts.tempo, text
    for density, phrases in DENSITY_PHRASES.items():
        assert density == facts.density or not any(phrase in text for phrase in phrases), text
    assert {word for word in MOOD_WORDS if has(word, text)} <= set(facts.moods), text
    assert all(mode == facts.mode for mode in MODES if has(mode, text)), text
    assert ("no drums" in text or "without drums" in text) <= (not facts.drums), text
    assert ("with drums" in text or "drum beat" in text) <= facts.drums, text
    if match := re.search(r"(\d+) BPM", text):
        assert int(match[1]) == facts.bpm
    if match := re.search(rf"({'|'.join(sorted(TONICS, key=len, reverse=True))}) (major|minor)", text):
        assert match[0] == facts.key
    assert not re.search(r"\ba [aeiou]", text), text
    assert "  " not in text
    assert "{" not in text


def test_words_exclude_each_other() -> None:
    words = [word for group in MOODS.values() for word in group]
    assert len(words) == len(set(words))


def test_one_clip_has_many_wordings() -> None:
    facts = clip_attributes("train", 0)
    texts = {caption(facts, np.random.default_rng(i)) for i in range(100)}
    assert len(texts) > 80


def test_tags_and_round_trip() -> None:
    for clip in embedded_corpus("validation", 50):
        facts = Attributes.from_mapping(clip.attributes)
        assert clip.tags == tags(facts)
        assert facts == clip_attributes("validation", int(clip.identifier.split("/")[1]))
        others = further_captions(clip)
        assert len(set(others)) > 2
        for text in others:
            assert_true(facts, text)
