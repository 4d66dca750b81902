"""A table in the paper's own shape: its rows and columns first, then what this run has beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from melody.evaluation.result import Measurement
from melody.report import numbers
from melody.report.document import Cell as Place
from melody.report.document import Facts, Grid, Row
from melody.report.facts import cell_facts, long_facts, provenance
from melody.report.kinds import (
    ARROWS,
    DASH,
    KIND_MARKS,
    MARKS,
    OURS,
    Kind,
    axis_name,
    paper_text,
    place_on,
    sentence,
    value_of,
)
from melody.reproduce.results import Cell, Projection, Provenance, Reference, Table

Coordinates = tuple[tuple[str, str | int | float], ...]
MOST_GROUPS = 4
"""Grids of rows that fill different columns; the rest share the last one."""
NOT_IN_RUN = "This run has no such cell."
BESIDE = "Other rows of this run"
OWN_COLUMNS = "What the paper does not print"


@dataclass
class Records:
    """Provenance of a section, each once, by what it holds."""

    numbers: dict[Facts, int] = field(default_factory=dict)

    def number(self, record: Provenance | None) -> int | None:
        if record is None:
            return None
        return self.numbers.setdefault((*provenance(record), *long_facts(record)), len(self.numbers) + 1)


class TableLayout:
    """A table's rows and columns, and which of them the paper prints."""

    def __init__(self, table: Table) -> None:
        self.table, self.records = table, Records()
        self.by_place = {(tuple(cell.row.items()), cell.column): cell for cell in table.cells}
        self.rows: list[Coordinates] = list(dict.fromkeys(row for row, _ in self.by_place))
        self.heads = {cell.column: cell for cell in reversed(table.cells)}
        self.columns = list(dict.fromkeys(cell.column for cell in table.cells))
        printed = {cell.column for cell in table.cells if cell.paper is not None}
        self.main_columns = [column for column in self.columns if column in printed] or self.columns
        self.main_rows = self._main_rows()
        self.constants = self._constants()

    def _main_rows(self) -> list[Coordinates]:
        """Rows that the paper prints, less other ways to count the same; all of them where it prints none."""
        stated = {tuple(cell.row.items()) for cell in self.table.cells if cell.statement is not None}
        printed = {tuple(cell.row.items()) for cell in self.table.cells if cell.paper is not None}
        return [row for row in self.rows if row in (stated or printed)] or self.rows

    def _constants(self) -> dict[str, str]:
        """Axes on which all main rows that have any lie at the same place, unless that leaves none."""
        first = set(dict(self.main_rows[0])) if self.main_rows else set()
        rows = [dict(row) for row in self.main_rows if first & set(dict(row))]
        axes = dict.fromkeys(axis for row in rows for axis in row)
        same = {axis: place_on(axis, rows[0][axis]) for axis in axes if len({row.get(axis) for row in rows}) == 1}
        return same if len(rows) > 1 and len(same) < len(axes) else {}

    def grids(self) -> tuple[Grid, ...]:
        """The paper's shape, then the other rows, then the columns that the paper does not print."""
        filled = [column for column in self.main_columns if any(self.has(row, column) for row in self.main_rows)]
        empty = [column for column in self.main_columns if column not in filled] if filled else []
        found = [self._grid(self.main_rows, filled or self.main_columns, after=self._not_filled(empty))]
        main = set(self.main_rows)
        others = [row for row in self.rows if row not in main]
        found += [self._grid(rows, columns, title=BESIDE) for rows, columns in self._grouped(others, self.main_columns)]
        own = [column for column in self.columns if column not in self.main_columns]
        groups = self._grouped(self.rows, own)
        filled = [column for column in own if any(column in columns for _, columns in groups)]
        told = f"{OWN_COLUMNS}: {'; '.join(map(self.title, filled))}"
        return (*found, *(self._grid(rows, columns, title=told, folded=True) for rows, columns in groups))

    def has(self, row: Coordinates, column: str) -> bool:
        """Whether there is a number beside the paper's."""
        cell = self.by_place.get((row, column))
        return cell is not None and any(value_of(cell, kind) is not None for kind in OURS)

    def _grouped(self, rows: Sequence[Coordinates], columns: list[str]) -> list[tuple[list[Coordinates], list[str]]]:
        """Rows that fill about the same columns, together; rows without a number are left to the CSV file."""
        groups: list[tuple[list[Coordinates], set[str]]] = []
        for row in rows:
            own = {column for column in columns if self.has(row, column)}
            if not own:
                continue
            if (group := next((group for group in groups if _alike(own, group[1])), None)) is None:
                groups += [([], set())] if len(groups) < MOST_GROUPS else []
                group = groups[-1]
            group[0].append(row)
            group[1].update(own)
        return [(members, [column for column in columns if column in shared]) for members, shared in groups]

    def _grid(
        self,
        rows: Sequence[Coordinates],
        columns: Sequence[str],
        *,
        title: str = "",
        after: Sequence[str] = (),
        folded: bool = False,
    ) -> Grid:
        axes = [axis for axis in dict(rows[0]) if axis not in self.constants] if rows else []
        head = " · ".join(map(axis_name, axes)) or "row"
        lines = tuple(Row(self.name(row), tuple(self._place(row, column) for column in columns)) for row in rows)
        return Grid(head, tuple(self.title(column) for column in columns), lines, title, tuple(after), folded)

    def name(self, row: Coordinates) -> str:
        """A row's place on the axes that are not the same for all."""
        places = [place_on(axis, value) for axis, value in row if self.constants.get(axis) != place_on(axis, value)]
        return " · ".join(places) or DASH

    def title(self, column: str) -> str:
        """Label, unit where the label does not name it, and the better direction as an arrow."""
        cell = self.heads[column]
        told = cell.unit in ("", numbers.YES_NO) or cell.unit in re.split(r"[ ,]", cell.label)
        arrow = ARROWS[cell.direction]
        parts = (cell.label, "" if told else f"({cell.unit})", "" if arrow in cell.label else arrow)
        return " ".join(part for part in parts if part)

    def _not_filled(self, columns: Sequence[str]) -> list[str]:
        """A sentence for each reason why columns of the paper's stay empty, with what the paper prints there."""
        by_reason: dict[str, list[str]] = {}
        for column in columns:
            cells = [cell for row in self.main_rows if (cell := self.by_place.get((row, column))) is not None]
            printed = [paper_text(cell.paper, cell.unit) for cell in cells if cell.paper is not None]
            reasons = Counter(cell.reason for cell in cells if cell.verdict == "not attempted")
            reason = reasons.most_common(1)[0][0] if reasons else NOT_IN_RUN
            text = f"{self.heads[column].label} (the paper: {'; '.join(printed)})"
            by_reason.setdefault(reason, []).append(text)
        return [f"Not filled by this run: {', '.join(texts)}. {sentence(why)}" for why, texts in by_reason.items()]

    def _place(self, row: Coordinates, column: str) -> Place:
        cell = self.by_place.get((row, column))
        return Place(DASH, meaning=NOT_IN_RUN) if cell is None else place(cell, self.records)


