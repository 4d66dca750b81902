"""Raters by themselves: attention checks and who is excluded for them, and how consistent each of them is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from melody.errors import MelodyError
from melody.listening.ratings import Judgement
from melody.listening.schema import RaterRecord

MAX_FAILED = 0.25
"""A rater who answers more than this share of the attention checks wrongly is excluded: a choice of ours."""

Unit = tuple[str, str, frozenset[str]]
"""Item, question and pair of systems."""


def exclusion_rule(max_failed: float) -> str:
    """The rule in words."""
    return (
        f"a rater who answers more than {100 * max_failed:g} % of the attention checks wrongly is excluded with all "
        "answers, whatever these are; a rater without checks is kept"
    )


def excluded_raters(judgements: Iterable[Judgement], max_failed: float = MAX_FAILED) -> list[str]:
    """Raters who fail too many of their attention checks.

    Raises:
        MelodyError: ``max_failed`` is not a share from 0 to 1.
    """
    if not 0 <= max_failed <= 1:
        raise MelodyError(f"the share of attention checks that may be failed is {max_failed}: expected 0 to 1")
    checks, failed = _checks(judgements)
    return [rater for rater, number in checks.items() if failed[rater] > max_failed * number]


def rater_records(judgements: Sequence[Judgement], excluded: Collection[str]) -> list[RaterRecord]:
    """A record of each rater, in the order of the file."""
    checks, failed = _checks(judgements)
    answers = _answers(judgements)
    kept = {rater: given for rater, given in answers.items() if rater not in excluded}
    records = []
    for rater in dict.fromkeys(judgement.rater for judgement in judgements):
        own = [judgement for judgement in judgements if judgement.rater == rater]
        counted = [judgement for judgement in own if judgement.counts]
        repeats, same = _repeats(own, answers.get(rater, {}))
        triads, circular = _triads(answers.get(rater, {}))
        others, agreeing = _with_others(rater, answers.get(rater, {}), kept)
        records.append(
            RaterRecord(
                rater=rater,
                judgements=len(counted),
                checks=checks[rater],
                checks_failed=failed[rater],
                excluded=rater in excluded,
                repeats=repeats,
                repeats_same=same,
                triads=triads,
                triads_circular=circular,
                comparisons=others,
                comparisons_same=agreeing,
                similar=sum(judgement.preferred is None for judgement in counted),
                heard_first=sum(judgement.answer == "first" for judgement in counted),
            )
        )
    return records


def _checks(judgements: Iterable[Judgement]) -> tuple[Counter[str], Counter[str]]:
    checks: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for judgement in judgements:
        if judgement.attention is not None:
            checks[judgement.rater] += 1
            failed[judgement.rater] += judgement.answer != judgement.attention
    return checks, failed


def _unit(judgement: Judgement) -> Unit:
    return judgement.item, judgement.question, judgement.pair


def _answers(judgements: Iterable[Judgement]) -> dict[str, dict[Unit, str | None]]:
    """The preferred system by rater and unit, of what counts."""
    answers: dict[str, dict[Unit, str | None]] = {}
    for judgement in judgements:
        if judgement.counts:
            answers.setdefault(judgement.rater, {})[_unit(judgement)] = judgement.preferred
    return answers


def _repeats(own: Iterable[Judgement], answers: Mapping[Unit, str | None]) -> tuple[int, int]:
    repeats = [judgement for judgement in own if judgement.attention is None and judgement.repeat > 0]
    return len(repeats), sum(judgement.preferred == answers[_unit(judgement)] for judgement in repeats)


def _triads(answers: Mapping[Unit, str | None]) -> tuple[int, int]:
    """Decided triples of systems, and how many of them go round in a circle (Kendall and Babington Smith 1940)."""
    decided: dict[tuple[str, str], dict[frozenset[str], str]] = {}
    for (item, question, pair), preferred in answers.items():
        if preferred is not None:
            decided.setdefault((item, question), {})[pair] = preferred
    triads = circular = 0
    for winners in decided.values():
        systems = sorted(set().union(*winners))
        for triple in combinations(systems, 3):
            won = [winners.get(frozenset(pair)) for pair in combinations(triple, 2)]
            if None not in won:
                triads += 1
                circular += len(set(won)) == 3  # each of the three won once
    return triads, circular


def _with_others(
    rater: str, answers: Mapping[Unit, str | None], kept: Mapping[str, Mapping[Unit, str | None]]
) -> tuple[int, int]:
    pairs = [
        theirs[heard] == preferred
        for other, theirs in kept.items()
        if other != rater
        for heard, preferred in answers.items()
        if heard in theirs
    ]
    return len(pairs), sum(pairs)
