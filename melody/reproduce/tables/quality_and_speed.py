"""Tables over samplers, grids and numbers of steps (Tables 2 and 4): quality, text correlation, passes and speed."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from melody import registry
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.metrics.real_time_factor import real_time_factor
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.results import Clip
from melody.reproduce.suite import Column, ListedRow, Row, Suite
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
    failure_among,
    timed_under,
)
from melody.reproduce.tables.capabilities import PLAYS_BACK, plays_back
from melody.reproduce.tables.controls import CONTROLS, REAL, control_finding, control_jobs, control_notes, is_control
from melody.reproduce.tables.shared_jobs import classifiers_first, generation_jobs, held_out_job, setting_of, timing

MEASURES = {
    **budgets.MEASURES,
    "fad": Quantity("fad"),
    "mcc": Quantity("mcc"),
    "mcc_shuffled": Quantity("mcc-shuffled", "none"),
    "instrument": INSTRUMENT,
    "passes": Quantity("passes"),
    "passes_formula": Quantity("passes-by-formula", "lower", "passes"),
    "passes_weighted": Quantity("passes-weighted", "lower", "passes"),
    "rtf": Quantity("rtf"),
    "samples_per_second": Quantity("samples-per-second", "higher", "Hz"),
}
COUNTS = {"passes": "passes", "passes_formula": "formula", "passes_weighted": "weighted_passes"}
"""Counts of a trace."""
TIMED = frozenset({"rtf", "samples_per_second"})
OF_REFERENCE = frozenset({"fad", "mcc", "mcc_shuffled", "instrument"})
"""What can be measured of real clips; they have no passes and no speed."""
AXES = ("sampler", "grid", "num_steps")
EXPORTED_CLIPS = 1
"""Clips a row that are copied beside the results."""


def plan(suite: Suite, context: Context) -> list[Job]:
    """Every row's generations and timing, and the reference.

    Raises:
        MelodyError: missing or unknown axis, an unknown sampler or grid.
    """
    check_axes(suite, context)
    units: list[Job] = classifiers_first(suite, context)
    for row in rows(suite, context):
        if not problem_with(row, context):
            units += generation_jobs(suite, context, row, embedders_of(suite), _system(row)).values()
            if any(_is_timed(column, context) for column in suite.columns):
                units.append(timing(suite, context, row, _system(row)))
    if any(column.measure in OF_REFERENCE for column in suite.columns):
        units += [_reference(suite, context), *control_jobs(suite, context, embedders_of(suite))]
    return units


def fill(builder: TableBuilder) -> FilledTable:
    """Cells of the grid's rows and of the reference."""
    filled = FilledTable()
    for row in rows(builder.suite, builder.context):
        run = _Run(builder, row)
        filled.cells += [
            builder.cell(row, column, builder.attempt(run.finding, column)) for column in builder.suite.columns
        ]
        filled.clips += run.clips
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_listed_finding, builder, column, listed))
            for column in builder.suite.columns
        ]
    filled.notes += [*control_notes(builder.suite.columns, filled.cells), *_options(builder)]
    if any(column.measure in budgets.MEASURES for column in builder.suite.columns):
        filled.notes += budgets.notes(builder.context, [_system(row) for row in rows(builder.suite, builder.context)])
    return filled


def _options(builder: TableBuilder) -> list[str]:
    """What other systems are run by, where it is not their own defaults."""
    lines = []
    for row in rows(builder.suite, builder.context):
        if (system := _system(row)) == OWN or builder.context.unavailable_reason(system):
            continue
        if given := setting_of(builder.suite, builder.context, row, system).options:
            lines.append(f"{system} is run with {', '.join(_option(*one) for one in given.items())}.")
    return lines


def _option(name: str, value: Any) -> str:
    """An option as a note says it; a number of steps below one is a share.

    >>> _option("num_steps", 0.05), _option("num_steps", 5)
    ('num_steps = 0.05 (5 % of the steps of each of its stages)', 'num_steps = 5')
    """
    share = name == "num_steps" and isinstance(value, float) and value < 1
    return f"{name} = {value}" + (f" ({100 * value:g} % of the steps of each of its stages)" if share else "")


