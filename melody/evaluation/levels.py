"""From values by prompt and seed to one measurement, whose interval speaks of new prompts and of new seeds.

- A mean over prompts: ``two_level_mean``; of a single seed Student's t over its prompts.
- A number of a whole set: ``two_level_jackknife``, which deletes a group of prompts from all seeds at once, since clips
  of one prompt are not independent; of a single seed the jackknife over its clips. The reference is taken as fixed.
- Repeats of a timing: Student's t. A count has no spread.

Intervals are cut to the range of the metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from melody.errors import MelodyError
from melody.evaluation.result import Measurement, Sample
from melody.metrics.statistics import (
    Estimate,
    jackknife_estimate,
    mean_interval,
    paired_difference,
    two_level_jackknife,
    two_level_mean,
    wilson_interval,
)

if TYPE_CHECKING:  # results are read without torch
    from melody.evaluation.scoring import MetricValue


def two_levels(
    of: Literal["mean", "set"], by_seed: Sequence[float], rows: Sequence[ArrayLike], over: str = "prompts"
) -> Estimate:
    """The mean over seeds with its interval.

    Args:
        of: whether rows are values of prompts, or of the set without each group of prompts.
        by_seed: each seed's number.
        rows: one a seed.
        over: what one seed's interval is over.
    Raises:
        MelodyError: fewer than two values or groups, or one that is not finite.
    """
    if of == "mean":
        return two_level_mean(rows).estimate if len(rows) > 1 else mean_interval(rows[0], over=over)
    items = np.asarray(rows[0]).size
    if len(rows) > 1:
        return two_level_jackknife(by_seed, np.asarray(rows), n=items, over=over)
    return jackknife_estimate(by_seed[0], rows[0], n=items, over=over)


def over_seeds(values: Mapping[int, MetricValue], expected: int, metric: Any) -> Measurement:
    """A metric's mean over seeds, from its value of each seed's clips; raises ``MelodyError`` if a seed has none."""
    _check(values.values())
    if any(value.scored < 2 for value in values.values()):
        raise MelodyError("one clip a seed; expected at least 2, to say how much another prompt moves the number")
    said = "; ".join(dict.fromkeys(warning for value in values.values() for warning in value.warnings)) or None
    if all(value.clips for value in values.values()):
        names = [list(value.clips) for value in values.values()]
        if any(row != names[0] for row in names):
            raise MelodyError("the seeds lost different clips; expected every prompt of each")
        by_seed_and_prompt = {seed: list(value.clips.values()) for seed, value in values.items()}
        measured = over_prompts(by_seed_and_prompt, expected, names[0])
        return within(measured, metric).model_copy(update={"warning": said})
    by_seed = {str(seed): float(value.value or 0.0) for seed, value in values.items()}
    scored, without = sum(value.scored for value in values.values()), [value.replicates for value in values.values()]
    if not all(without):
        mean = sum(by_seed.values()) / len(by_seed)
        return Measurement(value=mean, by_seed=by_seed, expected=expected, scored=scored, warning=said)
    estimate = two_levels("set", list(by_seed.values()), without)
    measured = measurement(estimate, expected=expected, scored=scored, by_seed=by_seed)
    return within(measured, metric).model_copy(update={"warning": said, "sample": Sample(of="set", rows=without)})


def of_one_set(value: MetricValue, expected: int, metric: Any) -> Measurement:
    """A metric of clips that are no prompt's seeds; raises ``MelodyError`` if it has no value."""
    _check([value])
    said = "; ".join(value.warnings) or None
    if value.clips:
        return within(over_clips(list(value.clips.values()), expected), metric).model_copy(update={"warning": said})
    if value.estimate is None:
        return Measurement(value=float(value.value or 0.0), expected=expected, scored=value.scored, warning=said)
    measured = measurement(value.estimate, expected=expected, scored=value.scored)
    return within(measured, metric).model_copy(update={"warning": said})


def _check(values: Iterable[MetricValue]) -> None:
    for value in values:
        if value.value is None:
            raise MelodyError(value.reason or "no clip could be scored")


def range_of(metric: Any) -> tuple[float, float]:
    """The least and the largest value of a metric, which no interval passes, by torchmetrics' names for them."""
    ends = (getattr(metric, f"plot_{side}_bound", None) for side in ("lower", "upper"))
    low, high = (None if end is None else float(end) for end in ends)
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def within(measured: Measurement, metric: Any) -> Measurement:
    """The interval, cut to the values that a metric has."""
    low, high = range_of(metric)
    ends = {
        "low": None if measured.low is None else max(measured.low, low),
        "high": None if measured.high is None else min(measured.high, high),
    }
    return measured.model_copy(update=ends)


