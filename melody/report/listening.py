"""A listening test as a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from melody.evaluation.result import Measurement
from melody.listening.schema import Agreement, BradleyTerry, ListeningResult, Preference, RaterRecord
from melody.report.document import Cell, Document, Figure, Finding, Grid, Row, Section
from melody.report.evaluation_layout import p_text
from melody.report.extent import MOST_ENTRIES, within
from melody.report.numbers import measured, rounded
from melody.report.plots.preferences import draw_listening

NONE = "–"
MOST_NAMED = 3
LEVEL = 0.05
"""Of a decision, after Holm's correction."""
PREFERENCES = "How often a system is preferred"
STRENGTHS = "Strengths (Bradley-Terry, logarithms, zero on average; similar is half a win for each)"


@dataclass(frozen=True)
class Block:
    """One table, as text."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: list[str]


def headline(result: ListeningResult) -> str:
    """What was judged by whom, in one line."""
    left = [record for record in result.raters if not record.excluded and record.judgements]
    return (
        f"{len(result.systems)} systems, {result.items} items, {result.judgements:,} judgements by {len(left)} of "
        f"{len(result.raters)} raters"
    )


def exclusions(result: ListeningResult) -> list[str]:
    """A line for each rater whose answers do not count."""
    return [
        f"{one.rater} is excluded: {one.checks_failed} of {one.checks} attention checks failed"
        for one in result.raters
        if one.excluded
    ]


def notes(result: ListeningResult) -> list[str]:
    """How the numbers came about."""
    method = next((one.rate.interval for one in result.preferences if one.rate and one.rate.interval), None)
    lines = [f"Ties: {result.ties}.", f"Attention checks: {result.exclusion}."]
    if method:
        lines.append(
            f"Intervals: {method}, so each rater with all answers is one unit of the sample, and items are taken as "
            "they are. p: sign flips of the raters' points for and against, corrected by Holm over all preferences."
        )
    if result.heard_first is not None:
        share = shown(result.heard_first)
        lines.append(f"Position: of decided answers {share} were for the clip heard first (0.5 without an effect).")
    if result.unread_columns:
        lines.append(f"Columns that nobody reads: {', '.join(result.unread_columns)}.")
    return lines


def blocks(result: ListeningResult) -> list[Block]:
    """Every table of a result."""
    found = [_preferences(result.preferences)]
    if result.bradley_terry:
        found.append(_strengths(result.bradley_terry))
    return [*found, _agreement(result.agreement), _raters(result.raters)]


def listened(result: ListeningResult) -> Document:
    """The document; long texts and lists are cut, which it tells."""
    title, cut = headline(result), [*_cut("raters", result.raters), *_cut("preferences", result.preferences)]
    result = within(result)
    plots = {plot.name: Figure(plot.question, plot.text, plot.svg) for plot in draw_listening(result)}
    pictured = {PREFERENCES: "preferences", STRENGTHS: "strengths"}
    sections = [
        Section(
            f"block-{number}",
            block.title,
            grids=(_grid(block),),
            notes=tuple(block.notes),
            figures=tuple(plots[name] for name in [pictured.get(block.title, "")] if name in plots),
        )
        for number, block in enumerate(blocks(result), start=1)
    ]
    how = Section("how", "How the numbers came about", notes=(*notes(result), *cut))
    return Document(
        over="listening test",
        title=title,
        lead=(*exclusions(result), *result.warnings),
        findings=preferred(result.preferences),
        sections=(*sections, how),
        legend=(("✓", "decided at 5 % after Holm's correction"), ("?", "undecided"), ("±", "interval of 95 %")),
        run=(("source", f"{result.source}, SHA-256 {result.sha256}; melody {result.melody_version}"),),
    )


def preferred(preferences: Sequence[Preference]) -> tuple[Finding, ...]:
    """Who is preferred to whom, a line for each decided pair of a question, and one for all that is undecided."""
    rated = [one for one in preferences if one.rate is not None]
    decided = [one for one in rated if one.p_holm is not None and one.p_holm < LEVEL]
    left = [f"{one.question}: {one.system_a} and {one.system_b}" for one in rated if one not in decided]
    found = [_preferred(one) for one in decided]
    if left:
        text = f"{len(left)} of {len(rated)} preferences are undecided after Holm's correction"
        found.append(Finding(text, "?", "undecided", "; ".join(left) if len(left) <= MOST_NAMED else ""))
    return tuple(found)


def _preferred(one: Preference) -> Finding:
    first = one.rate is not None and one.rate.value >= 0.5
    winner, loser = (one.system_a, one.system_b) if first else (one.system_b, one.system_a)
    told = f"rate of {one.system_a} {rate_text(one.rate)}; p {p_text(one.p_holm)}"
    return Finding(f"{one.question}: {winner} is preferred to {loser}", "✓", "good", told)


def _grid(block: Block) -> Grid:
    rows = [Row(row[0], tuple(Cell(text, style="plain") for text in row[1:])) for row in block.rows]
    return Grid(block.headings[0], block.headings[1:], tuple(rows))


def _cut(what: str, every: Sequence[object]) -> list[str]:
    if len(every) <= MOST_ENTRIES:
        return []
    return [f"{MOST_ENTRIES} of {len(every):,} {what} are shown; --json has all of them."]


def shown(measurement: Measurement | None) -> str:
    """A number with its interval.

    >>> shown(Measurement(value=0.625, low=0.505, high=0.745, expected=1, scored=1)), shown(None)
    ('0.62 ± 0.12', '–')
    """
    return NONE if measurement is None else " ".join(measured(measurement)).strip()


def rate_text(rate: Measurement | None) -> str:
    """A rate as Table 3 prints it, with its interval.

    >>> rate_text(Measurement(value=0.459, low=0.4, high=0.52, expected=1, scored=1))
    '0.459 (0.40 to 0.52)'
    """
    if rate is None:
        return NONE
    interval = "" if rate.low is None or rate.high is None else f" ({rate.low:.2f} to {rate.high:.2f})"
    return f"{rate.value:.3f}{interval}"


def _preferences(found: Sequence[Preference]) -> Block:
    headings = ("question: who against whom", "rate", "opposite", "for", "similar", "not", "no ties", "p (Holm)")
    rows = []
    for one in found:
        counts = (f"{one.wins_a}", f"{one.similar}", f"{one.wins_b}")
        opposite = None if one.rate is None else 1 - one.rate.value
        numbers = [NONE if x is None else f"{x:.3f}" for x in (opposite, one.rate_without_similar, one.p_holm)]
        rows.append((_pair(one), rate_text(one.rate), numbers[0], *counts, *numbers[1:]))
    why = [f"{one.question}, {one.system_a} and {one.system_b}: {one.reason}" for one in found if one.reason]
    return Block(PREFERENCES, headings, rows, why)


def _pair(one: Preference) -> str:
    return f"{one.question}: {one.system_a} against {one.system_b}"


def _strengths(found: Sequence[BradleyTerry]) -> Block:
    rows, remarks = [], []
    for one in found:
        rows += [(one.question, each.system, shown(each.strength)) for each in one.strengths]
        if one.reason:
            remarks.append(f"{one.question}: {one.reason}")
        if one.largest_misfit is not None:
            a, b = one.misfit_pair
            most = f"by at most {one.largest_misfit:.3f} ({a} and {b})"
            remarks.append(f"{one.question}: rates differ from what strengths imply {most}")
    return Block(STRENGTHS, ("question", "system", "strength"), rows, remarks)


def _agreement(found: Sequence[Agreement]) -> Block:
    headings = ("question", "Krippendorff's alpha", "same answers", "pairs judged by two or more")
    rows = [
        (one.question, shown(one.alpha), NONE if one.observed is None else rounded(one.observed), str(one.units))
        for one in found
    ]
    why = [f"{one.question}: {one.reason}" for one in found if one.reason]
    return Block("Agreement between raters (nominal: 1 is full, 0 is chance)", headings, rows, why)


def _raters(records: Sequence[RaterRecord]) -> Block:
    asked = ("rater", "counts", "judgements", "checks failed", "repeats alike")
    headings = (*asked, "as others", "circular", "similar", "first")
    rows = [
        (
            one.rater,
            "no" if one.excluded else "yes",
            str(one.judgements),
            _part(one.checks_failed, one.checks),
            _part(one.repeats_same, one.repeats),
            _share(one.comparisons_same, one.comparisons),
            _part(one.triads_circular, one.triads),
            _share(one.similar, one.judgements),
            _share(one.heard_first, one.judgements - one.similar),
        )
        for one in records
    ]
    remark = (
        "as others: share of answers of kept raters to the same that are the same; circular: A over B over C over A, "
        "one in four by chance; first: share of decided answers for the clip heard first"
    )
    return Block("Raters", headings, rows, [remark])


def _part(count: int, total: int) -> str:
    return f"{count} of {total}" if total else NONE


def _share(count: int, total: int) -> str:
    return f"{count / total:.2f}" if total else NONE
