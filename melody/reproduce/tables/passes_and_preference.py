"""Forward passes of whole systems, and what listeners and proxies say of their clips (Table 3).

The paper's rates, this run's ratings and the automatic proxies are columns of their own: a proxy is no listener.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import ClassVar

from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.registry import tables
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.embedded_clips import EmbeddedClips
from melody.reproduce.jobs.generation import CountJob, GeneratedClips, PassCounts
from melody.reproduce.jobs.job import Job
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, ListedRow, Row, Suite
from melody.reproduce.systems import OWN
from melody.reproduce.tables import budgets, estimates
from melody.reproduce.tables.arguments import HEARD, SAMPLING, Uses
from melody.reproduce.tables.builder import INSTRUMENT, PASSES, CellValue, Quantity, check_classifiers, embedders_of
from melody.reproduce.tables.metric_columns import (
    FED_BY_CLIPS,
    MetricColumns,
    keeps_waveforms,
    metric_of,
    needs_reference,
)
from melody.reproduce.tables.shared_jobs import (
    classifiers_first,
    count,
    generation_jobs,
    held_out_job,
    rows_of_systems,
    settings_row,
)
from melody.reproduce.tables.table import RowJobs, RowResults, Table

PASSES_OF_CLIPS = Quantity("passes-of-the-clips", "lower", "passes")
COUNTS = {"passes": "passes", "passes_formula": "formula"}
RATED = {"rated_musicality": "musicality", "rated_quality": "audio quality", "rated_text": "text correlation"}
BY_CLIP = ("beat_strength", "key_clarity")
OF_CLIPS = "passes_of_clips"
"""Passes of the clips that the proxies are of, which need not be those that are counted."""
PROXIES = (OF_CLIPS, *BY_CLIP, "instrument")
"""Beside registered metrics."""
NO_RATINGS = "needs listeners: give the file of their answers with --ratings"


@tables.register("passes-and-preference")
class PassesAndPreferenceTable(Table):
    """Whole systems: passes that are counted, what listeners said, and proxies by clip."""

    measures: ClassVar = {
        **budgets.MEASURES,
        "passes": PASSES,
        "passes_formula": Quantity("passes-by-formula", "lower", "passes"),
        OF_CLIPS: PASSES_OF_CLIPS,
        "preference": Quantity("preference", "higher"),
        "rated_musicality": Quantity("rated-preference", "higher"),
        "rated_quality": Quantity("rated-preference", "higher"),
        "rated_text": Quantity("rated-preference", "higher"),
        "beat_strength": Quantity("beat-strength"),
        "key_clarity": Quantity("key-clarity"),
        "fad": Quantity("fad"),
        "mcc": Quantity("mcc"),
        "instrument": INSTRUMENT,
    }
    uses = Uses(
        HEARD | SAMPLING | {"reference_clips", "counted"},
        listed=frozenset({"system"}),
        absent=True,
        metrics=FED_BY_CLIPS,
    )

    @classmethod
    def compares(cls, suite: Suite, system: str) -> bool:
        """Every system is a row."""
        return True

    def check(self) -> None:
        """Raise ``MelodyError`` for a column of what classifiers hear in a suite without them."""
        check_classifiers(self.suite)

    @cached_property
    def _listed(self) -> list[ListedRow]:
        return rows_of_systems(self.suite, self.context)

    def rows(self) -> list[Row]:
        """The suite's systems, and every other of the run."""
        return [listed.row for listed in self._listed]

    @cached_property
    def _classifiers(self) -> list[Job]:
        return classifiers_first(self.suite, self.context)

    @cached_property
    def _reference(self) -> Job:
        return held_out_job(self.suite, self.context, embedders_of(self.suite))

    @cached_property
    def _metrics(self) -> MetricColumns:
        return MetricColumns(self.suite, self.context)

    def jobs(self, row: Row) -> RowJobs:
        """One generation whose passes are counted, and the clips that proxies are taken of."""
        suite, context, system = self.suite, self.context, str(row["system"])
        measured = {column.measure for column in suite.columns}
        of_metrics = [column for column in suite.columns if metric_of(column)]
        jobs: dict[str, Sequence[Job]] = {"classifiers": self._classifiers}
        if context.unavailable_reason(system):
            return jobs
        if measured & set(COUNTS):
            jobs["count"] = [count(suite, context, suite.settings.duration_s, system)]
        if of_metrics or measured & set(PROXIES):
            kept = keeps_waveforms(suite)
            clips = generation_jobs(suite, context, settings_row(suite), embedders_of(suite), system, waveforms=kept)
            jobs["clips"] = list(clips.values())
        if any(map(needs_reference, of_metrics)):
            jobs["reference"] = [self._reference]
        return jobs

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        system, context = str(row["system"]), self.context
        if column.measure == "preference":
            absent = next(listed.absent for listed in self._listed if listed.row == row)
            return CellValue(unavailable_reason=absent or "the paper's listeners did not hear it")
        if column.measure in RATED:
            return rated(context, system, RATED[column.measure])
        if column.measure in COUNTS:
            return counted(self, results, "count", COUNTS[column.measure], self.suite.settings.duration_s, system)
        if column.measure in budgets.MEASURES:
            return budgets.cell_value(context, system, column)
        if reason := context.unavailable_reason(system):
            return CellValue(unavailable_reason=reason)
        return self._proxy(column, results)

    def _proxy(self, column: Column, results: RowResults) -> CellValue:
        settings, purposes = self.suite.settings, ["clips", *(["reference"] if needs_reference(column) else [])]
        results.computed(*purposes)
        seeds = self.context.seeds(settings.seeds)
        generated = {
            seed: GeneratedClips((clips,)) for seed, clips in zip(seeds, results.computed("clips"), strict=True)
        }
        measured = self._measured(column, generated, results)
        return CellValue(
            measured if column.measure == OF_CLIPS else estimates.with_silence(measured, generated),
            jobs=results.planned(*purposes),
            inputs=texts_hash(self.context.texts(self.suite)),
            config={"prompts": settings.prompts, "duration_s": settings.duration_s},
            seeds=tuple(seeds),
        )

    def _measured(self, column: Column, generated: Mapping[int, GeneratedClips], results: RowResults) -> Measurement:
        expected = self.suite.settings.prompts * len(generated)
        if metric_of(column):
            real = EmbeddedClips(tuple(results.computed("reference"))) if needs_reference(column) else None
            return self._metrics.of_generated(column, generated, real, expected)
        if column.measure == OF_CLIPS:
            return estimates.passes(generated, "passes")
        if column.measure == "instrument":
            return estimates.agreement(generated)
        return levels.over_prompts({seed: clips.proxy(column.measure) for seed, clips in generated.items()}, expected)

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> Iterator[str]:
        """Clips of other passes than are counted, and how the systems' training compares."""
        yield from _other_clips(cells)
        if any(column.measure in budgets.MEASURES for column in self.suite.columns):
            names = [str(row["system"]) for row in self.rows()]
            yield from budgets.notes(self.context, [n for n in names if not self.context.unavailable_reason(n)])


