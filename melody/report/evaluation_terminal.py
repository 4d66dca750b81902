"""An evaluation or a comparison in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melody.harness.evaluation_results import Comparison, Evaluation, Score, Skipped
from melody.report.evaluation_layout import (
    BLIND,
    blind,
    control_names,
    control_text,
    difference_cells,
    headline,
    remarks,
    score_cells,
)

SHOWN = 20
"""Files that are listed; the JSON has all."""


def print_evaluation(result: Evaluation | Comparison, console: Console | None = None) -> None:
    """Print what was measured, the controls, and what was left out."""
    console = console or Console()
    console.print(f"[bold]{escape(headline(result))}[/bold]", highlight=False)
    if isinstance(result, Comparison):
        console.print(_differences(result))
        a, b = escape(result.a.generated.folder), escape(result.b.generated.folder)
        console.print(f"A is {a}, B is {b}; differences are A − B.", highlight=False)
        scores, notes = result.a.scores, [*result.notes, *remarks(result.a), *remarks(result.b)]
    else:
        console.print(_scores(result.scores))
        scores, notes = result.scores, remarks(result)
    _print_controls(scores, console)
    _print_skipped(result.skipped, console)
    for note in dict.fromkeys(notes):
        console.print(f"• {escape(note)}", highlight=False)


def _scores(scores: list[Score]) -> Table:
    table = Table("metric", "value", "95 %", "clips", "remarks", highlight=False)
    for score in scores:
        cells = score_cells(score)
        table.add_row(*map(escape, (cells.title, cells.value, cells.interval, cells.count, cells.remarks)))
    return table


def _differences(result: Comparison) -> Table:
    table = Table("metric", "A", "B", "A − B, 95 %", "p", "Holm", "d", "verdict", "remarks", highlight=False)
    for row in result.differences:
        cells = difference_cells(row)
        values = (cells.a, cells.b, cells.difference, cells.p, cells.holm, cells.effect, cells.verdict, cells.remarks)
        table.add_row(escape(cells.title), *map(escape, values))
    return table


def _print_controls(scores: list[Score], console: Console) -> None:
    names = control_names(scores)
    if not names:
        return
    table = Table("controls", *names, highlight=False)
    for score in scores:
        by_name = {control.name: control for control in score.controls}
        table.add_row(escape(score.name), *(escape(control_text(by_name.get(name))) for name in names))
    console.print(table)
    for name, which in blind(scores):
        console.print(
            f"{BLIND} {escape(name)} does not tell {which} from music on this data", highlight=False, style="yellow"
        )


def _print_skipped(skipped: list[Skipped], console: Console) -> None:
    if not skipped:
        return
    console.print(f"left out: {len(skipped)}", style="yellow")
    for one in skipped[:SHOWN]:
        by = f" (by {', '.join(one.metrics)})" if one.metrics else ""
        console.print(f"  {escape(one.file)}{escape(by)}: {escape(one.reason)}", highlight=False, soft_wrap=True)
    if len(skipped) > SHOWN:
        console.print(f"  … and {len(skipped) - SHOWN} more (--json has all)")
