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

from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.reproduce.jobs.job import Job
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder
from melody.reproduce.tables.quality_and_speed import rows
from melody.reproduce.tables.samplers import MARGIN, Ablation, plan
from melody.reproduce.tables.shared_jobs import settings_row

__all__ = ["MEASURES", "fill", "plan"]

MEASURES = {
    "fad_decided": Quantity("evaluations-enough", "lower", "evaluations"),
    "fad_possible": Quantity("evaluations-not-excluded", "lower", "evaluations"),
    "fad_difference": Quantity("fad-difference", "lower"),
}


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


def fill(builder: TableBuilder) -> FilledTable:
    """A row for each sampler on each grid; the best grid of each sampler in the head."""
    filled, ablation = FilledTable(), Ablation(builder)
    settings = list(rows(builder.suite, builder.context))
    for place in _places(settings):
        steps = [row for row in settings if _place(row) == place]
        filled.cells += [
            builder.cell(place, column, builder.attempt(_finding, ablation, steps, column))
            for column in builder.suite.columns
        ]
    filled.notes += _best(filled.cells, settings_row(builder.suite))
    return filled


def _finding(ablation: Ablation, steps: Sequence[Row], column: Column) -> CellValue:
    curve = _curve(ablation, steps, column.embedder or "")
    point = curve.possible() if column.measure == "fad_possible" else curve.decided()
    if point is None and column.measure != "fad_difference":
        raise MelodyError(_not_reached(curve))
    chosen = point or curve.points[-1]
    units: dict[str, Job] = {}
    for row in steps:
        units |= {unit.key: unit for unit in ablation.units(row, column)}
    return CellValue(
        chosen.difference if column.measure == "fad_difference" else chosen.nfe,
        units=tuple(units.values()),
        inputs=ablation.inputs,
        config=ablation.config | chosen.row,
        seeds=tuple(map(int, chosen.nfe.by_seed)),
    )


def _curve(ablation: Ablation, steps: Sequence[Row], embedder: str) -> Curve:
    points = [Point(row, ablation.nfe(row), ablation.fad_difference(row, embedder)) for row in steps]
    reference = ablation.distances(settings_row(ablation.builder.suite), embedder)
    ordered = sorted(points, key=lambda point: point.nfe.value)
    return Curve(tuple(ordered), MARGIN * reference.estimate.value)


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


def _places(settings: Sequence[Row]) -> list[Row]:
    return [dict(place) for place in dict.fromkeys(tuple(_place(row).items()) for row in settings)]


def _place(row: Row) -> Row:
    return {"sampler": row["sampler"], "grid": row["grid"]}
