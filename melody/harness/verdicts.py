"""What a table's numbers say: a verdict for every cell, ordering of the paper's, and target of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from melody.harness.results import Cell, Measurement, Ordering, OrderingVerdict, Target, TargetVerdict, Verdict
from melody.harness.suite import ANY, Column, OrderingClaim, PaperValue, Row, Scalar, Suite, TargetClaim, selects
from melody.metrics.statistics import mean_interval

CAVEATS = ", at the same prompts; not corrected for several claims"
"""Of the interval of an ordering."""


def judge(
    column: Column,
    paper: PaperValue | None,
    measured: Measurement | None,
    *,
    absent: str,
    preset: str,
    device: str,
) -> tuple[Verdict, str]:
    """A cell's verdict with its reason.

    Args:
        absent: why nothing was measured, if nothing was.
        device: the device's own name, as in ``Tesla V100-SXM2-32GB``.
    """
    if measured is None:
        return "not attempted", absent
    if measured.scored < measured.expected:
        return "not comparable", f"only {measured.scored} of {measured.expected} items could be scored"
    if paper is None:
        return "not comparable", "the paper prints no value here"
    if ANY not in column.comparable_presets and preset not in column.comparable_presets:
        return "not comparable", column.reason
    if column.comparable_devices and not any(part in device for part in column.comparable_devices):
        wanted = " or ".join(column.comparable_devices)
        return "not comparable", f"the paper's device is a {wanted}, this run's is {device}"
    return compare(column, paper, measured.value)


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


def orderings(suite: Suite, cells: Sequence[Cell]) -> list[Ordering]:
    """Test every ordering of a suite on its cells, for each value of the claim's ``each`` axis."""
    return [_ordering(claim, extra, cells) for claim in suite.orderings for extra in _each(claim, cells)]


def ordering_notes(tested: Sequence[Ordering]) -> list[str]:
    """Lines for the head of the table, first of all what contradicts the paper."""
    lines = [f"Contradicts the paper: {o.claim}: {o.reason}." for o in tested if o.verdict == "contradicted"]
    undecided = [o.claim for o in tested if o.verdict == "undecided"]
    if undecided:
        lines.append(f"Undecided ({len(undecided)} of {len(tested)} orderings): {'; '.join(undecided)}.")
    untested = [o for o in tested if o.verdict == "not attempted"]
    lines += [f"Not attempted: {o.claim}: {o.reason}." for o in untested]
    held = [o.claim for o in tested if o.verdict == "holds"]
    if held:
        lines.append(f"Holds ({len(held)} of {len(tested)} orderings): {'; '.join(held)}.")
    return lines


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
    found = [_cell(cells, claim.row, claim.column)]
    if claim.below is not None:
        found.append(_cell(cells, claim.below, claim.below_column or claim.column))
    for cell in found:
        if cell is None or cell.measured is None:
            reason = "a row that it is about is not in this run" if cell is None else cell.reason
            return Target(claim=claim.claim, column=claim.column, verdict="not attempted", reason=reason)
    measured = [cell.measured for cell in found if cell is not None and cell.measured is not None]
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


def _each(claim: OrderingClaim, cells: Sequence[Cell]) -> list[Row]:
    if claim.each is None:
        return [{}]
    values = dict.fromkeys(cell.row[claim.each] for cell in cells if claim.each in cell.row)
    return [{claim.each: value} for value in values] or [{}]


def _ordering(claim: OrderingClaim, extra: Row, cells: Sequence[Cell]) -> Ordering:
    lower = _cell(cells, {**claim.lower, **extra}, claim.lower_column or claim.column)
    higher = _cell(cells, {**claim.higher, **extra}, claim.column)
    suffix = "".join(f" ({key} = {value})" for key, value in extra.items())
    text = claim.claim + suffix
    if lower is None or higher is None:
        return Ordering(
            claim=text, column=claim.column, verdict="not attempted", reason="a row that it compares is not in this run"
        )
    paper = None
    if lower.paper is not None and higher.paper is not None:
        paper = higher.paper.value - lower.paper.value
    for cell in (lower, higher):
        if cell.measured is None:
            return Ordering(
                claim=text, column=claim.column, verdict="not attempted", reason=cell.reason, paper_difference=paper
            )
    assert lower.measured is not None
    assert higher.measured is not None
    verdict, reason, difference = _decide(lower.measured, higher.measured)
    if unranked := lower.no_rank or higher.no_rank:
        verdict, reason = "undecided", unranked
    return Ordering(
        claim=text, column=claim.column, verdict=verdict, reason=reason, difference=difference, paper_difference=paper
    )


def _decide(lower: Measurement, higher: Measurement) -> tuple[OrderingVerdict, str, Measurement]:
    """Holds, contradicted or undecided, by the t interval of differences at equal seeds (and so equal prompts)."""
    seeds = [seed for seed in higher.by_seed if seed in lower.by_seed]
    differences = [higher.by_seed[seed] - lower.by_seed[seed] for seed in seeds]
    pairs = dict(zip(seeds, differences, strict=True))
    if len(seeds) < 2:
        value = higher.value - lower.value
        measured = Measurement(value=value, by_seed=pairs, expected=2, scored=len(seeds))
        return "undecided", f"{len(seeds)} seed gives no interval; the difference is {value:+.4g}", measured
    estimate = mean_interval(differences, over="seeds, paired")
    measured = Measurement(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        interval=estimate.method,
        standard_error=estimate.standard_error,
        by_seed=pairs,
        expected=len(higher.by_seed),
        scored=len(seeds),
    )
    interval = f"from {estimate.low:+.4g} to {estimate.high:+.4g} ({estimate.method}{CAVEATS})"
    text = f"difference {estimate.value:+.4g}, {interval}"
    if estimate.low > 0:
        return "holds", text, measured
    return ("contradicted" if estimate.high < 0 else "undecided"), text, measured


def _cell(cells: Sequence[Cell], selector: Mapping[str, Scalar], column: str) -> Cell | None:
    found = [cell for cell in cells if cell.column == column and selects(selector, cell.row)]
    return found[0] if found else None
