"""What the paper claims, a line each: the suites' statements gathered under them, and what came out.

A statement that no claim gathers, as of a suite from elsewhere, is a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from melody.evaluation.result import Measurement
from melody.report import numbers
from melody.report.document import Finding
from melody.report.kinds import (
    DASH,
    KIND_MARKS,
    MARKS,
    OURS,
    axis_name,
    grade_mark,
    paper_text,
    place_on,
    value_of,
)
from melody.report.orderings import compared_cells, measure_of, two_printed, two_values
from melody.reproduce.results import Cell, Ordering, Results, Statement, Table, Target

Axes = Mapping[str, str | int | float]
ORDER = ("does not come out", "comes out", "undecided", "not comparable", "not attempted")
"""What contradicts first."""
PUBLISHED = "published samples"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in a few words, and what of a result speaks for it."""

    text: str
    statement: str
    """As the suites print it: its verdict is the claim's."""
    beside: tuple[str, ...] = ()
    """Statements that fold under it."""
    column: str = ""
    """Whose number is shown; of a statement's first cell if empty."""
    row: Axes = field(default_factory=dict)
    against: Axes = field(default_factory=dict)
    """Another row, whose number is shown too, with the difference."""


CLAIMS = (
    Claim(
        "95.7 % fewer forward passes than MusicLM for 10 s",
        "95.7 % fewer passes than MusicLM for 10 s (abstract)",
        ("MeLoDy makes the fewest passes and MusicLM the most (Table 3)",),
    ),
    Claim("99.6 % fewer forward passes than MusicLM for 30 s", "99.6 % fewer passes than MusicLM for 30 s (abstract)"),
    Claim(
        "Faster than real time on a V100: 7.5 to 2.4 times",
        "On a V100: 181.1, 104.8 and 56.9 kHz at 5, 10 and 20 steps, 7.5 to 2.4 times real time (Table 2)",
        ("Fewer steps are faster, on the CPU and on the GPU (Table 2)",),
        column="gpu_rtf",
        row={"num_steps": 20},
    ),
    Claim(
        "0.06 to 0.02 times real time on a CPU",
        "On a CPU: 1,472, 893 and 498 Hz at 5, 10 and 20 steps (Table 2)",
        column="cpu_rtf",
        row={"num_steps": 20},
    ),
    Claim(
        "More steps are better",
        "More steps are better: FAD falls and MCC rises (Tables 2 and 4)",
        (
            "FAD and MCC on MusicCaps, in numbers (Tables 2 and 4)",
            "MCC of generated clips is above MusicCaps' own (Table 2)",
        ),
        column="fad",
        row={"grid": "melody-linear", "num_steps": 10},
        against={"grid": "melody-linear", "num_steps": 5},
    ),
    Claim(
        "The linear angle schedule beats the uniform one",
        "The linear schedule is better than the uniform one at as many steps (Table 4)",
        column="fad",
        row={"grid": "melody-linear", "num_steps": 10},
        against={"grid": "uniform", "num_steps": 10},
    ),
    Claim(
        "Dual-path diffusion beats both U-Nets",
        "Dual-path diffusion is better than both U-Nets (Table 5)",
        ("Velocity MSE and SI-SNRi of the denoisers, in numbers (Table 5)",),
        column="velocity_mse",
        row={"denoiser": "dual-path"},
        against={"denoiser": "unet-1d"},
    ),
    Claim(
        "Listeners prefer MusicLM and Noise2Music in musicality",
        "Listeners prefer MusicLM and Noise2Music in musicality (Table 3)",
        column="rated_musicality",
    ),
    Claim(
        "Listeners prefer MeLoDy in audio quality",
        "Listeners prefer MeLoDy in audio quality (Table 3)",
        column="rated_quality",
    ),
    Claim(
        "Listeners prefer MusicLM and Noise2Music in text correlation",
        "Listeners prefer MusicLM and Noise2Music in text correlation (Table 3)",
        column="rated_text",
    ),
    Claim(
        "MeLoDy does all four: continues audio, beats real time, takes various prompts, heard by producers",
        "What each of four systems can do, MeLoDy all four (Table 1)",
    ),
)


