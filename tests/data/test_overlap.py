from __future__ import annotations

import pytest

from melody.data.attributes import Attributes
from melody.data.captions import full_caption
from melody.data.corpus import Corpus
from melody.data.embedded import clip_attributes, embedded_clip, embedded_corpus
from melody.data.overlap import overlap
from melody.errors import MelodyError


def test_what_training_has_met_is_counted() -> None:
    training = embedded_corpus("train", 20)
    clips = [training[3], training[3], embedded_clip("test", 0)]
    full = full_caption(Attributes.from_mapping(clips[0].attributes))
    found = overlap([(clips[0], clips[0].text), (clips[1], full), (clips[0], "music such as nobody has met")], training)
    assert (found.prompts, found.combinations, found.wordings, found.training_clips) == (3, 3, 2, 20)
    assert "of 3 prompts, 3 have a combination of attributes" in str(found)
    assert "2 are, word for word" in str(found)


def test_a_combination_that_was_not_drawn_is_not_met() -> None:
    training = embedded_corpus("train", 6)  # one clip an instrument, all of one style
    other = embedded_clip("test", 7)
    assert clip_attributes("test", 7).style not in {clip.attributes["style"] for clip in training}
    assert overlap([(other, other.text)], training).combinations == 0


def test_all_combinations_of_the_test_split_occur_in_training() -> None:
    """Why the tables say that clips are held out, and prompts are not."""
    training = {clip_attributes("train", index).combination for index in range(6144)}
    for split in ("test", "test-2"):
        assert all(clip_attributes(split, index).combination in training for index in range(256))


def test_nothing_to_count() -> None:
    training = embedded_corpus("train", 2)
    with pytest.raises(MelodyError, match="expected at least one"):
        overlap([], training)
    plain = Corpus("plain", [type(training[0])("a", "x", (), {}, 1.0, training[0].audio)])
    with pytest.raises(MelodyError, match="a lacks attributes of the embedded corpus"):
        overlap([(plain[0], "x")], training)
