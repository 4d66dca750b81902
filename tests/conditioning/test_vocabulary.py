"""Text vocabulary: never fails on a text, travels with the weights, the same in every process."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melody.conditioning.vocabulary import MIN_SIZE, TextVocabulary
from melody.errors import MelodyError

CAPTIONS = [
    f"a {tempo} {mood} piece for {instrument} in {key} {mode}"
    for tempo in ("slow", "fast")
    for mood in ("calm", "bright", "dark")
    for instrument in ("piano", "flute", "guitar")
    for key, mode in (("C", "major"), ("A", "minor"))
]


@pytest.fixture(scope="module")
def fitted() -> TextVocabulary:
    vocabulary = TextVocabulary(400, 16)
    vocabulary.fit(CAPTIONS)
    return vocabulary


def test_words_of_captions_become_single_pieces(fitted: TextVocabulary) -> None:
    assert fitted.pieces("Slow piano in A minor") == ["[CLS]", "Ġslow", "Ġpiano", "Ġin", "Ġa", "Ġminor", "[SEP]"]


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_has_ids_within_the_vocabulary(fitted: TextVocabulary, text: str) -> None:
    ids, mask = fitted([text])
    assert 2 <= ids.shape[1] <= 16
    assert int(ids.min()) >= 0
    assert int(ids.max()) < 400
    assert bool(mask.all())


def test_unseen_words_keep_their_identity(fitted: TextVocabulary) -> None:
    first, second = (fitted([text])[0].tolist() for text in ("xylophone", "шарманка 🎵"))
    assert first != second
    assert len(first[0]) > 3


def test_long_texts_keep_their_beginning(fitted: TextVocabulary) -> None:
    long, longer = fitted(["slow piano " * 50])[0], fitted(["slow piano " * 50 + "flute"])[0]
    assert long.shape[1] == 16
    assert torch.equal(long, longer)


def test_padding_is_masked(fitted: TextVocabulary) -> None:
    ids, mask = fitted(["slow", "a slow calm piece for flute"])
    alone, _ = fitted(["slow"])
    assert torch.equal(ids[0, : alone.shape[1]], alone[0])
    assert mask[0].tolist() == [1] * alone.shape[1] + [0] * (ids.shape[1] - alone.shape[1])


def test_unfitted_is_bytes_alone() -> None:
    vocabulary = TextVocabulary(MIN_SIZE, 64)
    assert vocabulary(["ab"])[0].shape == (1, 5)  # [CLS], space, a, b, [SEP]


def test_loading_and_copying_restore_the_tokens(fitted: TextVocabulary) -> None:
    loaded = TextVocabulary(400, 16)
    loaded(["an unfitted call first"])
    loaded.load_state_dict(fitted.state_dict())
    for other in (loaded, copy.deepcopy(fitted)):
        assert all(torch.equal(a, b) for a, b in zip(other(CAPTIONS), fitted(CAPTIONS), strict=True))


def test_damaged_or_foreign_state_is_one_clear_line(fitted: TextVocabulary) -> None:
    damaged = TextVocabulary(400, 16)
    damaged.load_state_dict({"state": torch.tensor([1, 2, 3], dtype=torch.uint8)})
    with pytest.raises(MelodyError, match="damaged"):
        damaged(["slow"])
    small = TextVocabulary(MIN_SIZE, 16)
    small.load_state_dict(fitted.state_dict())
    with pytest.raises(MelodyError, match="expected at most 259"):
        small(["slow"])


def test_another_process_learns_the_same_from_another_order(fitted: TextVocabulary) -> None:
    code = (
        "import sys, hashlib\n"
        "from melody.conditioning.vocabulary import TextVocabulary\n"
        "v = TextVocabulary(400, 16); v.fit(sys.stdin.read().splitlines())\n"
        "print(hashlib.sha256(bytes(v.state.tolist())).hexdigest())"
    )
    # Both could change the order of a hash map.
    environment = {**os.environ, "RAYON_NUM_THREADS": "4", "PYTHONHASHSEED": "7"}
    captions = "\n".join(reversed(CAPTIONS))
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=captions,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert run.stdout.strip() == hashlib.sha256(bytes(fitted.state.tolist())).hexdigest()


def test_bad_input() -> None:
    with pytest.raises(MelodyError, match="at least 259"):
        TextVocabulary(100, 16)
    with pytest.raises(MelodyError, match="at least 3"):
        TextVocabulary(300, 2)
    with pytest.raises(MelodyError, match="no captions"):
        TextVocabulary(300, 16).fit([])
