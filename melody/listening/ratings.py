"""The file of ratings: one judgement a row, checked to the last cell first. The format is in ``docs/listening.md``.

Version 1 of the format, of a table as ``melody.data.tables`` reads it; the order of the columns does not matter.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from melody.data.tables import parse_table
from melody.errors import MelodyError, did_you_mean

QUESTIONS = ("musicality", "audio quality", "text correlation")
"""The paper's three, in its order (Table 3)."""
ANSWERS = ("first", "second", "similar")
REQUIRED = ("rater", "item", "question", "system_a", "system_b", "answer")
OPTIONAL = ("first_shown", "attention", "repeat", "timestamp")
MAX_REPEAT = 99
MAX_DIGITS = 18
"""Of a number, leading zeros with it: Python reads no more than some thousands."""


@dataclass(frozen=True)
class Judgement:
    """One answer of one rater to one question about two clips of one item."""

    rater: str
    item: str
    question: str
    system_a: str
    system_b: str
    answer: str
    first_shown: Literal["a", "b"]
    """Which of the two systems was heard first; ``answer`` speaks of the order in which they were heard."""
    attention: str | None
    """The answer that an attentive rater gives; ``None`` for a judgement that counts."""
    repeat: int
    """0, or the number of the time that the same is asked again on purpose."""
    line: int

    @property
    def heard(self) -> tuple[str, str]:
        """The two systems in the order in which they were heard."""
        pair = (self.system_a, self.system_b)
        return pair if self.first_shown == "a" else (pair[1], pair[0])

    @property
    def preferred(self) -> str | None:
        """The system that the rater prefers; ``None`` for similar."""
        return None if self.answer == "similar" else self.heard[ANSWERS.index(self.answer)]

    @property
    def pair(self) -> frozenset[str]:
        return frozenset((self.system_a, self.system_b))

    @property
    def counts(self) -> bool:
        """Whether the answer goes into the rates: it is no attention check and no repeat."""
        return self.attention is None and self.repeat == 0


class Ratings(NamedTuple):
    """What a file holds, and the columns of it that nobody reads."""

    judgements: list[Judgement]
    unread_columns: list[str]


def parse_ratings(content: bytes, name: str) -> Ratings:
    """The judgements of a file's bytes.

    Args:
        content: of the file.
        name: what messages call it.
    Raises:
        MelodyError: it is no such table, a column is missing or misspelt, or a row does not hold what the format asks
            for; the message names the line.
    """
    table = parse_table(content, name, REQUIRED, OPTIONAL)
    unread = _unread_columns(table.columns, name)
    judgements = [_judgement(cells, f"{name}, line {line}", line) for line, cells in table.rows]
    if not judgements:
        raise MelodyError(f"{name} holds no judgement: expected one a row below the header")
    _check_spelling(judgements, name)
    _check_doubles(judgements, name)
    return Ratings(judgements, unread)


def _unread_columns(columns: Sequence[str], name: str) -> list[str]:
    """Names of columns that are not read; raises ``MelodyError`` for misspelt ones."""
    known = (*REQUIRED, *OPTIONAL)
    unknown = [column for column in columns if column not in known]
    absent = [column for column in OPTIONAL if column not in columns]
    for column in unknown:
        # A misspelt optional column would turn its checks into judgements, in silence.
        if difflib.get_close_matches(column.lower(), absent, n=1, cutoff=0.75):
            raise MelodyError(f"{name}, line 1: unknown column {column!r}{did_you_mean(column, known)}")
    return unknown


def _judgement(cells: Mapping[str, str], where: str, line: int) -> Judgement:
    attention = _flat(cells.get("attention", ""))
    named = {column: _filled(cells, column, where) for column in ("rater", "item", "system_a", "system_b")}
    _check_timestamp(_flat(cells.get("timestamp", "")), where)
    judgement = Judgement(
        **named,
        question=_one_of(_filled(cells, "question", where), QUESTIONS, "question", where),
        answer=_one_of(_filled(cells, "answer", where), ANSWERS, "answer", where),
        first_shown=_first_shown(_flat(cells.get("first_shown", "")), where),
        attention=_one_of(attention, ANSWERS, "attention", where) if attention else None,
        repeat=_repeat(_flat(cells.get("repeat", "")), where),
        line=line,
    )
    if judgement.system_a == judgement.system_b and judgement.attention is None:
        raise MelodyError(f"{where}: {judgement.system_a!r} against itself; only an attention check may ask that")
    return judgement


def _flat(text: str) -> str:
    """Names that look the same are the same: one form of accents, one space between words."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _filled(cells: Mapping[str, str], column: str, where: str) -> str:
    text = _flat(cells[column])
    if not text:
        raise MelodyError(f"{where}: {column} is empty")
    return text


def _one_of(text: str, valid: tuple[str, ...], what: str, where: str) -> str:
    plain = " ".join(re.split(r"[\s_-]+", text.lower()))
    if plain not in valid:
        whole = [name for name in valid if plain in name.split()]  # quality is the audio's, not a slip of musicality
        raise MelodyError(f"{where}: unknown {what} {text!r}{did_you_mean((whole or [plain])[0], valid)}")
    return plain


def _first_shown(text: str, where: str) -> Literal["a", "b"]:
    if text.lower() in ("", "a"):
        return "a"
    if text.lower() == "b":
        return "b"
    raise MelodyError(f"{where}: first_shown is {text!r}: expected a (system_a was heard first) or b")


def _repeat(text: str, where: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and int(text) <= MAX_REPEAT):
        raise MelodyError(f"{where}: repeat is {text!r}: expected a whole number from 0 to {MAX_REPEAT}")
    return int(text or 0)


def _check_timestamp(text: str, where: str) -> None:
    try:
        if text:
            datetime.fromisoformat(text)
    except ValueError:
        raise MelodyError(f"{where}: timestamp is {text!r}: expected ISO 8601, as 2026-01-31T14:05:00Z") from None


def _check_spelling(judgements: Iterable[Judgement], name: str) -> None:
    """Names that differ by upper and lower case alone are one name misspelt."""
    seen: dict[tuple[str, str], tuple[str, int]] = {}
    for judgement in judgements:
        for what, text in (
            ("rater", judgement.rater),
            ("item", judgement.item),
            ("system", judgement.system_a),
            ("system", judgement.system_b),
        ):
            before, line = seen.setdefault((what, text.casefold()), (text, judgement.line))
            if before != text:
                raise MelodyError(f"{name}, line {judgement.line}: {what} {text!r}: line {line} writes it {before!r}")


def _check_doubles(judgements: Iterable[Judgement], name: str) -> None:
    """One judgement of a rater, item, question and pair; asked again only where the row says so."""
    seen: dict[tuple[str, str, str, frozenset[str]], dict[int, int]] = {}
    real = [judged for judged in judgements if judged.attention is None]
    for judged in real:
        lines = seen.setdefault((judged.rater, judged.item, judged.question, judged.pair), {})
        what = f"{judged.rater!r} on {judged.question} of {judged.item!r}, {judged.system_a} and {judged.system_b}"
        if judged.repeat in lines:
            raise MelodyError(f"{name}, line {judged.line}: {what}: already judged in line {lines[judged.repeat]}")
        lines[judged.repeat] = judged.line
    for key, lines in seen.items():
        if 0 not in lines:
            raise MelodyError(f"{name}, line {min(lines.values())}: a repeat of what {key[0]!r} has not judged before")
