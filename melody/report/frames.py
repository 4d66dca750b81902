"""A table as a data frame: a row for each cell, a column for each field, every digit of every number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from melody.evaluation.result import Measurement, SavedResult
from melody.reproduce.results import (
    Cell,
    Composition,
    Ordering,
    Projection,
    Provenance,
    Reference,
    Results,
    Table,
    Target,
)

if TYPE_CHECKING:
    import pandas as pd

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


def frames(result: SavedResult) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Every data frame of a result: its table's name, what it holds, as in ``orderings``, and the frame itself."""
    if not isinstance(result, Results):
        yield result.entries()[0].suite if result.entries() else "numbers", "", result.to_pandas()
        return
    for table in result.tables:
        yield table.suite, "", cells_frame(table)
        if table.orderings:
            yield table.suite, "orderings", _frame(table.suite, table.orderings, Ordering)
        if table.targets:
            yield table.suite, "targets", _frame(table.suite, table.targets, Target)


def cells_frame(table: Table) -> pd.DataFrame:
    """Cells: ``row.AXIS`` for each axis, then every field; a field that a cell lacks is empty.

    Rows on more than 100 axes stand in one field ``row``.
    """
    axes = list(dict.fromkeys(axis for cell in table.cells for axis in cell.row))
    if len(axes) > MOST_AXES:
        return _frame(table.suite, table.cells, Cell)
    return _frame(table.suite, table.cells, Cell, axes)


def to_csv(frame: pd.DataFrame) -> str:
    """As CSV; lists and tables within a field are JSON."""
    flat = frame.copy()
    for name in flat.columns:
        flat[name] = _column([_flat(value) for value in frame[name]])
    text: str = flat.to_csv(index=False, lineterminator="\n")
    return text


def to_jsonl(frame: pd.DataFrame) -> str:
    """As JSON, a line for each row."""
    text: str = frame.to_json(orient="records", lines=True, double_precision=15, force_ascii=False)
    return text


def _frame(suite: str, records: Sequence[BaseModel], model: type[BaseModel], axes: Sequence[str] = ()) -> pd.DataFrame:
    """Every field of the records; with axes, ``row`` by its places on them."""
    import pandas as pd

    places = {f"row.{axis}": _column([_field(record, "row").get(axis) for record in records]) for axis in axes}
    fields = [name for name in _fields(model) if name != "row" or not axes]
    values = {name: _column([_field(record, name) for record in records]) for name in fields}
    return pd.DataFrame({"suite": _column([suite] * len(records)), **places, **values})


def _column(values: Sequence[Any]) -> pd.Series[Any]:
    """Values as they are: whole numbers stay whole beside empty places."""
    import pandas as pd

    return pd.Series(values, dtype=object)


def _fields(model: type[BaseModel]) -> Iterable[str]:
    for name in model.model_fields:
        nested = NESTED.get(name)
        yield from [f"{name}.{inner}" for inner in nested.model_fields] if nested else [name]


def _field(record: BaseModel, name: str) -> Any:
    outer, _, inner = name.partition(".")
    value = getattr(record, outer)
    value = getattr(value, inner) if inner and value is not None else value
    return value.model_dump() if isinstance(value, BaseModel) else value


def _flat(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, list | dict) else value
