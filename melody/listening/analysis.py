"""From ratings to conclusions: rates with intervals over raters, strengths, agreement, and what stands against them.

Raters are the sample: they are what a repetition of the test would draw anew, and all answers of one rater hang
together. So every interval is a delete-one-rater jackknife with Student's t (as many degrees of freedom as raters, less
one); items are taken as they are. Version 1.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melody import __version__
from melody.data.tables import read_content
from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.listening.agreement import krippendorff_alpha, labelled, observed_agreement
from melody.listening.bradley_terry import implied_rates, strengths, why_undefined
from melody.listening.raters import MAX_FAILED, excluded_raters, exclusion_rule, rater_records
from melody.listening.ratings import QUESTIONS, Judgement, parse_ratings
from melody.listening.schema import (
    Agreement,
    BradleyTerry,
    ListeningResult,
    Preference,
    RaterRecord,
    Strength,
)
from melody.listening.tally import Tally, count
from melody.metrics.statistics import Estimate, holm, jackknife_estimate, sign_flip_p_value, wilson_interval

LEVEL = 0.05
MAX_SYSTEMS = 100
"""Ours: their 4,950 pairs are each tested, three questions over; no listening test has compared as many."""


def analyse(path: Path, *, max_failed: float = MAX_FAILED) -> ListeningResult:
    """Analyse a file of ratings (format: ``docs/listening.md``).

    Args:
        path: the CSV file.
        max_failed: raters who answer more than this share of their attention checks wrongly are excluded.
    Raises:
        MelodyError: a file that is not as the format says, or fewer than two raters left.
    """
    content = read_content(path)
    ratings = parse_ratings(content, path.name)
    excluded = excluded_raters(ratings.judgements, max_failed)
    kept = [judgement for judgement in ratings.judgements if judgement.counts and judgement.rater not in excluded]
    _check_raters(ratings.judgements, kept, excluded, path.name)
    systems = list(dict.fromkeys(name for judged in kept for name in (judged.system_a, judged.system_b)))
    if len(systems) > MAX_SYSTEMS:
        raise MelodyError(
            f"{path.name}: {len(systems):,} systems: expected at most {MAX_SYSTEMS}, each with all others"
        )
    questions = [question for question in QUESTIONS if any(judgement.question == question for judgement in kept)]
    tallies = {question: count(kept, systems, question) for question in questions}
    records = rater_records(ratings.judgements, excluded)
    rates = with_holm([rate for name, tally in tallies.items() for rate in preferences(name, tally)])
    return ListeningResult(
        melody_version=__version__,
        source=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        systems=systems,
        questions=questions,
        items=len({judgement.item for judgement in kept}),
        rows=len(ratings.judgements),
        judgements=len(kept),
        exclusion=exclusion_rule(max_failed),
        preferences=rates,
        bradley_terry=[bradley_terry(*named) for named in tallies.items()] if len(systems) > 2 else [],
        agreement=[agreement(name, [judged for judged in kept if judged.question == name]) for name in questions],
        heard_first=heard_first(kept),
        raters=records,
        warnings=_warnings(kept, records, questions, tests=sum(rate.p_holm is not None for rate in rates)),
        unread_columns=ratings.unread_columns,
    )


def preferences(question: str, tally: Tally) -> list[Preference]:
    """The rate of every pair of systems, in the order of ``tally.systems``."""
    return [_preference(question, tally, a, b) for a, b in combinations(range(len(tally.systems)), 2)]


def with_holm(rates: list[Preference]) -> list[Preference]:
    """The same with p-values corrected over all of them."""
    tested = [(rate, p) for rate in rates if rate.rate is not None and (p := rate.rate.p_value) is not None]
    for (rate, _), corrected in zip(tested, holm([p for _, p in tested]), strict=True):
        rate.p_holm = corrected
    return rates


def bradley_terry(question: str, tally: Tally) -> BradleyTerry:
    """Strengths of all systems with intervals over raters, or the reason that there are none."""
    points = tally.points
    total = points.sum(axis=0)
    if reason := why_undefined(total, tally.systems):
        return BradleyTerry(question=question, strengths=[], misfit_pair=[], reason=reason)
    theta = strengths(total)
    without, reason = _replicates(tally)
    ranked = []
    for number, system in enumerate(tally.systems):
        judged = int(tally.judged.sum(axis=0)[number].sum())
        if without is None:
            measured = Measurement(value=float(theta[number]), expected=judged, scored=judged)
        else:
            estimate = jackknife_estimate(float(theta[number]), without[:, number], n=judged, over="raters")
            measured = _measurement(estimate, judged)
        ranked.append(Strength(system=system, strength=measured))
    misfit, pair = _misfit(total, theta, tally.systems)
    ranked.sort(key=lambda strength: -strength.strength.value)
    return BradleyTerry(
        question=question, strengths=ranked, largest_misfit=misfit, misfit_pair=pair, reason=reason or ""
    )


def agreement(question: str, judgements: Sequence[Judgement]) -> Agreement:
    """Krippendorff's alpha of one question's judgements, with an interval over raters from three raters on."""
    labels, pairs = labelled(judgements)
    units, raters = int(((labels >= 0).sum(axis=0) > 1).sum()), len(labels)
    alpha = krippendorff_alpha(labels, pairs)
    if alpha is None:
        why = "undefined: no pair of clips was judged by two raters" if not units else "undefined: all answers are one"
        return Agreement(question=question, units=units, observed=observed_agreement(labels), reason=why)
    without = [krippendorff_alpha(np.delete(labels, number, axis=0), pairs) for number in range(raters)]
    replicates = [value for value in without if value is not None]
    measured, reason = Measurement(value=alpha, expected=units, scored=units), "no interval: it takes three raters"
    if raters > 2 and len(replicates) == raters:
        estimate = jackknife_estimate(alpha, replicates, n=units, over="raters")
        measured, reason = _measurement(estimate, units, high=min(1.0, estimate.high)), ""
    elif raters > 2:
        reason = "no interval: undefined without one of the raters"
    return Agreement(question=question, units=units, alpha=measured, observed=observed_agreement(labels), reason=reason)


def heard_first(judgements: Sequence[Judgement]) -> Measurement | None:
    """Share of decided answers for the clip that was heard first; ``None`` if nobody decided."""
    raters = list(dict.fromkeys(judgement.rater for judgement in judgements))
    first, second = (
        np.array([sum(judged.rater == rater and judged.answer == answer for judged in judgements) for rater in raters])
        for answer in ("first", "second")
    )
    return _share(first.astype(float), second.astype(float)) if (first + second).sum() else None


def _preference(question: str, tally: Tally, a: int, b: int) -> Preference:
    wins_a, wins_b, similar = tally.wins[:, a, b], tally.wins[:, b, a], tally.ties[:, a, b]
    decided = int(wins_a.sum() + wins_b.sum())
    raters = int((tally.judged[:, a, b] > 0).sum())
    rate = _share(tally.points[:, a, b], tally.points[:, b, a]) if raters else None
    reason = {0: "no judgement of this pair", 1: "no interval: one rater only"}.get(raters, "")
    return Preference(
        question=question,
        system_a=tally.systems[a],
        system_b=tally.systems[b],
        wins_a=int(wins_a.sum()),
        similar=int(similar.sum()),
        wins_b=int(wins_b.sum()),
        raters=raters,
        rate=rate,
        rate_without_similar=int(wins_a.sum()) / decided if decided else None,
        reason=reason,
    )


def _share(for_it: NDArray[np.float64], against: NDArray[np.float64]) -> Measurement:
    """A share of points with its interval over raters, and the p-value of one half; points by rater."""
    present = for_it + against > 0
    for_it, against = for_it[present], against[present]
    total = for_it + against
    share, judged = float(for_it.sum() / total.sum()), round(float(total.sum()))
    if len(total) < 2:
        return Measurement(value=share, expected=judged, scored=judged)
    without = (for_it.sum() - for_it) / (total.sum() - total)
    estimate = jackknife_estimate(share, without, n=judged, over="raters")
    if estimate.standard_error < 1e-12:  # a jackknife sees no spread: then each rater counts as one answer
        estimate = wilson_interval(share * len(total), len(total), over="raters, who all have the same rate")
    p_value = sign_flip_p_value(for_it - against)
    return _measurement(estimate, judged, p_value=p_value, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def _measurement(estimate: Estimate, judged: int, **fields: Any) -> Measurement:
    known: dict[str, Any] = {"low": estimate.low, "high": estimate.high, "standard_error": estimate.standard_error}
    interval = estimate.method
    return Measurement(value=estimate.value, interval=interval, expected=judged, scored=judged, **(known | fields))


def _replicates(tally: Tally) -> tuple[NDArray[np.float64] | None, str | None]:
    """``(raters, systems)`` strengths without each rater in turn, or the reason that there are none."""
    if len(tally.raters) < 2:
        return None, "no interval: one rater only"
    without = []
    for number, rater in enumerate(tally.raters):
        rest = np.delete(tally.points, number, axis=0).sum(axis=0)
        if why_undefined(rest, tally.systems):
            return None, f"no interval: without rater {rater!r} the strengths are undefined"
        without.append(strengths(rest))
    return np.stack(without), None


def _misfit(points: NDArray[np.float64], theta: NDArray[np.float64], systems: Sequence[str]) -> tuple[float, list[str]]:
    judged = points + points.T
    gaps = np.abs(points / np.maximum(judged, 0.5) - implied_rates(theta))
    gaps = np.where(judged > 0, gaps, -1.0)  # never a system and itself, even where all rates are as implied
    a, b = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return float(gaps[a, b]), [systems[int(a)], systems[int(b)]]


def _check_raters(
    all_judgements: Sequence[Judgement], kept: Sequence[Judgement], excluded: Sequence[str], name: str
) -> None:
    left = list(dict.fromkeys(judgement.rater for judgement in kept))
    if len(left) > 1:
        return
    everybody = {judgement.rater for judgement in all_judgements}
    only = f"only rater {left[0]!r} is left" if left else "no rater with a judgement is left"
    after = f" of {len(everybody)}, after {len(excluded)} failed the attention checks" if excluded else ""
    raise MelodyError(f"{name}: {only}{after}: intervals over raters and agreement take at least two")


def _warnings(
    kept: Sequence[Judgement], records: Sequence[RaterRecord], questions: Sequence[str], tests: int
) -> list[str]:
    left = [record for record in records if not record.excluded and record.judgements]
    warnings = []
    least = 2 / 2 ** len(left)  # of a sign-flip test
    if tests * least > LEVEL:
        warnings.append(
            f"{len(left)} raters are few: whatever they answer, no p-value falls below {least:.2g}, nor below "
            f"{min(1.0, tests * least):.2g} after Holm's correction over {tests} preferences"
        )
    unchecked = [record.rater for record in left if not record.checks]
    if unchecked and any(record.checks for record in records):
        warnings.append(f"{len(unchecked)} of {len(left)} raters had no attention check: {_listed(unchecked)}")
    missing = [question for question in QUESTIONS if question not in questions]
    if missing:
        warnings.append(f"nobody was asked about {_listed(missing)}")
    return warnings + _one_sided(kept)


def _one_sided(kept: Sequence[Judgement]) -> list[str]:
    """Pairs in which one system was always heard first: position and system cannot be told apart."""
    heard: dict[frozenset[str], Counter[str]] = {}
    for judgement in kept:
        heard.setdefault(judgement.pair, Counter())[judgement.heard[0]] += 1
    return [
        f"{first} was heard before {second} in all their {sum(times.values())} judgements: what is preferred for being "
        "first cannot be told from what is preferred for being better"
        for pair, times in heard.items()
        if len(times) == 1 and sum(times.values()) > 1
        for first in times
        for second in pair - {first}
    ]


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
