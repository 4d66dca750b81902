"""A table laid out once for every format: headings, columns with their kinds of number, and numbered footnotes.

A number's kind (paper, published elsewhere, measured, composed, projected) decides its sub-column, so that no two kinds
ever stand in one. No place is empty: where there is no number there is a dash, with a footnote that says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from melody.evaluation.result import Measurement
from melody.report import numbers
from melody.reproduce.results import Cell, Ordering, Projection, Reference, Table

Kind = Literal["paper", "published", "measured", "composed", "projected"]
KINDS: tuple[Kind, ...] = ("paper", "published", "measured", "composed", "projected")
HEADINGS: dict[Kind, str] = {
    "paper": "paper",
    "published": "published elsewhere",
    "measured": "measured",
    "composed": "composed",
    "projected": "projected",
}
NO_VALUE: dict[Kind, str] = {
    "paper": "The paper prints no value here",
    "published": "No value published elsewhere is on record",
    "measured": "Nothing was measured",
    "composed": "No value is composed of measured parts",
    "projected": "No value is projected",
}
MEANINGS: dict[Kind, str] = {
    "paper": "printed in the paper",
    "published": "printed by somebody else",
    "measured": "measured in this run",
    "composed": "put together from parts that were measured each alone, not from a run of the whole",
    "projected": "follows from a formula or a model of the machine, not from a run",
}
GRADES = {
    "P": "printed",
    "S": "from a public summary, not seen in print",
    "D": "derived by us from printed numbers",
    "M": "recalled, not seen again in print",
}
MARKS = {
    "reproduced": "✓",
    "off": "✗",
    "not comparable": "≠",
    "not attempted": "○",
    "not counted": "·",
    "comes out": "✓",
    "does not come out": "✗",
    "holds": "✓",
    "contradicted": "✗",
    "undecided": "?",
    "falls short": "✗",
}
ARROWS = {"lower": "↓", "higher": "↑", "none": ""}
DASH = "–"
NOT_IN_RUN = "This run has no such cell"


@dataclass(frozen=True)
class Entry:
    """One sub-column's place: a number or a dash, with the numbers of its footnotes."""

    text: str
    interval: str = ""
    notes: tuple[int, ...] = ()
    empty: bool = False

    @property
    def references(self) -> str:
        """Footnote numbers as ``[1, 2]``; empty if there are none."""
        return f"[{', '.join(map(str, self.notes))}]" if self.notes else ""

    @property
    def line(self) -> str:
        """All of it on one line."""
        return " ".join(part for part in (self.text, self.interval, self.references) if part)


@dataclass(frozen=True)
class Place:
    """One cell of the table: an entry for each kind of number, and the verdict."""

    cell: Cell | None
    numbers: dict[Kind, Entry]
    verdict: Entry


@dataclass(frozen=True)
class Group:
    """One column of the table with its sub-columns."""

    column: str
    label: str
    unit: str
    direction: str
    kinds: tuple[Kind, ...]

    @property
    def title(self) -> str:
        """Label, unit where the label does not name it, and the better direction as an arrow."""
        unit = f" ({self.unit})" if self.unit and self.unit != numbers.YES_NO and self.unit not in self.label else ""
        arrow = ARROWS[self.direction]
        return f"{self.label}{unit}{f' {arrow}' if arrow and arrow not in self.label else ''}"


@dataclass(frozen=True)
class Line:
    """One row: its place on every axis, or a single text if it lies on none of the other rows' axes."""

    heading: tuple[str, ...]
    spans: bool
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """The heading as one text."""
        return " · ".join(part for part in self.heading if part != DASH)


@dataclass(frozen=True)
class OrderingLine:
    """One ordering, as text."""

    ordering: Ordering
    difference: str
    paper_difference: str

    @property
    def verdict(self) -> str:
        return f"{MARKS[self.ordering.verdict]} {self.ordering.verdict}"


@dataclass(frozen=True)
class View:
    """A table as it is shown."""

    table: Table
    axes: tuple[str, ...]
    constants: dict[str, str]
    groups: tuple[Group, ...]
    lines: tuple[Line, ...]
    footnotes: tuple[str, ...]
    orderings: tuple[OrderingLine, ...]

    @property
    def constant_text(self) -> str:
        """What is the same in every row, as in ``grid melody-linear``; empty if nothing is."""
        return ", ".join(f"{axis} {value}" for axis, value in self.constants.items())


@dataclass
class _Footnotes:
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers) + 1)


def lay_out(table: Table) -> View:
    """Lay a table out: rows and columns in the order of their first cells."""
    rows = list({tuple(cell.row.items()): dict(cell.row) for cell in table.cells}.values())
    main = _main_axes(rows)
    constants = _constants(rows, main)
    axes = tuple(axis for axis in main if axis not in constants)
    by_place = {(tuple(cell.row.items()), cell.column): cell for cell in table.cells}
    columns = dict.fromkeys(cell.column for cell in table.cells)
    by_column: dict[str, list[Cell]] = {column: [] for column in columns}
    for cell in table.cells:
        by_column[cell.column].append(cell)
    groups = tuple(map(_group, by_column.values()))
    footnotes = _Footnotes()
    lines = []
    for row in rows:
        cells = [by_place.get((tuple(row.items()), group.column)) for group in groups]
        places = tuple(_place(cell, group, footnotes) for cell, group in zip(cells, groups, strict=True))
        spans = not set(row) & set(main)
        shown = tuple(row) if spans else axes
        heading = tuple(place_on(axis, row[axis]) if axis in row else DASH for axis in shown)
        lines.append(Line((" · ".join(heading),) if spans else heading, spans, places))
    named = {axis_name(axis): value for axis, value in constants.items()}
    orderings = tuple(_ordering(ordering) for ordering in table.orderings)
    names = tuple(axis_name(axis) for axis in axes) or ("row",)
    return View(table, names, named, groups, tuple(lines), tuple(footnotes.numbers), orderings)


