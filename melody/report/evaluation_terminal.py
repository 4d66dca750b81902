"""An evaluation or a comparison in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from melody.evaluation.result import Comparison, Evaluation, Score, Skipped
from melody.report.evaluation_layout import (
    control_cells,
    control_names,
    difference_cells,
    doubts,
    headline,
    remarks,
    score_cells,
    title,
)
from melody.report.extent import within

SHOWN = 20
"""Files that are listed; the JSON has all."""


def print_evaluation(result: Evaluation | Comparison, console: Console | None = None) -> None:
    """Print what was measured, the controls, and what was left out."""
    console = console or Console()
    skipped, result = result.skipped, within(result)
    console.print(f"[bold]{escape(headline(result))}[/bold]", highlight=False)
    if isinstance(result, Comparison):
        _print_differences(result, console)
        a, b = escape(result.a.generated.folder), escape(result.b.generated.folder)
        console.print(f"A is {a}, B is {b}; differences are A − B.", highlight=False)
        scores, notes = result.a.scores, [*result.notes, *remarks(result.a), *remarks(result.b)]
    else:
        console.print(_scores(result.scores))
        scores, notes = result.scores, remarks(result)
    _print_controls(scores, console)
    _print_skipped(skipped, console)
    for note in dict.fromkeys(notes):
        console.print(f"• {escape(note)}", highlight=False)


def _scores(scores: list[Score]) -> Table:
    table = Table("metric", "value", "95 %", "clips", "remarks", highlight=False)
    for score in scores:
        cells = score_cells(score)
        table.add_row(*map(escape, (cells.title, cells.value, cells.interval, cells.count, cells.remarks)))
    return table


HEADINGS = ("A", "B", "A − B, 95 %", "p", "Holm", "d", "verdict")


def _print_differences(result: Comparison, console: Console) -> None:
    """A metric's name, and below it its numbers and what is to be said of them: whole at any width."""
    cells = [difference_cells(row) for row in result.differences]
    rows = [(one.a, one.b, one.difference, one.p, one.holm, one.effect, one.verdict) for one in cells]
    widths = [max(map(cell_len, column)) for column in zip(HEADINGS, *rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        return "  " + "  ".join(text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))

    console.print(line(HEADINGS), style="bold", highlight=False)
    for one, row in zip(cells, rows, strict=True):
        console.print(one.title, style="bold", markup=False, highlight=False)
        console.print(line(row), markup=False, highlight=False)
        if one.remarks:
            console.print(Padding(Text(one.remarks, style="yellow"), (0, 0, 0, 4)))


def _print_controls(scores: list[Score], console: Console) -> None:
    """Every metric with its controls below it, so that each has a line of its own at any width."""
    if not control_names(scores):
        return
    table = Table("controls", "value", "95 %", "clips", "", box=SIMPLE, highlight=False)
    for score in scores:
        if not score.controls:
            continue
        table.add_row(f"[bold]{escape(title(score.name, score.direction, score.unit))}[/bold]")
        by_name = {control.name: control for control in score.controls}
        for name in control_names([score]):
            cells = control_cells(by_name[name], score.unit)
            values = (cells.value, cells.interval, cells.count, cells.mark)
            table.add_row(f"  {escape(name)}", *map(escape, values))
    console.print(table)
    console.print("clips: measured / of the reference, against which they are measured", highlight=False)
    for name, what in doubts(scores):
        console.print(f"{escape(name)}: {escape(what)}, on this data", highlight=False, style="yellow")


def _print_skipped(skipped: list[Skipped], console: Console) -> None:
    if not skipped:
        return
    console.print(f"left out: {len(skipped)}", style="yellow")
    for one in map(within, skipped[:SHOWN]):
        by = f" (by {', '.join(one.metrics)})" if one.metrics else ""
        console.print(f"  {escape(one.file)}{escape(by)}: {escape(one.reason)}", highlight=False, soft_wrap=True)
    if len(skipped) > SHOWN:
        console.print(f"  … and {len(skipped) - SHOWN} more (--json has all)")
