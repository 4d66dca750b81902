"""What the paper states, each statement once, with one verdict over all that speaks for it in a run.

A statement is printed once and may have many parts: the cells that show its numbers by the paper's own way to measure,
and the orderings that the paper's tables show. Its verdict is that of its worst part:

1. *does not come out*: a part is off or contradicted;
2. *undecided*: none is, and an ordering is undecided;
3. *not attempted*: neither, and a part was not measured;
4. *not comparable*: all were measured, and a number cannot be held against the paper's;
5. *comes out*: every part is reproduced or holds.

So a statement comes out only as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from melody.reproduce.results import Statement, StatementVerdict, Table
from melody.reproduce.suite import Suite

VERDICTS: dict[str, StatementVerdict] = {
    "off": "does not come out",
    "contradicted": "does not come out",
    "undecided": "undecided",
    "not attempted": "not attempted",
    "not comparable": "not comparable",
    "reproduced": "comes out",
    "holds": "comes out",
}
"""What a part's verdict says of its statement, the worst first."""
NO_PART = "no row of this run is about it, at the settings that the paper prints it for"


@dataclass(frozen=True)
class _Part:
    """A cell or an ordering."""

    name: str
    verdict: str
    reason: str


def statements(suites: Sequence[Suite], tables: Sequence[Table]) -> list[Statement]:
    """Every statement that the suites name or that a part of their tables speaks for, in their order."""
    parts_of: dict[str, list[_Part]] = {text: [] for suite in suites for text in suite.statements.values()}
    for table in tables:
        for text, part in _parts(table):
            parts_of.setdefault(text, []).append(part)
    return [_statement(text, parts) for text, parts in parts_of.items()]


def _parts(table: Table) -> Iterator[tuple[str, _Part]]:
    for cell in table.cells:
        if cell.statement is not None:
            row = ", ".join(f"{axis} {value}" for axis, value in cell.row.items())
            yield cell.statement, _Part(f"{cell.label} at {row}", cell.verdict, cell.reason)
    for ordering in table.orderings:
        if ordering.statement is not None:
            yield ordering.statement, _Part(ordering.claim, ordering.verdict, ordering.reason)


def _statement(text: str, parts: Sequence[_Part]) -> Statement:
    if not parts:
        return Statement(text=text, verdict="not attempted", reason=NO_PART, parts=0)
    worst = min(parts, key=lambda part: list(VERDICTS).index(part.verdict))
    verdict = VERDICTS[worst.verdict]
    deciding = [part for part in parts if VERDICTS[part.verdict] == verdict]
    counts = Counter(part.verdict for part in parts)
    words = (f"{number} {'hold' if name == 'holds' and number > 1 else name}" for name, number in counts.items())
    listed = ", ".join(words) if len(parts) > 1 else ""
    said = "; ".join(dict.fromkeys(f"{part.name}: {part.reason}" for part in deciding[:1]))
    if verdict in ("not attempted", "not comparable"):
        said = deciding[0].reason
    return Statement(text=text, verdict=verdict, reason=" – ".join(filter(None, (listed, said))), parts=len(parts))
