"""What a reader must know first: the claims that did not come out, and how many cells ended how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from melody.harness.results import OrderingVerdict, Results, Table, TargetVerdict, Verdict
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


def target_tally(tables: list[Table]) -> dict[str, int]:
    """Number of targets of our own by verdict, every verdict named; empty if there are none."""
    counts = dict.fromkeys(get_args(TargetVerdict), 0)
    for table in tables:
        for target in table.targets:
            counts[target.verdict] += 1
    return counts if sum(counts.values()) else {}


def time_spent(results: Results) -> str:
    """Where the run's time went, in a sentence: at least a second each; empty if nothing took as long."""
    shares = [f"{share.work} {share.seconds:,.0f} s ({share.units})" for share in results.split if share.seconds >= 1]
    return f"Seconds by work (units of it): {', '.join(shares)}." if shares else ""


def headline(results: Results) -> str:
    """A sentence or two: whether what could be tested came out as the paper says, and how many of our targets hold."""
    cells, orders = tally(results.tables), ordering_tally(results.tables)
    aimed_at = target_tally(results.tables)
    about_paper = any(cell.paper for table in results.tables for cell in table.cells) or any(orders.values())
    sentences = [_about_the_paper(cells, orders)] if about_paper or not aimed_at else []
    if aimed_at:
        sentences.append(f"{aimed_at['holds']} of our own {sum(aimed_at.values())} targets hold.")
    return " ".join(sentences)


def _about_the_paper(cells: dict[str, int], orders: dict[str, int]) -> str:
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
