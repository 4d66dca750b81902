"""The abstract's claims of passes saved against MusicLM, by what is counted and by every formula that is printed."""

from __future__ import annotations

from melody.errors import MelodyError, did_you_mean
from melody.harness.context import Context
from melody.harness.results import Projection
from melody.harness.suite import Column, Row, Suite
from melody.harness.tables.cells import Filled, Filling, Finding, Measure
from melody.harness.tables.count import COUNTS, counted
from melody.harness.tables.runs import count
from melody.harness.units import Unit
from melody.metrics.passes import continued_passes, melody_passes, musiclm_passes, saving

MEASURES = {
    "saving": Measure("passes-saved", "higher", "%"),
    "passes": Measure("passes"),
    "musiclm_passes": Measure("passes-by-formula", "lower", "passes"),
}
FORMULAS = {
    "printed formula": (melody_passes, "Table 3: 25·T + steps against (25 + 200 + 400)·T"),
    "Algorithm 2 by formula": (continued_passes, "Algorithm 2: 10 s, then 2.5 s a continuation with all steps again"),
}
COUNTED = "counted by hooks"


def plan(suite: Suite, context: Context) -> list[Unit]:
    """One generation for each duration that is counted; raises ``MelodyError`` for a row that is neither."""
    for listed in suite.rows:
        _check_row(suite, listed.row)
    durations = dict.fromkeys(float(r.row["duration_s"]) for r in suite.rows if r.row["basis"] == COUNTED)
    return [count(suite, context, duration_s) for duration_s in durations]


def fill(filling: Filling) -> Filled:
    """Every claim by every basis."""
    filled = Filled()
    for listed in filling.suite.rows:
        filled.cells += [
            filling.cell(listed.row, column, filling.attempt(_finding, filling, listed.row, column))
            for column in filling.suite.columns
        ]
    return filled


def _finding(filling: Filling, row: Row, column: Column) -> Finding:
    duration_s, theirs = float(row["duration_s"]), musiclm_passes(float(row["duration_s"]))
    if column.measure == "musiclm_passes":
        place = "Table 3: (25 + 200 + 400)·T"
        return Finding(projected=Projection(value=theirs, method=place), absent="MusicLM's passes are by formula only")
    if row["basis"] != COUNTED:
        formula, place = FORMULAS[str(row["basis"])]
        ours = formula(duration_s, filling.suite.settings.num_steps)
        value = float(ours) if column.measure == "passes" else saving(ours, theirs)
        return Finding(projected=Projection(value=value, method=place), absent="this row is by formula only")
    finding = counted(filling, column.model_copy(update={"measure": "passes"}), duration_s)
    if finding.measured is None or column.measure in COUNTS:
        return finding
    measured = finding.measured.model_copy(update={"value": saving(finding.measured.value, theirs)})
    return Finding(measured, units=finding.units, inputs=finding.inputs, config=finding.config, seeds=finding.seeds)


def _check_row(suite: Suite, row: Row) -> None:
    where, bases = f"suite {suite.name}: row {row}", [COUNTED, *FORMULAS]
    if row.get("basis") not in bases:
        raise MelodyError(f"{where}: unknown basis {row.get('basis')!r}{did_you_mean(str(row.get('basis')), bases)}")
    duration_s = row.get("duration_s")
    if isinstance(duration_s, str) or duration_s is None or duration_s <= 0:
        raise MelodyError(f"{where}: duration_s: expected a number above 0, got {duration_s!r}")
