"""What a report says, once for every format: findings, tables of cells, notes, figures, sounds.

A builder makes a document from a result (``reproduction``, ``evaluated``, ``listening``); a renderer makes a terminal's
lines, Markdown or a page from a document. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from melody.report.sounds import Sound

Facts = tuple[tuple[str, str], ...]
"""Terms and texts."""
SHOWN_NOTES = 3
"""Notes of a table that stand below it; the others are folded."""


@dataclass(frozen=True)
class Cell:
    """One place of a table: our number, its interval, the paper's value, and where both come from."""

    number: str
    interval: str = ""
    style: str = ""
    """Of the number, as a kind of number or a verdict: a format may colour it."""
    mark: str = ""
    verdict: str = ""
    meaning: str = ""
    """What the mark means here, as a sentence."""
    below: tuple[str, ...] = ()
    """Small lines under the number: the paper's value, other kinds of number."""
    warned: bool = False
    footnotes: tuple[str, ...] = ()
    facts: Facts = ()
    """What is on record about the numbers."""
    record: int | None = None
    """The section's record of provenance that holds the configuration."""

    @property
    def line(self) -> str:
        """Mark, number and interval."""
        return " ".join(part for part in (self.mark, self.number, self.interval) if part) + ("!" * self.warned)


@dataclass(frozen=True)
class Row:
    """One row of a grid."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """Rows and columns of cells."""

    head: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    title: str = ""
    after: tuple[str, ...] = ()
    """Sentences that stand directly below it."""
    folded: bool = False


@dataclass(frozen=True)
class Finding:
    """One line of what came out: a claim, an ordering, a target, a metric that stands out."""

    text: str
    mark: str = ""
    verdict: str = ""
    number: str = ""
    reference: str = ""
    """The number that ours stands beside: the paper's, or music's own."""
    scale: str = ""
    reason: str = ""
    anchor: str = ""
    where: str = ""
    folded: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A plot under the question that it answers."""

    question: str
    text: str
    svg: str = ""
    path: str = ""


@dataclass(frozen=True)
class Players:
    """Sounds under a heading."""

    title: str
    sounds: tuple[Sound, ...]


@dataclass(frozen=True)
class Section:
    """One part of the report: a table of the paper, a set of metrics."""

    anchor: str
    title: str
    name: str = ""
    lead: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    findings: tuple[Finding, ...] = ()
    findings_title: str = ""
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    players: tuple[Players, ...] = ()
    silent: tuple[str, ...] = ()
    """Sounds that cannot be played, each with the reason."""
    records: tuple[Facts, ...] = ()
    """Provenance, each once."""
    source: str = ""
    links: tuple[tuple[str, str], ...] = ()

    @property
    def groups(self) -> Iterator[tuple[str, bool, tuple[Grid, ...]]]:
        """Grids of one title together, with it and whether they are folded."""
        for (title, folded), grids in groupby(self.grids, lambda grid: (grid.title, grid.folded)):
            yield title, folded, tuple(grids)

    @property
    def footnotes(self) -> dict[str, int]:
        """Texts of the cells' footnotes, numbered in the order of the cells."""
        texts = (text for grid in self.grids for row in grid.rows for cell in row.cells for text in cell.footnotes)
        return {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}

    @property
    def first_notes(self) -> tuple[str, ...]:
        return self.notes[:SHOWN_NOTES]

    @property
    def more_notes(self) -> tuple[str, ...]:
        return self.notes[SHOWN_NOTES:]


@dataclass(frozen=True)
class Document:
    """A report."""

    over: str
    """What kind of report it is."""
    title: str
    lead: tuple[str, ...]
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]
    legend: Facts = ()
    run: Facts = ()
    """What was run, when, for how long."""
    command: str = ""
    reference_name: str = "paper"
    """Whose number stands beside ours in the findings."""
    heads: tuple[str, ...] = ()
    """Over the findings: what is said, what came out, at which scale, where."""

    @property
    def has_facts(self) -> bool:
        """Whether any number tells where it comes from."""
        grids = (grid for section in self.sections for grid in section.grids)
        return any(cell.facts for grid in grids for row in grid.rows for cell in row.cells)