def rows(suite: Suite, context: Context) -> list[Row]:
    """The product of the axes, and other systems; samplers are those asked for, or the suite's and every plug-in's."""
    values = {axis: list(suite.axes[axis]) for axis in AXES}
    if context.samplers is not None:
        values["sampler"] = list(context.samplers)
    else:
        plugins = [entry.name for entry in registry.samplers.entries() if not entry.in_tree]
        values["sampler"] = list(dict.fromkeys([*values["sampler"], *plugins]))
    grid: list[Row] = [dict(zip(AXES, one, strict=True)) for one in itertools.product(*values.values())]
    others: list[Row] = [{"system": name} for name in context.systems if name != OWN]
    return [*grid, *others] if suite.compare else grid


def problem_with(row: Row, context: Context) -> str:
    """Why a row's sampler or system cannot be used: a plug-in that is broken breaks only its rows."""
    if (system := _system(row)) != OWN:
        return context.unavailable_reason(system)
    try:
        return registry.samplers.lacks(str(row["sampler"]))
    except MelodyError as error:
        return str(error)


def _system(row: Row) -> str:
    return str(row.get("system", OWN))


@dataclass
class _Run:
    """One row that is being measured."""

    builder: TableBuilder
    row: Row

    @cached_property
    def problem(self) -> str:
        return problem_with(self.row, self.builder.context)

    @cached_property
    def units(self) -> dict[int, Job]:
        suite, context = self.builder.suite, self.builder.context
        return generation_jobs(suite, context, self.row, embedders_of(suite), _system(self.row))

    @property
    def expected(self) -> int:
        return len(self.units) * self.builder.suite.settings.prompts

    def finding(self, column: Column) -> CellValue:
        if self.problem:
            return CellValue(unavailable_reason=self.problem)
        if column.measure in TIMED:
            return self._speed(column)
        if column.measure in budgets.MEASURES:
            return budgets.finding(self.builder.context, _system(self.row), column)
        units = list(self.units.values())
        if column.measure == "fad":
            units.append(_reference(self.builder.suite, self.builder.context))
        found = [self.builder.outcome(unit) for unit in units]
        if reason := failure_among(found):
            return CellValue(unavailable_reason=reason, units=tuple(units))
        generated = {seed: _done(self.builder.outcome(unit)) for seed, unit in self.units.items()}
        measured = self._measured(column, generated, _done(found[-1]))
        if column.measure not in COUNTS:
            measured = estimates.with_silence(measured, generated)
        return CellValue(
            measured, units=tuple(units), inputs=self._inputs(column), config=self._config, seeds=tuple(self.units)
        )

    def _measured(self, column: Column, generated: dict[int, JobResult], reference: JobResult) -> Measurement:
        if column.measure == "fad":
            return estimates.fad(generated, reference, column.embedder or "", self.expected)
        if column.measure == "mcc":
            return estimates.mcc(generated, self.expected)
        if column.measure == "mcc_shuffled":
            return estimates.mcc_shuffled(generated, self.expected)
        if column.measure == "instrument":
            return estimates.agreement(generated)
        return estimates.passes(generated, COUNTS[column.measure])

    def _speed(self, column: Column) -> CellValue:
        suite, context = self.builder.suite, self.builder.context
        if not _is_timed(column, context):
            return CellValue(unavailable_reason=f"this run is on {context.device}; the column is for {column.device}")
        if plays_back(self.builder, self.units):
            return CellValue(unavailable_reason=PLAYS_BACK)
        unit = timing(suite, context, self.row, _system(self.row))
        outcome = self.builder.outcome(unit)
        if isinstance(outcome, Failure):
            return CellValue(unavailable_reason=outcome.reason, units=(unit,))
        factor = outcome.values["sample_rate"] if column.measure == "samples_per_second" else 1
        by_seed = {
            seed: factor * real_time_factor(outcome.values["duration_s"], seconds)
            for seed, seconds in outcome.values["seconds"].items()
        }
        measured = estimates.over_repeats(by_seed, expected=len(self.units))
        conditions = timed_under(outcome)
        config = {**self._config, **conditions}
        return CellValue(measured, units=(unit,), config=config, seeds=tuple(self.units), conditions=conditions)

    def _inputs(self, column: Column) -> str:
        suite, context = self.builder.suite, self.builder.context
        prompts = texts_hash(context.texts(suite))
        if column.measure != "fad":
            return prompts
        reference = _reference(suite, context)
        return texts_hash([prompts, reference.config["corpus"]])

    @property
    def _config(self) -> dict[str, object]:
        settings = self.builder.suite.settings
        config: dict[str, object] = {**self.row, "prompts": settings.prompts, "duration_s": settings.duration_s}
        if _system(self.row) == OWN:
            return {**config, "guidance_scale": settings.guidance_scale}
        facts = next(iter(self.units.values())).config
        return {**config, "options": facts["options"]}

    @property
    def clips(self) -> list[tuple[Clip, bytes]]:
        """The first seed's first clips."""
        if self.problem:
            return []
        seed, unit = next(iter(self.units.items()))
        outcome = self.builder.outcome(unit)
        if isinstance(outcome, Failure):
            return []
        setting = ", ".join(f"{axis} = {value}" for axis, value in self.row.items())
        stem = re.sub(r"[^\w.-]+", "-", "-".join(str(value) for value in self.row.values()))
        return [
            (
                Clip(
                    title=f"{setting}, seed {seed}",
                    text=unit.config["prompts"][int(name)],
                    # The key keeps runs of other settings apart, and lets tables share the clips of one run.
                    path=f"audio/{stem}-{unit.key[:8]}-{name}.flac",
                ),
                content,
            )
            for name, content in sorted(outcome.clips.items())[:EXPORTED_CLIPS]
        ]


