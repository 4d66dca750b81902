"""What a step costs: the line through the seconds that Table 2's numbers of steps take (arithmetic: ours)."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from melody.errors import MelodyError
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.registry import tables
from melody.reproduce.jobs.generation import Timing
from melody.reproduce.jobs.job import Job
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables.arguments import CLIPS, Uses
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.shared_jobs import settings_row, timing
from melody.reproduce.tables.table import RowJobs, RowResults, Table


@tables.register("step-time")
class StepTimeTable(Table):
    """Seconds of a step and beside the steps: slope and intercept for the device of the run."""

    measures: ClassVar = {
        "seconds_per_step": Quantity("seconds-per-step", "lower", "s"),
        "seconds_beside_steps": Quantity("seconds-beside-steps", "lower", "s"),
    }
    uses = Uses(CLIPS | {"sampler", "grid"}, listed=frozenset({"device"}), axes=frozenset({"num_steps"}))

    def check(self) -> None:
        """Raise ``MelodyError`` for fewer than two numbers of steps."""
        if len(self.suite.axes.get("num_steps", ())) < 2:
            raise MelodyError(f"suite {self.suite.name}: the axis num_steps needs two values or more")

    @cached_property
    def _timings(self) -> list[Job]:
        """One timing for each number of steps."""
        steps = self.suite.axes["num_steps"]
        return [timing(self.suite, self.context, settings_row(self.suite, int(count))) for count in steps]

    def jobs(self, row: Row) -> RowJobs:
        return {"timings": self._timings}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        if row.get("device") != self.context.request.device.partition(":")[0]:
            return CellValue(unavailable_reason=f"this run is on {self.context.request.device}")
        jobs = results.planned("timings")
        if reason := results.failure("timings"):
            return CellValue(unavailable_reason=reason, jobs=jobs)
        seeds = tuple(self.context.seeds(self.suite.settings.seeds))
        config = {**settings_row(self.suite), "num_steps": list(self.suite.axes["num_steps"]), "batch": 1}
        measured = _line(list(map(Timing.of, results.computed("timings"))), self.suite, column.measure)
        return CellValue(measured, jobs=jobs, config=config, seeds=seeds)


def _line(timings: list[Timing], suite: Suite, measure: str) -> Measurement:
    """Least squares for each seed."""
    steps = [int(count) for count in suite.axes["num_steps"]]
    by_seed = {}
    for seed in timings[0].seconds:
        seconds = [timed.seconds[seed] for timed in timings]
        slope, intercept = np.polyfit(steps, seconds, 1)
        by_seed[seed] = float(slope if measure == "seconds_per_step" else intercept)
    return levels.over_repeats(by_seed, expected=len(by_seed))
