"""What a step costs: the line through the seconds that Table 2's numbers of steps take (arithmetic: ours)."""

from __future__ import annotations

import numpy as np

from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.suite import Column, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder, failure_among
from melody.reproduce.tables.shared_jobs import settings_row, timing

MEASURES = {
    "seconds_per_step": Quantity("seconds-per-step", "lower", "s"),
    "seconds_beside_steps": Quantity("seconds-beside-steps", "lower", "s"),
}


def plan(suite: Suite, context: Context) -> list[Job]:
    """One timing for each number of steps; raises ``MelodyError`` for fewer than two."""
    if len(suite.axes.get("num_steps", ())) < 2:
        raise MelodyError(f"suite {suite.name}: the axis num_steps needs two values or more")
    return _jobs(suite, context)


def fill(builder: TableBuilder) -> FilledTable:
    """Slope and intercept for the device of the run."""
    filled = FilledTable()
    for listed in builder.suite.rows:
        here = listed.row.get("device") == builder.context.device.partition(":")[0]
        for column in builder.suite.columns:
            elsewhere = CellValue(unavailable_reason=f"this run is on {builder.context.device}")
            finding = builder.attempt(_finding, builder, column) if here else elsewhere
            filled.cells.append(builder.cell(listed.row, column, finding))
    return filled


def _finding(builder: TableBuilder, column: Column) -> CellValue:
    units = _jobs(builder.suite, builder.context)
    found = [builder.outcome(unit) for unit in units]
    if reason := failure_among(found):
        return CellValue(unavailable_reason=reason, units=tuple(units))
    measured = _line([o for o in found if isinstance(o, JobResult)], builder.suite, column.measure)
    seeds = tuple(builder.context.seeds(builder.suite.settings.seeds))
    config = {**settings_row(builder.suite), "num_steps": list(builder.suite.axes["num_steps"]), "batch": 1}
    return CellValue(measured, units=tuple(units), config=config, seeds=seeds)


def _line(outcomes: list[JobResult], suite: Suite, measure: str) -> Measurement:
    """Least squares for each seed."""
    steps = [int(count) for count in suite.axes["num_steps"]]
    by_seed = {}
    for seed in outcomes[0].values["seconds"]:
        seconds = [outcome.values["seconds"][seed] for outcome in outcomes]
        slope, intercept = np.polyfit(steps, seconds, 1)
        by_seed[seed] = float(slope if measure == "seconds_per_step" else intercept)
    return estimates.over_repeats(by_seed, expected=len(by_seed))


def _jobs(suite: Suite, context: Context) -> list[Job]:
    return [timing(suite, context, settings_row(suite, int(steps))) for steps in suite.axes["num_steps"]]
