"""Real-time factor of every system at a preset's size: measured, composed of measured parts, projected onto a V100.

The four never share a column: what the paper printed, what a whole run took here, what its parts add up to, and what a
roofline of a V100 says, whose efficiencies are fitted on the paper's own three rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from melody.config import load_preset
from melody.evaluation.result import Measurement
from melody.metrics.real_time_factor import real_time_factor
from melody.metrics.roofline import TABLE2_V100_S, V100, Efficiency, Load, fit, projected_seconds
from melody.reproduce.context import Context
from melody.reproduce.jobs.counting import counting_job
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.jobs.speed import DTYPES, speed_job
from melody.reproduce.random_systems import named_by_preset, why_not
from melody.reproduce.results import Composition, Projection
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.systems import OWN
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder, timed_under
from melody.reproduce.tables.generation_costs import Asked, by_formula, by_network, definition

MEASURES = {
    "rtf": Quantity("rtf"),
    "rtf_v100": Quantity("rtf"),
    "rtf_paper_cpu": Quantity("rtf"),
    "seconds": Quantity("seconds-a-clip", "lower", "s"),
    "passes": Quantity("passes"),
    "tflop": Quantity("flops", "lower", "TFLOP"),
    "gigabytes": Quantity("weights-moved", "lower", "GB"),
    "parameters": Quantity("parameters", "none", "million"),
}
DEVICES = {"rtf_v100": "V100", "rtf_paper_cpu": "8260"}
"""Part of the name of the device that a column is about."""
COUNTED = ("passes", "tflop", "gigabytes", "parameters")
PAPER, SMALL = "paper", "demo"
"""The preset that the paper's speeds are of, and the one whose whole clips are held against their compositions."""
CONTENDED = 0.9
"""Processor's seconds a second of the clock, under which other work must have held a single thread up."""


def plan(suite: Suite, context: Context) -> list[Job]:
    """A timing of every system, one of each at the small size, and the counts that the roofline is fitted on."""
    names = _systems(suite)
    return [
        *(_timing(suite, context, name) for name in names),
        *(unit for name in names if (unit := _small(suite, context, name)) is not None),
        *(_fitted_on() if context.subject.preset == PAPER else ()),
    ]


def fill(builder: TableBuilder) -> FilledTable:
    """Every row by every column; how good the compositions and the roofline are stands in the head."""
    filled = FilledTable(notes=[*_compositions(builder), *_roofline_notes(builder)])
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, listed.row, column))
            for column in builder.suite.columns
        ]
    return filled


def _systems(suite: Suite) -> list[str]:
    names = dict.fromkeys(str(listed.row["system"]) for listed in suite.rows)
    return [name for name in names if not why_not(name)]


def _variants(suite: Suite, name: str) -> list[dict[str, Any]]:
    rows = (Asked.of(listed.row, suite.settings.duration_s) for listed in suite.rows)
    return [one.options for one in rows if one.system == name]


def _timing(suite: Suite, context: Context, name: str) -> Job:
    duration_s, variants = suite.settings.duration_s, _variants(suite, name)
    return speed_job(context, definition(context), name, duration_s, variants, context.precision)


def _small(suite: Suite, context: Context, name: str) -> Job | None:
    if not named_by_preset(name) or context.subject.preset not in (PAPER, SMALL):
        return None
    return speed_job(
        context, load_preset(SMALL), name, suite.settings.duration_s, _variants(suite, name), precision="fp32"
    )


def _fitted_on() -> list[Job]:
    return [counting_job(load_preset(PAPER), OWN, 10.0, {"num_steps": steps}) for steps in TABLE2_V100_S]


def _finding(builder: TableBuilder, row: Row, column: Column) -> CellValue:
    name = str(row["system"])
    if reason := why_not(name):
        return CellValue(unavailable_reason=reason)
    unit = _timing(builder.suite, builder.context, name)
    outcome = builder.outcome(unit)
    if isinstance(outcome, Failure):
        return CellValue(unavailable_reason=outcome.reason, units=(unit,))
    if "absent" in outcome.values:
        return CellValue(unavailable_reason=str(outcome.values["absent"]), units=(unit,))
    options = Asked.of(row, builder.suite.settings.duration_s).options
    found = outcome.values["variants"][_variants(builder.suite, name).index(options)]
    if column.measure in COUNTED:
        value = by_formula(found | {"parameters": outcome.values["parameters"]}, column.measure)
        method = f"from shapes: {by_network(found)}"
        return CellValue(unavailable_reason="it follows from shapes", projected=Projection(value=value, method=method))
    return _speed(builder, column, found, unit, outcome)


