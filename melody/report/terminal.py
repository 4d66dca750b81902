"""A document in a terminal, by rich's tables: columns that do not fit stand in a further table, and nothing is cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from melody.report.document import SHOWN_NOTES, Cell, Document, Finding, Grid, Section

NARROWEST, WIDEST = 40, 120
PADDING = 2
"""Columns of space beside a column."""
WIDEST_HEAD = 20
"""Of a heading's line, unless a cell is wider."""
STYLES = {
    "reproduced": "green",
    "off": "bold red",
    "not attempted": "bright_black",
    "not counted": "bright_black",
    "not comparable": "yellow",
    "comes out": "green",
    "does not come out": "bold red",
    "holds": "green",
    "contradicted": "bold red",
    "undecided": "yellow",
    "falls short": "bold red",
    "good": "green",
    "bad": "bold red",
    "measured": "bold",
    "composed": "yellow",
    "projected": "italic cyan",
    "published": "magenta",
    "empty": "bright_black",
}


def print_document(document: Document, console: Console | None = None, *, verbose: bool = False) -> None:
    """Print a document, at most 120 columns wide.

    Args:
        verbose: with every note, with the reason of every mark, and with where every number comes from.
    """
    given = console or Console()
    width = max(NARROWEST, min(given.width, WIDEST))
    printer = _Printer(given, width, verbose, document.reference_name)
    printer.head(document)
    for section in document.sections:
        printer.section(section)
    printer.legend(document)


