from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from melody.data.attributes import (
    DENSITIES,
    DRAWN_TONICS,
    INSTRUMENTS,
    MODES,
    STYLES,
    TEMPO_BPM,
    TONICS,
    Attributes,
    draw_attributes,
)
from melody.data.composer import DURATION_S, SCALES, TICKS_PER_BEAT, Piece, compose, harmony, voicings
from melody.data.embedded import CORPUS_VERSION, clip_attributes, clip_score
from melody.data.patterns import ACCOMPANIMENTS, CELLS

CLIPS = [(clip_attributes("train", index), clip_score("train", index)) for index in range(72)]


def pitched(piece: Piece) -> list[int]:
    return [note.pitch for part in piece.parts if part.role != "drums" for note in part.notes]


@pytest.mark.parametrize(("attributes", "piece"), CLIPS, ids=lambda value: getattr(value, "style", ""))
def test_the_score_is_what_the_attributes_say(attributes: Attributes, piece: Piece) -> None:
    lead = piece.part("lead")
    assert lead is not None
    assert lead.program == INSTRUMENTS[attributes.instrument][0]
    assert (piece.part("drums") is not None) == attributes.drums
    assert piece.bpm == attributes.bpm

    tonic = TONICS.index(attributes.tonic)
    classes = {(pitch - tonic) % 12 for pitch in pitched(piece)}
    leading_tone = {11} if attributes.mode == "minor" else set()
    assert classes <= set(SCALES[attributes.mode]) | leading_tone
    assert (4 if attributes.mode == "major" else 3) in classes
    assert lead.notes[-1].pitch % 12 == tonic

    low, high = INSTRUMENTS[attributes.instrument][1:]
    assert all(low <= note.pitch <= high for note in lead.notes)


@pytest.mark.parametrize(("attributes", "piece"), CLIPS, ids=lambda value: getattr(value, "style", ""))
def test_notes_are_playable_and_fill_the_clip(attributes: Attributes, piece: Piece) -> None:
    end = round(DURATION_S * attributes.bpm / 60 * TICKS_PER_BEAT)
    for part in piece.parts:
        assert all(0 <= note.start < end and note.duration > 0 for note in part.notes)
        assert all(note.start + note.duration <= end for note in part.notes)
        assert all(1 <= note.velocity <= 127 and 0 < note.pitch < 128 for note in part.notes)
        assert part.notes[0].start < end / 5
        assert part.notes[-1].start + part.notes[-1].duration > 0.6 * end


@pytest.mark.parametrize("duration_s", [17.5, 30.0])
@pytest.mark.parametrize("index", range(0, 36, 5))
def test_longer_pieces_have_their_cadence_at_their_own_end(index: int, duration_s: float) -> None:
    facts, piece = clip_attributes("train", index), clip_score("train", index, duration_s=duration_s)
    end = round(duration_s * facts.bpm / 60 * TICKS_PER_BEAT)
    assert piece.duration_s == duration_s
    for part in piece.parts:
        assert 0.9 * end < max(note.start + note.duration for note in part.notes) <= end
        within = [n for n in part.notes if n.start < end * 10 / duration_s < n.start + n.duration + TICKS_PER_BEAT * 2]
        assert within  # nothing stops where a piece of 10 s does
    chords = harmony(facts, np.random.default_rng(0), duration_s)
    assert [chord.root for chord in chords[-2:]] == [4, 0]
    assert sum(chord.beats for chord in chords) == pytest.approx(duration_s * facts.bpm / 60)


def test_sparse_melodies_have_fewer_notes_a_beat() -> None:
    rates: dict[str, list[float]] = {density: [] for density in DENSITIES}
    for attributes, piece in CLIPS:
        lead = piece.part("lead")
        assert lead is not None
        beats = lead.notes[-1].start / TICKS_PER_BEAT
        rates[attributes.density].append((len(lead.notes) - 1) / beats)
    assert max(rates["sparse"]) < 1.1 < 1.4 < min(rates["busy"])


