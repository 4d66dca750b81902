"""Tables over samplers, grids and numbers of steps, against velocity evaluations and beside one setting of the paper's.

A velocity evaluation is one pass of the denoiser, counted by hooks: a step of ``heun`` takes two, guidance takes none
more, since both its rows go through one pass. The reference is the suite's own setting (``[settings]``: sampler, grid,
num_steps; the paper's is ddim, melody-linear, 20). Differences to it are at equal prompts, seeds, semantic tokens and
starting noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.registry import tables
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.arguments import HEARD, SAMPLING, Uses
from melody.reproduce.tables.builder import CellValue, Quantity, embedders_of
from melody.reproduce.tables.sampling_grid import check_axes, grid_rows, problem_with
from melody.reproduce.tables.shared_jobs import generation_jobs, held_out_job, settings_row
from melody.reproduce.tables.table import RowJobs, RowResults, Table

ABLATION = Uses(HEARD - {"systems"} | SAMPLING | {"reference_clips"}, axes=SAMPLING)
"""What a suite over samplers, grids and steps says."""
MARGIN = 0.05
"""A FAD that is larger than the reference's by at most this share of it is no worse: a choice of ours."""


@dataclass(frozen=True)
class Ablation:
    """A suite over samplers, grids and steps, beside its own setting; Fréchet distances are computed once a setting."""

    suite: Suite
    context: Context
    _distances: dict[tuple[str, ...], estimates.Distances] = field(default_factory=dict)

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
        return list(generation_jobs(self.suite, self.context, row, embedders_of(self.suite)).values())

    def purposes(self, column: Column) -> list[str]:
        """The shared jobs that a column needs beside a row's own."""
        reference = ["reference"] if column.measure.endswith("difference") else []
        return [*reference, *(["held out"] if column.measure.startswith("fad") else [])]

    def by_seed(self, results: RowResults, purpose: str) -> dict[int, JobResult]:
        return dict(zip(self.seeds, results.computed(purpose), strict=True))

    def nfe(self, results: RowResults, purpose: str) -> Measurement:
        """Passes of the denoiser for one row of a batch; the same for every seed, so it has no interval."""
        clips = self.by_seed(results, purpose)
        return estimates.count(
            {str(seed): float(found.values["trace"]["passes"]["denoiser"]) for seed, found in clips.items()}
        )

    def fad_difference(self, results: RowResults, purpose: str, embedder: str) -> Measurement:
        """FAD of a setting less the reference's."""
        own, reference = (self.distances(results, name, embedder) for name in (purpose, "reference"))
        scored = estimates.clips_of(self.by_seed(results, purpose))
        return estimates.fad_difference(own, reference, self.expected, scored)

    def distances(self, results: RowResults, purpose: str, embedder: str) -> estimates.Distances:
        """Fréchet distances of a setting to the held-out clips."""
        key = (embedder, *(job.key for job in results.planned(purpose)))
        if key not in self._distances:
            (held_out,) = results.computed("held out")
            target = estimates.pooled(estimates.clip_statistics(held_out, embedder))
            self._distances[key] = estimates.fad_distances(self.by_seed(results, purpose), target, embedder)
        return self._distances[key]

    @cached_property
    def inputs(self) -> str:
        """Of prompts and held-out clips."""
        (held_out,) = self.shared_jobs["held out"]
        return texts_hash([*self.context.texts(self.suite), held_out.config["corpus"]])

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
    """Samplers, grids and numbers of steps, beside one setting of the paper's."""

    measures: ClassVar = {
        "evaluations": Quantity("velocity-evaluations", "lower", "evaluations"),
        "fad": Quantity("fad"),
        "fad_difference": Quantity("fad-difference", "lower"),
        "mcc": Quantity("mcc"),
        "mcc_difference": Quantity("mcc-difference", "higher"),
    }
    uses = ABLATION
    samples = True

    def check(self) -> None:
        """Raise ``MelodyError`` for a missing or unknown axis, an unknown sampler or grid."""
        check_axes(self.suite, self.context)

    def rows(self) -> list[Row]:
        """The product of the axes."""
        return grid_rows(self.suite, self.context)

    @cached_property
    def _ablation(self) -> Ablation:
        return Ablation(self.suite, self.context)

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
        ablation, embedder = self._ablation, column.embedder or ""
        if column.measure == "evaluations":
            return ablation.nfe(results, "clips")
        if column.measure == "fad_difference":
            return ablation.fad_difference(results, "clips", embedder)
        clips = ablation.by_seed(results, "clips")
        if column.measure == "fad":
            return estimates.fad(clips, results.computed("held out")[0], embedder, ablation.expected)
        if column.measure == "mcc":
            return estimates.mcc(clips, ablation.expected)
        return estimates.mcc_difference(clips, ablation.by_seed(results, "reference"), ablation.expected)