def claim_findings(results: Results, anchors: Mapping[str, str]) -> tuple[Finding, ...]:
    """A line for each claim that this run's suites ask after, what contradicts first; ``anchors`` by suite."""
    stated = {statement.text: statement for statement in results.statements}
    gathered = {text for claim in CLAIMS if claim.statement in stated for text in (claim.statement, *claim.beside)}
    asked = [claim for claim in CLAIMS if claim.statement in stated]
    asked += [Claim(text, text) for text in stated if text not in gathered]
    asked.sort(key=lambda claim: ORDER.index(stated[claim.statement].verdict))
    return tuple(_finding(claim, stated, results.tables, anchors) for claim in asked)


def target_findings(tables: Sequence[Table], anchors: Mapping[str, str]) -> tuple[Finding, ...]:
    """A line for each target of our own, what falls short first."""
    found = [target_finding(target, table, anchors) for table in tables for target in table.targets]
    return tuple(sorted(found, key=lambda finding: finding.mark != "✗"))


def target_finding(target: Target, table: Table, anchors: Mapping[str, str]) -> Finding:
    """What we aim at, and what was measured."""
    return Finding(
        target.claim,
        MARKS[target.verdict],
        target.verdict,
        target.reason,
        anchor=anchors[table.suite],
        where=_called(table.suite),
    )


def _called(suite: str) -> str:
    """A suite's name without that of its group."""
    return suite.rpartition("/")[2]


def _finding(
    claim: Claim, stated: Mapping[str, Statement], tables: Sequence[Table], anchors: Mapping[str, str]
) -> Finding:
    statement = stated[claim.statement]
    table = next((table for table in tables if _speaks(table, statement.text)), None)
    cell = None if table is None else _chosen(claim, table)
    number, paper = _number(claim, table, cell)
    beside = [
        Finding(other.text, MARKS[other.verdict], other.verdict, reason=other.reason)
        for text in claim.beside
        if (other := stated.get(text)) is not None
    ]
    return Finding(
        claim.text,
        MARKS[statement.verdict],
        statement.verdict,
        number,
        paper,
        scale_of(cell),
        statement.reason,
        "" if table is None else anchors.get(table.suite, ""),
        "" if table is None else _called(table.suite),
        (*([] if table is None else _other_counts(table, statement.text)), *beside),
    )


def _speaks(table: Table, statement: str) -> bool:
    parts: list[Cell | Ordering] = [*table.cells, *table.orderings]
    return any(part.statement == statement for part in parts)


def _chosen(claim: Claim, table: Table) -> Cell | None:
    """The cell whose number stands on the claim's line."""
    cells = [cell for cell in table.cells if cell.statement == claim.statement] or list(table.cells)
    if claim.column:
        cells = [cell for cell in table.cells if cell.column == claim.column]
    cells = [cell for cell in cells if claim.row.items() <= cell.row.items() and _has_number(cell)]
    return cells[0] if cells and (claim.column or cells[0].statement == claim.statement) else None


def _has_number(cell: Cell) -> bool:
    return any(value_of(cell, kind) is not None for kind in OURS)


def _number(claim: Claim, table: Table | None, cell: Cell | None) -> tuple[str, str]:
    """Our number with its interval, and the paper's."""
    if table is None or cell is None:
        return "not tested", ""
    if cell.unit == numbers.YES_NO:
        return _agreement(claim, table), ""
    if claim.against and (other := _chosen(Claim("", claim.statement, (), claim.column, claim.against), table)):
        return _compared(claim, cell, other, table), two_printed((cell, other))
    at = "".join(f" at {place_on(axis, value)} {axis_name(axis)}" for axis, value in claim.row.items())
    unit = f" {cell.unit}" if cell.unit else ""
    paper = "" if cell.paper is None else f"{paper_text(cell.paper, cell.unit)}{unit}"
    counted = ", an exact count" if cell.metric.startswith("passes") else ""
    return f"{_written(cell)}{unit}{at}{counted}", paper