def _other_clips(cells: Sequence[Cell]) -> Iterator[str]:
    """Systems whose proxies are of clips that were made by another number of passes than is counted."""
    measured = {(str(cell.row["system"]), cell.metric): cell.measured for cell in cells}
    for (system, metric), clips in measured.items():
        counted_passes = measured.get((system, PASSES.metric))
        if metric != PASSES_OF_CLIPS.metric or clips is None or counted_passes is None:
            continue
        if clips.value != counted_passes.value:
            yield (
                f"{system}: the proxies are of clips of {clips.value:,.0f} passes, not of the "
                f"{counted_passes.value:,.0f} that are counted."
            )


def counted(
    table: Table, results: RowResults, purpose: str, counts: str, duration_s: float, system: str = OWN
) -> CellValue:
    """Passes of one clip of some duration, by hooks or by formula, from the job that was planned to count them."""
    if reason := table.context.unavailable_reason(system):
        return CellValue(unavailable_reason=reason)
    (job,) = jobs = results.planned_as(CountJob, purpose)
    if reason := results.failure(purpose):
        return CellValue(unavailable_reason=reason, jobs=jobs)
    (outcome,) = results.computed(purpose)
    counted_passes = PassCounts.of(outcome)
    by_part: dict[str, int] = getattr(counted_passes, counts)
    if not by_part:
        return CellValue(unavailable_reason=f"system {system!r} reports no passes", jobs=jobs)
    options = settings_row(table.suite) if system == OWN else job.options
    return CellValue(
        levels.count({"0": float(sum(by_part.values()))}),
        jobs=jobs,
        inputs=texts_hash([job.prompt]),
        config={**options, "duration_s": duration_s, "by_part": asdict(counted_passes)},
        seeds=(0,),
    )


def rated(context: Context, system: str, question: str) -> CellValue:
    """How often listeners preferred a system to ours, ties as halves."""
    ratings = context.request.ratings
    if ratings is None:
        return CellValue(unavailable_reason=NO_RATINGS)
    if system == OWN:
        return CellValue(unavailable_reason="the rate is each other system's against this one")
    for pair in ratings.preferences:
        if pair.question == question and {pair.system_a, pair.system_b} == {system, OWN}:
            if pair.rate is None:
                return CellValue(unavailable_reason=pair.reason or "nobody judged this pair")
            rate = pair.rate if pair.system_a == system else _turned(pair.rate)
            return CellValue(rate, inputs=ratings.sha256, config={"ratings": ratings.source, "raters": pair.raters})
    return CellValue(
        unavailable_reason=f"{ratings.source} holds no judgement of {question} of {system!r} against {OWN!r}"
    )


def _turned(rate: Measurement) -> Measurement:
    """The other system's rate of the same pair."""
    low, high = (None if end is None else 1 - end for end in (rate.high, rate.low))
    return rate.model_copy(update={"value": 1 - rate.value, "low": low, "high": high})
