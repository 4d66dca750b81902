"""Rows of controls beside the generated clips of a table: what a metric says where the answer is known.

- *reference halves*: one half of the held-out clips against the other, over many draws;
- *white noise* and *silence*: as many clips as prompts, as long as those that are generated; noise at −20 dB;
- *one clip repeated*: one held-out clip in the place of all: a set without variety.

What they are, and how a metric tells them from music, is ``melody evaluate``'s (``evaluation/controls``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from melody import registry
from melody.evaluation.control_sounds import NOISE, REPEATED, SILENCE
from melody.evaluation.controls import HALVES, REFERENCE, judged
from melody.evaluation.result import Control, Measurement
from melody.evaluation.scoring import MetricValue
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.embedded_clips import EmbeddedClips
from melody.reproduce.jobs.job import Job
from melody.reproduce.jobs.reference_clips import ControlJob, ReferenceJob
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue
from melody.reproduce.tables.metric_columns import MetricColumns, input_kind_of, metric_of
from melody.reproduce.tables.shared_jobs import embedding_of
from melody.reproduce.tables.table import RowResults

MADE = (NOISE, SILENCE, REPEATED)
CONTROLS = (HALVES, *MADE)
REAL = "real clips"
NOT_GENERATED = "a control is not generated: it has no prompts to shuffle, no passes and no speed"
HALVES_ARE_REAL = "the halves are real clips: their number is in that row"


def control_jobs(
    suite: Suite, context: Context, name: str, embedders: Sequence[str], *, waveforms: bool = False
) -> list[Job]:
    """The sounds that a control needs beside the reference."""
    if name not in MADE:
        return []
    texts, duration_s = context.texts(suite), suite.settings.duration_s
    embedding = embedding_of(suite, context, embedders, waveforms=waveforms)
    return [ControlJob.of(context, name, texts=texts, duration_s=duration_s, embedding=embedding)]


def control_value(
    suite: Suite, context: Context, column: Column, name: str, results: RowResults, metrics: MetricColumns
) -> CellValue:
    """One control by one column."""
    if not metric_of(column) and column.measure != "instrument":
        return CellValue(unavailable_reason=NOT_GENERATED)
    if name == HALVES and input_kind_of(column) != "embeddings":
        return CellValue(unavailable_reason=HALVES_ARE_REAL)
    (reference,) = results.planned_as(ReferenceJob, "reference")
    return CellValue(
        _measured(column, name, results, metrics),
        jobs=results.planned("reference", "control"),
        inputs=texts_hash([*context.texts(suite), reference.corpus]),
        config={"control": name, "prompts": suite.settings.prompts, "duration_s": suite.settings.duration_s},
        seeds=(0,),
    )


def _measured(column: Column, name: str, results: RowResults, metrics: MetricColumns) -> Measurement:
    real = EmbeddedClips(tuple(results.computed("reference")))
    if name == HALVES:
        halves = metrics.of_halves(column, real)
        return _counted(halves, real.count - halves.scored)
    made = EmbeddedClips(tuple(results.computed("control")))
    if column.measure == "instrument":
        return estimates.agreement_of(made)
    measured = metrics.of_control(column, name, made, real)
    return _counted(measured, real.count) if input_kind_of(column) == "embeddings" else measured


def _counted(measured: Measurement, against: int) -> Measurement:
    """A distance with the clips on both sides: those of few clips are larger, and compare with their like only."""
    said = f"{measured.scored} clips against {against}"
    return measured.model_copy(update={"warning": "; ".join(filter(None, [said, measured.warning]))})


def control_notes(columns: Sequence[Column], cells: Sequence[Cell]) -> Iterator[str]:
    """Lines for the head of a table: which controls a metric cannot tell from music, or that it tells them all."""
    for column in columns:
        found = {str(c.row.get("system")): c for c in cells if c.column == column.name and c.measured is not None}
        controls = [_control(name, found[name]) for name in CONTROLS[1:] if name in found]
        if not controls or REAL not in found:
            continue
        music = _control(REFERENCE, found[REAL])
        asked = judged([music, *controls], MetricValue(), found[REAL].direction, _tells(found[REAL].metric))[1:]
        label = found[REAL].label
        blind = [one for one in asked if one.distinguished is False]
        if told := [one.name for one in asked if one.distinguished]:
            yield f"Controls: {label} tells {', '.join(told)} from real clips."
        if blind:
            listed = ", ".join(map(_numbered, blind))
            yield f"Controls: {label} cannot tell {listed} from real clips ({_numbered(music)}) on this data."


def _tells(metric: str) -> frozenset[str] | None:
    """The controls that a metric claims to tell, by its name with or without an embedder's."""
    name = metric.partition("[")[0]
    return registry.metrics.get(name).tells if name in registry.metrics.names() else None


def _numbered(control: Control) -> str:
    """A control with its number, interval and clips."""
    low, high = control.low, control.high
    interval = "" if low is None or high is None else f", {low:.3g} to {high:.3g}"
    return f"{control.name}: {control.value:.3g}{interval}, {control.n} clips"


def _control(name: str, cell: Cell) -> Control:
    assert cell.measured is not None
    measured = cell.measured
    return Control(name=name, value=measured.value, low=measured.low, high=measured.high, n=measured.scored)
