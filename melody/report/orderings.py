"""What the order of a table's numbers says: the two values that were compared, and their difference."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from melody.report import numbers
from melody.report.document import Finding
from melody.report.kinds import ARROWS, DASH, MARKS, OURS, axis_name, paper_text, place_on, value_of
from melody.reproduce.results import Cell, Ordering, Table

Pair = tuple[Cell, Cell]
MOST_COMPARED = 40
"""Cells of a column among which the two of an ordering are looked for."""


def ordering_finding(ordering: Ordering, table: Table, same: Mapping[str, str]) -> Finding:
    """A line for an ordering; places on axes on which all rows are the same are left out of its words."""
    number = difference_text(ordering)
    paper = _printed(ordering, table)
    if (pair := compared_cells(ordering, table)) is not None:
        number = f"{two_values(pair, same)}; difference {number}"
        paper = two_printed(pair) or paper
    mark, text = MARKS[ordering.verdict], _without(ordering.claim, same)
    return Finding(text, mark, ordering.verdict, number, paper, reason=ordering.reason)


def _printed(ordering: Ordering, table: Table) -> str:
    """The two printed values of an ordering, or their difference where several pairs of a column have it."""
    if ordering.paper_difference is None:
        return ""
    cells = [cell for cell in table.cells if cell.column == ordering.column and cell.paper is not None]
    pairs = [
        pair for pair in combinations(cells[:MOST_COMPARED], 2) if _differ_in_print(pair, ordering.paper_difference)
    ]
    return two_printed(pairs[0]) if len(pairs) == 1 else numbers.rounded(ordering.paper_difference)


def compared_cells(ordering: Ordering, table: Table) -> Pair | None:
    """The two cells of an ordering's column that differ by its difference, ours and the paper's; none if several do."""
    if ordering.difference is None:
        return None
    cells = [cell for cell in table.cells if cell.column == ordering.column and cell.measured is not None]
    found = [pair for pair in combinations(cells[:MOST_COMPARED], 2) if _differ_as(pair, ordering)]
    return found[0] if len(found) == 1 else None


def _differ_as(pair: Pair, ordering: Ordering) -> bool:
    ours = [cell.measured.value for cell in pair if cell.measured is not None]
    if ordering.paper_difference is not None and not _differ_in_print(pair, ordering.paper_difference):
        return False
    return ordering.difference is not None and _apart(ours, ordering.difference.value)


def _differ_in_print(pair: Pair, difference: float) -> bool:
    return _apart([cell.paper.value for cell in pair if cell.paper is not None], difference)


def _apart(values: Sequence[float], difference: float) -> bool:
    if len(values) < 2:
        return False
    gap = abs(values[0] - values[1])
    return math.isclose(gap, abs(difference), rel_tol=1e-6, abs_tol=1e-9)


def difference_text(ordering: Ordering) -> str:
    """The difference with its interval."""
    if ordering.difference is None:
        return DASH
    return " ".join(part for part in numbers.measured(ordering.difference) if part)


def two_values(pair: Pair, same: Collection[str] = ()) -> str:
    """Both numbers under the names of their rows, as in ``linear 3.09, uniform 2.92``; ``same`` axes name none."""
    axes = [axis for axis, value in pair[0].row.items() if pair[1].row.get(axis) != value and axis not in same]
    return ", ".join(f"{_called(cell, axes or list(cell.row))} {_short(cell)}" for cell in pair)


def two_printed(pair: Pair) -> str:
    """The paper's two numbers, if it prints both."""
    printed = [paper_text(cell.paper, cell.unit) for cell in pair if cell.paper is not None]
    return ", ".join(printed) if len(printed) == len(pair) else ""


def measure_of(cell: Cell) -> str:
    """What a column measures, without what it stands on, and which way is better."""
    return f"{cell.label.partition('[')[0]} {ARROWS[cell.direction]}".strip()


def _called(cell: Cell, axes: Sequence[str]) -> str:
    """A row by its places on some axes; by those that it has if it has none of them."""
    own = [axis for axis in axes if axis in cell.row] or list(cell.row)
    return " · ".join(_place(axis, cell.row[axis]) for axis in own)


def _place(axis: str, value: str | int | float) -> str:
    text = place_on(axis, value)
    return f"{text} {axis_name(axis)}" if axis == "num_steps" else text.removeprefix("melody-")


def _short(cell: Cell) -> str:
    value = next(value for kind in OURS if (value := value_of(cell, kind)) is not None).value
    if not math.isfinite(value) or abs(value) >= 100:
        return numbers.rounded(value, cell.unit)
    return numbers.rounded(float(f"{value:.3g}"), cell.unit)


def _without(claim: str, same: Mapping[str, str]) -> str:
    """A claim without the places that the table's head names, as in ``(sampler = ddim)`` at its end."""
    text, bracket, places = claim.removesuffix(")").rpartition(" (")
    constant = {f"{axis} = {value}" for axis, value in same.items()}
    if not bracket or not claim.endswith(")"):
        return claim
    left = [place for place in places.split(", ") if place not in constant]
    return f"{text} ({', '.join(left)})" if left else text
