"""How much of a result is shown: a file from elsewhere may hold any number of rows, and texts of any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from zlib import crc32

from pydantic import BaseModel

from melody.reproduce.results import Cell, Results, Table

Item = TypeVar("Item")

MOST_TABLES, MOST_CELLS, MOST_IN_ALL, MOST_ENTRIES = 50, 2_000, 4_000, 500
"""Tables, cells of a table, cells after which no table begins, and entries of every other list."""
MOST_PLACES, MOST_AXES = 4_000, 20
"""Rows times columns of a table, and what its rows lie on."""
DEEPEST = 20
"""Levels of what was configured."""
MOST_DRAWN = 60
"""Bars, dots or rows of one plot."""
MOST_CURVES, MOST_PANELS = 24, 16
LABEL, TEXT, PATH = 120, 2_000, 4_096
"""Characters of a name, of a sentence, of a file's path."""
ON_AXIS = 60
LABELS = {"row", "column", "label", "suite", "metric", "unit", "title", "name", "system", "system_a", "system_b"}
LABELS |= {"question", "questions", "systems", "misfit_pair", "rater"}
PATHS = {"path", "beside", "folder", "file"}


def short(text: str, most: int = ON_AXIS) -> str:
    """A text of at most so many characters, cut with an ellipsis.

    >>> short("melody"), short("melody" * 1000, 8)
    ('melody', 'melodym…')
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def drawn(items: Sequence[Item], what: str, most: int = MOST_DRAWN) -> tuple[Sequence[Item], str]:
    """The first items, and what a plot's title says of the others; nothing if there are none.

    >>> drawn(range(5), "bars", 2)
    (range(0, 2), ' (2 of 5 bars)')
    """
    return (items, "") if len(items) <= most else (items[:most], f" ({most} of {len(items):,} {what})")


def shown(results: Results) -> Results:
    """The part of a run that a page, the Markdown and the terminal show; notes tell of what is left out."""
    tables: list[Table] = []
    for table in results.tables[:MOST_TABLES]:
        if sum(len(one.cells) for one in tables) < MOST_IN_ALL:
            tables.append(_table(table))
    if len(tables) < len(results.tables):
        tables[-1].notes.append(_told(len(tables), len(results.tables), "tables of this run", "results.json"))
    rest = within(results.model_copy(update={"tables": []}))
    return rest.model_copy(update={"tables": tables})


def _table(table: Table) -> Table:
    cells = _cells(table.cells)
    lists: dict[str, Sequence[object]] = {"orderings": table.orderings, "targets": table.targets, "clips": table.clips}
    notes = list(within(table.notes))
    if len(cells) < len(table.cells):
        notes.append(_told(len(cells), len(table.cells), "cells", "the CSV file"))
    notes += [
        _told(MOST_ENTRIES, len(all_), what, "results.json") for what, all_ in lists.items() if len(all_) > MOST_ENTRIES
    ]
    update: dict[str, Any] = {"cells": [], "notes": []}
    rest = within(table.model_copy(update=update))
    return rest.model_copy(update={"cells": [within(cell) for cell in cells], "notes": notes})


def _cells(cells: Sequence[Cell]) -> list[Cell]:
    """The first cells that lie in a table of a bounded size."""
    rows: set[Any] = set()
    columns: set[str] = set()
    axes: set[str] = set()
    found = []
    for cell in cells[:MOST_CELLS]:
        new = rows | {key} if (key := tuple(cell.row.items())) not in rows else rows
        wider = columns | {cell.column} if cell.column not in columns else columns
        deeper = axes | cell.row.keys()
        if len(new) * len(wider) <= MOST_PLACES and len(deeper) <= MOST_AXES:
            rows, columns, axes = new, wider, deeper
            found.append(cell)
    return found


def _told(most: int, total: int, what: str, where: str) -> str:
    return f"{most:,} of {total:,} {what} are shown; all of them are in {where}."


def within(value: Item, field: str = "", depth: int = 0) -> Item:
    """The same with long texts cut and long lists ended; ``field`` and ``depth`` as ``_cut``."""
    cut: Item = _cut(value, field, depth)
    return cut


def _cut(value: Any, field: str, depth: int) -> Any:
    """The same with long texts cut and long lists ended; numbers that no format shows stay as they are.

    Args:
        field: whose value it is, which decides how long its texts may be.
        depth: levels above it.
    """
    if depth > DEEPEST:
        return "…"
    if isinstance(value, str):
        return _text(value, LABEL if field in LABELS else PATH if field in PATHS else TEXT)
    if isinstance(value, BaseModel):
        names = [name for name in type(value).model_fields if name != "sample"]
        found = {name: within(old, name, depth + 1) for name in names if (old := getattr(value, name)) is not None}
        return value.model_copy(update=found)
    if isinstance(value, dict):
        first = list(value.items())[:MOST_ENTRIES]
        return {within(key, "label"): within(one, field, depth + 1) for key, one in first}
    if isinstance(value, list | tuple):
        cut = [within(one, field, depth + 1) for one in value[:MOST_ENTRIES]]
        words = len(value) > MOST_ENTRIES and isinstance(value[0], str)
        return [*cut, f"… and {len(value) - MOST_ENTRIES:,} more"] if words else cut
    return value


def _text(text: str, most: int) -> str:
    """A long text cut, with its length and a check sum: two that begin alike stay two."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text):,} characters, {crc32(text.encode('utf-8', 'surrogatepass')):08x})"
