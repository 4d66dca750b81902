"""Forward passes of whole systems, and the preferences of listeners (Table 3)."""

from __future__ import annotations

from melody.harness.context import Context, texts_hash
from melody.harness.results import Measurement
from melody.harness.suite import Column, Row, Suite
from melody.harness.tables.cells import Filled, Filling, Finding, Measure
from melody.harness.tables.runs import count, settings_row
from melody.harness.units import Failure, Unit

MEASURES = {
    "passes": Measure("passes"),
    "passes_formula": Measure("passes-by-formula", "lower", "passes"),
    "preference": Measure("preference", "higher"),
}
COUNTS = {"passes": "passes", "passes_formula": "formula"}


def plan(suite: Suite, context: Context) -> list[Unit]:
    """One generation whose passes are counted."""
    return [count(suite, context, suite.settings.duration_s)]


def fill(filling: Filling) -> Filled:
    """Counts of the system under test; other systems' and the listeners' are not ours to measure here."""
    filled = Filled()
    for listed in filling.suite.rows:
        filled.cells += [
            filling.cell(listed.row, column, filling.attempt(_finding, filling, listed.row, column, listed.absent))
            for column in filling.suite.columns
        ]
    return filled


def other_system(filling: Filling, row: Row) -> str | None:
    """Why a row is not measured, if it is not the system under test's."""
    return filling.context.absent(str(row["system"])) or None


def _finding(filling: Filling, row: Row, column: Column, absent: str) -> Finding:
    if column.measure == "preference":
        return Finding(absent=absent)
    if reason := other_system(filling, row):
        return Finding(absent=reason)
    return counted(filling, column, filling.suite.settings.duration_s)


def counted(filling: Filling, column: Column, duration_s: float) -> Finding:
    """Passes of one clip of some duration, by hooks or by formula."""
    unit = count(filling.suite, filling.context, duration_s)
    outcome = filling.outcome(unit)
    if isinstance(outcome, Failure):
        return Finding(absent=outcome.reason, units=(unit,))
    total = sum(outcome.values["trace"][COUNTS[column.measure]].values())
    return Finding(
        Measurement(value=float(total), expected=1, scored=1),
        units=(unit,),
        inputs=texts_hash([unit.config["prompt"]]),
        config={**settings_row(filling.suite), "duration_s": duration_s, "by_part": outcome.values["trace"]},
        seeds=(0,),
    )
