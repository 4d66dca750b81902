"""Orderings of the paper's tables, each tested on what was measured.

A claim is decided by the two-sided p-value of its difference (see ``differences``), corrected by Holm over all
orderings of the table that could be tested, at 5 %. Counts need no test. With three seeds little can be decided: how a
new seed would come out is known by two degrees of freedom only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melody.metrics.statistics import holm
from melody.reproduce.differences import Difference, Side, difference
from melody.reproduce.results import Cell, Ordering, OrderingVerdict
from melody.reproduce.suite import OrderingClaim, Row, Scalar, Suite, selects

ALPHA = 0.05
"""Of a table's orderings of which none is true, at least one is decided in so many runs at most."""


@dataclass(frozen=True)
class _Tested:
    """A claim with its difference, or the reason that there is none."""

    claim: OrderingClaim
    text: str
    difference: Difference | None = None
    unavailable_reason: str = ""
    no_rank: str = ""
    """Why nothing is decided by the difference, though there is one."""
    paper_difference: float | None = None
    statement: str | None = None


def orderings(suite: Suite, cells: Sequence[Cell]) -> list[Ordering]:
    """Test every ordering of a suite on its cells, for each value of the claim's ``each`` axis."""
    tested = [_tested(suite, claim, extra, cells) for claim in suite.orderings for extra in _each(claim, cells)]
    p_values = [p for ordering in tested if (p := _p_value(ordering)) is not None]
    corrected = iter(holm(p_values) if p_values else [])
    return [
        _ordering(ordering, None if _p_value(ordering) is None else next(corrected), len(p_values))
        for ordering in tested
    ]


def ordering_notes(tested: Sequence[Ordering]) -> list[str]:
    """Lines for the head of the table, first of all what contradicts the paper."""
    lines = [
        f"{'Contradicts the paper' if o.statement else 'Does not hold'}: {o.claim}: {o.reason}."
        for o in tested
        if o.verdict == "contradicted"
    ]
    undecided = [o.claim for o in tested if o.verdict == "undecided"]
    if undecided:
        lines.append(f"Undecided ({len(undecided)} of {len(tested)} orderings): {'; '.join(undecided)}.")
    untested = [o for o in tested if o.verdict == "not attempted"]
    lines += [f"Not attempted: {o.claim}: {o.reason}." for o in untested]
    held = [o.claim for o in tested if o.verdict == "holds"]
    if held:
        lines.append(f"Holds ({len(held)} of {len(tested)} orderings): {'; '.join(held)}.")
    return lines


def used_columns(suite: Suite) -> set[str]:
    """Columns on which orderings are tested."""
    return {name for claim in suite.orderings for name in (claim.column, claim.lower_column) if name}


def _each(claim: OrderingClaim, cells: Sequence[Cell]) -> list[Row]:
    if claim.each is None:
        return [{}]
    values = dict.fromkeys(cell.row[claim.each] for cell in cells if claim.each in cell.row)
    return [{claim.each: value} for value in values] or [{}]


def _tested(suite: Suite, claim: OrderingClaim, extra: Row, cells: Sequence[Cell]) -> _Tested:
    text = claim.claim + "".join(f" ({key} = {value})" for key, value in extra.items())
    sides = [
        _side(claim.lower, extra, claim.lower_column or claim.column, cells),
        _side(claim.higher, extra, claim.column, cells),
    ]
    if any(side is None for side in sides):
        return _Tested(claim, text, unavailable_reason="a row that it compares is not in this run")
    lower, higher = (side for side in sides if side is not None)
    papers = [_paper(side) for side in (lower, higher)]
    printed = None if papers[0] is None or papers[1] is None else papers[1] - papers[0]
    # At other settings than the paper's, or beside rows that it does not print, an ordering is ours.
    stated = None if printed is None or suite.other_settings() else suite.statement_of(claim)
    compared = [side for side in (lower, higher) if isinstance(side, Cell)]
    if unmeasured := next((cell for cell in compared if cell.measured is None), None):
        return _Tested(claim, text, unavailable_reason=unmeasured.reason, paper_difference=printed, statement=stated)
    gap = difference(_value(lower), _value(higher))
    no_rank = next((cell.no_rank for cell in compared if cell.no_rank), "")
    return _Tested(claim, text, gap, no_rank=no_rank, paper_difference=printed, statement=stated)


def _side(selector: Row | float, extra: Row, column: str, cells: Sequence[Cell]) -> Cell | float | None:
    if isinstance(selector, float):
        return selector
    # A row that is on no such axis, as that of real clips, is the same for each of its values.
    beside = [cell for cell in cells if not set(extra) & set(cell.row)] if selector else []
    return _cell(cells, {**selector, **extra}, column) or _cell(beside, selector, column)


def _cell(cells: Sequence[Cell], selector: Mapping[str, Scalar], column: str) -> Cell | None:
    matching = [cell for cell in cells if cell.column == column and selects(selector, cell.row)]
    return matching[0] if matching else None


def _paper(side: Cell | float) -> float | None:
    if isinstance(side, float):
        return side
    return None if side.paper is None else side.paper.value


def _value(side: Cell | float) -> Side:
    value = side if isinstance(side, float) else side.measured
    assert value is not None, "a cell without a number is not compared"
    return value


def _p_value(tested: _Tested) -> float | None:
    gap = tested.difference
    return None if gap is None or gap.exact or tested.no_rank else gap.measured.p_value


def _ordering(tested: _Tested, p_holm: float | None, family: int) -> Ordering:
    gap = tested.difference
    verdict: OrderingVerdict = "not attempted"
    reason = tested.unavailable_reason
    if gap is not None:
        verdict = "undecided" if tested.no_rank else _verdict(gap, p_holm)
        said = (
            tested.no_rank,
            gap.text,
            _p_values(gap, p_holm, family),
            gap.remark,
        )
        reason = "; ".join(part for part in said if part)
    return Ordering(
        claim=tested.text,
        column=tested.claim.column,
        verdict=verdict,
        reason=reason,
        difference=None if gap is None else gap.measured,
        p_holm=p_holm,
        paper_difference=tested.paper_difference,
        statement=tested.statement,
    )


def _p_values(gap: Difference, p_holm: float | None, family: int) -> str:
    if p_holm is None or gap.measured.p_value is None:
        return ""
    own, corrected = ("below 1e-6" if p < 1e-6 else f"{p:.2g}" for p in (gap.measured.p_value, p_holm))
    return f"p {own}, {corrected} by Holm over {family} orderings"


def _verdict(gap: Difference, p_holm: float | None) -> OrderingVerdict:
    if gap.exact:
        return "holds" if gap.measured.value > 0 else "contradicted"
    if p_holm is None or p_holm >= ALPHA:
        return "undecided"
    return "holds" if gap.measured.value > 0 else "contradicted"
