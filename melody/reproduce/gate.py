"""Thresholds on results: what a change may cost, as exit codes and JUnit XML for a hosted CI.

A threshold names a cell (suite, row, column), states the direction, and either an absolute bound or a baseline run that
the cell may be no worse than by more than k standard errors::

    [[thresholds]]
    suite = "table2"
    row = { sampler = "ddim", num_steps = 20 }
    column = "fad"
    direction = "lower"
    baseline = "../../reports/demo/results.json"
    standard_errors = 3.0
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self
from xml.etree import ElementTree

from pydantic import Field, model_validator

from melody.config import FrozenModel, parse
from melody.documents import read_toml
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.reproduce.results import Cell, Results, load_results
from melody.reproduce.suite import Row, selects

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Threshold(FrozenModel):
    """One condition on the cells that ``suite``, ``row`` and ``column`` select."""

    suite: str
    column: str
    row: Row = Field(default_factory=dict)
    """Values that a row must have; every cell that has them must hold."""
    direction: Literal["lower", "higher"]
    """Which way is better."""
    bound: float | None = None
    baseline: Path | None = None
    """A results file, relative to the thresholds file."""
    standard_errors: Annotated[float, Field(ge=0)] | None = None

    @property
    def condition(self) -> str:
        """What it asks of a cell, as a part of the check's name: two thresholds on one cell are two checks."""
        if self.bound is not None:
            return f"at {'most' if self.direction == 'lower' else 'least'} {self.bound:g}"
        assert self.baseline is not None
        return f"no worse than {self.baseline.name} by more than {self.standard_errors:g} standard errors"

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.bound is None) == (self.baseline is None):
            raise ValueError("expected either bound, or baseline with standard_errors")
        if (self.baseline is None) != (self.standard_errors is None):
            raise ValueError("baseline and standard_errors go together")
        if self.bound is not None and not math.isfinite(self.bound):
            raise ValueError("the bound is not a finite number")
        return self


class Thresholds(FrozenModel):
    """A thresholds file."""

    title: str
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Check:
    """One cell against one threshold."""

    name: str
    suite: str
    passed: bool
    line: str


@dataclass(frozen=True)
class GateOutcome:
    """All checks of a gate."""

    title: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]


def load_thresholds(path: Path) -> Thresholds:
    """Read a thresholds file, with baseline paths made absolute; raises ``MelodyError`` if it is malformed."""
    loaded = parse(Thresholds, read_toml(path), str(path))
    placed = [
        t if t.baseline is None else t.model_copy(update={"baseline": path.parent / t.baseline})
        for t in loaded.thresholds
    ]
    return loaded.model_copy(update={"thresholds": tuple(placed)})


def gate(results: Results, thresholds: Thresholds) -> GateOutcome:
    """Hold results to thresholds. A cell that is there and holds no measured number fails.

    Raises:
        MelodyError: a threshold on a suite, column or row that the results lack, one whose direction is not the cell's,
            or a baseline that cannot be read or lacks the number.
    """
    checks: list[Check] = []
    for number, threshold in enumerate(thresholds.thresholds, start=1):
        where = f"threshold {number} ({threshold.suite}.{threshold.column})"
        checks += [_check(cell, threshold, where) for cell in _selected(results, threshold, where, "the results")]
    return GateOutcome(thresholds.title, tuple(_named_apart(checks)))


def _named_apart(checks: Iterable[Check]) -> Iterator[Check]:
    """Checks of which no two of a suite share a name: a hosted CI keeps the first of each name and drops the others."""
    seen: Counter[tuple[str, str]] = Counter()
    for check in checks:
        seen[check.suite, check.name] += 1
        times = seen[check.suite, check.name]
        yield check if times == 1 else replace(check, name=f"{check.name} ({times})")


