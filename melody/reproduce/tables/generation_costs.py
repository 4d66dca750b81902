"""What a clip of each system costs: passes, serial depth, prefill, FLOPs, weights moved; on a run and by formula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from melody.config import Preset, load_preset
from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.metrics.flops import BYTES
from melody.reproduce.context import Context
from melody.reproduce.jobs.counting import counted_run_job, counting_job
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.random_systems import why_not
from melody.reproduce.results import Projection
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder

MEASURES = {
    "passes": Quantity("passes"),
    "weighted": Quantity("passes-weighted-by-guidance", "lower", "passes"),
    "serial": Quantity("serial-depth", "lower", "passes"),
    "prefill": Quantity("prefill-tokens", "lower", "tokens"),
    "tflop": Quantity("flops", "lower", "TFLOP"),
    "gigabytes": Quantity("weights-moved", "lower", "GB"),
    "parameters": Quantity("parameters", "none", "million"),
}
ON_A_RUN = {
    "passes": lambda values: sum(values["passes"].values()),
    "weighted": lambda values: sum(values["weighted_passes"].values()),
    "prefill": lambda values: values["prefill_tokens"],
    "tflop": lambda values: values["flops"] / 1e12,
}
"""What hooks and torch's counter see; the others follow from shapes only."""
EXACT = 1e-3
"""Relative difference of FLOPs that a text of another length makes; more is told in the table's head."""


@dataclass(frozen=True)
class Asked:
    """One row: which system, how long, with which options."""

    system: str
    duration_s: float
    options: dict[str, Any]

    @classmethod
    def of(cls, row: Row, default_s: float) -> Asked:
        """The axes ``system`` and ``duration_s`` of a row, and its other axes as options."""
        if "system" not in row:
            raise MelodyError(f"row {row}: expected a system")
        options = {axis: value for axis, value in row.items() if axis not in ("system", "duration_s")}
        return cls(str(row["system"]), float(row.get("duration_s", default_s)), options)


def definition(context: Context) -> Preset:
    """The preset that is counted."""
    return context.subject.definition or load_preset(context.subject.preset)


def plan(suite: Suite, context: Context) -> list[Job]:
    """The calls of every row's clip by formula, and a run of it."""
    asked = (Asked.of(listed.row, suite.settings.duration_s) for listed in suite.rows)
    return [unit for one in asked if not why_not(one.system) for unit in units_of(context, one)]


def units_of(context: Context, one: Asked) -> tuple[Job, Job]:
    """By formula, and on a run."""
    preset = definition(context)
    return (
        counting_job(preset, one.system, one.duration_s, one.options),
        counted_run_job(context, preset, one.system, one.duration_s, one.options),
    )


def fill(builder: TableBuilder) -> FilledTable:
    """Every row by every measure."""
    filled = FilledTable()
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, listed.row, column))
            for column in builder.suite.columns
        ]
        filled.notes += _notes(builder, listed.row)
    return filled


def by_formula(values: dict[str, Any], measure: str) -> float:
    """A measure's number from the entries of ``System.work``."""
    entries = values["entries"]
    looped = [one for one in entries if not one["once"]]
    totals = {
        "passes": lambda: sum(one["calls"] for one in looped),
        "weighted": lambda: sum(one["calls"] * one["rows"] // one["windows"] for one in looped),
        "serial": lambda: sum(one["serial"] for one in looped),
        "prefill": lambda: sum(one["prefill_tokens"] for one in entries),
        "tflop": lambda: sum(one["calls"] * one["flops"] for one in entries) / 1e12,
        "gigabytes": lambda: sum(one["calls"] * one["weights"] for one in entries) * BYTES["fp32"] / 1e9,
        "parameters": lambda: values["parameters"] / 1e6,
    }
    return float(totals[measure]())


def by_network(values: dict[str, Any]) -> str:
    """Calls, TFLOP and GB of every network, as text."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for one in values["entries"]:
        parts.setdefault(one["part"].replace("_", " ") + (", once" if one["once"] else ""), []).append(one)
    return "; ".join(_network(part, found) for part, found in parts.items())


def _network(part: str, entries: list[dict[str, Any]]) -> str:
    calls = sum(one["calls"] for one in entries)
    tflop, gigabytes = (by_formula({"entries": entries}, measure) for measure in ("tflop", "gigabytes"))
    return f"{part}: {calls:,} calls, {tflop:,.3g} TFLOP, {gigabytes:,.3g} GB"


def _finding(builder: TableBuilder, row: Row, column: Column) -> CellValue:
    one = Asked.of(row, builder.suite.settings.duration_s)
    if reason := why_not(one.system):
        return CellValue(unavailable_reason=reason)
    formula, run = units_of(builder.context, one)
    found = builder.outcome(formula)
    if isinstance(found, Failure) or "absent" in found.values:
        reason = found.reason if isinstance(found, Failure) else found.values["absent"]
        return CellValue(unavailable_reason=reason, units=(formula,))
    method = f"from shapes, by what the system says its clips are made of: {by_network(found.values)}"
    projected = Projection(value=by_formula(found.values, column.measure), method=method)
    value, absent = _on_a_run(builder.outcome(run), column.measure)
    measured = None if value is None else Measurement(value=value, expected=1, scored=1)
    config = {"duration_s": one.duration_s, **one.options, "entries": found.values["entries"]}
    return CellValue(measured, absent, projected, units=(formula, run), config=config, seeds=(0,))


def _on_a_run(outcome: JobResult | Failure, measure: str) -> tuple[float | None, str]:
    """What was seen on a run, or why nothing was."""
    if isinstance(outcome, Failure):
        return None, outcome.reason
    if "absent" in outcome.values:
        return None, str(outcome.values["absent"])
    if measure not in ON_A_RUN:
        return None, "it follows from shapes, and is not seen on a run"
    return float(ON_A_RUN[measure](outcome.values)), ""


def _notes(builder: TableBuilder, row: Row) -> Iterator[str]:
    """Where a run and the formula differ."""
    one = Asked.of(row, builder.suite.settings.duration_s)
    if why_not(one.system):
        return
    formula, run = (builder.outcome(unit) for unit in units_of(builder.context, one))
    if isinstance(formula, Failure) or isinstance(run, Failure) or "entries" not in formula.values:
        return
    for measure in ON_A_RUN:
        counted, _ = _on_a_run(run, measure)
        expected = by_formula(formula.values, measure)
        allowed = EXACT * expected if measure == "tflop" else 0
        if counted is not None and abs(counted - expected) > allowed:
            name = MEASURES[measure].metric
            yield f"{one.system}, {one.duration_s:g} s: {name} {counted:.6g} on the run, but {expected:.6g} by formula."
