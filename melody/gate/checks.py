"""A result held to thresholds, or every metric of it to an earlier result.

Against a baseline each metric's worsening is tested by its one-sided p-value, corrected by Holm over the metrics; the
level is the tail of a normal distribution beyond so many standard errors, so that of one metric and many clips exactly
that many are allowed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from scipy.special import ndtr

from melody.errors import MelodyError
from melody.evaluation.entries import ResultEntry
from melody.evaluation.result import Difference
from melody.gate.differences import Worsening, measured_otherwise, worsening
from melody.gate.selection import select
from melody.gate.thresholds import STANDARD_ERRORS, Threshold, Thresholds
from melody.metrics.statistics import holm
from melody.reproduce.results import AnyResult, load_results

State = Literal["holds", "falls", "skipped"]


@dataclass(frozen=True)
class Check:
    """One number against one condition."""

    name: str
    suite: str
    state: State
    line: str
    reason: str = ""
    """Why it is skipped, if it is."""


@dataclass(frozen=True)
class GateOutcome:
    """All checks of a gate."""

    title: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.state == "falls"]


def gate(result: AnyResult, thresholds: Thresholds) -> GateOutcome:
    """Hold a result to thresholds. A number that should be there and was not measured falls.

    Raises:
        MelodyError: a threshold on a suite, metric or row that the result lacks or has more than once, or a baseline
            that cannot be read, lacks the number or measured it otherwise.
    """
    entries = result.entries()
    baselines: dict[Path, list[ResultEntry]] = {}
    checks = []
    for number, threshold in enumerate(thresholds.thresholds, start=1):
        where = f"threshold {number} ({threshold.metric})"
        entry = select(entries, threshold, where, "the results")
        if (path := threshold.no_worse_than) is not None and path not in baselines:
            baselines[path] = load_results(path).entries()
        checks.append(_held(entry, threshold, baselines, where))
    return GateOutcome(thresholds.title, tuple(_named_apart(checks)))


def gate_against(
    result: AnyResult, baseline: AnyResult, name: str, *, by_standard_errors: float = STANDARD_ERRORS
) -> GateOutcome:
    """Hold every metric that has a better direction to a baseline, corrected by Holm over the metrics.

    What only one of the two has, or was measured otherwise, is skipped and told.

    Args:
        name: of the baseline, for messages.
    Raises:
        MelodyError: the two have no number in common that can be compared.
    """
    entries = result.entries()
    earlier = {_key(entry): entry for entry in baseline.entries()}
    new = [entry for entry in entries if entry.value is not None and _key(entry) not in earlier]
    pairs = [(entry, earlier.pop(_key(entry))) for entry in entries if _key(entry) in earlier]
    pairs = [(entry, base) for entry, base in pairs if entry.value is not None or base.value is not None]
    gone = [entry for entry in earlier.values() if entry.value is not None]
    skipped = [_skipped(entry, f"{name} has none") for entry in new]
    skipped += [_skipped(entry, f"only {name} has it") for entry in gone]
    differences: dict[int, Worsening] = {}
    checks: list[Check] = []
    for number, (entry, base) in enumerate(pairs):
        if (check := _untested(entry, base, name)) is not None:
            checks.append(check)
        else:
            differences[number] = worsening(entry, base)
    if not differences and not any(check.state == "falls" for check in checks):
        raise MelodyError(f"the results have no number that can be held against {name}: {_first(checks + skipped)}")
    corrected = dict(zip(differences, _corrected(differences.values()), strict=True))
    level = float(ndtr(-by_standard_errors))
    family = sum(not worse_by.exact for worse_by in differences.values())
    for number, worse_by in differences.items():
        entry, base = pairs[number]
        checks.append(_tested(entry, base, worse_by, corrected[number], level, family, name))
    title = f"no worse than {name} by more than {by_standard_errors:g} standard errors"
    return GateOutcome(title, tuple(_named_apart([*checks, *skipped])))


def _held(entry: ResultEntry, threshold: Threshold, baselines: dict[Path, list[ResultEntry]], where: str) -> Check:
    name, told = f"{entry.metric}{entry.place} {threshold.condition}", _told(entry)
    if (reason := _no_number(entry)) is not None:
        return Check(name, entry.suite, "falls", f"{told}: {reason}")
    assert entry.value is not None
    if threshold.no_worse_than is not None:
        state, line = _against(entry, threshold, baselines[threshold.no_worse_than], where)
        return Check(name, entry.suite, state, f"{told}: {line}")
    if threshold.max is not None and entry.value > threshold.max:
        return Check(name, entry.suite, "falls", f"{told}: {entry.value:.6g} > {threshold.max:g} (max)")
    if threshold.min is not None and entry.value < threshold.min:
        return Check(name, entry.suite, "falls", f"{told}: {entry.value:.6g} < {threshold.min:g} (min)")
    return Check(name, entry.suite, "holds", f"{told}: {entry.value:.6g}, {threshold.condition}")


def _against(
    entry: ResultEntry, threshold: Threshold, baseline: Sequence[ResultEntry], where: str
) -> tuple[State, str]:
    """The number against a baseline's, moved by so many standard errors of the difference."""
    assert threshold.no_worse_than is not None
    name = threshold.no_worse_than.name
    if entry.direction == "none":
        raise MelodyError(f"{where}: of {entry.metric} no direction is better: give max or min")
    base = next((other for other in baseline if _key(other) == _key(entry)), None)
    if base is None or _no_number(base) is not None:
        raise MelodyError(f"{where}: the baseline {threshold.no_worse_than} has no number of {_told(entry)}")
    try:
        worse_by = worsening(entry, base)
    except MelodyError as error:
        raise MelodyError(f"{where}: the baseline {threshold.no_worse_than} does not compare: {error}") from None
    state: State = "falls" if worse_by.beyond(threshold.margin) else "holds"
    return state, f"{_values(entry, base, name)}{_by(worse_by)}, {threshold.margin:g} are allowed"


