"""By how much a number is worse than an earlier one, in standard errors of the difference.

- The mean of clips' own values, of the same clips by identifier in both: paired, Student's t.
- A metric of sets, of the same clips in the same groups: the paired delete-a-group jackknife.
- A cell of a table at the same prompts and seeds: as orderings are tested (``reproduce.differences``).
- All else: not paired, the root of the two squared standard errors; and it is told why.
- Numbers without a standard error, as counts: exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy.special import stdtr

from melody.errors import MelodyError
from melody.evaluation.entries import ResultEntry
from melody.evaluation.result import Score
from melody.metrics.statistics import Estimate, jackknife_estimate, mean_interval
from melody.reproduce.differences import difference
from melody.reproduce.results import Cell

ROUNDING = 1e-6
"""Relative: a worsening no larger is another machine's rounding."""
MOST_GROUPS = 20
"""Of a jackknife: more clips know its standard error no better."""


@dataclass(frozen=True)
class Worsening:
    """How much worse the number is, with the standard error of that and the one-sided p-value of no worsening."""

    amount: float
    """Positive where it is worse."""
    standard_error: float | None
    p_value: float
    how: str
    """In words, as in ``paired over 12 clips``."""

    @property
    def exact(self) -> bool:
        return self.standard_error is None

    def beyond(self, standard_errors: float) -> bool:
        """Whether it is worse by more than so many standard errors; without any, whether it is worse at all."""
        return self.amount > standard_errors * (self.standard_error or 0.0)


def worsening(now: ResultEntry, base: ResultEntry) -> Worsening:
    """How much worse ``now`` is than ``base``; both have a finite value and a direction.

    Raises:
        MelodyError: the two were measured otherwise, so that no difference says anything.
    """
    if reason := measured_otherwise(now, base):
        raise MelodyError(reason)
    worse_by = _difference(now, base, 1 if now.direction == "lower" else -1)
    if worse_by.amount <= ROUNDING * max(abs(now.value or 0.0), abs(base.value or 0.0)) and worse_by.amount > 0:
        return replace(worse_by, amount=0.0, p_value=1.0)
    return worse_by


def measured_otherwise(now: ResultEntry, base: ResultEntry) -> str:
    """Why the two numbers do not compare; empty if they do."""
    if now.version != base.version:
        return f"version {now.version} of the metric, the baseline's is {base.version}"
    if now.direction != base.direction or now.unit != base.unit:
        return "the baseline's has another direction or unit"
    if now.against and base.against and now.against != base.against:
        return "the reference or the texts are not the baseline's"
    sources = [entry.record.source if isinstance(entry.record, Score) else {} for entry in (now, base)]
    if all(sources) and sources[0] != sources[1]:
        differing = sorted(key for key in {**sources[0], **sources[1]} if sources[0].get(key) != sources[1].get(key))
        return f"{', '.join(differing)} of {sources[0].get('name', 'the embedder')} are not the baseline's"
    return ""


def _difference(now: ResultEntry, base: ResultEntry, sign: int) -> Worsening:
    if isinstance(now.record, Score) and isinstance(base.record, Score):
        return _of_scores(now, base, sign)
    if isinstance(now.record, Cell) and isinstance(base.record, Cell):
        return _of_cells(now, base, sign)
    return _unpaired(now, base, sign, "")


def _of_scores(now: ResultEntry, base: ResultEntry, sign: int) -> Worsening:
    a, b = now.record, base.record
    if _is_mean(a) and _is_mean(b):
        return _of_clips(now, base, sign)
    if a.groups is not None and b.groups is not None:
        if a.groups.clips == b.groups.clips and len(a.groups.without) == len(b.groups.without):
            without = [ours - theirs for ours, theirs in zip(a.groups.without, b.groups.without, strict=True)]
            estimate = jackknife_estimate(_amount(now, base, 1), without, n=a.scored)
            return _paired(estimate, sign, len(without) - 1, f"paired over {a.scored} clips")
        return _unpaired(now, base, sign, "the clips' identifiers or the seeds differ")
    return _unpaired(now, base, sign, "" if _exact(now, base) else "one of the results keeps no values to pair")


