"""Real-time factor of every system at a preset's size: measured, composed of measured parts, projected onto a V100.

The four never share a column: what the paper printed, what a whole run took here, what its parts add up to, and what a
roofline of a V100 says, whose efficiencies are fitted on the paper's own three rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

from melody.config import load_preset
from melody.evaluation.result import Measurement
from melody.metrics.real_time_factor import real_time_factor
from melody.metrics.roofline import TABLE2_V100_S, V100, Efficiency, Load, fit, projected_seconds
from melody.registry import tables
from melody.reproduce.jobs.counting import WorkJob
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.jobs.speed import DTYPES, SpeedJob
from melody.reproduce.random_systems import named_by_preset, why_not
from melody.reproduce.requested import RequestedRow
from melody.reproduce.results import Cell, Composition, Projection
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.systems import OWN
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import PASSES, RTF, CellValue, Quantity, timed_under
from melody.reproduce.tables.generation_costs import Asked, by_formula, by_network, of_size, sized_rows
from melody.reproduce.tables.table import RowJobs, RowResults, Table

DEVICES = {"rtf_v100": "V100", "rtf_paper_cpu": "8260"}
"""Part of the name of the device that a column is about."""
COUNTED = ("passes", "tflop", "gigabytes", "parameters")
PAPER, SMALL = "paper", "demo"
"""The preset that the paper's speeds are of, and the one whose whole clips are held against their compositions."""
CONTENDED = 0.9
"""Processor's seconds a second of the clock, under which other work must have held a single thread up."""