def axis_name(axis: str) -> str:
    """An axis as a heading; a unit goes to its values.

    >>> axis_name("num_steps"), axis_name("duration_s"), axis_name("angle_schedule")
    ('steps', 'duration', 'angle schedule')
    """
    return "steps" if axis == "num_steps" else axis.removesuffix("_s").replace("_", " ")


def place_on(axis: str, value: str | int | float) -> str:
    """A row's place on an axis, with the unit that the axis is named after.

    >>> place_on("duration_s", 10), place_on("sampler", "ddim")
    ('10 s', 'ddim')
    """
    return f"{value} s" if axis.endswith("_s") else str(value)


def value_of(cell: Cell, kind: Kind) -> Reference | Measurement | Projection | None:
    """A cell's number of one kind."""
    found: dict[Kind, Reference | Measurement | Projection | None] = {
        "paper": cell.paper,
        "published": cell.published,
        "measured": cell.measured,
        "composed": cell.composed,
        "projected": cell.projected,
    }
    return found[kind]


def grade_mark(value: Reference | Measurement | Projection) -> str:
    """The grade of a number that is not in print, as in ``" [M]"``; empty for every other."""
    return f" [{value.grade}]" if isinstance(value, Reference) and value.grade != "P" else ""


def sentence(text: str) -> str:
    """A reason as a sentence: capital letter where it begins with a plain word, full stop."""
    stripped = text.strip()
    first = stripped.split(" ")[0] if stripped else ""
    start = stripped[:1].upper() + stripped[1:] if first.isalpha() and first.islower() else stripped
    return start if start.endswith((".", "!", "?")) else f"{start}."


def _main_axes(rows: Sequence[dict[str, str | int | float]]) -> tuple[str, ...]:
    """Axes of the rows, less those of rows which share none with the first row."""
    if not rows:
        return ()
    first = set(rows[0])
    return tuple(dict.fromkeys(axis for row in rows if set(row) & first for axis in row))


def _constants(rows: Sequence[dict[str, str | int | float]], axes: Iterable[str]) -> dict[str, str]:
    """Axes on which all rows that have any lie at the same place, unless that leaves none."""
    axes = tuple(axes)
    main = [row for row in rows if set(row) & set(axes)]
    same = {axis: place_on(axis, main[0][axis]) for axis in axes if len({row.get(axis) for row in main}) == 1}
    return same if len(main) > 1 and len(same) < len(axes) else {}


def _group(cells: Sequence[Cell]) -> Group:
    first = cells[0]
    kinds = tuple(kind for kind in KINDS if any(value_of(cell, kind) is not None for cell in cells))
    return Group(first.column, first.label, first.unit, first.direction, kinds)


def _place(cell: Cell | None, group: Group, footnotes: _Footnotes) -> Place:
    if cell is None:
        missing = Entry(DASH, notes=(footnotes.number(f"{NOT_IN_RUN}."),), empty=True)
        return Place(None, dict.fromkeys(group.kinds, missing), missing)
    verdict = Entry(f"{MARKS[cell.verdict]} {cell.verdict}", notes=(footnotes.number(sentence(cell.reason)),))
    return Place(cell, {kind: _number(cell, kind, footnotes) for kind in group.kinds}, verdict)


def _number(cell: Cell, kind: Kind, footnotes: _Footnotes) -> Entry:
    value = value_of(cell, kind)
    if value is None:
        reason = cell.reason if kind == "measured" and cell.verdict == "not attempted" else NO_VALUE[kind]
        return Entry(DASH, notes=(footnotes.number(sentence(reason)),), empty=True)
    if isinstance(value, Measurement):
        text, interval = numbers.measured(value, cell.unit)
        notes = [f"Composed, not a run of the whole: {sentence(value.interval or '')}"] if kind == "composed" else []
        notes += [sentence(cell.no_rank)] if cell.no_rank else []
        return Entry(text, interval, tuple(footnotes.number(note) for note in [*notes, *_warnings(value)]))
    if isinstance(value, Projection):
        note = footnotes.number(f"Projected, not measured: {sentence(value.method)}")
        return Entry(numbers.rounded(value.value, cell.unit), notes=(note,))
    grade = grade_mark(value)
    write = numbers.derived if value.grade == "D" else numbers.printed
    return Entry(f"{write(value.value, cell.unit)}{grade}")


def _warnings(measurement: Measurement) -> list[str]:
    found = [sentence(measurement.warning)] if measurement.warning else []
    if measurement.scored != measurement.expected:
        found.append(f"{measurement.scored} of {measurement.expected} expected items were scored.")
    return found


def _ordering(ordering: Ordering) -> OrderingLine:
    difference = "not measured"
    if ordering.difference is not None:
        difference = " ".join(part for part in numbers.measured(ordering.difference) if part)
    paper = "not printed" if ordering.paper_difference is None else numbers.rounded(ordering.paper_difference)
    return OrderingLine(ordering, difference, paper)