def _written(cell: Cell) -> str:
    kind = next(kind for kind in OURS if value_of(cell, kind) is not None)
    value = value_of(cell, kind)
    assert value is not None
    if isinstance(value, Measurement):
        return KIND_MARKS[kind] + _words(*numbers.measured(value, cell.unit))
    return f"{KIND_MARKS[kind]}{numbers.rounded(value.value, cell.unit)}{grade_mark(value)}"


def _agreement(claim: Claim, table: Table) -> str:
    """How many yes and no come out as printed, of those that were tested."""
    cells = [cell for cell in table.cells if cell.statement == claim.statement and cell.paper is not None]
    tested = [cell for cell in cells if cell.measured is not None]
    same = sum(cell.measured.value == cell.paper.value for cell in tested if cell.measured and cell.paper)
    return f"{same} of {len(tested)} marks as printed, {len(cells) - len(tested)} not tested"


def _compared(claim: Claim, cell: Cell, other: Cell, table: Table) -> str:
    """Two values and their difference, as in ``FAD ↓: linear 3.09, uniform 2.92; worse by 0.17 ± 0.23``."""
    return f"{measure_of(cell)}: {two_values((cell, other))}{_difference(claim, cell, other, table)}"


def _difference(claim: Claim, cell: Cell, other: Cell, table: Table) -> str:
    """What the ordering of these two values says of their difference; nothing if it was not tested."""
    for ordering in table.orderings:
        if ordering.statement != claim.statement or ordering.difference is None:
            continue
        if compared_cells(ordering, table) in ((cell, other), (other, cell)):
            return f"; {_better_by(ordering.difference)}"
    return ""


def _better_by(difference: Measurement) -> str:
    """Which is better, by how much.

    >>> _better_by(Measurement(value=-0.17, low=-0.40, high=0.06, expected=1, scored=1))
    'worse by 0.17 ± 0.23'
    >>> _better_by(Measurement(value=-0.00887364, expected=1, scored=1))
    'worse by 0.00887, no interval'
    >>> _better_by(Measurement(value=1.0, low=0.5, high=3.0, expected=1, scored=1))
    'better by 1.0 (0.5 to 3.0)'
    """
    value, interval = numbers.measured(difference)
    if not interval:
        value, interval = numbers.rounded(float(f"{difference.value:.3g}")), "no interval"
        value = f"{value},"
    if difference.value >= 0:
        return f"better by {value} {interval}"
    return f"worse by {value[1:]} {interval}" if "(" not in interval else f"difference {value} {interval}"


def _other_counts(table: Table, statement: str) -> Iterator[Finding]:
    """Other rows of the same column that the same printed number stands beside: other ways to count."""
    own = [cell for cell in table.cells if cell.statement == statement and cell.paper is not None]
    printed = {(cell.column, cell.paper.value, cell.paper.place) for cell in own if cell.paper is not None}
    for cell in table.cells:
        if cell.paper is None or cell.statement == statement or not _has_number(cell):
            continue
        if (cell.column, cell.paper.value, cell.paper.place) in printed:
            row = ", ".join(place_on(axis, value) for axis, value in cell.row.items())
            unit = f" {cell.unit}" if cell.unit else ""
            yield Finding(f"Counted otherwise: {row}", MARKS[cell.verdict], cell.verdict, f"{_written(cell)}{unit}")


def scale_of(cell: Cell | None) -> str:
    """At which size a number was measured: the paper's, a demo's, of published samples."""
    if cell is None:
        return DASH
    if cell.published is not None and cell.measured is None:
        return PUBLISHED
    if cell.provenance is None:
        return "formula" if cell.measured is None else DASH
    preset = cell.provenance.preset
    if preset == "paper" or preset.startswith("paper-"):
        return "paper's size"
    return "demo" if is_demo(preset) else preset


def is_demo(preset: str) -> bool:
    """Whether a preset is one of the small ones that are shipped."""
    return preset.partition("-")[0] in ("demo", "table5")


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)
