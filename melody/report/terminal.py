"""A run in the terminal: what does not come out first, then each table, in blocks of columns that fit the width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from melody.report.extent import shown
from melody.report.layout import DASH, HEADINGS, MARKS, Entry, Group, Line, OrderingLine, View, lay_out
from melody.report.summary import headline, ordering_tally, statements_by_verdict, tally, target_tally, time_spent
from melody.reproduce.results import Results, Target

MAX_WIDTH = 120
HEADING_SHARE = 4
"""A row's heading takes no more than this part of the width for an axis."""
GAP, GROUP_GAP = "  ", "   "
STYLES = {
    "reproduced": "green",
    "off": "bold red",
    "not comparable": "yellow",
    "not attempted": "bright_black",
    "not counted": "bright_black",
    "comes out": "green",
    "does not come out": "bold red",
    "holds": "green",
    "contradicted": "bold red",
    "undecided": "yellow",
    "falls short": "bold red",
}
KIND_STYLES = {
    "paper": "blue",
    "published": "magenta",
    "measured": "bold",
    "composed": "yellow",
    "projected": "italic cyan",
}


@dataclass(frozen=True)
class _Piece:
    """Text of one style in a field of some width."""

    text: str
    width: int
    style: str = ""
    right: bool = False

    def append_to(self, line: Text) -> None:
        padding = " " * max(0, self.width - cell_len(self.text))
        line.append(padding + self.text if self.right else self.text + padding, style=self.style or None)


def print_results(results: Results, console: Console | None = None) -> None:
    """Print a run, at most 120 columns wide."""
    console = console or Console()
    width = max(40, min(console.width, MAX_WIDTH))
    for line in result_lines(results, width):
        line.rstrip()
        console.print(line, soft_wrap=True)


def result_lines(results: Results, width: int) -> list[Text]:
    """A run as lines of at most ``width`` cells, where the longest number and its row's heading leave room for it."""
    part = shown(results)
    lines = [*_head(results, part, width)]
    for table in part.tables:
        lines += [Text(), *_table(lay_out(table), width)]
    return [*lines, Text(), *_legend(part, width)]


def _head(results: Results, part: Results, width: int) -> list[Text]:
    stated = statements_by_verdict(part)
    missed = any(one.verdict == "does not come out" for one in stated)
    lines = _wrapped(headline(results), width, style="bold red" if missed else "bold")
    for one in stated:
        text = f"{MARKS[one.verdict]} {one.verdict}: {one.text}: {one.reason}"
        lines += _wrapped(text, width, "  ", STYLES[one.verdict])
    counts = [_counted(tally(results.tables), "cells"), _counted(ordering_tally(results.tables), "orderings")]
    if aimed_at := target_tally(results.tables):
        counts.append(_counted(aimed_at, "targets of our own"))
    for text in counts:
        lines += _wrapped(text, width)
    return lines


def _counted(counts: dict[str, int], what: str) -> str:
    return f"{sum(counts.values())} {what}: " + ", ".join(f"{number} {name}" for name, number in counts.items())


def _table(view: View, width: int) -> list[Text]:
    table = view.table
    lines = _wrapped(f"{table.title} ({table.suite})", width, style="bold underline")
    for note in table.notes:
        lines += _wrapped(f"• {note}", width, "  ")
    if view.constants:
        lines += _wrapped(f"The same in every row: {view.constant_text}.", width, style="bright_black")
    for block in _blocks(view, width):
        lines += [Text(), *block]
    lines.append(Text())
    for number, text in enumerate(view.footnotes, start=1):
        lines += _wrapped(f"[{number}] {text}", width, "     ", "bright_black")
    if view.orderings:
        lines += [Text(), Text("What the paper's order says", style="bold"), *_orderings(view.orderings, width)]
    if table.targets:
        lines += [Text(), Text("What we aim at", style="bold"), *_targets(table.targets, width)]
    return [*lines, *_wrapped(f"Source: {table.source}", width, style="bright_black")]


