"""What a clip of each system costs: passes, serial depth, prefill, FLOPs, weights moved; on a run and by formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from melody.config import Preset, load_preset
from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.metrics.flops import BYTES
from melody.registry import tables
from melody.reproduce.context import Context
from melody.reproduce.jobs.counting import CountedRunJob, WorkJob
from melody.reproduce.jobs.job import Failure, JobResult
from melody.reproduce.random_systems import why_not
from melody.reproduce.requested import RequestedRow
from melody.reproduce.results import Cell, Projection
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.systems import OWN
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import PASSES, CellValue, Quantity
from melody.reproduce.tables.table import RowJobs, RowResults, Table

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
    return context.inputs.subject.definition or load_preset(context.inputs.subject.preset)


def sized_rows(suite: Suite, context: Context) -> list[Row]:
    """A suite's rows, and those of our system again for every preset or component that is asked for beside it."""
    listed = [listed.row for listed in suite.rows]
    own = [row for row in listed if row.get("system") == OWN]
    return listed + [{**row, "system": name} for name in context.request.sizes for row in own]


def of_size(context: Context, name: str) -> tuple[Preset, str]:
    """A row's preset, and the name of its system as registered."""
    return (context.request.sizes[name], OWN) if name in context.request.sizes else (definition(context), name)


@tables.register("generation-costs")
class GenerationCostsTable(Table):
    """What a clip of each system costs, by formula and on a run."""

    measures: ClassVar = {
        "passes": PASSES,
        "weighted": Quantity("passes-weighted-by-guidance", "lower", "passes"),
        "serial": Quantity("serial-depth", "lower", "passes"),
        "prefill": Quantity("prefill-tokens", "lower", "tokens"),
        "tflop": Quantity("flops", "lower", "TFLOP"),
        "gigabytes": Quantity("weights-moved", "lower", "GB"),
        "parameters": Quantity("parameters", "none", "million"),
    }
    uses = Uses(frozenset({"duration_s"}), listed=frozenset({"system", "duration_s"}), options=True)
    weightless = True

    @classmethod
    def takes(cls, suite: Suite, row: RequestedRow) -> bool:
        """Presets and components, which need no weights here."""
        return row.is_of_ours

    def rows(self) -> list[Row]:
        """The suite's, and what is asked for beside them."""
        return sized_rows(self.suite, self.context)

    def _asked(self, row: Row) -> Asked:
        return Asked.of(row, self.suite.settings.duration_s)

    def jobs(self, row: Row) -> RowJobs:
        """The calls of a row's clip by formula, and a run of it."""
        asked = self._asked(row)
        preset, system = of_size(self.context, asked.system)
        if why_not(system):
            return {}
        wanted = (preset, system, asked.duration_s, asked.options)
        return {"formula": [WorkJob.of(*wanted)], "run": [CountedRunJob.of(self.context, *wanted)]}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        asked = self._asked(row)
        if reason := why_not(of_size(self.context, asked.system)[1]):
            return CellValue(unavailable_reason=reason)
        formula, run = results.of("formula", "run")
        if isinstance(formula, Failure) or "absent" in formula.values:
            reason = formula.reason if isinstance(formula, Failure) else formula.values["absent"]
            return CellValue(unavailable_reason=reason, jobs=results.planned("formula"))
        method = f"from shapes, by what the system says its clips are made of: {by_network(formula.values)}"
        projected = Projection(value=by_formula(formula.values, column.measure), method=method)
        value, absent = _on_a_run(run, column.measure)
        measured = None if value is None else Measurement(value=value, expected=1, scored=1)
        config = {"duration_s": asked.duration_s, **asked.options, "entries": formula.values["entries"]}
        return CellValue(measured, absent, projected, jobs=results.planned("formula", "run"), config=config, seeds=(0,))

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> Iterator[str]:
        """Where a run and the formula differ."""
        for row, found in zip(self.rows(), results, strict=True):
            yield from self._differences(self._asked(row), found)

    def _differences(self, asked: Asked, results: RowResults) -> Iterator[str]:
        outcomes = [found for found in results.of("formula", "run") if isinstance(found, JobResult)]
        if len(outcomes) < 2 or "entries" not in outcomes[0].values:
            return
        formula, run = outcomes
        for measure in ON_A_RUN:
            counted, _ = _on_a_run(run, measure)
            expected = by_formula(formula.values, measure)
            allowed = EXACT * expected if measure == "tflop" else 0
            if counted is not None and abs(counted - expected) > allowed:
                name = self.measures[measure].metric
                yield (
                    f"{asked.system}, {asked.duration_s:g} s: {name} {counted:.6g} on the run, "
                    f"but {expected:.6g} by formula."
                )


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


def _on_a_run(outcome: JobResult | Failure, measure: str) -> tuple[float | None, str]:
    """What was seen on a run, or why nothing was."""
    if isinstance(outcome, Failure):
        return None, outcome.reason
    if "absent" in outcome.values:
        return None, str(outcome.values["absent"])
    if measure not in ON_A_RUN:
        return None, "it follows from shapes, and is not seen on a run"
    return float(ON_A_RUN[measure](outcome.values)), ""
