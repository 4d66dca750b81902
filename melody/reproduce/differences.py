"""The difference of two numbers of a table, with the p-value of none: at equal prompts and seeds where both have them.

- Two means, or two numbers of whole sets: paired by prompt and by seed, both of them random levels (see
  ``evaluation/levels``). Differences of seeds alone would say nothing of other prompts; they are told as a remark.
  Prompts pair by their names, where the numbers keep them: means over those that both sides have, sets if all are.
- Two means of which one has no seeds, as that of real clips: not paired, each with its own levels.
- Two timings: paired by repeat, so that the interval speaks of repeats on this machine and of nothing else.
- Two counts: exact, without a test.
- A rate against a number: the rate's own p-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from melody.evaluation.levels import two_levels
from melody.evaluation.result import Measurement, Sample
from melody.metrics.statistics import Estimate, mean_interval
from melody.metrics.variance_levels import half_width, p_value

OF_REPEATS = "of repeats on this machine only"


@dataclass(frozen=True)
class Difference:
    """Higher less lower."""

    measured: Measurement
    exact: bool = False
    """Whether its sign needs no test."""
    remark: str = ""
    """What stands beside the interval, or why there is none."""

    @property
    def text(self) -> str:
        """In words, with the interval where there is one."""
        measured = self.measured
        text = f"difference {_signed(measured.value)}"
        if measured.low is None or measured.high is None:
            return text
        return f"{text}, from {_signed(measured.low)} to {_signed(measured.high)} ({measured.interval})"


def _signed(value: float) -> str:
    """Four digits, and no power of ten for speeds in Hz.

    >>> _signed(-28_199.6), _signed(0.28474), _signed(3.2e12)
    ('-28,200', '+0.2847', '+3.2e+12')
    """
    return f"{value:+,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:+.4g}"


Side = Measurement | float


def difference(lower: Side, higher: Side) -> Difference:
    """Higher less lower, by what the two are made of."""
    if isinstance(lower, float) or isinstance(higher, float):
        return _against_a_number(lower, higher)
    kinds = [None if side.sample is None else side.sample.of for side in (lower, higher)]
    if kinds == ["count", "count"]:
        return Difference(_bare(lower, higher), exact=True, remark="counts, which are exact")
    seeds = [seed for seed in higher.by_seed if seed in lower.by_seed]
    if None in kinds or kinds[0] != kinds[1]:
        return Difference(_bare(lower, higher), remark="no values by prompt and seed that could be paired")
    if kinds[0] == "mean" and (not lower.by_seed or not higher.by_seed):
        return _unpaired(lower, higher)
    if len(seeds) < 2:
        return Difference(_bare(lower, higher), remark=f"{len(seeds)} seed in common gives no interval over seeds")
    if kinds[0] == "mean":
        lower, higher = _of_common_items(lower, higher)
    pairs = {seed: higher.by_seed[seed] - lower.by_seed[seed] for seed in seeds}
    alone = mean_interval(list(pairs.values()), over="repeats, paired" if kinds[0] == "repeats" else "seeds, paired")
    if kinds[0] == "repeats":
        return Difference(_measured(alone, pairs), remark=OF_REPEATS)
    rows = [_rows(side, seeds) for side in (higher, lower)]
    if rows[0].shape != rows[1].shape or _names_differ(lower, higher):
        return Difference(_bare(lower, higher), remark="the two lost different clips, so that prompts do not pair")
    remark = f"by seeds alone, at these very prompts, from {alone.low:+.4g} to {alone.high:+.4g}"
    estimate = two_levels("mean" if kinds[0] == "mean" else "set", list(pairs.values()), list(rows[0] - rows[1]))
    return Difference(_measured(_paired(estimate), pairs), remark=remark)


def _of_common_items(lower: Measurement, higher: Measurement) -> tuple[Measurement, Measurement]:
    """Two means over the items that both have, in one order; as they are, unless both know what their items are."""
    if not _names_differ(lower, higher):
        return lower, higher
    others = set(_items(higher))
    common = [name for name in _items(lower) if name in others]
    return (_over(lower, common), _over(higher, common)) if len(common) > 1 else (lower, higher)


def _names_differ(lower: Measurement, higher: Measurement) -> bool:
    """Whether both know what their items are, and they are not the same ones in the same order."""
    return bool(_items(lower) and _items(higher)) and _items(lower) != _items(higher)


def _over(measured: Measurement, items: list[str]) -> Measurement:
    sample = measured.sample
    assert isinstance(sample, Sample)
    places = {name: column for column, name in enumerate(sample.items)}
    rows = [[row[places[name]] for name in items] for row in sample.rows]
    means = [sum(row) / len(row) for row in rows]
    return measured.model_copy(
        update={
            "value": sum(means) / len(means),
            "by_seed": dict(zip(measured.by_seed, means, strict=True)),
            "sample": sample.model_copy(update={"rows": rows, "items": items}),
        }
    )


def _items(measured: Measurement) -> list[str]:
    return measured.sample.items if measured.sample else []


def _paired(estimate: Estimate) -> Estimate:
    kind = estimate.method.rpartition(", ")[0]  # without Satterthwaite's degrees of freedom, which are not used here
    return replace(estimate, method=f"{kind}, each with its own degrees of freedom; paired by both")


def _unpaired(lower: Measurement, higher: Measurement) -> Difference:
    """Two means over other items each: all their levels together."""
    sides = [_estimate(number) for number in (higher, lower)]
    if any(side is None for side in sides):
        return Difference(_bare(lower, higher), remark="a single value gives no interval")
    estimates = [side for side in sides if side is not None]
    levels = tuple(level for side in estimates for level in side.levels)
    value = higher.value - lower.value
    n = sum(side.n for side in estimates)
    half = half_width(levels)
    method = "95 % interval over the prompts and seeds of both sides, not paired: one has no seeds"
    error = math.sqrt(sum(level.variance for level in levels))
    estimate = Estimate(value, value - half, value + half, error, method, n, levels=levels)
    return Difference(_measured(estimate, {}))


def _estimate(measured: Measurement) -> Estimate | None:
    rows = measured.sample.rows if measured.sample else []
    return two_levels("mean", list(measured.by_seed.values()), rows) if rows and len(rows[0]) > 1 else None


def _against_a_number(lower: Side, higher: Side) -> Difference:
    measured = higher if isinstance(higher, Measurement) else lower
    assert isinstance(measured, Measurement), "a suite's claims hold one cell at least"
    number = lower if isinstance(lower, float) else higher
    assert isinstance(number, float)
    sign = 1 if measured is higher else -1
    ends = [None if end is None else sign * (end - number) for end in (measured.low, measured.high)]
    low, high = ends if sign > 0 else ends[::-1]
    moved = measured.model_copy(update={"value": sign * (measured.value - number), "low": low, "high": high})
    exact = measured.sample is not None and measured.sample.of == "count"
    remark = "" if exact or measured.p_value is not None else "the number has no p-value"
    return Difference(moved, exact=exact, remark=remark)


def _rows(measured: Measurement, seeds: Sequence[str]) -> NDArray[np.float64]:
    sample, order = measured.sample, list(measured.by_seed)
    assert isinstance(sample, Sample)
    rows = [sample.rows[order.index(seed)] for seed in seeds]
    shortest = min(map(len, rows))
    return np.array(rows if all(len(row) == shortest for row in rows) else [[] for _ in rows])


def _measured(estimate: Estimate, by_seed: dict[str, float]) -> Measurement:
    half = half_width(estimate.levels)
    items = max(2, len(by_seed))
    return Measurement(
        value=estimate.value,
        low=estimate.value - half,
        high=estimate.value + half,
        interval=estimate.method,
        standard_error=estimate.standard_error,
        by_seed=by_seed,
        expected=items,
        scored=items,
        p_value=p_value(estimate.value, estimate.levels),
    )


def _bare(lower: Measurement, higher: Measurement) -> Measurement:
    pairs = {seed: higher.by_seed[seed] - lower.by_seed[seed] for seed in higher.by_seed if seed in lower.by_seed}
    items = max(1, len(pairs))
    return Measurement(value=higher.value - lower.value, by_seed=pairs, expected=items, scored=items)
