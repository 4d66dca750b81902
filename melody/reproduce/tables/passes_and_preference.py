"""Forward passes of whole systems, and what listeners and proxies say of their clips (Table 3).

The paper's rates, this run's ratings and the automatic proxies are columns of their own: a proxy is no listener.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from melody.evaluation.result import Measurement
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.systems import OWN
from melody.reproduce.tables import budgets, estimates
from melody.reproduce.tables.builder import (
    INSTRUMENT,
    CellValue,
    FilledTable,
    Quantity,
    TableBuilder,
    check_classifiers,
    embedders_of,
)
from melody.reproduce.tables.shared_jobs import (
    classifiers_first,
    count,
    generation_jobs,
    held_out_job,
    rows_of_systems,
    settings_row,
)

MEASURES = {
    **budgets.MEASURES,
    "passes": Quantity("passes"),
    "passes_formula": Quantity("passes-by-formula", "lower", "passes"),
    "passes_of_clips": Quantity("passes-of-the-clips", "lower", "passes"),
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
COUNTS = {"passes": "passes", "passes_formula": "formula"}
RATED = {"rated_musicality": "musicality", "rated_quality": "audio quality", "rated_text": "text correlation"}
BY_CLIP = ("beat_strength", "key_clarity")
OF_CLIPS = "passes_of_clips"
"""Passes of the clips that the proxies are of, which need not be those that are counted."""
PROXIES = (OF_CLIPS, *BY_CLIP, "fad", "mcc", "instrument")
NO_RATINGS = "needs listeners: give the file of their answers with --ratings"


def plan(suite: Suite, context: Context) -> list[Job]:
    """One generation of each system whose passes are counted, and the clips that proxies are taken of."""
    check_classifiers(suite)
    units: list[Job] = classifiers_first(suite, context)
    measured = {column.measure for column in suite.columns}
    for name in _systems(suite, context):
        if measured & set(COUNTS):
            units.append(count(suite, context, suite.settings.duration_s, name))
        if measured & set(PROXIES):
            units += _clips(suite, context, name).values()
    return [*units, _reference(suite, context)] if "fad" in measured else units


def fill(builder: TableBuilder) -> FilledTable:
    """Every system by every column."""
    filled = FilledTable()
    for listed in rows_of_systems(builder.suite, builder.context):
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, listed.row, column, listed.absent))
            for column in builder.suite.columns
        ]
    filled.notes += _other_clips(filled.cells)
    if any(column.measure in budgets.MEASURES for column in builder.suite.columns):
        filled.notes += budgets.notes(builder.context, _systems(builder.suite, builder.context))
    return filled


def _other_clips(cells: Sequence[Cell]) -> Iterator[str]:
    """Systems whose proxies are of clips that were made by another number of passes than is counted."""
    found = {(str(cell.row["system"]), cell.metric): cell.measured for cell in cells}
    for (system, metric), clips in found.items():
        counted_passes = found.get((system, MEASURES["passes"].metric))
        if metric != MEASURES[OF_CLIPS].metric or clips is None or counted_passes is None:
            continue
        if clips.value != counted_passes.value:
            yield (
                f"{system}: the proxies are of clips of {clips.value:,.0f} passes, not of the "
                f"{counted_passes.value:,.0f} that are counted."
            )


def counted(
    builder: TableBuilder, column: Column, duration_s: float, system: str = OWN, *, by_default: bool = False
) -> CellValue:
    """Passes of one clip of some duration, by hooks or by formula; ``by_default``: as of ``runs.count``."""
    if reason := builder.context.unavailable_reason(system):
        return CellValue(unavailable_reason=reason)
    unit = count(builder.suite, builder.context, duration_s, system, by_default=by_default)
    outcome = builder.outcome(unit)
    if isinstance(outcome, Failure):
        return CellValue(unavailable_reason=outcome.reason, units=(unit,))
    by_part = outcome.values["trace"][COUNTS[column.measure]]
    if not by_part:
        return CellValue(unavailable_reason=f"system {system!r} reports no passes", units=(unit,))
    options = settings_row(builder.suite) if system == OWN else unit.config["options"]
    return CellValue(
        estimates.count({"0": float(sum(by_part.values()))}),
        units=(unit,),
        inputs=texts_hash([unit.config["prompt"]]),
        config={**options, "duration_s": duration_s, "by_part": outcome.values["trace"]},
        seeds=(0,),
    )


def rated(builder: TableBuilder, system: str, question: str) -> CellValue:
    """How often listeners preferred a system to ours, ties as halves."""
    ratings = builder.context.ratings
    if ratings is None:
        return CellValue(unavailable_reason=NO_RATINGS)
    if system == OWN:
        return CellValue(unavailable_reason="the rate is each other system's against this one")
    for one in ratings.preferences:
        if one.question == question and {one.system_a, one.system_b} == {system, OWN}:
            if one.rate is None:
                return CellValue(unavailable_reason=one.reason or "nobody judged this pair")
            rate = one.rate if one.system_a == system else _turned(one.rate)
            return CellValue(rate, inputs=ratings.sha256, config={"ratings": ratings.source, "raters": one.raters})
    return CellValue(
        unavailable_reason=f"{ratings.source} holds no judgement of {question} of {system!r} against {OWN!r}"
    )


def _finding(builder: TableBuilder, row: Row, column: Column, absent: str) -> CellValue:
    system = str(row["system"])
    if column.measure == "preference":
        return CellValue(unavailable_reason=absent or "the paper's listeners did not hear it")
    if column.measure in RATED:
        return rated(builder, system, RATED[column.measure])
    if column.measure in COUNTS:
        return counted(builder, column, builder.suite.settings.duration_s, system)
    if column.measure in budgets.MEASURES:
        return budgets.finding(builder.context, system, column)
    if reason := builder.context.unavailable_reason(system):
        return CellValue(unavailable_reason=reason)
    return _proxy(builder, system, column)


def _proxy(builder: TableBuilder, system: str, column: Column) -> CellValue:
    suite, context = builder.suite, builder.context
    by_seed = _clips(suite, context, system)
    units = [*by_seed.values(), *([_reference(suite, context)] if column.measure == "fad" else [])]
    found = builder.computed(units)
    generated = dict(zip(by_seed, found, strict=False))
    measured = _measured(column, generated, found[-1], suite.settings.prompts * len(by_seed))
    return CellValue(
        measured if column.measure == OF_CLIPS else estimates.with_silence(measured, generated),
        units=tuple(units),
        inputs=texts_hash(context.texts(suite)),
        config={"prompts": suite.settings.prompts, "duration_s": suite.settings.duration_s},
        seeds=tuple(by_seed),
    )


def _measured(column: Column, generated: dict[int, JobResult], reference: JobResult, expected: int) -> Measurement:
    if column.measure == OF_CLIPS:
        return estimates.passes(generated, "passes")
    if column.measure == "fad":
        return estimates.fad(generated, reference, column.embedder or "", expected)
    if column.measure == "mcc":
        return estimates.mcc(generated, expected)
    if column.measure == "instrument":
        return estimates.agreement(generated)
    return estimates.over_prompts({s: o.values.get(column.measure, []) for s, o in generated.items()}, expected)


def _clips(suite: Suite, context: Context, system: str) -> dict[int, Job]:
    return generation_jobs(suite, context, settings_row(suite), embedders_of(suite), system)


def _reference(suite: Suite, context: Context) -> Job:
    return held_out_job(suite, context, embedders_of(suite))


def _systems(suite: Suite, context: Context) -> list[str]:
    """Systems that this run has numbers of."""
    names = [str(listed.row["system"]) for listed in rows_of_systems(suite, context)]
    return [name for name in names if not context.unavailable_reason(name)]


def _turned(rate: Measurement) -> Measurement:
    """The other system's rate of the same pair."""
    low, high = (None if end is None else 1 - end for end in (rate.high, rate.low))
    return rate.model_copy(update={"value": 1 - rate.value, "low": low, "high": high})
