"""What a reader must know first: the claims that did not come out, and how many cells ended how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from melody.harness.results import OrderingVerdict, Results, Table, Verdict
from melody.report.layout import axis_name, place_on


@dataclass(frozen=True)
class Miss:
    """Something of the paper's that this run contradicts."""

    suite: str
    title: str
    claim: str
    verdict: str
    reason: str


def misses(results: Results) -> list[Miss]:
    """Contradicted orderings and cells that are off, in the order of the tables."""
    return [miss for table in results.tables for miss in _misses(table)]


def tally(tables: list[Table]) -> dict[str, int]:
    """Number of cells by verdict, every verdict named."""
    counts = dict.fromkeys(get_args(Verdict), 0)
    for table in tables:
        for cell in table.cells:
            counts[cell.verdict] += 1
    return counts


def ordering_tally(tables: list[Table]) -> dict[str, int]:
    """Number of orderings by verdict, every verdict named."""
    counts = dict.fromkeys(get_args(OrderingVerdict), 0)
    for table in tables:
        for ordering in table.orderings:
            counts[ordering.verdict] += 1
    return counts


def headline(results: Results) -> str:
    """One sentence: whether what could be tested came out as the paper says."""
    cells, orders = tally(results.tables), ordering_tally(results.tables)
    tested = cells["reproduced"] + cells["off"] + orders["holds"] + orders["contradicted"]
    if not tested:
        return "Nothing in this run decides whether the paper's statements come out."
    missed = cells["off"] + orders["contradicted"]
    if missed:
        return f"{missed} of the {tested} statements of the paper that this run could decide do not come out."
    return f"All {tested} statements of the paper that this run could decide come out."


def _misses(table: Table) -> list[Miss]:
    orderings = [
        Miss(table.suite, table.title, o.claim, o.verdict, o.reason)
        for o in table.orderings
        if o.verdict == "contradicted"
    ]
    cells = [
        Miss(table.suite, table.title, f"{cell.label} at {row_text(cell.row)}", cell.verdict, cell.reason)
        for cell in table.cells
        if cell.verdict == "off"
    ]
    return orderings + cells


def row_text(row: dict[str, str | int | float]) -> str:
    """A row in words.

    >>> row_text({"sampler": "ddim", "num_steps": 5})
    'sampler ddim, steps 5'
    """
    return ", ".join(f"{axis_name(axis)} {place_on(axis, value)}" for axis, value in row.items())