def _listed_finding(builder: TableBuilder, column: Column, listed: ListedRow) -> CellValue:
    unit = _reference(builder.suite, builder.context)
    if is_control(listed.row):
        return control_finding(builder, column, str(listed.row["system"]), unit, embedders_of(builder.suite))
    if column.measure not in OF_REFERENCE:
        return CellValue(unavailable_reason=listed.absent)
    return _reference_finding(builder, column, unit)


def _reference_finding(builder: TableBuilder, column: Column, unit: Job) -> CellValue:
    """The held-out clips themselves: their own text correlation, and the distance of some of them to the others."""
    outcome = builder.outcome(unit)
    if isinstance(outcome, Failure):
        return CellValue(unavailable_reason=outcome.reason, units=(unit,))
    expected = builder.suite.settings.reference_clips
    if column.measure == "fad":
        measured = estimates.fad_floor(outcome, column.embedder or "", builder.suite.settings.prompts)
    elif column.measure == "mcc":
        measured = estimates.mcc({0: outcome}, expected).model_copy(update={"by_seed": {}})
    elif column.measure == "instrument":
        measured = estimates.agreement_of(outcome)
    else:
        measured = estimates.mcc_shuffled({0: outcome}, expected)
    return CellValue(measured, units=(unit,), inputs=unit.config["corpus"], config={"clips": outcome.values["clips"]})


def _reference(suite: Suite, context: Context) -> Job:
    return held_out_job(suite, context, embedders_of(suite))


def _is_timed(column: Column, context: Context) -> bool:
    return column.measure in TIMED and column.device in (None, context.device.partition(":")[0])


def check_axes(suite: Suite, context: Context) -> None:
    """Raise ``MelodyError`` for a missing or unknown axis, an unknown sampler or grid, a row that is no control."""
    if set(suite.axes) != set(AXES):
        raise MelodyError(f"suite {suite.name}: axes are {', '.join(suite.axes) or 'none'}; expected {', '.join(AXES)}")
    for sampler in context.samplers if context.samplers is not None else suite.axes["sampler"]:
        registry.samplers.entry(str(sampler))
    for grid in suite.axes["grid"]:
        registry.grids.entry(str(grid))
    for num_steps in suite.axes["num_steps"]:
        if not isinstance(num_steps, int) or num_steps < 1:
            raise MelodyError(f"suite {suite.name}: num_steps: expected integers of 1 or more, got {num_steps!r}")
    check_classifiers(suite)
    known = [REAL, *CONTROLS]
    for listed in suite.rows:
        if (name := str(listed.row.get("system"))) not in known:
            raise MelodyError(f"suite {suite.name}: unknown row {name!r}{did_you_mean(name, known)}")


def _done(outcome: JobResult | Failure) -> JobResult:
    assert isinstance(outcome, JobResult)
    return outcome
