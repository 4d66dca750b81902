"""Which words of a prompt a joint embedder has never met: it takes any text, and can only follow what it has learnt."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from melody.errors import MelodyWarning

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
NAMED = 12
"""So many words stand in a warning; of more, it says how many."""


def words_of(texts: Iterable[str]) -> list[str]:
    """The words of texts, each once, in the order of their first place; without case, as the text tower reads.

    >>> words_of(["A slow waltz in three-four time", "a waltz in E"])
    ['a', 'slow', 'waltz', 'in', 'three', 'four', 'time', 'e']
    """
    words = (word for text in texts for word in WORD.findall(unicodedata.normalize("NFKC", text).lower()))
    return list(dict.fromkeys(words))


def unmet_words(texts: Iterable[str], embedder: Any) -> list[str]:
    """Words of texts that no caption of the embedder's training had; none where its card does not tell those."""
    known = getattr(embedder, "known_words", None)
    return [] if known is None else [word for word in words_of(texts) if word not in known]


def warn_of_unmet_words(texts: Sequence[str], embedder: Any) -> None:
    """Warn, once a call, with ``MelodyWarning`` that names the words."""
    unmet = unmet_words(texts, embedder)
    if not unmet:
        return
    rest = f" and {len(unmet) - NAMED} more" if len(unmet) > NAMED else ""
    prompt = "the prompt" if len(texts) == 1 else "the prompts"
    warnings.warn(
        f"words of {prompt} that this system has never met in training: {', '.join(unmet[:NAMED])}{rest}; "
        "the music cannot be expected to follow them",
        MelodyWarning,
        stacklevel=5,  # of the pipeline's own call
    )


def known_words(card: dict[str, Any] | None) -> frozenset[str] | None:
    """The words of the captions that a joint embedder learnt from, by the card of its weights."""
    words = (card or {}).get("joint_embedder", {}).get("words")
    return None if words is None else frozenset(words)