def _untested(entry: ResultEntry, base: ResultEntry, name: str) -> Check | None:
    """The check of a pair that is not tested, with the reason; ``None`` where it can be."""
    if isinstance(entry.record, Difference):
        return _skipped(entry, "a difference of two sets")
    if (reason := _no_number(base)) is not None:
        return _skipped(entry, f"{name} has no number: {reason}")
    if (reason := _no_number(entry)) is not None:
        line = f"{_told(entry)}: {reason}; {name} has {base.value:.6g}"
        return Check(_title(entry, name), entry.suite, "falls", line)
    if entry.direction == "none":
        return _skipped(entry, "no direction is better")
    if reason := measured_otherwise(entry, base):
        return _skipped(entry, reason)
    return None


def _tested(
    entry: ResultEntry, base: ResultEntry, worse_by: Worsening, p_value: float, level: float, family: int, name: str
) -> Check:
    line = f"{_told(entry)}: {_values(entry, base, name)}{_by(worse_by)}"
    if not worse_by.exact:
        line += f"; p {_rounded(p_value)} by Holm over {family} metrics"
    falls = p_value < level or p_value == 0.0  # no number of standard errors allows what has none
    return Check(_title(entry, name), entry.suite, "falls" if falls else "holds", line)


def _corrected(differences: Iterable[Worsening]) -> Iterator[float]:
    """P-values corrected over those that are tested; what is exact is as it is."""
    worsenings = list(differences)
    tested = [change.p_value for change in worsenings if not change.exact]
    adjusted = iter(holm(tested) if tested else [])
    return (change.p_value if change.exact else next(adjusted) for change in worsenings)


def _values(entry: ResultEntry, base: ResultEntry, name: str) -> str:
    return f"{entry.value:.6g}, {base.value:.6g} in {name}"


def _by(worse_by: Worsening) -> str:
    word = "worse" if worse_by.amount > 0 else "no worse"
    text = f": {word} by {abs(worse_by.amount):.4g}" if worse_by.amount > 0 else f": {word}"
    if worse_by.standard_error is None:
        return f"{text} (no standard error)"
    times = f", {worse_by.amount / worse_by.standard_error:.2g} standard errors" if worse_by.standard_error > 0 else ""
    return f"{text}{times} of {worse_by.standard_error:.3g} ({worse_by.how})" if times else f"{text} ({worse_by.how})"


def _rounded(p_value: float) -> str:
    return "below 1e-6" if p_value < 1e-6 else f"{p_value:.2g}"


def _no_number(entry: ResultEntry) -> str | None:
    if entry.value is None:
        return f"not measured: {entry.reason}" if entry.reason else "not measured"
    return None if math.isfinite(entry.value) else f"measured {entry.value}, expected a finite number"


def _skipped(entry: ResultEntry, reason: str) -> Check:
    return Check(f"{entry.metric}{entry.place}", entry.suite, "skipped", f"{_told(entry)}: {reason}", reason)


def _first(checks: Sequence[Check]) -> str:
    return checks[0].line if checks else "neither has any"


def _title(entry: ResultEntry, name: str) -> str:
    return f"{entry.metric}{entry.place} no worse than {name}"


def _told(entry: ResultEntry) -> str:
    return f"{entry.suite} {entry.metric}{entry.place}"


def _key(entry: ResultEntry) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    row = tuple(sorted((axis, str(value)) for axis, value in entry.row.items()))
    return entry.suite, entry.column, entry.metric, row


def _named_apart(checks: Iterable[Check]) -> Iterator[Check]:
    """Checks of which no two of a suite share a name: a hosted CI keeps the first of each name and drops the others."""
    seen: Counter[tuple[str, str]] = Counter()
    for check in checks:
        seen[check.suite, check.name] += 1
        times = seen[check.suite, check.name]
        yield check if times == 1 else replace(check, name=f"{check.name} ({times})")