def _speed(builder: TableBuilder, column: Column, found: dict[str, Any], unit: Job, outcome: JobResult) -> CellValue:
    context, duration_s = builder.context, builder.suite.settings.duration_s
    projected = _projection(builder, found) if column.measure == "rtf_v100" else None
    wanted = DEVICES.get(column.measure)
    if wanted and wanted not in context.device_name:
        fitted = "; what is projected was fitted on the paper's own numbers" if projected else ""
        return CellValue(
            unavailable_reason=f"this run is on {context.device_name}{fitted}", projected=projected, fitted=True
        )
    is_rtf = column.measure != "seconds"
    whole = found["whole"]

    def number(seconds: float) -> float:
        return real_time_factor(duration_s, seconds) if is_rtf else seconds

    measured = None
    if "absent" not in whole:
        measured = Measurement(
            value=number(whole["seconds"]),
            interval=f"a whole clip with random weights, {_median(whole['repeats'])}",
            expected=1,
            scored=1,
            warning=_contended(context.device, whole["seconds"], whole["processor_seconds"], number),
        )
    entries = found["entries"]
    composed = Composition(
        value=number(found["composed"]),
        interval=f"calls of {len(entries)} kinds, each {_median(min(one['repeats'] for one in entries))} or more, "
        "with random weights, times how often a clip makes them",
        expected=len(entries),
        scored=len(entries),
        warning=_contended(context.device, found["composed"], found["processor"], number),
    )
    config = {"precision": context.precision, "budget_s": context.budget_s, "duration_s": duration_s, "parts": entries}
    precision = str(DTYPES[context.precision]).removeprefix("torch.")
    absent = f"composed only: {whole['absent']}" if "absent" in whole else ""
    return CellValue(
        measured,
        absent,
        projected,
        fitted=True,
        composed=composed,
        units=(unit,),
        config=config,
        precision=precision,
        conditions=timed_under(outcome, precision),
    )


def _median(repeats: int) -> str:
    return "one call" if repeats == 1 else f"the median of {repeats} calls"


def _contended(device: str, wall_s: float, processor_s: float, number: Any) -> str | None:
    """What to tell where the processor worked for less than the clock's time: beside a GPU it does anyway."""
    if device != "cpu" or processor_s >= CONTENDED * wall_s:
        return None
    share = 100 * processor_s / wall_s
    return (
        f"other work held the machine: the processor worked {share:.0f} % of the clock's time; "
        f"by the processor's seconds it is {number(processor_s):.3g}"
    )


def _loads(values: dict[str, Any]) -> list[Load]:
    return [Load(one["calls"], one["flops"], one["weights"]) for one in values["entries"]]


def _efficiency(builder: TableBuilder, precision: str) -> Efficiency | None:
    """What the paper's rows imply; ``None`` where our system at the paper's size was not counted."""
    found = [builder.outcome(unit) for unit in _fitted_on()] if builder.context.subject.preset == PAPER else []
    outcomes = [outcome for outcome in found if isinstance(outcome, JobResult)]
    if not outcomes or len(outcomes) < len(found):
        return None
    runs = [
        (_loads(outcome.values), seconds) for outcome, seconds in zip(outcomes, TABLE2_V100_S.values(), strict=True)
    ]
    return fit(runs, V100[precision])


def _projection(builder: TableBuilder, found: dict[str, Any]) -> Projection | None:
    efficiency = _efficiency(builder, "half")
    if efficiency is None:
        return None
    seconds = projected_seconds(_loads(found), V100["half"], efficiency)
    method = (
        f"roofline of a V100 in half precision (125 TFLOP/s, 900 GB/s) from counted FLOPs and weights, at "
        f"{100 * efficiency.arithmetic:.0f} % and {100 * efficiency.memory:.0f} % of the peaks, fitted on Table 2's "
        f"three rows; beginning a call costs nothing in it: {seconds:.3g} s"
    )
    return Projection(value=real_time_factor(builder.suite.settings.duration_s, seconds), method=method)


def _roofline_notes(builder: TableBuilder) -> Iterator[str]:
    for precision, machine in V100.items():
        efficiency = _efficiency(builder, precision)
        if efficiency is None:
            return
        left = zip(TABLE2_V100_S, efficiency.residuals, strict=True)
        residuals = ", ".join(f"{100 * value:+.1f} % at {steps} steps" for steps, value in left)
        text = (
            f"Table 2's three V100 rows, fitted in {precision} ({machine.flops_a_second / 1e12:g} TFLOP/s, "
            f"{machine.bytes_a_second / 1e9:g} GB/s): {100 * efficiency.arithmetic:.0f} % of arithmetic, "
            f"{100 * efficiency.memory:.0f} % of memory; residuals {residuals}"
        )
        yield (
            f"{text}." if efficiency.possible else f"{text}: beyond a peak, so the paper's runs were not of this kind."
        )


def _compositions(builder: TableBuilder) -> Iterator[str]:
    """How far the parts of a small system add up to its whole."""
    for name in _systems(builder.suite):
        unit = _small(builder.suite, builder.context, name)
        outcome = None if unit is None else builder.outcome(unit)
        if not isinstance(outcome, JobResult):
            why = (
                f"preset {SMALL} is not among its sizes, or not this run's"
                if unit is None
                else getattr(outcome, "reason", "nothing was timed")
            )
            yield f"Composition of {name} is not held against a whole clip: {why}."
            continue
        for options, found in zip(_variants(builder.suite, name), outcome.values.get("variants", []), strict=True):
            said = "".join(f", {axis} {value}" for axis, value in options.items())
            yield _composition(f"{name}{said}, preset {SMALL}, fp32", found)


def _composition(what: str, found: dict[str, Any]) -> str:
    whole, composed = found["whole"], found["composed"]
    if "absent" in whole:
        return f"Composition of {what} is not held against a whole clip: {whole['absent']}."
    error = 100 * (composed / whole["seconds"] - 1)
    seconds = f"{composed:.3g} s of parts against {whole['seconds']:.3g} s of the whole"
    return f"Composition of {what}: {seconds}, {error:+.0f} %."