class _Printer:
    """A console of a width, and how much is said."""

    def __init__(self, console: Console, width: int, verbose: bool, reference_name: str) -> None:
        self.console, self.width, self.verbose = console, width, verbose
        self.reference_name = reference_name

    def head(self, document: Document) -> None:
        self.say(document.title, "bold")
        for text in document.lead:
            self.say(text)
        if document.findings:
            where = any(finding.where for finding in document.findings)
            self.show(self.findings(document.findings, document.heads[0] if document.heads else "", where=where))

    def section(self, section: Section) -> None:
        if not (section.grids or section.findings or section.notes):
            return  # pictures and sounds only
        name = f" ({section.name})" if section.name else ""
        self.say("")
        self.say(f"{section.title}{name}", "bold underline")
        for text in section.lead:
            self.say(text, "bright_black")
        numbers = section.footnotes
        for title, folded, grids in section.groups:
            if folded and not self.verbose:
                self.say(f"{title} (with --verbose).", "bright_black")
                continue
            self.say(f"{title}:" if title else "", "bold")
            for grid in grids:
                self.grid(grid, numbers)
        if section.findings:
            self.say(section.findings_title, "bold")
            self.show(self.findings(section.findings, "it says"))
        self.notes(section.notes)
        if self.verbose:
            for text, number in numbers.items():
                self.say(f"[{number}] {text}", "bright_black")
            self.say(f"Source: {section.source}" if section.source else "", "bright_black")

    def grid(self, grid: Grid, numbers: dict[str, int]) -> None:
        names = [grid.head, *(row.name for row in grid.rows)]
        name_width = max(1, min(self.width // 3, max(map(cell_len, names))))
        texts = [[self.cell(cell, numbers) for cell in row.cells] for row in grid.rows]
        widths = [
            max([_head_width(title), *(line_width for row in texts for line_width in _widths(row[place]))])
            for place, title in enumerate(grid.columns)
        ]
        for places in _blocks(widths, self.width - name_width - PADDING):
            table = _table(Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, highlight=False))
            table.add_column(Text(grid.head), overflow="fold", max_width=name_width)
            for place in places:
                table.add_column(Text(grid.columns[place]), overflow="fold", max_width=widths[place])
            for row, cells in zip(grid.rows, texts, strict=True):
                table.add_row(Text(row.name), *(cells[place] for place in places))
            self.show(table)
        for text in grid.after:
            self.say(text)

    def cell(self, cell: Cell, numbers: dict[str, int]) -> Text:
        """Mark and number on a line, and below it the paper's value."""
        text = Text()
        if cell.mark:
            text.append(f"{cell.mark} ", STYLES.get(cell.verdict, ""))
        text.append(cell.number, STYLES.get(cell.style, ""))
        text.append(f" {cell.interval}" if cell.interval else "")
        text.append("!" if cell.warned else "", "yellow")
        if self.verbose and cell.footnotes:
            text.append(f" [{','.join(str(numbers[note]) for note in cell.footnotes)}]", "bright_black")
        indent = "  " if cell.mark else ""
        for line in cell.below:
            text.append(f"\n{indent}{line}", "bright_black")
        return text

    def findings(self, findings: Sequence[Finding], what: str, *, where: bool = False) -> Table:
        """Lines of what came out; what folds under one is shown where all is."""
        reference = any(finding.reference for finding in findings)
        scale = any(finding.scale for finding in findings)
        table = _table(Table(box=None, padding=(0, 1), pad_edge=False, highlight=False))
        table.add_column("")
        table.add_column(what, overflow="fold", ratio=5)
        table.add_column("came out", overflow="fold", ratio=5)
        for name, wanted in ((self.reference_name, reference), ("scale", scale), ("table", where)):
            if wanted:
                table.add_column(name, overflow="fold")
        for finding in findings:
            self.finding(table, finding, (reference, scale, where))
            if self.verbose:
                for folded in finding.folded:
                    self.finding(table, folded, (reference, scale, where), "  ")
        return table

    def finding(self, table: Table, finding: Finding, wanted: tuple[bool, bool, bool], indent: str = "") -> None:
        style = STYLES.get(finding.verdict, "")
        texts = (finding.reference, finding.scale, finding.where)
        number = finding.number or finding.verdict
        said = Text(f"{indent}{finding.text}", "bold" if finding.mark == "✗" else "")
        if self.verbose and finding.reason:
            said.append(f"\n{indent}  {finding.reason}", "bright_black")
        more = [Text(text) for text, shown in zip(texts, wanted, strict=True) if shown]
        table.add_row(Text(finding.mark, style), said, Text(number), *more)

    def notes(self, notes: Sequence[str]) -> None:
        kept = notes if self.verbose else notes[:SHOWN_NOTES]
        for note in kept:
            self.say(f"• {note}")
        if len(kept) < len(notes):
            self.say(f"… and {len(notes) - len(kept)} more, with --verbose.", "bright_black")

    def legend(self, document: Document) -> None:
        self.say("")
        self.say("; ".join(f"{term} {text}" for term, text in document.legend), "bright_black")
        for term, text in document.run:
            self.say(f"{term}: {text}", "bright_black")
        if not self.verbose and any(section.footnotes for section in document.sections):
            self.say("--verbose: the reason of every mark, and where every number comes from.", "bright_black")

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text(" ".join(text.split()), style, overflow="fold"), width=self.width)

    def show(self, table: Table) -> None:
        self.console.print(table, width=self.width)


def _table(table: Table) -> Table:
    table.header_style = "bold"
    return table


def _widths(text: Text) -> Iterable[int]:
    return (cell_len(line) for line in text.plain.split("\n"))


def _head_width(text: str) -> int:
    """Of a heading that breaks between words, and within them where they are long."""
    words = [cell_len(word) for word in text.split()]
    return min(WIDEST_HEAD, max([*words, min(16, cell_len(text))]))


def _blocks(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns that fit beside each other, in their order.

    >>> _blocks([10, 10, 30], 25)
    [[0, 1], [2]]
    """
    blocks: list[list[int]] = [[]]
    left = room
    for place, width in enumerate(widths):
        if blocks[-1] and width + PADDING > left:
            blocks.append([])
            left = room
        blocks[-1].append(place)
        left -= width + PADDING
    return blocks
