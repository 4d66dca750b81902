"""Tables over samplers, grids and numbers of steps, against velocity evaluations and beside one setting of the paper's.

A velocity evaluation is one pass of the denoiser, counted by hooks: a step of ``heun`` takes two, guidance takes none
more, since both its rows go through one pass. The reference is the suite's own setting (``[settings]``: sampler, grid,
num_steps; the paper's is ddim, melody-linear, 20). Differences to it are at equal prompts, seeds, semantic tokens and
starting noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder, embedders_of
from melody.reproduce.tables.quality_and_speed import check_axes, problem_with, rows
from melody.reproduce.tables.shared_jobs import generation_jobs, held_out_job, settings_row

MEASURES = {
    "evaluations": Quantity("velocity-evaluations", "lower", "evaluations"),
    "fad": Quantity("fad"),
    "fad_difference": Quantity("fad-difference", "lower"),
    "mcc": Quantity("mcc"),
    "mcc_difference": Quantity("mcc-difference", "higher"),
}
MARGIN = 0.05
"""A FAD that is larger than the reference's by at most this share of it is no worse: a choice of ours."""


def plan(suite: Suite, context: Context) -> list[Job]:
    """Every row's generations, the reference's, and the held-out clips.

    Raises:
        MelodyError: missing or unknown axis, an unknown sampler or grid.
    """
    check_axes(suite, context)
    found = [row for row in rows(suite, context) if not problem_with(row, context)]
    # A run of an hour that is stopped has some grids whole, and not some samplers.
    found.sort(key=lambda row: suite.axes["grid"].index(row["grid"]))
    units = [unit for row in [settings_row(suite), *found] for unit in _generations(suite, context, row).values()]
    return [*units, _held_out(suite, context)]


def fill(builder: TableBuilder) -> FilledTable:
    """Cells of every row."""
    filled, ablation = FilledTable(), Ablation(builder)
    for row in rows(builder.suite, builder.context):
        filled.cells += [
            builder.cell(row, column, builder.attempt(ablation.finding, row, column))
            for column in builder.suite.columns
        ]
    return filled


@dataclass(frozen=True)
class Ablation:
    """What is measured of rows; Fréchet distances are computed once a row."""

    builder: TableBuilder
    _distances: dict[str, estimates.Distances] = field(default_factory=dict)

    def finding(self, row: Row, column: Column) -> CellValue:
        """A measure of a row with all that it hangs on; raises ``MelodyError`` if a part of it failed."""
        units = self.units(row, column)
        return CellValue(
            self._measured(row, column),
            units=tuple(units),
            inputs=self.inputs,
            config=self.config | row,
            seeds=tuple(_generations(self.builder.suite, self.builder.context, row)),
        )

    def units(self, row: Row, column: Column) -> list[Job]:
        """The units behind a measure of a row; raises ``MelodyError`` for a sampler that cannot be used."""
        if problem := problem_with(row, self.builder.context):
            raise MelodyError(problem)
        suite, context = self.builder.suite, self.builder.context
        others = [settings_row(suite)] if column.measure.endswith("difference") else []
        found = [unit for one in [row, *others] for unit in _generations(suite, context, one).values()]
        return [*found, *([_held_out(suite, context)] if column.measure.startswith("fad") else [])]

    def nfe(self, row: Row) -> Measurement:
        """Passes of the denoiser for one row of a batch; the same for every seed, so it has no interval."""
        by_seed = {
            str(seed): float(outcome.values["trace"]["passes"]["denoiser"])
            for seed, outcome in self._generated(row).items()
        }
        return estimates.count(by_seed)

    def fad_difference(self, row: Row, embedder: str) -> Measurement:
        """FAD of a row less the reference's."""
        reference = self.distances(settings_row(self.builder.suite), embedder)
        scored = estimates.clips_of(self._generated(row))
        return estimates.fad_difference(self.distances(row, embedder), reference, self._expected, scored)

    def distances(self, row: Row, embedder: str) -> estimates.Distances:
        """Fréchet distances of a row to the held-out clips."""
        key = f"{embedder} {sorted(row.items())}"
        if key not in self._distances:
            target = estimates.pooled(estimates.clip_statistics(self._real, embedder))
            self._distances[key] = estimates.fad_distances(self._generated(row), target, embedder)
        return self._distances[key]

    @property
    def inputs(self) -> str:
        """Of prompts and held-out clips."""
        suite, context = self.builder.suite, self.builder.context
        return texts_hash([*context.texts(suite), _held_out(suite, context).config["corpus"]])

    @property
    def config(self) -> dict[str, Any]:
        """What is the same in every row."""
        settings = self.builder.suite.settings
        return {
            "prompts": settings.prompts,
            "duration_s": settings.duration_s,
            "guidance_scale": settings.guidance_scale,
            "reference": settings_row(self.builder.suite),
            "margin": MARGIN,
        }

    def _measured(self, row: Row, column: Column) -> Measurement:
        embedder = column.embedder or ""
        if column.measure == "evaluations":
            return self.nfe(row)
        if column.measure == "fad_difference":
            return self.fad_difference(row, embedder)
        if column.measure == "fad":
            return estimates.fad(self._generated(row), self._real, embedder, self._expected)
        if column.measure == "mcc":
            return estimates.mcc(self._generated(row), self._expected)
        reference = self._generated(settings_row(self.builder.suite))
        return estimates.mcc_difference(self._generated(row), reference, self._expected)

    def _generated(self, row: Row) -> dict[int, JobResult]:
        units = _generations(self.builder.suite, self.builder.context, row)
        return dict(zip(units, self.builder.computed(list(units.values())), strict=True))

    @cached_property
    def _real(self) -> JobResult:
        return self.builder.computed([_held_out(self.builder.suite, self.builder.context)])[0]

    @property
    def _expected(self) -> int:
        settings = self.builder.suite.settings
        return settings.prompts * len(settings.seeds)


def _generations(suite: Suite, context: Context, row: Row) -> dict[int, Job]:
    return generation_jobs(suite, context, row, embedders_of(suite))


def _held_out(suite: Suite, context: Context) -> Job:
    return held_out_job(suite, context, embedders_of(suite))
