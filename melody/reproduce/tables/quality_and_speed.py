"""Tables over samplers, grids and numbers of steps (Tables 2 and 4): quality, text correlation, passes and speed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

from melody import registry
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.levels import over_repeats
from melody.evaluation.result import Measurement
from melody.metrics.real_time_factor import real_time_factor
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.embedded_clips import EmbeddedClips
from melody.reproduce.jobs.generation import GeneratedClips, GenerationJob, Timing
from melody.reproduce.jobs.job import Failure, Job
from melody.reproduce.jobs.reference_clips import ReferenceJob
from melody.reproduce.results import Cell, Clip
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.systems import OWN
from melody.reproduce.tables import budgets, estimates
from melody.reproduce.tables.arguments import AXES, HEARD, SAMPLING, Uses
from melody.reproduce.tables.builder import (
    INSTRUMENT,
    PASSES,
    RTF,
    CellValue,
    Quantity,
    check_classifiers,
    embedders_of,
    timed_under,
)
from melody.reproduce.tables.capabilities import PLAYS_BACK, plays_back
from melody.reproduce.tables.control_rows import CONTROLS, REAL, control_jobs, control_notes, control_value
from melody.reproduce.tables.metric_columns import (
    FED_BY_CLIPS,
    MetricColumns,
    keeps_waveforms,
    metric_of,
    needs_reference,
)
from melody.reproduce.tables.sampling_grid import check_axes, grid_rows, problem_with, system_of
from melody.reproduce.tables.shared_jobs import classifiers_first, generation_jobs, held_out_job, setting_of, timing
from melody.reproduce.tables.table import RowJobs, RowResults, Table

COUNTS = {"passes": "passes", "passes_formula": "formula", "passes_weighted": "weighted_passes"}
"""Counts of a trace."""
TIMED = frozenset({"rtf", "samples_per_second"})
OF_REFERENCE = frozenset({"mcc_shuffled", "instrument"})
"""What can be measured of real clips, beside registered metrics; they have no passes and no speed."""
EXPORTED_CLIPS = 1
"""Clips a row that are copied beside the results."""


@registry.tables.register("quality-and-speed")
class QualityAndSpeedTable(Table):
    """Samplers, grids, steps and whatever else the axes vary, and other systems: quality, passes and speed."""

    measures: ClassVar = {
        **budgets.MEASURES,
        "fad": Quantity("fad"),
        "mcc": Quantity("mcc"),
        "mcc_shuffled": Quantity("mcc-shuffled", "none"),
        "instrument": INSTRUMENT,
        "passes": PASSES,
        "passes_formula": Quantity("passes-by-formula", "lower", "passes"),
        "passes_weighted": Quantity("passes-weighted", "lower", "passes"),
        "rtf": RTF,
        "samples_per_second": Quantity("samples-per-second", "higher", "Hz"),
    }
    uses = Uses(
        HEARD | SAMPLING | {"reference_clips"},
        listed=frozenset({"system"}),
        axes=AXES,
        absent=True,
        timed=TIMED,
        compare=True,
        metrics=FED_BY_CLIPS,
    )
    samples = True

    @classmethod
    def compares(cls, suite: Suite, system: str) -> bool:
        """Systems are rows of suites with ``compare = true``."""
        return suite.compare

    def check(self) -> None:
        """Raise ``MelodyError`` for an unknown sampler or grid, a setting beside its axis, a row that is no control."""
        check_axes(self.suite, self.context)
        if twice := sorted(self.suite.settings.model_fields_set & set(self.suite.axes)):
            raise MelodyError(f"suite {self.suite.name}: settings.{twice[0]} has no use beside axes.{twice[0]}")
        check_classifiers(self.suite)
        known = [REAL, *CONTROLS]
        for listed in self.suite.rows:
            if (name := str(listed.row.get("system"))) not in known:
                raise MelodyError(f"suite {self.suite.name}: unknown row {name!r}{did_you_mean(name, known)}")

    def rows(self) -> list[Row]:
        """The product of the axes, other systems, and what the suite lists."""
        return [*grid_rows(self.suite, self.context), *(listed.row for listed in self.suite.rows)]

    @cached_property
    def _embedders(self) -> list[str]:
        return embedders_of(self.suite)

    @cached_property
    def _waveforms(self) -> bool:
        return keeps_waveforms(self.suite)

    @cached_property
    def _metrics(self) -> MetricColumns:
        return MetricColumns(self.suite, self.context)

    @cached_property
    def _classifiers(self) -> list[Job]:
        return classifiers_first(self.suite, self.context)

    @cached_property
    def _reference(self) -> list[Job]:
        """The held-out clips, where a column is of them."""
        if not any(column.measure in OF_REFERENCE or metric_of(column) for column in self.suite.columns):
            return []
        return [held_out_job(self.suite, self.context, self._embedders)]

    def jobs(self, row: Row) -> RowJobs:
        """The row's generations, their timing, and the reference."""
        suite, context, system = self.suite, self.context, system_of(row, self.context)
        shared = {"classifiers": self._classifiers, "reference": self._reference}
        if _is_listed(row):
            made = control_jobs(suite, context, str(row["system"]), self._embedders, waveforms=self._waveforms)
            return {**shared, "control": made if self._reference else []}
        if problem_with(row, context):
            return shared
        clips = generation_jobs(suite, context, row, self._embedders, system, waveforms=self._waveforms)
        is_timed = any(_is_timed(column, context) for column in suite.columns)
        timings = [timing(suite, context, row, system)] if is_timed else []
        return {**shared, "clips": list(clips.values()), "timing": timings}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        if _is_listed(row):
            return self._listed_cell(row, column, results)
        if problem := problem_with(row, self.context):
            return CellValue(unavailable_reason=problem)
        if column.measure in TIMED:
            return self._speed(row, column, results)
        if column.measure in budgets.MEASURES:
            return budgets.cell_value(self.context, system_of(row, self.context), column)
        purposes = ["clips", *(["reference"] if needs_reference(column) else [])]
        jobs, seeds = results.planned(*purposes), self.context.seeds(self.suite.settings.seeds)
        if reason := results.failure(*purposes):
            return CellValue(unavailable_reason=reason, jobs=jobs)
        generated = {
            seed: GeneratedClips((clips,)) for seed, clips in zip(seeds, results.computed("clips"), strict=True)
        }
        measured = self._measured(column, generated, results)
        if column.measure not in COUNTS:
            measured = estimates.with_silence(measured, generated)
        inputs = texts_hash(self.context.texts(self.suite))
        if needs_reference(column):
            inputs = texts_hash([inputs, *(job.corpus for job in results.planned_as(ReferenceJob, "reference"))])
        return CellValue(
            measured,
            jobs=jobs,
            inputs=inputs,
            config=self._config(row, results),
            seeds=tuple(seeds),
        )

    def _measured(self, column: Column, generated: dict[int, GeneratedClips], results: RowResults) -> Measurement:
        expected = len(generated) * self.suite.settings.prompts
        if metric_of(column):
            real = EmbeddedClips(tuple(results.computed("reference"))) if needs_reference(column) else None
            return self._metrics.of_generated(column, generated, real, expected)
        if column.measure == "mcc_shuffled":
            return estimates.mcc_shuffled(generated, expected)
        if column.measure == "instrument":
            return estimates.agreement(generated)
        return estimates.passes(generated, COUNTS[column.measure])

    def _speed(self, row: Row, column: Column, results: RowResults) -> CellValue:
        context, seeds = self.context, self.context.seeds(self.suite.settings.seeds)
        if not _is_timed(column, context):
            return CellValue(
                unavailable_reason=f"this run is on {context.request.device}; the column is for {column.device}"
            )
        if plays_back(results):
            return CellValue(unavailable_reason=PLAYS_BACK)
        jobs = results.planned("timing")
        if reason := results.failure("timing"):
            return CellValue(unavailable_reason=reason, jobs=jobs)
        (outcome,) = results.computed("timing")
        timed = Timing.of(outcome)
        factor = timed.sample_rate if column.measure == "samples_per_second" else 1
        by_seed = {seed: factor * real_time_factor(timed.duration_s, spent) for seed, spent in timed.seconds.items()}
        measured = over_repeats(by_seed, expected=len(seeds))
        conditions = timed_under(outcome)
        config = {**self._config(row, results), **conditions}
        return CellValue(measured, jobs=jobs, config=config, seeds=tuple(seeds), conditions=conditions)

    def _config(self, row: Row, results: RowResults) -> dict[str, Any]:
        settings = self.suite.settings
        config: dict[str, Any] = {"prompts": settings.prompts, "duration_s": settings.duration_s}
        if system_of(row, self.context) == OWN:
            sampling = {name: getattr(settings, name) for name in SAMPLING if name not in self.suite.axes}
            return {**config, **sampling, "guidance_scale": settings.guidance_scale, **row}
        return {**config, **row, "options": results.planned_as(GenerationJob, "clips")[0].options}

    def _listed_cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        """Real clips, and controls."""
        name = str(row["system"])
        if name in CONTROLS:
            return control_value(self.suite, self.context, column, name, results, self._metrics)
        if column.measure not in OF_REFERENCE and not metric_of(column):
            absent = next(listed.absent for listed in self.suite.rows if listed.row == row)
            return CellValue(unavailable_reason=absent)
        (job,) = jobs = results.planned_as(ReferenceJob, "reference")
        if reason := results.failure("reference"):
            return CellValue(unavailable_reason=reason, jobs=jobs)
        real = EmbeddedClips(tuple(results.computed("reference")))
        return CellValue(self._of_real(column, real), jobs=jobs, inputs=job.corpus, config={"clips": real.count})

    def _of_real(self, column: Column, real: EmbeddedClips) -> Measurement:
        """The held-out clips themselves: their own text correlation, and the distance of some of them to the others."""
        if metric_of(column):
            return self._metrics.of_real(column, real)
        if column.measure == "instrument":
            return estimates.agreement_of(real)
        return estimates.mcc_shuffled({0: real}, self.suite.settings.reference_clips)

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> Iterator[str]:
        """What controls tell, what other systems are run with, and how their training compares."""
        yield from control_notes(self.suite.columns, cells)
        yield from self._options()
        if any(column.measure in budgets.MEASURES for column in self.suite.columns):
            names = [system_of(row, self.context) for row in grid_rows(self.suite, self.context)]
            yield from budgets.notes(self.context, names)

    def _options(self) -> Iterator[str]:
        """What other systems are run by, where it is not their own defaults."""
        for row in grid_rows(self.suite, self.context):
            system = str(row.get("system", OWN))
            if system == OWN or self.context.unavailable_reason(system):
                continue
            if given := setting_of(self.suite, self.context, row, system).options:
                yield f"{system} is run with {', '.join(_option(*option) for option in given.items())}."

    def clips(self, row: Row, results: RowResults) -> Iterator[tuple[Clip, bytes]]:
        """The first seed's first clips."""
        if not results.planned("clips"):
            return
        job, outcome = results.planned_as(GenerationJob, "clips")[0], results.of("clips")[0]
        if isinstance(outcome, Failure):
            return
        setting = ", ".join(f"{axis} = {value}" for axis, value in row.items())
        stem = re.sub(r"[^\w.-]+", "-", "-".join(str(value) for value in row.values()))
        for name, content in sorted(outcome.clips.items())[:EXPORTED_CLIPS]:
            # The key keeps runs of other settings apart, and lets tables share the clips of one run.
            path = f"audio/{stem}-{job.key[:8]}-{name}.flac"
            yield Clip(title=f"{setting}, seed {job.seed}", text=job.prompts[int(name)], path=path), content


def _option(name: str, value: Any) -> str:
    """An option as a note says it; a number of steps below one is a share.

    >>> _option("num_steps", 0.05), _option("num_steps", 5)
    ('num_steps = 0.05 (5 % of the steps of each of its stages)', 'num_steps = 5')
    """
    share = name == "num_steps" and isinstance(value, float) and value < 1
    return f"{name} = {value}" + (f" ({100 * value:g} % of the steps of each of its stages)" if share else "")


def _is_listed(row: Row) -> bool:
    return row.get("system") in (REAL, *CONTROLS)


def _is_timed(column: Column, context: Context) -> bool:
    return column.measure in TIMED and column.device in (None, context.request.device.partition(":")[0])
