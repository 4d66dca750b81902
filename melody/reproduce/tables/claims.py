"""The abstract's claims of passes saved against MusicLM, by what is counted and by every formula that is printed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.metrics.passes import continued_passes, melody_passes, musiclm_passes, musiclm_serial_passes, saving
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Job
from melody.reproduce.results import Projection
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.systems import OWN
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder
from melody.reproduce.tables.passes_and_preference import COUNTS, counted
from melody.reproduce.tables.shared_jobs import count

MEASURES = {
    "saving": Quantity("passes-saved", "higher", "%"),
    "passes": Quantity("passes"),
    "musiclm_passes": Quantity("passes-by-formula", "lower", "passes"),
}
FORMULAS: dict[str, tuple[Callable[[float, int], float], Callable[[float], float], str]] = {
    "printed formula": (melody_passes, musiclm_passes, "Table 3: 25·T + steps against (25 + 200 + 400)·T"),
    "Algorithm 2 by formula": (
        continued_passes,
        musiclm_passes,
        "Algorithm 2: 10 s, then 2.5 s a continuation with all steps again",
    ),
    "sampler's passes twice, as guidance is": (
        lambda duration_s, steps: melody_passes(duration_s, steps, 2),
        musiclm_passes,
        "25·T + 2·steps: both halves of guidance counted, against Table 3's formula",
    ),
    "MusicLM's fine windows in one batch": (
        melody_passes,
        musiclm_serial_passes,
        "25·T + steps against (25 + 200)·T and one fine window: they do not wait for one another (derived)",
    ),
    "sampler's passes alone": (
        lambda duration_s, steps: continued_passes(duration_s, steps) - math.ceil(25 * duration_s),
        musiclm_passes,
        "Algorithm 2's sampler runs, MeLoDy's own tokens left out, against Table 3's formula",
    ),
}
COUNTED = "counted by hooks"
BOTH = "both counted by hooks"
"""MusicLM's passes too, where the run has such a system with weights, as ``[settings.counted]`` says."""
AT_BEST = "both counted by hooks, MusicLM as fast as it can"
"""By its own defaults: fine windows in one batch."""
THEIRS = "musiclm"


def plan(suite: Suite, context: Context) -> list[Job]:
    """One generation for each duration that is counted; raises ``MelodyError`` for a row that is neither."""
    units: dict[str, Job] = {}
    for listed in suite.rows:
        _check_row(suite, listed.row)
        basis, duration_s = listed.row["basis"], float(listed.row["duration_s"])
        if basis in (COUNTED, BOTH, AT_BEST):
            ours = count(suite, context, duration_s)
            units[ours.key] = ours
        if basis in (BOTH, AT_BEST) and not context.unavailable_reason(THEIRS):
            theirs = count(suite, context, duration_s, THEIRS, by_default=basis == AT_BEST)
            units[theirs.key] = theirs
    return list(units.values())


def fill(builder: TableBuilder) -> FilledTable:
    """Every claim by every basis."""
    filled = FilledTable()
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, listed.row, column))
            for column in builder.suite.columns
        ]
    return filled


def _finding(builder: TableBuilder, row: Row, column: Column) -> CellValue:
    basis, duration_s = str(row["basis"]), float(row["duration_s"])
    if basis in (BOTH, AT_BEST):
        return _both(builder, column, duration_s, by_default=basis == AT_BEST)
    if basis == COUNTED:
        return _ours_counted(builder, column, duration_s)
    ours, theirs, place = FORMULAS[basis]
    passes = {"passes": ours(duration_s, builder.suite.settings.num_steps), "musiclm_passes": theirs(duration_s)}
    value = passes.get(column.measure, saving(*passes.values()))
    return CellValue(
        projected=Projection(value=float(value), method=place), unavailable_reason="this row is by formula only"
    )


def _ours_counted(builder: TableBuilder, column: Column, duration_s: float) -> CellValue:
    theirs = musiclm_passes(duration_s)
    if column.measure == "musiclm_passes":
        place = "Table 3: (25 + 200 + 400)·T"
        return CellValue(
            projected=Projection(value=theirs, method=place), unavailable_reason="MusicLM's passes are by formula here"
        )
    finding = counted(builder, _passes(column), duration_s)
    if finding.measured is None or column.measure in COUNTS:
        return finding
    return replace(finding, measured=_with_value(finding.measured, saving(finding.measured.value, theirs)))


def _both(builder: TableBuilder, column: Column, duration_s: float, *, by_default: bool) -> CellValue:
    ours, theirs = (
        counted(builder, _passes(column), duration_s, system, by_default=by_default) for system in (OWN, THEIRS)
    )
    if column.measure == "passes":
        return ours
    if column.measure == "musiclm_passes" or theirs.measured is None:
        return theirs
    if ours.measured is None:
        return ours
    measured = _with_value(theirs.measured, saving(ours.measured.value, theirs.measured.value))
    return replace(theirs, measured=measured, units=(*ours.units, *theirs.units))


def _passes(column: Column) -> Column:
    return column.model_copy(update={"measure": "passes"})


def _with_value(measured: Measurement, value: float) -> Measurement:
    return measured.model_copy(update={"value": value})


def _check_row(suite: Suite, row: Row) -> None:
    where, bases = f"suite {suite.name}: row {row}", [COUNTED, BOTH, AT_BEST, *FORMULAS]
    if row.get("basis") not in bases:
        raise MelodyError(f"{where}: unknown basis {row.get('basis')!r}{did_you_mean(str(row.get('basis')), bases)}")
    duration_s = row.get("duration_s")
    if isinstance(duration_s, str) or duration_s is None or duration_s <= 0:
        raise MelodyError(f"{where}: duration_s: expected a number above 0, got {duration_s!r}")
