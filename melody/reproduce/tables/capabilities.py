"""What a system can do (Table 1): the abilities that a run can test, as 1 for yes and 0 for no."""

from __future__ import annotations

import torch

from melody.evaluation.result import Measurement
from melody.metrics.real_time_factor import real_time_factor
from melody.metrics.text_correlation import permutation_p_value
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder, failure_among, timed_under
from melody.reproduce.tables.shared_jobs import (
    classifiers_first,
    continuation,
    generation_jobs,
    rows_of_systems,
    settings_row,
    timing_by_default,
)

MEASURES = {
    "training_hours": Quantity("training-data", "none", "1,000 h"),
    "continuation": Quantity("audio-continuation", "higher", "yes = 1"),
    "faster_than_real_time": Quantity("faster-than-real-time", "higher", "yes = 1"),
    "various_prompts": Quantity("various-text-prompts", "higher", "yes = 1"),
    "producers": Quantity("judged-by-music-producers", "higher", "yes = 1"),
}
TRAINING = "a system's training data is in its card; no data of the paper was published"
NO_RATINGS = "needs music producers as listeners: give the file of their answers with --ratings"
PLAYS_BACK = "it reports no forward pass, as a folder of clips has none: there is no speed to measure"
ALPHA = 0.05
CONTINUATION = "audio-continuation"


def plan(suite: Suite, context: Context) -> list[Job]:
    """Generations for distinct prompts, their timing, and continuations of real clips, of every system."""
    row = settings_row(suite)
    units: list[Job] = classifiers_first(suite, context)
    for name in (str(listed.row["system"]) for listed in rows_of_systems(suite, context)):
        if context.unavailable_reason(name):
            continue
        units += generation_jobs(suite, context, row, system=name).values()
        units.append(timing_by_default(suite, context, name))
        if CONTINUATION in context.systems[name].capabilities:
            units.append(continuation(suite, context, name))
    return units


def fill(builder: TableBuilder) -> FilledTable:
    """Every system by every ability."""
    filled = FilledTable()
    for listed in rows_of_systems(builder.suite, builder.context):
        row: Row = {"prompts": "text", **listed.row}
        row = {"system": row["system"], **row}
        filled.cells += [
            builder.cell(row, column, builder.attempt(_finding, builder, str(row["system"]), column))
            for column in builder.suite.columns
        ]
    return filled


def _finding(builder: TableBuilder, name: str, column: Column) -> CellValue:
    if column.measure == "producers":
        return _producers(builder, name)
    if reason := builder.context.unavailable_reason(name):
        return CellValue(unavailable_reason=reason)
    if column.measure == "training_hours":
        return CellValue(unavailable_reason=TRAINING)
    if column.measure == "continuation":
        return _continuation(builder, name)
    return _speed(builder, name) if column.measure == "faster_than_real_time" else _prompts(builder, name)


def _producers(builder: TableBuilder, name: str) -> CellValue:
    """Yes if there are ratings of it; that the raters are producers is the word of whoever gives the file."""
    ratings = builder.context.ratings
    if ratings is None:
        return CellValue(unavailable_reason=NO_RATINGS)
    if name not in ratings.systems:
        return CellValue(unavailable_reason=f"{ratings.source} holds no ratings of {name!r}")
    raters = sum(not one.excluded for one in ratings.raters)
    measured = Measurement(
        value=1.0,
        interval=f"rated by {raters} raters in {ratings.source}; that they are producers is the file's word",
        expected=raters,
        scored=raters,
    )
    return CellValue(measured, inputs=ratings.sha256, config={"ratings": ratings.source})


def _continuation(builder: TableBuilder, name: str) -> CellValue:
    """Yes if every clip is gone on from as asked, and what is new is nearer to its own beginning than to others'."""
    one = builder.context.systems[name]
    if CONTINUATION not in one.capabilities:
        declared = ", ".join(sorted(one.capabilities)) or "none"
        return CellValue(
            unavailable_reason=f"system {name!r} does not declare {CONTINUATION!r} (it declares: {declared})"
        )
    unit = continuation(builder.suite, builder.context, name)
    (outcome,) = builder.computed([unit])
    return CellValue(
        _judged(outcome),
        units=(unit,),
        inputs=unit.config["corpus"],
        config={
            "clips": unit.config["clips"],
            "given_s": unit.config["duration_s"],
            "new_s": unit.config["duration_s"],
        },
        seeds=(unit.config["seed"],),
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


def _speed(builder: TableBuilder, name: str) -> CellValue:
    suite, context = builder.suite, builder.context
    if plays_back(builder, generation_jobs(suite, context, settings_row(suite), system=name)):
        return CellValue(unavailable_reason=PLAYS_BACK)
    unit = timing_by_default(suite, context, name)
    outcome = builder.outcome(unit)
    if isinstance(outcome, Failure):
        return CellValue(unavailable_reason=outcome.reason, units=(unit,))
    factors = [real_time_factor(outcome.values["duration_s"], s) for s in outcome.values["seconds"].values()]
    seeds = tuple(context.seeds(suite.settings.seeds))
    interval = f"real-time factors {', '.join(f'{factor:.3g}' for factor in factors)}"
    measured = Measurement(value=float(min(factors) > 1), interval=interval, expected=len(seeds), scored=len(factors))
    conditions = timed_under(outcome)
    return CellValue(measured, units=(unit,), config=unit.config["options"], seeds=seeds, conditions=conditions)


def plays_back(builder: TableBuilder, units: dict[int, Job]) -> bool:
    """Whether a system made clips without any network, as a folder of files does."""
    found = [builder.outcome(unit) for unit in units.values()]
    return all(isinstance(outcome, JobResult) and not outcome.values["trace"]["passes"] for outcome in found)


def _prompts(builder: TableBuilder, name: str) -> CellValue:
    """Yes if clips fit their own prompts better than shuffled ones, by a permutation test over prompts."""
    units = generation_jobs(builder.suite, builder.context, settings_row(builder.suite), system=name)
    found = [builder.outcome(unit) for unit in units.values()]
    if reason := failure_among(found):
        return CellValue(unavailable_reason=reason, units=tuple(units.values()))
    pairs = [estimates.joint(outcome) for outcome in found if isinstance(outcome, JobResult)]
    audio = torch.stack([audio for _, audio in pairs]).mean(dim=0)  # seeds of one prompt are not independent
    p_value = permutation_p_value(pairs[0][0], audio)
    prompts = builder.suite.settings.prompts
    measured = Measurement(
        value=float(p_value < ALPHA),
        interval=f"permutation test over {prompts} prompts, one-sided, seeds averaged, at {ALPHA:g}",
        p_value=p_value,
        expected=prompts * len(units),
        scored=sum(len(audio) for _, audio in pairs),
    )
    texts = next(iter(units.values())).config["prompts"]
    return CellValue(
        measured,
        units=tuple(units.values()),
        inputs=texts_hash(texts),
        config=next(iter(units.values())).config["options"],
        seeds=tuple(units),
    )
