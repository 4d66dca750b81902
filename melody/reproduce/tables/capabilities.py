"""What a system can do (Table 1): the capabilities that a run can test, as 1 for yes and 0 for no."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import torch

from melody.evaluation.result import Measurement
from melody.metrics.real_time_factor import real_time_factor
from melody.metrics.text_correlation import permutation_p_value
from melody.registry import tables
from melody.reproduce.context import texts_hash
from melody.reproduce.jobs.continuation import ContinuationJob
from melody.reproduce.jobs.generation import GeneratedClips, GenerationJob, PassCounts, Timing, TimingJob
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables.arguments import HEARD, SAMPLING, Uses
from melody.reproduce.tables.builder import CellValue, Quantity, timed_under
from melody.reproduce.tables.shared_jobs import (
    classifiers_first,
    continuation,
    generation_jobs,
    rows_of_systems,
    settings_row,
    timing_by_default,
)
from melody.reproduce.tables.table import RowJobs, RowResults, Table

TRAINING = "a system's training data is in its card; no data of the paper was published"
NO_RATINGS = "needs music producers as listeners: give the file of their answers with --ratings"
PLAYS_BACK = "it reports no forward pass, as a folder of clips has none: there is no speed to measure"
ALPHA = 0.05
CONTINUATION = "audio-continuation"


@tables.register("capabilities")
class CapabilitiesTable(Table):
    """What every system can do, as far as a run can test it."""

    measures: ClassVar = {
        "training_hours": Quantity("training-data", "none", "1,000 h"),
        "continuation": Quantity("audio-continuation", "higher", "yes = 1"),
        "faster_than_real_time": Quantity("faster-than-real-time", "higher", "yes = 1"),
        "various_prompts": Quantity("various-text-prompts", "higher", "yes = 1"),
        "producers": Quantity("judged-by-music-producers", "higher", "yes = 1"),
    }
    uses = Uses(HEARD | SAMPLING, listed=frozenset({"system", "prompts"}))

    @classmethod
    def compares(cls, suite: Suite, system: str) -> bool:
        """Every system is a row."""
        return True

    def rows(self) -> list[Row]:
        """Every system, and what its prompts are."""
        listed: list[Row] = [{"prompts": "text", **one.row} for one in rows_of_systems(self.suite, self.context)]
        return [{"system": row["system"], **row} for row in listed]

    @cached_property
    def _classifiers(self) -> list[Job]:
        return classifiers_first(self.suite, self.context)

    def jobs(self, row: Row) -> RowJobs:
        """Generations for distinct prompts, their timing, and continuations of real clips."""
        suite, context, name = self.suite, self.context, str(row["system"])
        jobs: dict[str, Sequence[Job]] = {"classifiers": self._classifiers}
        if context.unavailable_reason(name):
            return jobs
        jobs["clips"] = list(generation_jobs(suite, context, settings_row(suite), system=name).values())
        jobs["timing"] = [timing_by_default(suite, context, name)]
        if CONTINUATION in context.loaded.systems[name].capabilities:
            jobs["continuation"] = [continuation(suite, context, name)]
        return jobs

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        name = str(row["system"])
        if column.measure == "producers":
            return self._producers(name)
        if reason := self.context.unavailable_reason(name):
            return CellValue(unavailable_reason=reason)
        if column.measure == "training_hours":
            return CellValue(unavailable_reason=TRAINING)
        if column.measure == "continuation":
            return self._continuation(name, results)
        return self._speed(results) if column.measure == "faster_than_real_time" else self._prompts(results)

    def _producers(self, name: str) -> CellValue:
        """Yes if there are ratings of it; that the raters are producers is the word of whoever gives the file."""
        ratings = self.context.request.ratings
        if ratings is None:
            return CellValue(unavailable_reason=NO_RATINGS)
        if name not in ratings.systems:
            return CellValue(unavailable_reason=f"{ratings.source} holds no ratings of {name!r}")
        raters = sum(not rater.excluded for rater in ratings.raters)
        measured = Measurement(
            value=1.0,
            interval=f"rated by {raters} raters in {ratings.source}; that they are producers is the file's word",
            expected=raters,
            scored=raters,
        )
        return CellValue(measured, inputs=ratings.sha256, config={"ratings": ratings.source})

    def _continuation(self, name: str, results: RowResults) -> CellValue:
        """Yes if every clip is gone on from as asked, and what is new is nearer its own beginning than others'."""
        capabilities = self.context.loaded.systems[name].capabilities
        if CONTINUATION not in capabilities:
            declared = ", ".join(sorted(capabilities)) or "none"
            return CellValue(
                unavailable_reason=f"system {name!r} does not declare {CONTINUATION!r} (it declares: {declared})"
            )
        (job,), (outcome,) = results.planned_as(ContinuationJob, "continuation"), results.computed("continuation")
        return CellValue(
            _judged(outcome),
            jobs=(job,),
            inputs=job.corpus,
            config={"clips": job.clips, "given_s": job.duration_s, "new_s": job.duration_s},
            seeds=(job.seed,),
        )

    def _speed(self, results: RowResults) -> CellValue:
        if plays_back(results):
            return CellValue(unavailable_reason=PLAYS_BACK)
        (job,) = jobs = results.planned_as(TimingJob, "timing")
        if reason := results.failure("timing"):
            return CellValue(unavailable_reason=reason, jobs=jobs)
        (outcome,) = results.computed("timing")
        timed = Timing.of(outcome)
        factors = [real_time_factor(timed.duration_s, seconds) for seconds in timed.seconds.values()]
        seeds = tuple(self.context.seeds(self.suite.settings.seeds))
        measured = Measurement(
            value=float(min(factors) > 1),
            interval=f"real-time factors {', '.join(f'{factor:.3g}' for factor in factors)}",
            expected=len(seeds),
            scored=len(factors),
        )
        conditions = timed_under(outcome)
        return CellValue(measured, jobs=jobs, config=job.options, seeds=seeds, conditions=conditions)

    def _prompts(self, results: RowResults) -> CellValue:
        """Yes if clips fit their own prompts better than shuffled ones, by a permutation test over prompts."""
        jobs = results.planned_as(GenerationJob, "clips")
        if reason := results.failure("clips"):
            return CellValue(unavailable_reason=reason, jobs=jobs)
        clips = [GeneratedClips((outcome,)) for outcome in results.computed("clips")]
        audio = torch.stack([own.audio for own in clips]).mean(dim=0)  # seeds of one prompt are not independent
        p_value = permutation_p_value(clips[0].text, audio)
        prompts = self.suite.settings.prompts
        measured = Measurement(
            value=float(p_value < ALPHA),
            interval=f"permutation test over {prompts} prompts, one-sided, seeds averaged, at {ALPHA:g}",
            p_value=p_value,
            expected=prompts * len(jobs),
            scored=sum(len(own.audio) for own in clips),
        )
        return CellValue(
            measured,
            jobs=jobs,
            inputs=texts_hash(jobs[0].prompts),
            config=jobs[0].options,
            seeds=tuple(self.context.seeds(self.suite.settings.seeds)),
        )


def _judged(outcome: JobResult) -> Measurement:
    clips, problems = outcome.values["clips"], outcome.values["problems"]
    if problems:
        return Measurement(value=0.0, expected=clips, scored=clips, warning=f"{len(problems)} fail: {problems[0]}")
    pairs = {
        space: [torch.from_numpy(outcome.arrays[f"{part}_{space}"]) for part in ("given", "new")]
        for space in ("mel", "joint")
    }
    p_values = {space: permutation_p_value(*pair) for space, pair in pairs.items()}
    return Measurement(
        value=float(max(p_values.values()) < ALPHA),
        interval=f"new audio nearer to its own beginning than to another's, {clips} clips, one text for all, "
        f"permutation tests, one-sided, both at {ALPHA:g}: p {p_values['mel']:.2g} by mel statistics, "
        f"{p_values['joint']:.2g} by the joint embedding; given samples kept",
        p_value=max(p_values.values()),
        expected=clips,
        scored=clips,
    )


def plays_back(results: RowResults) -> bool:
    """Whether a row's clips were made without any network, as a folder of files is."""
    clips = results.of("clips")
    return all(isinstance(outcome, JobResult) and not PassCounts.of(outcome).passes for outcome in clips)