def _is_mean(score: Score) -> bool:
    values = [value for value in score.clips.values() if value is not None]
    if score.value is None or not values or score.groups is not None:
        return False
    return math.isclose(sum(values) / len(values), score.value, rel_tol=1e-6, abs_tol=1e-9)


def _of_clips(now: ResultEntry, base: ResultEntry, sign: int) -> Worsening:
    a: Mapping[str, float | None] = now.record.clips
    b: Mapping[str, float | None] = base.record.clips
    if set(a) != set(b):
        return _unpaired(now, base, sign, f"{len(set(a) & set(b))} of {len(set(a) | set(b))} identifiers agree")
    pairs = [(ours, theirs) for key in a if (ours := a[key]) is not None and (theirs := b[key]) is not None]
    if len(pairs) < 2:
        return _unpaired(now, base, sign, f"{len(pairs)} clips in pairs")
    estimate = mean_interval([ours - theirs for ours, theirs in pairs], over="clips")
    return _paired(estimate, sign, len(pairs) - 1, f"paired over {len(pairs)} clips")


def _of_cells(now: ResultEntry, base: ResultEntry, sign: int) -> Worsening:
    a, b = now.record, base.record
    kinds = {None if cell.measured.sample is None else cell.measured.sample.of for cell in (a, b)}
    if kinds == {"count"}:
        return _without_error(now, base, sign, "counts")
    if _inputs(a) != _inputs(b) or _inputs(a) is None:
        return _unpaired(now, base, sign, "" if _exact(now, base) else "the prompts or the seeds differ")
    if kinds in ({"mean"}, {"set"}):
        paired = difference(b.measured, a.measured).measured
        if paired.p_value is not None and paired.standard_error is not None:
            amount = sign * paired.value
            p_value = paired.p_value / 2 if amount > 0 else 1 - paired.p_value / 2
            return Worsening(amount, paired.standard_error, p_value, "paired by prompt and seed")
    return _unpaired(now, base, sign, "" if _exact(now, base) else "it has no values by prompt and seed")


def _inputs(cell: Cell) -> tuple[str, tuple[int, ...]] | None:
    """The prompts and seeds of a cell."""
    if cell.provenance is None or cell.provenance.inputs is None:
        return None
    return cell.provenance.inputs, tuple(cell.provenance.seeds)


def _paired(estimate: Estimate, sign: int, freedom: int, how: str) -> Worsening:
    return _tested(sign * estimate.value, estimate.standard_error, freedom, how)


def _unpaired(now: ResultEntry, base: ResultEntry, sign: int, reason: str) -> Worsening:
    errors = [entry.standard_error for entry in (now, base) if entry.standard_error is not None]
    how = f"not paired: {reason}" if reason else "not paired"
    if not errors:
        return _without_error(now, base, sign, how)
    freedom = max(1, min(_items(now), _items(base), MOST_GROUPS) - 1)
    return _tested(_amount(now, base, sign), math.hypot(*errors), freedom, how)


def _items(entry: ResultEntry) -> int:
    measured = entry.record.measured if isinstance(entry.record, Cell) else None
    return len(measured.by_seed) if measured is not None and measured.by_seed else entry.scored


def _without_error(now: ResultEntry, base: ResultEntry, sign: int, how: str) -> Worsening:
    amount = _amount(now, base, sign)
    return Worsening(amount, None, 0.0 if amount > 0 else 1.0, how)


def _tested(amount: float, error: float, freedom: int, how: str) -> Worsening:
    if error <= 0:
        return Worsening(amount, 0.0, 0.0 if amount > 0 else 1.0, how)
    return Worsening(amount, error, float(stdtr(freedom, -amount / error)), how)


def _amount(now: ResultEntry, base: ResultEntry, sign: int) -> float:
    assert now.value is not None
    assert base.value is not None
    return sign * (now.value - base.value)


def _exact(now: ResultEntry, base: ResultEntry) -> bool:
    return now.standard_error is None and base.standard_error is None
