"""What a text prompt may be, checked before any model sees it."""

from __future__ import annotations

from melody.errors import MelodyError

MAX_PROMPT_CHARACTERS = 2_000
"""Ours: far above any caption, and far below what would only be cut away by the text tower."""


def check_prompt(text: str, where: str) -> None:
    """Refuse a prompt that says nothing or that is too long to be a description.

    A prompt within the limit that has more tokens than the text tower reads keeps its beginning; the rest is left out.

    Args:
        where: what the text is, for the message, as in ``prompt 3`` or ``captions.csv line 7``.
    Raises:
        MelodyError: not a string, empty or only white space, not UTF-8, or longer than ``MAX_PROMPT_CHARACTERS``.

    >>> check_prompt("a slow piano piece", where="the prompt")
    """
    if not isinstance(text, str):
        raise MelodyError(f"{where} is a {type(text).__name__}: expected text")
    if not text.strip():
        raise MelodyError(f"{where} is empty: expected a description such as 'a slow piano piece in a minor key'")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # as Python reads bytes of another encoding
        raise MelodyError(f"{where} is not UTF-8: {text[:40]!a}; expected text in UTF-8")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise MelodyError(f"{where} has {len(text):,} characters: expected at most {MAX_PROMPT_CHARACTERS:,}")
