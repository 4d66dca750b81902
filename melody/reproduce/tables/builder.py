"""From values to cells: what a measure is, and everything that stands in one place of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from melody import registry
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Direction, Measurement
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Job, JobResult, JobResults
from melody.reproduce.orderings import used_columns
from melody.reproduce.results import Cell, Composition, Projection, Provenance, Reference, Verdict
from melody.reproduce.suite import Baseline, Column, PaperValue, Row, Scalar, Suite, published_number
from melody.reproduce.systems import OWN
from melody.reproduce.verdicts import Circumstances, compare, judge, not_counted, tolerance_of

OWN_VERSION = "1"
"""Of measures that are no registered metric."""


@dataclass(frozen=True)
class Quantity:
    """What a kind of suite can put into a column."""

    metric: str
    """A registered metric, or a name of its own."""
    direction: Direction = "none"
    unit: str = ""

    @property
    def facts(self) -> tuple[str, Direction, str]:
        """Version, direction and unit: the registered metric's, where it is one."""
        if self.metric not in registry.metrics.names():
            return OWN_VERSION, self.direction, self.unit
        metric = registry.metrics.get(self.metric)
        return (
            metric.version,
            self.direction if self.direction != "none" else metric.direction,
            self.unit or metric.unit,
        )


PASSES = Quantity("passes", "lower", "passes")
RTF = Quantity("rtf", "higher", "×")
INSTRUMENT = Quantity("instrument-agreement", "higher", "%")
"""Of tables over prompts, whose clips judges hear."""


@dataclass(frozen=True)
class CellValue:
    """What was found for one cell: a number, or why there is none."""

    measured: Measurement | None = None
    unavailable_reason: str = ""
    projected: Projection | None = None
    """A number by formula only, held against what the paper prints: its own arithmetic, done again."""
    fitted: bool = False
    """Whether the paper's own numbers went into the projection: then it is not held against them."""
    composed: Composition | None = None
    """A number put together from measured parts, where the whole was not run, or beside it."""
    jobs: tuple[Job, ...] = ()
    inputs: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    precision: str = "float32"
    conditions: dict[str, Scalar] = field(default_factory=dict)
    """Of a timing: precision, batch and threads, which decide whether it compares."""
    weights: str | None = None
    """SHA-256 of what made the numbers, where that is no system of the run."""
    no_rank: str = ""
    """Why the number takes no part in any ordering, if it takes none."""


def timed_under(outcome: JobResult, precision: str = "float32") -> dict[str, Scalar]:
    """Conditions of a timing, which is of one clip at a time."""
    threads = outcome.origin.get("threads")
    return {"precision": precision, "batch": 1, **({} if threads is None else {"threads": int(threads)})}


@dataclass(frozen=True)
class TableBuilder:
    """One table that is being filled."""

    suite: Suite
    context: Context
    outcomes: JobResults
    baselines: Sequence[Baseline]
    measures: Mapping[str, Quantity]

    def cell(self, row: Row, column: Column, value: CellValue) -> Cell:
        """The cell at a row and column, with the paper's value and the verdict."""
        if lacks := lacking_extra(column):
            value = CellValue(unavailable_reason=lacks)
        paper = self.suite.paper_value(row, column.name)
        version, direction, unit = quantity_of(column, self.measures).facts
        verdict, reason = self._verdict(row, column, paper, value)
        counts = paper is not None and not not_counted(column, paper, row)
        measured = value.measured
        if measured is not None and column.name not in used_columns(self.suite):
            measured = measured.model_copy(update={"sample": None})
        return Cell(
            row=row,
            column=column.name,
            label=self.label(column),
            metric=self.metric_name(column),
            metric_version=version,
            direction=direction,
            unit=unit,
            verdict=verdict,
            reason=reason,
            paper=Reference(value=paper.value, place=paper.place, grade=paper.grade) if paper else None,
            published=published_number(self.baselines, self.suite.name, row, column.name),
            measured=measured,
            composed=value.composed,
            projected=value.projected,
            no_rank=(value.no_rank or None) if value.measured else None,
            statement=self.suite.statement_of(paper) if paper is not None and counts else None,
            tolerance=tolerance_of(column, paper),
            provenance=self._provenance(column, value) if value.measured or value.composed else None,
        )

    def _verdict(self, row: Row, column: Column, paper: PaperValue | None, value: CellValue) -> tuple[Verdict, str]:
        if value.projected and not value.fitted and paper is not None and value.measured is None:
            if reason := not_counted(column, paper, row):
                return "not counted", f"by formula only; {reason}"
            verdict, reason = compare(column, paper, value.projected.value)
            return verdict, f"by formula: {reason}"
        here = Circumstances(
            preset=self._preset(value),
            device=self.context.device_name,
            other_settings=self.suite.other_settings(),
            conditions=value.conditions,
        )
        return judge(column, paper, row, value.measured, value.unavailable_reason, here)

    def label(self, column: Column) -> str:
        return column.label.replace("{preset}", self.context.inputs.subject.preset)

    def metric_name(self, column: Column) -> str:
        """The metric with what it is relative to, as in ``fad[mel-stats]``."""
        name, heard_by = quantity_of(column, self.measures).metric, _heard_by(column)
        return f"{name}[{heard_by.replace('{preset}', self.context.inputs.subject.preset)}]" if heard_by else name

    def _preset(self, value: CellValue) -> str:
        """Of what made the numbers: a row's system may have a preset of its own, or none."""
        other = _other(value)
        return self.context.inputs.subject.preset if other is None else self.context.loaded.systems[other].preset

    def _provenance(self, column: Column, value: CellValue) -> Provenance:
        context, other = self.context, _other(value)
        outcomes = [self.outcomes[job.key] for job in value.jobs]
        number = value.measured or value.composed
        origins = [outcome.origin for outcome in outcomes if isinstance(outcome, JobResult)] or [context.origin]
        return Provenance(
            preset=self._preset(value),
            device=_joined(origins, "device") or "",
            precision=value.precision,
            seeds=list(value.seeds),
            sample_count=number.scored if number else 0,
            embedder=_heard_by(column).replace("{preset}", context.inputs.subject.preset) or None,
            versions=origins[0]["versions"],
            commit=_joined(origins, "commit"),
            weights=_weights(context, value),
            inputs=value.inputs,
            config=value.config if other is None else {"identity": context.system_facts(other), **value.config},
            cells=[job.key for job in value.jobs],
        )


