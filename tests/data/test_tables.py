"""Tables as spreadsheets write them: read by the one reader, by whichever command reads a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melody.baselines.folder import FolderSystem
from melody.data.listing import list_clips, read_captions
from melody.data.loading import load_corpus
from melody.errors import MelodyError
from melody.listening.analysis import analyse

ROWS = [("file_name", "text"), ("a.wav", "a slow, sad piano"), ("more/b.wav", "fl\u00fbte; fast")]
EMPTY = ("", "")


def written(rows: list[tuple[str, ...]], separator: str = ",", encoding: str = "utf-8", end: str = "\r\n") -> bytes:
    def cell(text: str) -> str:
        return f'"{text}"' if separator in text else text

    return "".join(separator.join(map(cell, row)) + end for row in rows).encode(encoding)


GOOD = {
    "plain": written(ROWS),
    "byte-order mark": written(ROWS, encoding="utf-8-sig"),
    "utf-16": written(ROWS, encoding="utf-16"),
    "unicode text": written(ROWS, "\t", "utf-16"),
    "semicolons": written(ROWS, ";"),
    "tabs": written(ROWS, "\t"),
    "empty rows": written([*ROWS[:2], EMPTY, ROWS[2], EMPTY, EMPTY]),
    "empty columns": written([(*row, "", "") for row in ROWS]),
    "cells beyond": written([ROWS[0], *((*row, "", "") for row in ROWS[1:])]),
    "an index": written([("", *ROWS[0]), ("0", *ROWS[1]), ("1", *ROWS[2])]),
    "upper case": written([("File_Name ", " TEXT"), *ROWS[1:]]),
    "backslashes": written([*ROWS[:2], ("more\\b.wav", ROWS[2][1])]),
    "old line ends": written(ROWS, end="\r"),
    "old line ends and semicolons": written(
        [(*ROWS[0], "note"), *((*row, "a, b, c, d") for row in ROWS[1:])], ";", end="\r"
    ),
    "a first row without content": b",,,\r\n" + written(ROWS, ";"),
    "a line that tells the separator": b"sep=;\r\n" + written(ROWS, ";"),
    "a tab told": b"sep=\t\n" + written(ROWS, "\t"),
}
BAD = {
    "doubled": (written([(*row, row[1]) for row in ROWS]), "line 1: column 'text' is there twice"),
    "cp1252": (written(ROWS, encoding="cp1252"), "line 3: byte 0xfb is not UTF-8; save the file as CSV UTF-8"),
    "no name": (written([(*ROWS[0], ""), (*ROWS[1], "x")]), "line 2: cell 3, 'x', stands in a column without a name"),
    "no quotes": (b"file_name,text\na.wav,slow, sad\n", "line 2: got 3 cells; the header has 2: a text with commas"),
    "NUL": (b"file_name,text\na.wav,sl\0ow\n", "line 2: not CSV: a control character"),
    "empty": (b"\xef\xbb\xbf\r\n", "is empty"),
    "another name": (b"file_name,txt\na.wav,x\n", "column 'text' is missing; is 'txt' meant?"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.wav", "more/b.wav")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, 0.1 * np.sin(np.arange(8000) * (0.1 + number)), 8000)
    return tmp_path


def texts_of_a_corpus(folder: Path) -> list[str]:
    return [clip.text for clip in load_corpus(folder)]


def texts_of_captions(folder: Path) -> list[str]:
    texts, faults = read_captions(folder / "metadata.csv", list_clips(folder))
    assert not faults
    return [texts["a"], texts["more/b"]]


def texts_of_a_system(folder: Path) -> list[str]:
    return list(FolderSystem(folder).takes)


READERS = [texts_of_a_corpus, texts_of_captions, texts_of_a_system]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", GOOD)
def test_what_spreadsheets_write_is_read(folder: Path, kind: str, reader: Callable[[Path], list[str]]) -> None:
    (folder / "metadata.csv").write_bytes(GOOD[kind])
    assert reader(folder) == [text for _, text in ROWS[1:]]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_known_is_one_line(folder: Path, kind: str, reader: Callable[[Path], list[str]]) -> None:
    content, message = BAD[kind]
    (folder / "metadata.csv").write_bytes(content)
    with pytest.raises(MelodyError) as raised:
        reader(folder)
    assert message in str(raised.value)
    assert "metadata.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_ratings_are_read_by_the_same_reader(tmp_path: Path, separator: str, encoding: str) -> None:
    rows: list[tuple[str, ...]] = [("Rater", "Item", "Question", "System_A", "System_B", "Answer", "")]
    rows += [(f"r{n}", f"i{m}", "musicality", "x", "y", ("first", "second")[n * m % 2], "") for n in range(3)
             for m in range(3)]  # fmt: skip
    (tmp_path / "r.csv").write_bytes(written([*rows, ("",) * 7], separator, encoding))
    result = analyse(tmp_path / "r.csv")
    assert not result.unread_columns
