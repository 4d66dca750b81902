"""Tables of a preset's sizes for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melody.report.numbers import rounded

if TYPE_CHECKING:  # what is measured there takes torch, and to show it takes none
    from melody.reproduce.sizes import PartSize, PassCost, Sizes

NONE = "–"
NOTES = (
    "Parameters are trained weights, weight norms folded in; codebooks and centroids, fitted, stand in brackets.",
    "FLOPs are additions and multiplications of products: matrices, convolutions, attention over all its keys; one row "
    "a batch unless said. Counted: by torch's FlopCounterMode. Formula: from shapes alone.",
    "Beside: Fourier transforms and recurrences, by formula; torch's counter sees none, and neither sum has them.",
    "Weights: bytes of parameters that a pass reads, each once; of a table of embeddings the rows that are looked up.",
)


def print_sizes(sizes: Sizes, console: Console) -> None:
    """Two tables: parts with their parameters, and passes with what they cost."""
    console.print(_parts(sizes))
    console.print(_passes(sizes))
    for note in NOTES:
        console.print(note, style="dim")


def _parts(sizes: Sizes) -> Table:
    table = Table(title=f"Parameters of preset {escape(sizes.preset)}", title_justify="left")
    for name in ("part", "component"):
        table.add_column(name)
    for name in ("parameters", "paper", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("printed in")
    for part in sizes.parts:
        name = f"  {part.name}" if part.within else part.name
        paper = NONE if part.paper is None else f"{part.paper / 1e6:.1f}M"
        difference = NONE if part.difference is None else f"{part.difference:+.2f} %"
        component = "" if part.within else part.component
        table.add_row(name, escape(component), _parameters(part), paper, difference, part.place or NONE)
    return table


def _parameters(part: PartSize) -> str:
    trained, fitted = f"{part.parameters / 1e6:.2f}M", f"({part.fitted / 1e6:.2f}M)"
    if not part.fitted:
        return trained
    return f"{trained} {fitted}" if part.parameters else fitted


def _passes(sizes: Sizes) -> Table:
    table = Table(title="Passes, in GFLOPs", title_justify="left")
    for name in ("part", "pass", "counted for"):
        table.add_column(name)
    for name in ("counted", "by formula", "beside", "weights, fp32", "half"):
        table.add_column(name, justify="right", no_wrap=True)
    before = ""
    for cost in sizes.passes:
        table.add_row("" if cost.part == before else cost.part, cost.name, cost.shape, *_numbers(cost))
        before = cost.part
        if cost.note:
            table.add_row("", "", cost.note, *[""] * 5)
    return table


def _numbers(cost: PassCost) -> list[str]:
    flops = [cost.flops_counted, cost.flops_formula, cost.flops_beside]
    weights = [cost.weight_bytes("fp32"), cost.weight_bytes("half")]
    giga = [NONE if value is None else rounded(value / 1e9) for value in flops]
    return giga + [NONE if value is None else f"{value / 1e6:,.1f} MB" for value in weights]
