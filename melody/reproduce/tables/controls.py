"""Rows of controls beside the generated clips of a table: what a metric says where the answer is known.

- *reference halves*: one half of the held-out clips against the other, drawn once;
- *white noise* and *silence*: as many clips as prompts, as long as those that are generated; noise at −20 dB;
- *one clip repeated*: one held-out clip in the place of all: a set without variety.

A metric tells a control from music if the control lies outside of the interval of the real clips, on the bad side. As
in ``melody evaluate`` (``evaluation/controls``), and choices of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from melody import registry
from melody.evaluation.controls import ALIKE, HALVES, NOISE, REFERENCE, REPEATED, SILENCE, judged
from melody.evaluation.result import Control, Measurement
from melody.evaluation.scoring import MetricValue
from melody.metrics.text_correlation import cosines
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.jobs.reference_clips import ControlJob
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, takes_embedder
from melody.reproduce.tables.metric_columns import MetricColumns
from melody.reproduce.tables.shared_jobs import embedding_of
from melody.reproduce.tables.table import RowResults

CONTROLS = (HALVES, NOISE, SILENCE, REPEATED)
MADE = (NOISE, SILENCE, REPEATED)
REAL = "real clips"
NOT_GENERATED = "a control is not generated: it has no prompts to shuffle, no passes and no speed"
HALVES_HAVE_CAPTIONS = "the halves are real clips: how they fit their captions is in that row"
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
    of_sets = takes_embedder(column)
    if not column.metric and column.measure not in ("fad", "mcc", "instrument"):
        return CellValue(unavailable_reason=NOT_GENERATED)
    if not of_sets and name == HALVES:
        return CellValue(unavailable_reason=HALVES_ARE_REAL if column.metric else HALVES_HAVE_CAPTIONS)
    real, *made = results.computed("reference", "control")
    prompts = suite.settings.prompts
    if column.metric:
        measured = _of_metric(column, name, real, made, metrics)
    elif column.measure == "fad":
        measured = _distance(name, real, made, column.embedder or "", prompts)
    elif column.measure == "instrument":
        measured = estimates.agreement_of(made[0])
    else:
        measured = estimates.over_clips(cosines(*estimates.joint(made[0])).tolist(), prompts)
    jobs = results.planned("reference", "control")
    return CellValue(
        measured,
        jobs=jobs,
        inputs=texts_hash([*context.texts(suite), jobs[0].config["corpus"]]),
        config={"control": name, "prompts": prompts, "duration_s": suite.settings.duration_s},
        seeds=(0,),
    )


def _of_metric(
    column: Column, name: str, real: JobResult, made: Sequence[JobResult], metrics: MetricColumns
) -> Measurement:
    against = int(real.values["clips"])
    if name == HALVES:
        one, other = _halves(against)
        return _counted(metrics.of_halves(column, real, (one, other)), len(other))
    measured = metrics.of_control(column, made[0], real, alike=name in ALIKE)
    return _counted(measured, against) if takes_embedder(column) else measured


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


def _halves(clips: int) -> tuple[list[int], list[int]]:
    """Places of the clips in either half, drawn once."""
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(0)).tolist()
    return order[: clips // 2], order[clips // 2 :]


def _distance(name: str, real: JobResult, made: Sequence[JobResult], embedder: str, prompts: int) -> Measurement:
    clips = estimates.clip_statistics(real, embedder)
    if name == HALVES:
        one, other = ([clips[place] for place in half] for half in _halves(len(clips)))
        return _counted(estimates.fad_between(one, other, len(one)), len(other))
    own = estimates.clip_statistics(made[0], embedder)
    if name in ALIKE:
        value = estimates.distance(own, clips)
        return _counted(Measurement(value=value, expected=prompts, scored=len(own)), len(clips))
    return _counted(estimates.fad_between(own, clips, prompts), len(clips))


def _counted(measured: Measurement, against: int) -> Measurement:
    """A distance with the clips on both sides: those of few clips are larger, and compare with their like only."""
    said = f"{measured.scored} clips against {against}"
    return measured.model_copy(update={"warning": "; ".join(filter(None, [said, measured.warning]))})


def _control(name: str, cell: Cell) -> Control:
    assert cell.measured is not None
    measured = cell.measured
    return Control(name=name, value=measured.value, low=measured.low, high=measured.high, n=measured.scored)