def _blocks(view: View, width: int) -> Iterable[list[Text]]:
    headings = _heading_rows(view, width // HEADING_SHARE)
    room = width - sum(_heading_widths(view, headings)) - len(GAP) * (len(view.axes) - 1)
    chosen: list[int] = []
    for index in range(len(view.groups)):
        if chosen and _breadth(view, [*chosen, index]) > room:
            yield _block(view, headings, chosen, room)
            chosen = []
        chosen.append(index)
    if chosen:
        yield _block(view, headings, chosen, room)


def _breadth(view: View, indices: Sequence[int]) -> int:
    return sum(len(GROUP_GAP) + _group_width(_sub_widths(view, index, short=False)) for index in indices)


def _block(view: View, headings: list[list[list[str]]], indices: Sequence[int], room: int) -> list[Text]:
    short = _breadth(view, indices) > room  # a single column may be too wide: then the verdict is its mark alone
    widths = {index: _sub_widths(view, index, short=short) for index in indices}
    first = _heading_widths(view, headings)
    lines = [*_titles(view, indices, widths, first), _sub_headings(view, indices, widths, first)]
    rule = sum(first) + len(GAP) * (len(first) - 1) + sum(len(GROUP_GAP) + _group_width(w) for w in widths.values())
    lines.append(Text("─" * rule, style="bright_black"))
    for line, heading in zip(view.lines, headings, strict=True):
        lines += _row(view, line, heading, indices, widths, first, short)
    return lines


def _group_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _sub_widths(view: View, index: int, *, short: bool) -> list[int]:
    group = view.groups[index]
    columns = [
        [HEADINGS[kind], *(line.places[index].numbers[kind].line for line in view.lines)] for kind in group.kinds
    ]
    columns = [[_short_heading(column[0]), *column[1:]] for column in columns]
    verdicts = ["" if short else "verdict", *(_verdict(line.places[index].verdict, short) for line in view.lines)]
    return [max(map(cell_len, column)) for column in (*columns, verdicts)]


def _short_heading(heading: str) -> str:
    return heading.split(" ")[0]


def _verdict(entry: Entry, short: bool) -> str:
    text = entry.text.split(" ")[0] if short else entry.text
    return f"{text} {entry.references}"


def _heading_rows(view: View, width: int) -> list[list[list[str]]]:
    """Every row's heading, each axis wrapped into lines."""
    return [[_wrap(part, width) for part in line.heading] for line in view.lines]


def _heading_widths(view: View, headings: list[list[list[str]]]) -> list[int]:
    widths = [cell_len(axis) for axis in view.axes]
    for line, heading in zip(view.lines, headings, strict=True):
        if not line.spans:
            widths = [max(width, *map(cell_len, part)) for width, part in zip(widths, heading, strict=True)]
    gaps = len(GAP) * (len(widths) - 1)
    for line, heading in zip(view.lines, headings, strict=True):
        if line.spans:
            widths[-1] += max(0, max(map(cell_len, heading[0])) - sum(widths) - gaps)
    return widths


def _titles(view: View, indices: Sequence[int], widths: dict[int, list[int]], first: list[int]) -> list[Text]:
    wrapped = {index: _wrap(view.groups[index].title, _group_width(widths[index])) for index in indices}
    lines = []
    for number in range(max(map(len, wrapped.values()))):
        line = Text(" " * (sum(first) + len(GAP) * (len(first) - 1)))
        for index, title in wrapped.items():
            line.append(GROUP_GAP)
            _Piece(title[number] if number < len(title) else "", _group_width(widths[index]), "bold").append_to(line)
        lines.append(line)
    return lines


def _sub_headings(view: View, indices: Sequence[int], widths: dict[int, list[int]], first: list[int]) -> Text:
    pieces = [_Piece(axis, width, "bold") for axis, width in zip(view.axes, first, strict=True)]
    line = _joined(pieces)
    for index in indices:
        names = [_short_heading(HEADINGS[kind]) for kind in view.groups[index].kinds]
        styles = [KIND_STYLES[kind] for kind in view.groups[index].kinds]
        parts = [_Piece(*part) for part in zip(names, widths[index], styles, strict=False)]
        verdict = "verdict" if widths[index][-1] >= len("verdict") else ""
        line.append(GROUP_GAP)
        line.append_text(_joined([*parts, _Piece(verdict, widths[index][-1])]))
    return line


def _row(
    view: View,
    line: Line,
    heading: list[list[str]],
    indices: Sequence[int],
    widths: dict[int, list[int]],
    first: list[int],
    short: bool,
) -> list[Text]:
    total = [sum(first) + len(GAP) * (len(first) - 1)] if line.spans else first
    lines = []
    for number in range(max(map(len, heading))):
        parts = [part[number] if number < len(part) else "" for part in heading]
        lines.append(_joined([_Piece(part, width) for part, width in zip(parts, total, strict=True)]))
    for index in indices:
        lines[0].append(GROUP_GAP)
        lines[0].append_text(_joined(_pieces(view.groups[index], line, index, widths[index], short)))
    return lines


def _pieces(group: Group, line: Line, index: int, widths: list[int], short: bool) -> list[_Piece]:
    place = line.places[index]
    pieces = []
    for kind, width in zip(group.kinds, widths, strict=False):
        entry = place.numbers[kind]
        pieces.append(_Piece(entry.line, width, "bright_black" if entry.empty else KIND_STYLES[kind]))
    style = STYLES[place.cell.verdict] if place.cell else "bright_black"
    return [*pieces, _Piece(_verdict(place.verdict, short), widths[-1], style)]


def _joined(pieces: Sequence[_Piece]) -> Text:
    line = Text()
    for number, piece in enumerate(pieces):
        line.append(GAP if number else "")
        piece.append_to(line)
    return line


def _orderings(orderings: Sequence[OrderingLine], width: int) -> list[Text]:
    lines: list[Text] = []
    for line in orderings:
        ordering = line.ordering
        lines += _wrapped(f"{line.verdict}: {ordering.claim}", width, "  ", STYLES[ordering.verdict])
        detail = f"measured difference: {line.difference}; the paper's: {line.paper_difference}; {ordering.reason}"
        lines += [Text(f"    {part}") for part in _wrap(detail, width - 4)]
    return lines


def _targets(targets: Sequence[Target], width: int) -> list[Text]:
    lines: list[Text] = []
    for target in targets:
        text = f"{MARKS[target.verdict]} {target.verdict}: {target.claim}: {target.reason}"
        lines += _wrapped(text, width, "    ", STYLES[target.verdict])
    return lines


def _legend(results: Results, width: int) -> list[Text]:
    marks = "  ".join(f"{MARKS[name]} {name}" for name in tally([]))
    meaning = f"{marks}   {DASH} no number, for the reason in its footnote   ↓ lower is better   ↑ higher is better"
    grades = "[S] from a public summary   [D] derived by us   [M] recalled, not seen again   no grade: printed"
    kinds = "paper, published (elsewhere), measured, composed and projected numbers stand in columns of their own"
    took = (
        f"{results.cells_computed} units of work computed, {results.cells_reused} read from the store, "
        f"{results.seconds:.1f} s. {time_spent(results)}"
    )
    return [line for text in (meaning, grades, kinds, took) for line in _wrapped(text, width, style="bright_black")]


def _wrapped(text: str, width: int, indent: str = "", style: str = "") -> list[Text]:
    return [Text(part, style=style) for part in _wrap(text, width, indent)]


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most ``width`` cells: wide characters, such as Chinese ones, count two."""
    flat = " ".join(text.split())
    widest = 2 if cell_len(flat) > len(flat) else 1
    parts = textwrap.wrap(flat, max(8, width // widest), subsequent_indent=indent, break_on_hyphens=False)
    return parts or [""]
