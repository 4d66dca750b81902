"""What a table's numbers say: a verdict for every cell with the paper's value, and for every target of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from melody.evaluation.result import Measurement
from melody.reproduce.results import Cell, Target, TargetVerdict, Verdict
from melody.reproduce.suite import ANY, Column, Condition, PaperValue, Row, Scalar, Suite, TargetClaim, selects

NO_VALUE = "the paper prints no value here"
GRADES = {"S": "known from a public summary", "D": "derived by us from printed numbers", "M": "recalled"}


@dataclass(frozen=True)
class Circumstances:
    """Under which a number was measured."""

    preset: str
    device: str
    """The device's own name, as in ``Tesla V100-SXM2-32GB``."""
    other_settings: str = ""
    """How the suite's settings differ from those of the paper's values."""
    conditions: Mapping[str, Scalar] = field(default_factory=dict)
    """Precision, batch and threads of a timing."""


def judge(
    column: Column, paper: PaperValue | None, row: Row, measured: Measurement | None, absent: str, here: Circumstances
) -> tuple[Verdict, str]:
    """A cell's verdict with its reason; ``absent``: why nothing was measured, if nothing was."""
    if measured is None:
        return "not attempted", absent
    if measured.scored < measured.expected:
        return "not comparable", f"only {measured.scored} of {measured.expected} items could be scored"
    if paper is None:
        return "not comparable", NO_VALUE
    if reason := not_counted(column, paper, row):
        return "not counted", reason
    if reason := _incomparable(column, here):
        return "not comparable", reason
    return compare(column, paper, measured.value)


def not_counted(column: Column, paper: PaperValue, row: Row) -> str:
    """Why a value that stands in a cell is no statement of the paper's about it; empty if it is one."""
    if paper.grade != "P":
        return f"{GRADES[paper.grade]} (grade {paper.grade}), not printed: shown, and not counted"
    if column.judged_by:
        return f"the same measurement in another unit: it has its verdict in column {column.judged_by}"
    if not selects(paper.basis, row):
        own = ", ".join(str(value) for value in paper.basis.values())
        return f"another way to measure than the paper's own ({own}): shown, and not counted"
    return paper.aside


def _incomparable(column: Column, here: Circumstances) -> str:
    if here.other_settings:
        return f"measured at other settings than the paper's: {here.other_settings}"
    if ANY not in column.comparable_presets and here.preset not in column.comparable_presets:
        return column.reason
    if column.comparable_devices and not any(part in here.device for part in column.comparable_devices):
        wanted = " or ".join(column.comparable_devices)
        return f"the paper's device is a {wanted}, this run's is {here.device}"
    unshared = [
        text for condition in column.conditions if (text := _unshared(condition, here.conditions.get(condition.name)))
    ]
    return "; ".join(unshared)


def _unshared(condition: Condition, ours: Scalar | None) -> str:
    """How a condition of the paper's is not met, or not known to be."""
    if condition.value is not None and ours == condition.value:
        return ""
    here = "this run's is not known" if ours is None else f"this run's is {ours}"
    theirs = "not known" if condition.value is None else f"{condition.value} ({condition.source})"
    return f"{condition.name}: the paper's is {theirs}, {here}"


def tolerance_of(column: Column, paper: PaperValue | None) -> float | None:
    """Relative tolerance of a cell: half of the last printed digit where the paper's digits are given."""
    if paper is None or paper.decimals is None or paper.value == 0:
        return column.tolerance
    return float(0.5 * 10.0**-paper.decimals / abs(paper.value))


def compare(column: Column, paper: PaperValue, value: float) -> tuple[Verdict, str]:
    """Reproduced or off: to the printed digit where its digits are given, else within the column's tolerance."""
    difference = value - paper.value
    if paper.decimals is not None:
        same = math.isclose(round(value, paper.decimals), paper.value, abs_tol=10 ** -(paper.decimals + 3))
        digits = f"{paper.decimals} digits after the point" if paper.decimals != 1 else "1 digit after the point"
        text = f"{value:.6g} against {paper.value:g}, to {digits}"
        return ("reproduced", text) if same else ("off", f"{text}: {difference:+.4g}")
    within = abs(difference) <= column.tolerance * abs(paper.value)
    share = f"{100 * difference / paper.value:+.1f} %" if paper.value else f"{difference:+.4g}"
    text = f"{value:.6g} against {paper.value:g}: {share}, tolerance {100 * column.tolerance:g} %"
    return ("reproduced" if within else "off"), text


def targets(suite: Suite, cells: Sequence[Cell]) -> list[Target]:
    """Test every target of a suite on its cells, by the numbers themselves; their intervals are in the reason."""
    return [_target(claim, cells) for claim in suite.targets]


def target_notes(tested: Sequence[Target]) -> list[str]:
    """Lines for the head of the table, first of all what falls short."""
    lines = [f"Falls short of our target: {t.claim}: {t.reason}." for t in tested if t.verdict == "falls short"]
    lines += [f"Not attempted: {t.claim}: {t.reason}." for t in tested if t.verdict == "not attempted"]
    if held := [t.claim for t in tested if t.verdict == "holds"]:
        lines.append(f"Our targets that hold ({len(held)} of {len(tested)}): {'; '.join(held)}.")
    return lines


def _target(claim: TargetClaim, cells: Sequence[Cell]) -> Target:
    compared = [_cell(cells, claim.row, claim.column)]
    if claim.below is not None:
        compared.append(_cell(cells, claim.below, claim.below_column or claim.column))
    for cell in compared:
        if cell is None or cell.measured is None:
            reason = "a row that it is about is not in this run" if cell is None else cell.reason
            return Target(claim=claim.claim, column=claim.column, verdict="not attempted", reason=reason)
    measured = [cell.measured for cell in compared if cell is not None and cell.measured is not None]
    holds, reason = _reached(claim, measured)
    verdict: TargetVerdict = "holds" if holds else "falls short"
    return Target(claim=claim.claim, column=claim.column, verdict=verdict, reason=reason)


def _reached(claim: TargetClaim, measured: Sequence[Measurement]) -> tuple[bool, str]:
    """Whether a target is reached, and by which numbers."""
    value = measured[0].value
    if claim.p_below is not None:
        p_value = measured[0].p_value
        return p_value is not None and p_value < claim.p_below, f"p = {p_value}, to be below {claim.p_below:g}"
    text = _with_interval(measured[0])
    if claim.below is not None:
        return value < measured[1].value, f"{text} against {_with_interval(measured[1])}"
    if claim.above is not None:
        return value > claim.above, f"{text}, to be above {claim.above:g}"
    assert claim.at_most is not None
    return value <= claim.at_most, f"{text}, to be at most {claim.at_most:g}"


def _with_interval(measured: Measurement) -> str:
    if measured.low is None or measured.high is None:
        return f"{measured.value:.4g}"
    return f"{measured.value:.4g} ({measured.low:.4g} to {measured.high:.4g})"


def _cell(cells: Sequence[Cell], selector: Mapping[str, Scalar], column: str) -> Cell | None:
    matching = [cell for cell in cells if cell.column == column and selects(selector, cell.row)]
    return matching[0] if matching else None