def place(cell: Cell, records: Records) -> Place:
    """A cell as every format shows it."""
    ours = [(kind, value) for kind in OURS if (value := value_of(cell, kind)) is not None]
    texts = [_number(kind, value, cell.unit) for kind, value in ours]
    text, interval = texts[0] if texts else (DASH, "")
    below = [" ".join(part for part in more if part) for more in texts[1:]]
    if cell.paper is not None:
        below.append(f"paper {paper_text(cell.paper, cell.unit)}")
    warnings = _warnings(cell)
    record = records.number(cell.provenance) if ours else None
    origin = [f"Provenance: {_origin(cell)}"] if cell.measured is not None else []
    meaning = f"{MARKS[cell.verdict]} {sentence(cell.verdict)[:-1]}: {cell.reason}"
    return Place(
        text,
        interval,
        ours[0][0] if ours else "empty",
        MARKS[cell.verdict] if cell.paper is not None else "",
        cell.verdict,
        sentence(meaning),
        tuple(below),
        bool(warnings),
        (sentence(meaning), *warnings, *origin),
        cell_facts(cell),
        record,
    )


def _alike(columns: set[str], others: set[str]) -> bool:
    """Whether rows that fill these columns and those read well below each other."""
    shared = len(columns & others)
    return shared > 0 and (len(columns ^ others) <= 1 or 2 * shared > max(len(columns), len(others)))


def _number(kind: Kind, value: Reference | Measurement | Projection, unit: str) -> tuple[str, str]:
    mark = KIND_MARKS[kind]
    if isinstance(value, Measurement):
        text, interval = numbers.measured(value, unit)
        return f"{mark}{text}", interval
    text = numbers.rounded(value.value, unit) if isinstance(value, Projection) else paper_text(value, unit)
    return f"{mark}{text}", ""


def _warnings(cell: Cell) -> tuple[str, ...]:
    found = [sentence(cell.no_rank)] if cell.no_rank else []
    if (value := cell.measured or cell.composed) is not None:
        found += [sentence(value.warning)] if value.warning else []
        if value.scored != value.expected:
            found.append(f"{value.scored} of {value.expected} expected items were scored.")
    return tuple(found)


def _origin(cell: Cell) -> str:
    known: Iterable[tuple[str, str]] = (
        ("metric", f"{cell.metric}, version {cell.metric_version}"),
        *provenance(cell.provenance),
    )
    return "; ".join(f"{term} {text}" for term, text in known)