def junit(outcome: GateOutcome) -> bytes:
    """The checks as JUnit XML: one test case a check, by suite."""
    root = ElementTree.Element(
        "testsuites", name=_xml(outcome.title), tests=str(len(outcome.checks)), failures=str(len(outcome.failed))
    )
    for suite in dict.fromkeys(check.suite for check in outcome.checks):
        members = [check for check in outcome.checks if check.suite == suite]
        failures = sum(not check.passed for check in members)
        counts = {"tests": str(len(members)), "failures": str(failures), "errors": "0", "skipped": "0"}
        element = ElementTree.SubElement(root, "testsuite", {"name": _xml(suite), **counts})
        for check in members:
            case = ElementTree.SubElement(element, "testcase", classname=_xml(f"melody.{suite}"), name=_xml(check.name))
            if check.passed:
                ElementTree.SubElement(case, "system-out").text = _xml(check.line)
            else:
                ElementTree.SubElement(case, "failure", message=_xml(check.line)).text = _xml(check.line)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def write_junit(outcome: GateOutcome, path: Path) -> None:
    """Write the JUnit file whole or not at all; raises ``MelodyError`` if it cannot be written."""
    from melody.artifacts.files import write_bytes

    write_bytes(path, junit(outcome))


def _check(cell: Cell, threshold: Threshold, where: str) -> Check:
    row = ", ".join(f"{key} = {value}" for key, value in cell.row.items())
    name = f"{cell.column} [{row}] {threshold.condition}"
    if cell.direction != "none" and cell.direction != threshold.direction:
        raise MelodyError(
            f"{where}: direction is {threshold.direction!r}, but of {cell.metric} {cell.direction} is better"
        )
    measured, where = cell.measured, f"{threshold.suite} {cell.column} [{row}]"
    if measured is None:
        return Check(name, threshold.suite, False, f"{where}: not measured: {cell.reason}")
    if not math.isfinite(measured.value):
        return Check(name, threshold.suite, False, f"{where}: measured {measured.value}, expected a finite number")
    if threshold.bound is not None:
        limit, told = threshold.bound, f"bound {threshold.bound:g}"
    else:
        limit, told = _limit(cell, measured, threshold, where)
    lower = threshold.direction == "lower"
    passed = measured.value <= limit if lower else measured.value >= limit
    relation = ("≤" if lower else "≥") if passed else (">" if lower else "<")
    return Check(name, threshold.suite, passed, f"{where}: {measured.value:.6g} {relation} {limit:.6g} ({told})")


def _limit(cell: Cell, measured: Measurement, threshold: Threshold, where: str) -> tuple[float, str]:
    """The baseline's value moved by k standard errors of the difference."""
    assert threshold.baseline is not None
    assert threshold.standard_errors is not None
    baseline = load_results(threshold.baseline)
    exact = threshold.model_copy(update={"row": cell.row})
    base = _selected(baseline, exact, where, f"the baseline {threshold.baseline}")[0].measured
    if base is None or not math.isfinite(base.value):
        raise MelodyError(f"{where}: the baseline {threshold.baseline} has no measured number in this cell")
    # A count has no standard error: then the baseline itself is the limit.
    error = math.hypot(measured.standard_error or 0.0, base.standard_error or 0.0)
    sign = 1 if threshold.direction == "lower" else -1
    limit = base.value + sign * threshold.standard_errors * error
    return limit, f"baseline {base.value:.6g}, {threshold.standard_errors:g} standard errors of {error:.3g}"


def _selected(results: Results, threshold: Threshold, where: str, source: str) -> Sequence[Cell]:
    tables = {table.suite: table for table in results.tables}
    if threshold.suite not in tables:
        raise MelodyError(f"{where}: {source} hold no suite {threshold.suite!r}{did_you_mean(threshold.suite, tables)}")
    cells = tables[threshold.suite].cells
    columns = dict.fromkeys(cell.column for cell in cells)
    if threshold.column not in columns:
        hint = did_you_mean(threshold.column, columns)
        raise MelodyError(f"{where}: {source} have no column {threshold.column!r} in {threshold.suite}{hint}")
    found = [cell for cell in cells if cell.column == threshold.column and selects(threshold.row, cell.row)]
    if not found:
        raise MelodyError(f"{where}: {source} have no row with {threshold.row}{_nearest_row(threshold.row, cells)}")
    return found


def _nearest_row(row: Row, cells: Iterable[Cell]) -> str:
    """What is wrong with a row: an unknown key, or a value that its key never has."""
    cells = list(cells)
    keys = dict.fromkeys(key for cell in cells for key in cell.row)
    for key, value in row.items():
        if key not in keys:
            return f": unknown key {key!r}{did_you_mean(key, keys)}"
        values = dict.fromkeys(str(cell.row[key]) for cell in cells if key in cell.row)
        if str(value) not in values:
            return f": {key} is never {value!r}{did_you_mean(str(value), values)}"
    return ""


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 forbids."""
    return FORBIDDEN.sub("", text)