@tables.register("speed")
class SpeedTable(Table):
    """Real-time factor of every system at a preset's size; the head tells how good compositions and roofline are."""

    measures: ClassVar = {
        "rtf": RTF,
        "rtf_v100": RTF,
        "rtf_paper_cpu": RTF,
        "seconds": Quantity("seconds-a-clip", "lower", "s"),
        "passes": PASSES,
        "tflop": Quantity("flops", "lower", "TFLOP"),
        "gigabytes": Quantity("weights-moved", "lower", "GB"),
        "parameters": Quantity("parameters", "none", "million"),
    }
    uses = Uses(frozenset({"duration_s"}), listed=frozenset({"system"}), options=True)
    weightless = True

    @classmethod
    def takes(cls, suite: Suite, row: RequestedRow) -> bool:
        """Presets and components, which need no weights here."""
        return row.is_of_ours

    def rows(self) -> list[Row]:
        """The suite's, and what is asked for beside them."""
        return sized_rows(self.suite, self.context)

    @cached_property
    def _variants(self) -> dict[str, list[dict[str, Any]]]:
        """The options of every row, by system."""
        variants: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows():
            variants.setdefault(str(row["system"]), []).append(self._options(row))
        return variants

    def _options(self, row: Row) -> dict[str, Any]:
        return Asked.of(row, self.suite.settings.duration_s).options

    @cached_property
    def _timings(self) -> dict[str, Job]:
        """A timing of every system that can be had."""
        duration_s, context = self.suite.settings.duration_s, self.context
        return {
            name: SpeedJob.of(context, *of_size(context, name), duration_s, variants, context.request.precision)
            for name, variants in self._variants.items()
            if not why_not(of_size(context, name)[1])
        }

    @cached_property
    def _small(self) -> dict[str, Job]:
        """The same at the small size, of systems that have one."""
        if self.context.inputs.subject.preset not in (PAPER, SMALL):
            return {}
        preset, duration_s = load_preset(SMALL), self.suite.settings.duration_s
        return {
            name: SpeedJob.of(self.context, preset, name, duration_s, self._variants[name], precision="fp32")
            for name in self._timings
            if name not in self.context.request.sizes and named_by_preset(name)
        }

    @cached_property
    def _fitted_on(self) -> list[Job]:
        """The counts that the roofline is fitted on."""
        if self.context.inputs.subject.preset != PAPER:
            return []
        return [WorkJob.of(load_preset(PAPER), OWN, 10.0, {"num_steps": steps}) for steps in TABLE2_V100_S]

    def jobs(self, row: Row) -> RowJobs:
        name = str(row["system"])
        return {
            "timing": [self._timings[name]] if name in self._timings else [],
            "small": [self._small[name]] if name in self._small else [],
            "fitted on": self._fitted_on,
        }

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        name = str(row["system"])
        if reason := why_not(of_size(self.context, name)[1]):
            return CellValue(unavailable_reason=reason)
        jobs, (outcome,) = results.planned("timing"), results.of("timing")
        if isinstance(outcome, Failure):
            return CellValue(unavailable_reason=outcome.reason, jobs=jobs)
        if "absent" in outcome.values:
            return CellValue(unavailable_reason=str(outcome.values["absent"]), jobs=jobs)
        timed = outcome.values["variants"][self._variants[name].index(self._options(row))]
        if column.measure in COUNTED:
            value = by_formula(timed | {"parameters": outcome.values["parameters"]}, column.measure)
            projected = Projection(value=value, method=f"from shapes: {by_network(timed)}")
            return CellValue(unavailable_reason="it follows from shapes", projected=projected)
        return self._speed(column, timed, results)

    def _speed(self, column: Column, timed: dict[str, Any], results: RowResults) -> CellValue:
        context, duration_s = self.context, self.suite.settings.duration_s
        projected = self._projection(timed, results) if column.measure == "rtf_v100" else None
        wanted = DEVICES.get(column.measure)
        if wanted and wanted not in context.device_name:
            fitted = "; what is projected was fitted on the paper's own numbers" if projected else ""
            reason = f"this run is on {context.device_name}{fitted}"
            return CellValue(unavailable_reason=reason, projected=projected, fitted=True)
        is_rtf, whole, entries = column.measure != "seconds", timed["whole"], timed["entries"]

        def number(seconds: float) -> float:
            return real_time_factor(duration_s, seconds) if is_rtf else seconds

        composed = Composition(
            value=number(timed["composed"]),
            interval=f"calls of {len(entries)} kinds, each {_median(min(entry['repeats'] for entry in entries))} or "
            "more, with random weights, times how often a clip makes them",
            expected=len(entries),
            scored=len(entries),
            warning=_contended(context.request.device, timed["composed"], timed["processor"], number),
        )
        precision = str(DTYPES[context.request.precision]).removeprefix("torch.")
        (outcome,) = results.computed("timing")
        return CellValue(
            None if "absent" in whole else _whole(whole, context.request.device, number),
            f"composed only: {whole['absent']}" if "absent" in whole else "",
            projected,
            fitted=True,
            composed=composed,
            jobs=results.planned("timing"),
            config={
                "precision": context.request.precision,
                "budget_s": context.request.budget_s,
                "duration_s": duration_s,
                "parts": entries,
            },
            precision=precision,
            conditions=timed_under(outcome, precision),
        )

    def _efficiency(self, results: RowResults, precision: str) -> Efficiency | None:
        """What the paper's rows imply; ``None`` where our system at the paper's size was not counted."""
        if not self._fitted_on or results.failure("fitted on"):
            return None
        outcomes = results.computed("fitted on")
        runs = [
            (_loads(outcome.values), seconds) for outcome, seconds in zip(outcomes, TABLE2_V100_S.values(), strict=True)
        ]
        return fit(runs, V100[precision])

    def _projection(self, timed: dict[str, Any], results: RowResults) -> Projection | None:
        efficiency = self._efficiency(results, "half")
        if efficiency is None:
            return None
        seconds = projected_seconds(_loads(timed), V100["half"], efficiency)
        method = (
            f"roofline of a V100 in half precision (125 TFLOP/s, 900 GB/s) from counted FLOPs and weights, at "
            f"{100 * efficiency.arithmetic:.0f} % and {100 * efficiency.memory:.0f} % of the peaks, fitted on Table "
            f"2's three rows; beginning a call costs nothing in it: {seconds:.3g} s"
        )
        return Projection(value=real_time_factor(self.suite.settings.duration_s, seconds), method=method)

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> Iterator[str]:
        """How good the compositions and the roofline are."""
        first = {str(row["system"]): found for row, found in reversed(list(zip(self.rows(), results, strict=True)))}
        for name in (name for name in self._timings if name not in self.context.request.sizes):
            yield from self._compositions(name, first[name])
        yield from self._roofline_notes(results)

    def _compositions(self, name: str, results: RowResults) -> Iterator[str]:
        """How far the parts of a small system add up to its whole."""
        outcome = next(iter(results.of("small")), None)
        if not isinstance(outcome, JobResult):
            why = f"preset {SMALL} is not among its sizes, or not this run's"
            if outcome is not None:
                why = outcome.reason
            yield f"Composition of {name} is not held against a whole clip: {why}."
            return
        for options, timed in zip(self._variants[name], outcome.values.get("variants", []), strict=True):
            said = "".join(f", {axis} {value}" for axis, value in options.items())
            yield _composition(f"{name}{said}, preset {SMALL}, fp32", timed)

    def _roofline_notes(self, results: Sequence[RowResults]) -> Iterator[str]:
        for precision, machine in V100.items():
            efficiency = self._efficiency(results[0], precision) if results else None
            if efficiency is None:
                return
            left = zip(TABLE2_V100_S, efficiency.residuals, strict=True)
            residuals = ", ".join(f"{100 * value:+.1f} % at {steps} steps" for steps, value in left)
            text = (
                f"Table 2's three V100 rows, fitted in {precision} ({machine.flops_a_second / 1e12:g} TFLOP/s, "
                f"{machine.bytes_a_second / 1e9:g} GB/s): {100 * efficiency.arithmetic:.0f} % of arithmetic, "
                f"{100 * efficiency.memory:.0f} % of memory; residuals {residuals}"
            )
            beyond = ": beyond a peak, so the paper's runs were not of this kind."
            yield f"{text}{'.' if efficiency.possible else beyond}"


def _whole(whole: dict[str, Any], device: str, number: Any) -> Measurement:
    """The number of a whole clip."""
    return Measurement(
        value=number(whole["seconds"]),
        interval=f"a whole clip with random weights, {_median(whole['repeats'])}",
        expected=1,
        scored=1,
        warning=_contended(device, whole["seconds"], whole["processor_seconds"], number),
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


def _composition(what: str, found: dict[str, Any]) -> str:
    whole, composed = found["whole"], found["composed"]
    if "absent" in whole:
        return f"Composition of {what} is not held against a whole clip: {whole['absent']}."
    error = 100 * (composed / whole["seconds"] - 1)
    seconds = f"{composed:.3g} s of parts against {whole['seconds']:.3g} s of the whole"
    return f"Composition of {what}: {seconds}, {error:+.0f} %."