def over_prompts(by_seed: Mapping[int, Sequence[float]], expected: int, items: Sequence[str] = ()) -> Measurement:
    """Mean of a value of each prompt's clip over prompts and seeds; raises ``MelodyError`` for no values.

    Args:
        items: what the clips are called, in order, where that is known.
    """
    if not all(by_seed.values()):
        raise MelodyError("the clips are too short for this number")
    means = {str(seed): float(np.mean(values)) for seed, values in by_seed.items()}
    estimate = two_levels("mean", list(means.values()), list(by_seed.values()))
    measured = measurement(estimate, expected=expected, scored=sum(map(len, by_seed.values())), by_seed=means)
    sample = Sample(of="mean", rows=[list(row) for row in by_seed.values()], items=list(items))
    return measured.model_copy(update={"sample": sample})


def paired(own: Measurement, other: Measurement) -> Measurement:
    """A measurement less another at the same prompts and seeds, with the interval of the paired values.

    Raises:
        MelodyError: one of them has no values by prompt and seed.
    """
    if own.sample is None or other.sample is None or not own.sample.rows or own.sample.of not in ("mean", "set"):
        raise MelodyError("no values by prompt and seed that could be paired")
    if own.sample.items and other.sample.items and own.sample.items != other.sample.items:
        raise MelodyError("the two lost different clips, so that prompts do not pair")
    rows = np.subtract(own.sample.rows, other.sample.rows)
    by_seed = {seed: value - other.by_seed[seed] for seed, value in own.by_seed.items()}
    estimate = two_levels(own.sample.of, list(by_seed.values()), list(rows))
    measured = measurement(estimate, expected=own.expected, scored=own.scored, by_seed=by_seed)
    sample = Sample(of=own.sample.of, rows=rows.tolist(), items=own.sample.items)
    interval = f"{measured.interval}; paired by prompt and seed"
    return measured.model_copy(update={"interval": interval, "sample": sample})


def over_clips(values: Sequence[float], expected: int) -> Measurement:
    """Mean over clips with Student's t interval."""
    if len(values) < 2:
        return Measurement(value=values[0], expected=expected, scored=len(values))
    return measurement(mean_interval(values, over="clips"), expected=expected, scored=len(values))


def over_repeats(by_seed: Mapping[str, float], *, expected: int) -> Measurement:
    """Mean over repeats of a timing with Student's t interval, or without an interval for a single one."""
    values, sample = list(by_seed.values()), Sample(of="repeats")
    if len(values) < 2:
        return Measurement(value=values[0], by_seed=dict(by_seed), expected=expected, scored=len(values), sample=sample)
    estimate = mean_interval(values, over="repeats")
    measured = measurement(estimate, expected=expected, scored=len(values), by_seed=by_seed)
    return measured.model_copy(update={"sample": sample})


def count(by_seed: Mapping[str, float]) -> Measurement:
    """A count, which has no spread: it is the same whenever it is made, so nothing is tested of it."""
    value = sum(by_seed.values()) / len(by_seed)
    items = len(by_seed)
    return Measurement(value=value, by_seed=dict(by_seed), expected=items, scored=items, sample=Sample(of="count"))


def difference(a: Sequence[float], b: Sequence[float], expected: int) -> Measurement:
    """Mean of a − b over pairs, with interval and permutation p-value."""
    pairs = paired_difference(a, b)
    measured = measurement(pairs.estimate, expected=expected, scored=len(a))
    interval = f"{pairs.estimate.method}; p by sign flips"
    return measured.model_copy(update={"p_value": pairs.p_value, "interval": interval})


def percentage(successes: int, scored: int, expected: int, *, over: str = "clips") -> Measurement:
    """A share in per cent with Wilson's interval."""
    share = wilson_interval(successes, scored, over=over)
    return Measurement(
        value=100 * share.value,
        low=100 * share.low,
        high=100 * share.high,
        interval=share.method,
        standard_error=100 * share.standard_error,
        expected=expected,
        scored=scored,
    )


def measurement(
    estimate: Estimate, *, expected: int, scored: int, by_seed: Mapping[str, float] | None = None
) -> Measurement:
    """An estimate as the record that a table holds."""
    return Measurement(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        interval=estimate.method,
        standard_error=estimate.standard_error,
        by_seed=dict(by_seed or {}),
        expected=expected,
        scored=scored,
    )
