"""An evaluation in words: how each number, control and difference reads, for terminal and page alike."""

from __future__ import annotations

from dataclasses import dataclass

from melody.evaluation.result import Comparison, Control, Difference, Direction, Evaluation, Inputs, Measurement, Score
from melody.report.kinds import ARROWS
from melody.report.numbers import measured, rounded

DASH = "–"
BLIND = "≈"
"""Beside a control that a metric does not tell from music."""
BEATEN = "!"
"""Beside a control that is no music and scores no worse than the set."""
VERDICTS = {"a": "A better", "b": "B better", "undecided": "undecided", "no direction": "no direction"}


def title(name: str, direction: Direction, unit: str) -> str:
    """A row's heading.

    >>> title("fad[mel-stats]", "lower", "")
    'fad[mel-stats] ↓'
    """
    arrow = f" {ARROWS[direction]}" if ARROWS[direction] else ""
    return f"{name}{arrow}{f', {unit}' if unit else ''}"


def number(value: float | None, low: float | None, high: float | None, unit: str = "") -> tuple[str, str]:
    """A value and its interval as text.

    >>> number(5.9312, 5.52, 6.34), number(None, None, None)
    (('5.93', '± 0.41'), ('–', ''))
    """
    if value is None:
        return DASH, ""
    return measured(Measurement(value=value, low=low, high=high, expected=1, scored=1), unit)


@dataclass(frozen=True)
class ControlCells:
    """One control of a metric, as text."""

    name: str
    value: str
    interval: str
    count: str
    mark: str


def control_cells(control: Control, unit: str = "") -> ControlCells:
    """A control with its interval, its clips (``/`` those of the reference that they are measured against) and marks.

    >>> control_cells(Control(name="silence", value=5.61, low=4.1, high=7.1, n=12, against=24, distinguished=False))
    ControlCells(name='silence', value='5.6', interval='± 1.5', count='12 / 24', mark='≈')
    """
    value, interval = number(control.value, control.low, control.high, unit)
    if control.value is None:
        infinite = control.reason.removeprefix("the value is ")
        value = {"inf": "∞", "-inf": "−∞"}.get(infinite, DASH)
    count = str(control.n) if control.against is None else f"{control.n} / {control.against}"
    marks = [*([BLIND] if control.distinguished is False else []), *([BEATEN] if control.no_worse else [])]
    return ControlCells(control.name, value, interval, count, " ".join(marks))


def control_names(scores: list[Score]) -> list[str]:
    """Every control of a table, music first, in a fixed order."""
    found = {control.name for score in scores for control in score.controls}
    order = ["reference halves", "generated, as many", "reference", "reference itself"]
    order += ["white noise", "silence", "one clip repeated"]
    return [name for name in order if name in found] + sorted(found - set(order))


def p_text(value: float | None) -> str:
    """A p-value.

    >>> p_text(0.03123), p_text(1e-9), p_text(None)
    ('0.031', '< 0.0001', '–')
    """
    if value is None:
        return DASH
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


@dataclass(frozen=True)
class Cells:
    """One row of the first table, as text."""

    title: str
    value: str
    interval: str
    count: str
    remarks: str


def score_cells(score: Score) -> Cells:
    """A score as text."""
    value, interval = number(score.value, score.low, score.high, score.unit)
    remarks = "; ".join([*score.warnings, *([score.reason] if score.reason else [])])
    count = f"{score.scored} of {score.expected}"
    return Cells(title(score.name, score.direction, score.unit), value, interval, count, remarks)


@dataclass(frozen=True)
class Versus:
    """One row of a comparison, as text."""

    title: str
    a: str
    b: str
    difference: str
    p: str
    holm: str
    effect: str
    verdict: str
    remarks: str


def difference_cells(row: Difference) -> Versus:
    """A difference as text."""
    value, interval = number(row.value, row.low, row.high)
    told = f"does not tell {', '.join(row.indistinguishable_from)} from music" if row.indistinguishable_from else ""
    beaten = f"{', '.join(row.beaten_by)}: no worse than the clips of A or B" if row.beaten_by else ""
    return Versus(
        title(row.name, row.direction, row.unit),
        number(row.a, None, None)[0],
        number(row.b, None, None)[0],
        f"{value} {interval}".strip(),
        p_text(row.p_value),
        p_text(row.p_holm),
        DASH if row.effect_size is None else rounded(float(f"{row.effect_size:.3g}")),
        VERDICTS[row.better],
        "; ".join(part for part in (row.reason, told, beaten) if part),
    )


def headline(result: Evaluation | Comparison) -> str:
    """What it is, in a line."""
    if isinstance(result, Comparison):
        decided = sum(row.better in ("a", "b") for row in result.differences)
        folders = f"{result.a.generated.folder} and {result.b.generated.folder}"
        return f"{folders}: {decided} of {len(result.differences)} differences decided, on {result.pairs} pairs"
    given = result.generated
    against = f" against {result.reference.folder}" if result.reference else ""
    return f"{given.folder}{against}: {given.read} of {given.expected} clips, {len(result.scores)} numbers"


def passed_over(one: Inputs, what: str) -> str:
    """Files beside the clips that were not looked at, by kind."""
    kinds = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in one.passed_over.items())
    return f"passed over beside the {what} clips, as no sounds by their extension: {kinds or one.others}"


def remarks(result: Evaluation) -> list[str]:
    """What a reader must know of the sounds themselves."""
    found = list(result.notes)
    for what, one in (("generated", result.generated), ("reference", result.reference)):
        if one is not None and one.others:
            found.append(passed_over(one, what))
        if one is not None and one.beyond_full_scale:
            found.append(
                f"{one.beyond_full_scale} {what} clips have samples beyond ±1 (up to {one.highest_peak:.3g}): "
                f"measured as they are, not clipped"
            )
        if one is not None and one.silent:
            found.append(f"{len(one.silent)} {what} clips are silent: {', '.join(one.silent)}")
    return found
