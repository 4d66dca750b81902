"""What an evaluation says of its clips, and a comparison of its two sets: a line for each metric that says anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from melody.evaluation.result import Comparison, Difference, Score
from melody.report.document import Finding
from melody.report.evaluation_layout import difference_cells, number, title

HALVES, AS_MANY = "reference halves", "generated, as many"
NOT_TOLD = "does not tell"
MOST_NAMED = 3


@dataclass(frozen=True)
class Judgement:
    """What one metric says of the clips."""

    mark: str
    verdict: str
    text: str


def judgement(score: Score) -> Judgement | None:
    """Against the clips, for them, or that the metric cannot be trusted on this data; ``None`` if it says nothing."""
    beaten = [name for name in score.beaten_by if name not in score.indistinguishable_from]
    if beaten:
        return Judgement("✗", "bad", f"no better than {', '.join(beaten)}")
    if score.indistinguishable_from:
        told = f"{NOT_TOLD} {', '.join(score.indistinguishable_from)} from music, on this data"
        return Judgement("?", "undecided", told)
    if (music := as_music(score)) is None:
        return None
    return Judgement("✓", "good", "as good as music") if music[0] else Judgement("✗", "bad", "worse than music")


def as_music(score: Score) -> tuple[bool, str] | None:
    """Whether the clips are as good as music, by as many clips as it has, and music's number."""
    controls = {control.name: control for control in score.controls}
    music = controls.get(HALVES) or controls.get("reference")
    own = controls.get(AS_MANY) if HALVES in controls else None
    value = score.value if own is None else own.value
    if music is None or music.value is None or value is None or score.direction == "none":
        return None
    lower = score.direction == "lower"
    end = (music.high if lower else music.low) if music.low is not None and music.high is not None else None
    end = music.value if end is None else end
    theirs = _words(number(music.value, music.low, music.high, score.unit))
    return (value <= end if lower else value >= end), theirs


def standing(scores: Sequence[Score]) -> list[Finding]:
    """What speaks against the clips, what for them, and in a line the metrics that cannot tell."""
    by_mark: dict[str, list[Finding]] = {"✗": [], "✓": [], "?": []}
    for score in scores:
        if (said := judgement(score)) is not None:
            by_mark[said.mark].append(_line(score, said))
    doubtful = by_mark.pop("?")
    found = list(chain.from_iterable(by_mark.values()))
    if doubtful:
        text = f"{_metrics(len(doubtful))} cannot tell noise, silence or the like from music, on this data"
        found.append(Finding(text, "?", "undecided", ", ".join(_metric(one) for one in doubtful), folded=(*doubtful,)))
    return found


def in_short(found: Sequence[Finding]) -> str:
    """How many metrics speak against the clips, for them, and not at all."""
    counts = {mark: sum(finding.mark == mark for finding in found) for mark in "✗✓"}
    doubtful = sum(len(finding.folded) for finding in found)
    if not found:
        return "No metric here knows what is good: there is no reference, and no control."
    return f"{_metrics(counts['✗'])} against these clips, {counts['✓']} for them, and {doubtful} that cannot tell."


def winners(result: Comparison) -> list[Finding]:
    """What is decided: who is better, and by what; all that is undecided is a line."""
    found = [_winner(row) for row in result.differences if row.better in ("a", "b")]
    undecided = [row.name for row in result.differences if row.better == "undecided"]
    if undecided:
        text = f"{_metrics(len(undecided))} undecided after Holm's correction"
        found.append(Finding(text, "?", "undecided", ", ".join(undecided)))
    return found


def who_won(result: Comparison) -> str:
    """How many metrics each of the two wins, by name where they are few."""
    won = {side: [row.name for row in result.differences if row.better == side] for side in ("a", "b")}
    if not any(won.values()):
        return "Neither is better: no difference is decided."
    told = [f"{side.upper()} is better by {_few(names)}" for side, names in won.items() if names]
    return f"{'; '.join(told)}."


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_NAMED else _metrics(len(names))


def _winner(row: Difference) -> Finding:
    cells = difference_cells(row)
    texts = [f"A {cells.a}", f"B {cells.b}"]
    told = ", ".join(texts if row.better == "a" else reversed(texts))
    said = f"{cells.title}: {row.better.upper()} is better"
    return Finding(said, "✓", "good", f"{told}; difference {cells.difference}; p {cells.holm}", reason=cells.remarks)


def _line(score: Score, said: Judgement) -> Finding:
    told = _words(number(score.value, score.low, score.high, score.unit))
    music = as_music(score)
    name = title(score.name, score.direction, score.unit)
    return Finding(f"{name}: {said.text}", said.mark, said.verdict, told, music[1] if music else "")


def _metric(finding: Finding) -> str:
    return finding.text.partition(" ")[0].rstrip(":,")


def _metrics(count: int) -> str:
    return "1 metric" if count == 1 else f"{count} metrics"


def _words(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)
