"""Tables over samplers, grids and numbers of steps, against velocity evaluations and beside one setting of the paper's.

A velocity evaluation is one pass of the denoiser, counted by hooks: a step of ``heun`` takes two, guidance takes none
more, since both its rows go through one pass. The reference is the suite's own setting (``[settings]``: sampler, grid,
num_steps; the paper's is ddim, melody-linear, 20). Differences to it are at equal prompts, seeds, semantic tokens and
starting noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from melody.errors import MelodyError
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.registry import tables
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.embedded_clips import EmbeddedClips
from melody.reproduce.jobs.generation import GeneratedClips
from melody.reproduce.jobs.job import Job
from melody.reproduce.jobs.reference_clips import ReferenceJob
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables.arguments import AXES, HEARD, SAMPLING, Uses
from melody.reproduce.tables.builder import CellValue, Quantity, embedders_of
from melody.reproduce.tables.metric_columns import (
    FED_BY_CLIPS,
    MetricColumns,
    keeps_waveforms,
    metric_of,
    needs_reference,
)
from melody.reproduce.tables.sampling_grid import check_axes, grid_rows, problem_with, system_of
from melody.reproduce.tables.shared_jobs import generation_jobs, held_out_job, settings_row
from melody.reproduce.tables.table import RowJobs, RowResults, Table

ABLATION = Uses(HEARD - {"systems"} | SAMPLING | {"reference_clips"}, axes=AXES)
"""What a suite over samplers, grids and steps says."""
DIFFERENCE = "_difference"
"""What the name of a measure ends with that is a metric's difference to the reference's."""
MARGIN = 0.05
"""A FAD that is larger than the reference's by at most this share of it is no worse: a choice of ours."""


@dataclass(frozen=True)
class Ablation:
    """A suite over samplers, grids and steps, beside its own setting; a metric is computed once a setting."""

    suite: Suite
    context: Context
    metrics: MetricColumns
    _known: dict[tuple[str, ...], Measurement] = field(default_factory=dict)

    @cached_property
    def seeds(self) -> list[int]:
        return self.context.seeds(self.suite.settings.seeds)

    @cached_property
    def shared_jobs(self) -> RowJobs:
        """The reference's generations, and the held-out clips."""
        held_out = held_out_job(self.suite, self.context, embedders_of(self.suite))
        return {"reference": self.generations(settings_row(self.suite)), "held out": [held_out]}

    def generations(self, row: Row) -> list[Job]:
        """One a seed; none for a sampler that cannot be used."""
        if problem_with(row, self.context):
            return []
        embedders, kept = embedders_of(self.suite), keeps_waveforms(self.suite)
        system = system_of(row, self.context)
        return list(generation_jobs(self.suite, self.context, row, embedders, system, waveforms=kept).values())

    def purposes(self, column: Column) -> list[str]:
        """The shared jobs that a column needs beside a row's own."""
        reference = ["reference"] if column.measure.endswith(DIFFERENCE) else []
        return [*reference, *(["held out"] if needs_reference(_metric_column(column)) else [])]

    def by_seed(self, results: RowResults, purpose: str) -> dict[int, GeneratedClips]:
        found = results.computed(purpose)
        return {seed: GeneratedClips((clips,)) for seed, clips in zip(self.seeds, found, strict=True)}

    def nfe(self, results: RowResults, purpose: str) -> Measurement:
        """Passes of the denoiser for one row of a batch; the same for every seed, so it has no interval."""
        clips = self.by_seed(results, purpose)
        return levels.count({str(seed): float(found.counts.passes["denoiser"]) for seed, found in clips.items()})

    def difference(self, results: RowResults, purpose: str, column: Column) -> Measurement:
        """A metric of a setting less the reference's."""
        own, reference = (self.measured(results, name, column) for name in (purpose, "reference"))
        return levels.paired(own, reference)

    def measured(self, results: RowResults, purpose: str, column: Column) -> Measurement:
        """A metric of a setting's clips, where there is a set of real clips in it to the held-out ones."""
        column = _metric_column(column)
        key = (metric_of(column), column.hears, *(job.key for job in results.planned(purpose)))
        if key not in self._known:
            real = EmbeddedClips(tuple(results.computed("held out"))) if needs_reference(column) else None
            clips = self.by_seed(results, purpose)
            self._known[key] = self.metrics.of_generated(column, clips, real, self.expected)
        return self._known[key]

    @cached_property
    def inputs(self) -> str:
        """Of prompts and held-out clips."""
        held_out = RowResults(self.shared_jobs, {}).planned_as(ReferenceJob, "held out")
        return texts_hash([*self.context.texts(self.suite), *(job.corpus for job in held_out)])

    @property
    def config(self) -> dict[str, Any]:
        """What is the same in every row."""
        settings = self.suite.settings
        return {
            "prompts": settings.prompts,
            "duration_s": settings.duration_s,
            "guidance_scale": settings.guidance_scale,
            "reference": settings_row(self.suite),
            "margin": MARGIN,
        }

    @property
    def expected(self) -> int:
        return self.suite.settings.prompts * len(self.seeds)


@tables.register("samplers")
class SamplersTable(Table):
    """Samplers, grids, numbers of steps, and whatever else the axes vary, beside one setting of the paper's."""

    measures: ClassVar = {
        "evaluations": Quantity("velocity-evaluations", "lower", "evaluations"),
        "fad": Quantity("fad"),
        "fad_difference": Quantity("fad-difference", "lower"),
        "mcc": Quantity("mcc"),
        "mcc_difference": Quantity("mcc-difference", "higher"),
    }
    uses = replace(ABLATION, metrics=FED_BY_CLIPS)
    samples = True

    def check(self) -> None:
        """Raise ``MelodyError`` for an unknown sampler or grid, or a number that is none of its axis."""
        check_axes(self.suite, self.context)

    def rows(self) -> list[Row]:
        """The product of the axes."""
        return grid_rows(self.suite, self.context)

    @cached_property
    def _ablation(self) -> Ablation:
        return Ablation(self.suite, self.context, MetricColumns(self.suite, self.context))

    def jobs(self, row: Row) -> RowJobs:
        return {**self._ablation.shared_jobs, "clips": self._ablation.generations(row)}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        if problem := problem_with(row, self.context):
            raise MelodyError(problem)
        ablation = self._ablation
        purposes = ["clips", *ablation.purposes(column)]
        results.computed(*purposes)
        return CellValue(
            self._measured(column, results),
            jobs=results.planned(*purposes),
            inputs=ablation.inputs,
            config=ablation.config | row,
            seeds=tuple(ablation.seeds),
        )

    def _measured(self, column: Column, results: RowResults) -> Measurement:
        if column.measure == "evaluations":
            return self._ablation.nfe(results, "clips")
        if column.measure.endswith(DIFFERENCE):
            return self._ablation.difference(results, "clips", column)
        return self._ablation.measured(results, "clips", column)


def _metric_column(column: Column) -> Column:
    """The column of the metric itself, of one that shows its difference."""
    return column.model_copy(update={"measure": column.measure.removesuffix(DIFFERENCE)})
