"""Tables that people write: captions, ratings, ``metadata.csv``. One reader, so that what one takes all take.

One header row. Cells are parted by commas, or by semicolons or tabs where the header has more of them (spreadsheets of
many countries). Text is UTF-8, or UTF-16 with its byte-order mark; any other encoding cannot be known, and is refused.
Empty rows, and columns that are empty with their name, are what spreadsheets leave behind: they are passed over.
A first line ``sep=;`` tells the separator, as spreadsheets read it.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from melody.errors import MelodyError

SEPARATORS = (",", ";", "\t")
EMPTY = " ,;\t"
"""What a row without content may hold, whatever parts its cells."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SEPARATOR_LINE = re.compile(r'\s*"?sep=([,;\t|])"?[,;\t ]*', re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


@dataclass(frozen=True)
class TextTable:
    """A table's columns, and its rows with the line that each begins at; cells are without blanks around them."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_content(path: Path) -> bytes:
    """The bytes of a table; raises ``MelodyError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MelodyError(f"cannot read {path}: {error.strerror or error}") from None


def read_table(path: Path, required: Sequence[str]) -> TextTable:
    """The table of a file; raises as ``parse_table``, and if the file cannot be read."""
    return parse_table(read_content(path), str(path), required)


def parse_table(content: bytes, name: str, required: Sequence[str], optional: Collection[str] = ()) -> TextTable:
    """The table of a file's bytes.

    Args:
        content: of the file.
        name: what messages call it.
        required: columns that must be there; these and ``optional`` are found in upper and lower case.
    Raises:
        MelodyError: it is empty, not text, not CSV, a column is missing or doubled, or a row does not fit the header;
            the message names the line.
    """
    text = _decoded(content, name)
    separator = _separator(text)
    lines = _lines(text, separator, name)
    _, header = next(lines, (0, []))
    if SEPARATOR_LINE.fullmatch(separator.join(header)):
        _, header = next(lines, (0, []))
    columns = [_column(cell, (*required, *optional)) for cell in header]
    _check_columns(columns, required, name)
    rows = tuple((line, _row(columns, cells, f"{name}, line {line}")) for line, cells in lines)
    return TextTable(name, tuple(column for column in columns if column), rows)


def _decoded(content: bytes, name: str) -> str:
    wide = content.startswith(UTF_16)
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise MelodyError(f"{name} is not UTF-16, though it begins as such; save it as CSV UTF-8") from None
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise MelodyError(f"{name}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as CSV UTF-8") from None
    if not text.strip():
        raise MelodyError(f"{name} is empty: expected a header and a row below it")
    return text


def _separator(text: str) -> str:
    rows = (line for line in re.split(r"[\r\n]", text) if line.strip(EMPTY + '"'))
    header = next(rows, "")
    if told := SEPARATOR_LINE.fullmatch(header):
        return told[1]
    return max(SEPARATORS, key=header.count)  # the first of equals: commas


def _lines(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the line that it begins at."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    line = 1
    try:
        for cells in reader:
            if any(CONTROL.search(cell) for cell in cells):
                raise csv.Error("a control character")
            if any(cell.strip(EMPTY) for cell in cells):
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        raise MelodyError(f"{name}, line {line}: not CSV: {error}") from None


def _column(cell: str, known: Sequence[str]) -> str:
    flat = " ".join(unicodedata.normalize("NFC", cell).split())
    return flat.lower() if flat.lower() in known else flat


def _check_columns(columns: list[str], required: Sequence[str], name: str) -> None:
    doubled = sorted({column for column in columns if column and columns.count(column) > 1})
    if doubled:
        raise MelodyError(f"{name}, line 1: column {doubled[0]!r} is there twice")
    missing = [column for column in required if column not in columns]
    if missing:
        there = [column for column in columns if column and column not in required]
        near = difflib.get_close_matches(missing[0], there, n=1)
        hint = f"; is {near[0]!r} meant?" if near else ""
        raise MelodyError(
            f"{name}, line 1: column {missing[0]!r} is missing{hint} "
            f"(needed: {', '.join(required)}; there: {', '.join(filter(None, columns)) or 'none'})"
        )


def _row(columns: list[str], cells: list[str], where: str) -> dict[str, str]:
    while len(cells) > len(columns) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != len(columns):
        more = ": a text with commas needs quotes" if len(cells) > len(columns) else ""
        raise MelodyError(f"{where}: got {len(cells)} cells; the header has {len(columns)}{more}")
    for number, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        if cell and not column and number:  # a first column without a name numbers the rows
            raise MelodyError(f"{where}: cell {number + 1}, {cell[:40]!r}, stands in a column without a name")
    return {column: cell for column, cell in zip(columns, cells, strict=True) if column}


def file_names(name: str) -> tuple[str, ...]:
    r"""What a cell that names a file may mean: the name as it stands, then with a slash for each backslash.

    >>> file_names("a.wav"), file_names("x\\a.wav")
    (('a.wav',), ('x\\a.wav', 'x/a.wav'))
    """
    return (name, name.replace("\\", "/")) if "\\" in name else (name,)
