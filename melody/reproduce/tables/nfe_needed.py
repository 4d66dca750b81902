"""Tables of how many velocity evaluations each sampler needs on each grid for the quality of a setting of the paper's.

Of the numbers that were measured, by the paired difference of FAD to the reference (see ``samplers``):

- *enough, decided*: from many to few, the last whose whole interval lies below the margin, 5 % of the reference's FAD,
  before the first that does not;
- *not excluded*: from few to many, the first whose interval does not lie above 0, so that it may be enough.

The answer lies between the two. A walk in a fixed order that ends at the first undecided number needs no correction for
its length (a fixed sequence of tests, each at full level); samplers and grids are questions of their own, and the best
of several grids is not corrected for that choice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.registry import tables
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.arguments import SAMPLING
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.metric_columns import MetricColumns
from melody.reproduce.tables.samplers import ABLATION, MARGIN, Ablation
from melody.reproduce.tables.sampling_grid import check_axes, grid_rows, problem_with
from melody.reproduce.tables.shared_jobs import settings_row
from melody.reproduce.tables.table import RowJobs, RowResults, Table


@dataclass(frozen=True)
class Point:
    """One number of evaluations of a sampler on a grid, with the difference of its FAD to the reference's."""

    row: Row
    nfe: Measurement
    difference: Measurement


@dataclass(frozen=True)
class Curve:
    """The points of one sampler on one grid, from few evaluations to many."""

    points: tuple[Point, ...]
    margin: float
    """In units of FAD."""

    def decided(self) -> Point | None:
        """The fewest evaluations from which on every point is no worse than the margin, to the end of its interval."""
        enough = itertools.takewhile(lambda one: _end(one.difference, "high") <= self.margin, reversed(self.points))
        return next(reversed(list(enough)), None)

    def possible(self) -> Point | None:
        """The first point that is not decided to be worse."""
        return next((point for point in self.points if _end(point.difference, "low") <= 0), None)


@tables.register("nfe-needed")
class NfeNeededTable(Table):
    """How many velocity evaluations each sampler needs on each grid; the best grid of each stands in the head."""

    measures: ClassVar = {
        "fad_decided": Quantity("evaluations-enough", "lower", "evaluations"),
        "fad_possible": Quantity("evaluations-not-excluded", "lower", "evaluations"),
        "fad_difference": Quantity("fad-difference", "lower"),
    }
    uses = ABLATION
    samples = True

    def check(self) -> None:
        """Raise ``MelodyError`` for a missing or another axis, an unknown sampler or grid."""
        if set(self.suite.axes) != SAMPLING:
            axes = ", ".join(self.suite.axes) or "none"
            raise MelodyError(f"suite {self.suite.name}: axes are {axes}; expected sampler, grid, num_steps")
        check_axes(self.suite, self.context)

    @cached_property
    def _ablation(self) -> Ablation:
        return Ablation(self.suite, self.context, MetricColumns(self.suite, self.context))

    @cached_property
    def _settings(self) -> list[Row]:
        return grid_rows(self.suite, self.context)

    def rows(self) -> list[Row]:
        """Each sampler on each grid."""
        places = dict.fromkeys((row["sampler"], row["grid"]) for row in self._settings)
        return [{"sampler": sampler, "grid": grid} for sampler, grid in places]

    def _steps(self, row: Row) -> list[Row]:
        """The settings of a sampler on a grid, by numbers of steps."""
        return [setting for setting in self._settings if all(setting[axis] == row[axis] for axis in row)]

    def jobs(self, row: Row) -> RowJobs:
        generations = {_purpose(setting): self._ablation.generations(setting) for setting in self._steps(row)}
        return {**self._ablation.shared_jobs, **generations}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        if problem := problem_with(row, self.context):
            raise MelodyError(problem)
        ablation, curve = self._ablation, self._curve(row, column, results)
        point = curve.possible() if column.measure == "fad_possible" else curve.decided()
        if point is None and column.measure != "fad_difference":
            raise MelodyError(_not_reached(curve))
        chosen = point or curve.points[-1]
        shared = ["reference", "held out"] if column.measure == "fad_difference" else ["held out"]
        purposes = [name for setting in self._steps(row) for name in (_purpose(setting), *shared)]
        return CellValue(
            chosen.difference if column.measure == "fad_difference" else chosen.nfe,
            jobs=tuple({job.key: job for job in results.planned(*purposes)}.values()),
            inputs=ablation.inputs,
            config=ablation.config | chosen.row,
            seeds=tuple(map(int, chosen.nfe.by_seed)),
        )

    def _curve(self, row: Row, column: Column, results: RowResults) -> Curve:
        ablation, column = self._ablation, column.model_copy(update={"measure": "fad"})
        points = [
            Point(
                setting,
                ablation.nfe(results, _purpose(setting)),
                ablation.difference(results, _purpose(setting), column),
            )
            for setting in self._steps(row)
        ]
        reference = ablation.measured(results, "reference", column)
        ordered = sorted(points, key=lambda point: point.nfe.value)
        return Curve(tuple(ordered), MARGIN * reference.value)

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> Iterator[str]:
        """The best grid of each sampler."""
        return _best(cells, settings_row(self.suite))


def _purpose(setting: Row) -> str:
    return f"{setting['num_steps']} steps"


def _not_reached(curve: Curve) -> str:
    last = curve.points[-1]
    interval = f"{_end(last.difference, 'low'):+.3g} to {_end(last.difference, 'high'):+.3g}"
    return (
        f"no number up to {last.nfe.value:g} evaluations, the most that were measured: FAD minus the "
        f"reference's is {last.difference.value:+.3g} there ({interval}); the margin is {curve.margin:.3g}"
    )


def _end(difference: Measurement, name: str) -> float:
    """An end of the interval; without an interval nothing is decided."""
    end: float | None = getattr(difference, name)
    return end if end is not None else math.inf if name == "high" else -math.inf


def _best(cells: Sequence[Cell], reference: Row) -> Iterator[str]:
    """The answer in lines: for each sampler the fewest evaluations, on which grids."""
    name = f"{reference['sampler']} on {reference['grid']} with {reference['num_steps']} steps"
    yield f"The reference is {name}; FAD may be worse by {100 * MARGIN:g} % (ours), to the end of the 95 % interval."
    for sampler in dict.fromkeys(str(cell.row["sampler"]) for cell in cells):
        own = [cell for cell in cells if cell.row["sampler"] == sampler]
        decided, possible = _fewest(own, "evaluations-enough"), _fewest(own, "evaluations-not-excluded")
        yield f"{sampler}: enough, decided: {decided}; not excluded: {possible}."


def _fewest(cells: Sequence[Cell], metric: str) -> str:
    found = [(c.measured.value, str(c.row["grid"])) for c in cells if c.measured and c.metric.startswith(f"{metric}[")]
    if not found:
        return "none that was measured"
    fewest = min(value for value, _ in found)
    return f"{fewest:g} evaluations ({', '.join(grid for value, grid in found if value == fewest)})"
