"""A table as tidy CSV: a row for each cell, a column for each field, every digit of every number."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from melody.evaluation.result import Measurement
from melody.reproduce.results import Cell, Composition, Ordering, Projection, Provenance, Reference, Table, Target

MOST_AXES = 100
NESTED: dict[str, type[BaseModel]] = {
    "paper": Reference,
    "published": Reference,
    "measured": Measurement,
    "composed": Composition,
    "projected": Projection,
    "provenance": Provenance,
    "difference": Measurement,
}


def cells_csv(table: Table) -> str:
    """Cells: ``row.AXIS`` for each axis, then every field; a field that a cell lacks is empty.

    Rows on more than 100 axes stand in one field ``row``, as JSON.
    """
    axes = list(dict.fromkeys(axis for cell in table.cells for axis in cell.row))
    axes = axes if len(axes) <= MOST_AXES else []
    fields = _fields(Cell, skip="row" if axes else "")
    return _csv(
        ["suite", *(f"row.{axis}" for axis in axes), *fields],
        ([table.suite, *(_text(cell.row.get(axis)) for axis in axes), *_values(cell, fields)] for cell in table.cells),
    )


def orderings_csv(table: Table) -> str:
    """Orderings: every field; a field that an ordering lacks is empty."""
    fields = _fields(Ordering)
    return _csv(["suite", *fields], ([table.suite, *_values(ordering, fields)] for ordering in table.orderings))


def targets_csv(table: Table) -> str:
    """Targets of our own: every field."""
    fields = _fields(Target)
    return _csv(["suite", *fields], ([table.suite, *_values(target, fields)] for target in table.targets))


def _fields(model: type[BaseModel], skip: str = "") -> list[str]:
    names: list[str] = []
    for name in model.model_fields:
        nested = NESTED.get(name)
        names += [f"{name}.{inner}" for inner in nested.model_fields] if nested else [name]
    return [name for name in names if name != skip]


def _values(record: BaseModel, fields: Iterable[str]) -> list[str]:
    return [_text(_field(record, name)) for name in fields]


def _field(record: BaseModel, name: str) -> Any:
    outer, _, inner = name.partition(".")
    value = getattr(record, outer)
    return getattr(value, inner) if inner and value is not None else value


def _text(value: Any) -> str:
    """A field as text: floats with every digit, lists and tables as JSON."""
    if value is None:
        return ""
    if isinstance(value, (list, Mapping)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return repr(value) if isinstance(value, float) else str(value)


def _csv(header: list[str], rows: Iterable[list[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