def test_phrases_repeat_their_rhythm_and_end_with_a_cadence() -> None:
    facts = Attributes("flute", "rock", 120, "C", "minor", True, "busy")
    chords = harmony(facts, np.random.default_rng(0))
    assert [chord.root for chord in chords[-2:]] == [4, 0]
    assert chords[0].root == 0
    assert chords[-2].tones == (7, 11, 2)  # the dominant of a minor key is major
    assert sum(chord.beats for chord in chords) == 20
    lead = compose(facts, np.random.default_rng(0)).part("lead")
    assert lead is not None
    bar = 4 * TICKS_PER_BEAT
    rhythm = [
        [
            round((n.start - i * bar) / TICKS_PER_BEAT, 1)
            for n in lead.notes
            if i * bar - 60 <= n.start < (i + 1) * bar - 60
        ]
        for i in range(2)
    ]
    assert np.allclose(rhythm[0], rhythm[1], atol=0.1)


def test_chords_move_little() -> None:
    chords = harmony(Attributes("piano", "folk", 120, "E", "major", False, "busy"), np.random.default_rng(1))
    found = voicings(chords)
    steps = [abs(a - b) for before, after in pairwise(found) for a, b in zip(before, after, strict=True)]
    assert max(steps) <= 7
    assert np.mean(steps) < 3


def test_jazz_swings_and_waltzes_count_three() -> None:
    jazz = compose(Attributes("piano", "jazz", 120, "C", "major", True, "busy"), np.random.default_rng(0))
    waltz = compose(Attributes("piano", "waltz", 120, "C", "major", False, "busy"), np.random.default_rng(0))
    drums, bass = jazz.part("drums"), waltz.part("bass")
    assert drums is not None
    assert bass is not None
    off_beats = [note.start / TICKS_PER_BEAT % 1 for note in drums.notes if 0.2 < note.start / TICKS_PER_BEAT % 1 < 0.9]
    assert np.allclose(off_beats, 2 / 3, atol=0.05)
    assert np.allclose(np.diff([note.start / TICKS_PER_BEAT for note in bass.notes]), 3, atol=0.1)


def test_every_value_occurs_and_pairs_are_balanced() -> None:
    drawn = [clip_attributes("train", index) for index in range(360)]
    pairs = [(a.instrument, a.style) for a in drawn]
    assert {pairs.count((i, s)) for i in INSTRUMENTS for s in STYLES} == {10}
    for name, values in (("mode", MODES), ("tonic", DRAWN_TONICS), ("density", DENSITIES), ("drums", (True, False))):
        counts = [sum(getattr(a, name) == value for a in drawn) for value in values]
        assert min(counts) > 0.4 * len(drawn) / len(values)
    assert all(a.tempo in STYLES[a.style][0] for a in drawn)
    assert {a.tempo for a in drawn} == set(TEMPO_BPM)


def test_a_tempo_word_tells_the_tempo_to_eight_per_cent() -> None:
    bands = list(TEMPO_BPM.values())
    assert all(high <= 1.08 * (low + high) / 2 and low >= 0.92 * (low + high) / 2 for low, high in bands)
    assert all(following[0] > 1.16 * before[1] for before, following in pairwise(bands))
    for index in range(60):
        facts = clip_attributes("validation", index)
        low, high = TEMPO_BPM[facts.tempo]
        assert low <= facts.bpm <= high


def test_accompaniments_use_no_lead_instrument() -> None:
    leads = {program for program, _, _ in INSTRUMENTS.values()}
    used = {p for a in ACCOMPANIMENTS.values() for p in (a.bass_program, a.chord_program, a.pad_program)}
    assert not leads & used
    assert all(sum(cell) == beats for (beats, _), cells in CELLS.items() for cell in cells)


def test_same_stream_same_piece() -> None:
    facts = draw_attributes(5, np.random.default_rng(3))
    assert compose(facts, np.random.default_rng(7)) == compose(facts, np.random.default_rng(7))
    assert compose(facts, np.random.default_rng(7)) != compose(facts, np.random.default_rng(8))


def test_the_composer_changes_only_with_the_corpus_version() -> None:
    """Published numbers are about a corpus: another score under the same version would make them incomparable."""
    golden = {3: "9bba9bf19e811700358e3091aed30984c058889c678a5ab8d037e7913f6acc81"}
    assert clip_score("test", 0).content_hash() == golden[CORPUS_VERSION]