def _weights(context: Context, value: CellValue) -> str | None:
    """Hash of the weights of what made the numbers: another system's where one of its jobs is among them."""
    if value.weights is not None:
        return value.weights
    other = _other(value)
    return context.inputs.subject.weights if other is None else context.loaded.systems[other].weights


def _other(value: CellValue) -> str | None:
    """The system that made the numbers, if it is not the run's own."""
    return next((job.system_name for job in value.jobs if job.system_name != OWN), None)


def _joined(origins: Sequence[dict[str, Any]], name: str) -> str | None:
    """A fact of what computed a number's jobs, each value once."""
    return ", ".join(dict.fromkeys(origin[name] for origin in origins if origin[name])) or None


def quantity_of(column: Column, measures: Mapping[str, Quantity]) -> Quantity:
    """What a column shows: one of its kind's measures, or a registered metric."""
    return Quantity(column.metric) if column.metric else measures[column.measure]


def check_measures(suite: Suite, measures: Mapping[str, Quantity]) -> None:
    """Raise ``MelodyError`` if a column asks for what this kind of suite cannot measure."""
    for column in suite.columns:
        if not column.metric and column.measure not in measures:
            hint = did_you_mean(column.measure, measures)
            raise MelodyError(f"suite {suite.name}: column {column.name!r}: unknown measure {column.measure!r}{hint}")


def lacking_extra(column: Column) -> str:
    """The extra that a column needs and that is not installed, in one line; empty if there is none."""
    if column.metric and (lacks := registry.metrics.lacks(column.metric)):
        return lacks
    if column.tagger:
        return registry.audio_taggers.lacks(column.tagger)
    embedder = column.embedder or ""
    return registry.audio_embedders.lacks(embedder) if takes_embedder(column) and embedder else ""


def _heard_by(column: Column) -> str:
    return column.tagger or column.joint or column.embedder or ""


def takes_embedder(column: Column) -> bool:
    """Whether a column is of an audio embedder's vectors."""
    if column.metric:
        return bool(registry.metrics.get(column.metric).input_kind == "embeddings")
    return column.measure.startswith("fad")


def embedders_of(suite: Suite) -> list[str]:
    """What hears a suite's clips and can be had: embedders of its distances, taggers, joint embedders of others."""
    heard = [column for column in suite.columns if column.tagger or column.joint or takes_embedder(column)]
    return sorted({column.hears for column in heard if column.hears and not lacking_extra(column)})


def check_classifiers(suite: Suite) -> None:
    """Raise ``MelodyError`` if a column asks for what judges hear, and ``[settings]`` asks for no judges."""
    for column in suite.columns:
        if column.measure == "instrument" and not suite.settings.judges:
            raise MelodyError(f"suite {suite.name}: column {column.name!r}: expected judges = true in [settings]")


def unregistered(kind: registry.Registry, name: str, why: str) -> str:
    """Why a row of another system or component is not measured: it is not registered, or ``why``."""
    entry = {entry.name: entry for entry in kind.entries()}.get(name)
    if entry is None:
        return f"no {kind.label} {name!r} is registered"
    return f"{kind.label} {name!r} cannot be used: {entry.error}" if entry.error else why
