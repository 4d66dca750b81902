"""Uncertainty of the numbers in a table: which interval fits which kind of number.

- Of a set of clips at once (Fréchet distance): ``jackknife``, which deletes a group of clips at a time. A bootstrap
  over windows is far too narrow, and one over clips is biased so that its interval may miss its own point estimate.
- A mean over prompts: ``bootstrap_mean`` (percentile), or ``mean_interval`` where there are fewer than about 20.
- A mean over seeds, of which there are few: ``mean_interval`` (Student's t).
- A mean over prompts and seeds at once: ``two_level_mean``, in which seeds are a level of their own. All clips in one
  row, or prompts alone with seeds averaged away, leave out how much a new seed would move the number. For a statistic
  of a set, ``two_level_jackknife``.
- Two systems on the same prompts or seeds: ``paired_difference``, with a sign-flip permutation test and Cohen's
  d_z.
- A share of clips: ``wilson_interval``.
- Several claims at once: ``holm``, of p-values by ``variance_levels``, which hold far out in the tail too.

What is covered, ``benchmarks/interval_coverage.py`` shows on known truths: nominal 95 % comes out within 92 and 98 %
for all of the above; for a Fréchet distance as long as its bias is small beside its standard error. A jackknife gives
the spread of an estimate, not its distance from the truth: the plain distance is too large at few clips for many
dimensions, and no interval around it covers then; ``Estimate.bias`` says how far off it is, to first order.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 11 to 15; Satterthwaite (1946),
doi:10.2307/3002019, and Searle, Casella and McCulloch, Variance Components (1992), chapter 4, for two levels; Holm
(1979), Scandinavian Journal of Statistics 6, 65-70; Phipson and Smyth (2010), doi:10.2202/1544-6115.1585, for the
p-value that counts the observed arrangement; Cohen (1988), section 2.3.5, for d_z; Wilson (1927),
doi:10.1080/01621459.1927.10502953. Numpy, and quantiles from scipy, only. Version 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from melody.errors import MelodyError
from melody.metrics.variance_levels import Level

Floats = NDArray[np.float64]
Item = TypeVar("Item")

EXACT_PAIRS = 12
"""Up to so many pairs all sign patterns are tried (4,096 at most): a choice of ours."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; ``method`` says in words how the interval came about, ``n`` over how many items."""

    value: float
    low: float
    high: float
    standard_error: float
    method: str
    n: int
    bias: float | None = None
    """By how much ``value`` is too large on average, to first order in 1/n; of a jackknife only. Not subtracted."""
    levels: tuple[Level, ...] = ()
    """The random levels of a t interval, for a test far out in the tail; see ``variance_levels``."""


@dataclass(frozen=True)
class TwoLevelMean:
    """A mean over prompts and seeds, and the standard deviations that stand behind its interval."""

    estimate: Estimate
    freedom: float
    """Degrees of freedom of the t interval."""
    between_seeds: float
    between_prompts: float | None
    """Of prompts' own level; ``None`` where every seed has prompts of its own, which tells it from nothing else."""
    within: float
    """What neither level explains."""


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a − b over pairs, its two-sided p-value, and its size in standard deviations of the differences."""

    estimate: Estimate
    p_value: float
    effect_size: float
    """Cohen's d_z; infinite where all differences are equal and not zero."""


def mean_interval(values: ArrayLike, *, over: str = "seeds", confidence: float = 0.95) -> Estimate:
    """Mean with Student's t interval; raises ``MelodyError`` for fewer than two values.

    >>> estimate = mean_interval([1.0, 2.0, 3.0])
    >>> round(estimate.value, 2), round(estimate.low, 2), round(estimate.high, 2)
    (2.0, -0.48, 4.48)
    """
    sample = _checked(values, f"t interval over {over}")
    error = float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return _t_estimate(float(sample.mean()), error, len(sample) - 1, confidence, f"t interval over {over}", len(sample))


def two_level_mean(
    by_seed: Sequence[ArrayLike], *, shared_prompts: bool = True, confidence: float = 0.95
) -> TwoLevelMean:
    """Mean over seeds and prompts whose interval speaks of new seeds as well as of new prompts.

    - Shared prompts (every seed ran the same prompts, in the same order): seeds S and prompts P are two crossed random
      levels. Variance of the mean = (MS_seeds + MS_prompts − MS_rest) / (S·P), never below what one level alone says;
      degrees of freedom by Satterthwaite, Var² / Σ (MS / (S·P))² / df, with S − 1, P − 1 and (S − 1)(P − 1).
    - Prompts of their own within each seed: the t interval over the seeds' means, S − 1 degrees of freedom, exact for
      normal seeds with equally many prompts. A seed counts one, however many prompts it has.

    Args:
        by_seed: one row of finite scores a seed.
        shared_prompts: whether the rows' columns are the same prompts.
    Raises:
        MelodyError: fewer than two seeds or two prompts, shared prompts of unequal number, a value that is not finite.

    >>> found = two_level_mean([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [3.0, 4.0, 5.0]])
    >>> found.estimate.method, round(found.between_seeds, 2), round(found.within, 2)
    ('95 % t interval over 3 seeds and 3 prompts, crossed, 4.0 degrees of freedom', 1.0, 0.0)
    """
    rows = [_checked(row, f"seed {number} of {len(by_seed)}") for number, row in enumerate(by_seed, start=1)]
    if len(rows) < 2:
        raise MelodyError(f"mean over seeds and prompts: got {len(rows)} seeds; expected at least two")
    if not shared_prompts:
        return _nested_mean(rows, confidence)
    if len({len(row) for row in rows}) > 1:
        raise MelodyError(f"mean over seeds and prompts: seeds have {sorted({len(r) for r in rows})} shared prompts")
    return _crossed_mean(np.stack(rows), confidence)


def _nested_mean(rows: Sequence[Floats], confidence: float) -> TwoLevelMean:
    means = np.array([row.mean() for row in rows])
    within = float(sum(((row - row.mean()) ** 2).sum() for row in rows)) / sum(len(row) - 1 for row in rows)
    # A seed's mean varies by its prompts too; what is over is the seeds' own.
    between = float(means.var(ddof=1)) - within * float(np.mean([1 / len(row) for row in rows]))
    method = f"t interval over {len(rows)} seeds, prompts within them, {len(rows) - 1} degrees of freedom"
    error = float(means.std(ddof=1)) / math.sqrt(len(rows))
    total = sum(len(row) for row in rows)
    estimate = _t_estimate(float(means.mean()), error, len(rows) - 1, confidence, method, total)
    return TwoLevelMean(estimate, len(rows) - 1, math.sqrt(max(0.0, between)), None, math.sqrt(within))


def _crossed_mean(scores: Floats, confidence: float) -> TwoLevelMean:
    seeds, prompts = scores.shape
    of_seeds, of_prompts = scores.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    rest = float(((scores - of_seeds - of_prompts + scores.mean()) ** 2).sum()) / ((seeds - 1) * (prompts - 1))
    squares = (prompts * float(of_seeds.var(ddof=1)), seeds * float(of_prompts.var(ddof=1)), rest)
    total, freedom = _satterthwaite(squares, (seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1)))
    method = f"t interval over {seeds} seeds and {prompts} prompts, crossed, {freedom:.1f} degrees of freedom"
    error = math.sqrt(total / (seeds * prompts))
    estimate = _t_estimate(float(scores.mean()), error, freedom, confidence, method, scores.size)
    estimate = replace(estimate, levels=_levels([square / scores.size for square in squares], (seeds, prompts)))
    between = [math.sqrt(max(0.0, (square - rest) / n)) for square, n in zip(squares, (prompts, seeds), strict=False)]
    return TwoLevelMean(estimate, freedom, between[0], between[1], math.sqrt(rest))


def _satterthwaite(squares: tuple[float, float, float], freedoms: tuple[int, int, int]) -> tuple[float, float]:
    """MS_seeds + MS_prompts − MS_rest, no less than the larger of the first two, and its degrees of freedom."""
    total = squares[0] + squares[1] - squares[2]
    largest = max(0, 1, key=lambda level: squares[level])
    if total <= squares[largest]:
        return squares[largest], freedoms[largest]
    # As shares of the total, whose squares do not fall below the smallest number.
    spread = sum((square / total) ** 2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    return total, max(float(min(freedoms)), 1 / spread)


def _levels(variances: Sequence[float], members: tuple[int, int]) -> tuple[Level, Level]:
    """Seeds, whose part holds the rest too, and what prompts have beside the rest."""
    of_seeds, of_prompts, rest = variances
    return Level(of_seeds, members[0] - 1), Level(max(0.0, of_prompts - rest), members[1] - 1)


def bootstrap_mean(
    values: ArrayLike, *, seed: int = 0, resamples: int = 10_000, over: str = "prompts", confidence: float = 0.95
) -> Estimate:
    """Mean with a percentile bootstrap interval; one value a prompt, drawn with replacement.

    With fewer than about 20 values the interval is too narrow: take ``mean_interval`` there.

    Raises:
        MelodyError: fewer than two values, or one that is not finite.
    """
    sample = _checked(values, f"bootstrap over {over}")
    _check_confidence(confidence)
    rng = np.random.default_rng(seed)
    n = len(sample)
    blocks = np.array_split(np.arange(resamples), max(1, resamples * n // 1_000_000))
    means = np.concatenate([sample[rng.integers(n, size=(len(block), n))].mean(axis=1) for block in blocks])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    method = f"{100 * confidence:g} % percentile bootstrap over {over}"
    return Estimate(float(sample.mean()), float(low), float(high), float(means.std(ddof=1)), method, n)


def wilson_interval(successes: float, n: int, *, over: str = "clips", confidence: float = 0.95) -> Estimate:
    """A share with Wilson's score interval, which stays within 0 and 1 and is fair near both.

    Args:
        successes: of ``n`` items; a part of one where an item may count for a part.
    Raises:
        MelodyError: no items, or a count outside of 0 to ``n``.

    >>> estimate = wilson_interval(9, 10)
    >>> round(estimate.value, 3), round(estimate.low, 3), round(estimate.high, 3)
    (0.9, 0.596, 0.982)
    """
    _check_confidence(confidence)
    if n < 1 or not 0 <= successes <= n:
        raise MelodyError(f"Wilson's interval: got {successes} of {n}; expected 0 to n of at least 1")
    z, share = float(ndtri((1 + confidence) / 2)), successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    error = math.sqrt(share * (1 - share) / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(share, low, high, error, f"{100 * confidence:g} % Wilson interval over {over}", n)


def group_labels(count: int, groups: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Assign ``count`` items to at most ``groups`` groups at random, with sizes that differ by one at most.

    >>> sorted(group_labels(7, 3).tolist())
    [0, 0, 0, 1, 1, 2, 2]
    """
    if count < 2 or groups < 2:
        raise MelodyError(f"jackknife: got {count} items and {groups} groups; expected at least 2 of each")
    return np.random.default_rng(seed).permutation(np.arange(count) % min(count, groups))


def jackknife(
    items: Sequence[Item],
    statistic: Callable[[list[Item]], float],
    *,
    groups: int = 20,
    seed: int = 0,
    over: str = "clips",
    confidence: float = 0.95,
) -> Estimate:
    """Any statistic of a set of items, with the delete-a-group jackknife's standard error and t interval.

    Raises:
        MelodyError: fewer than two items, or a statistic that is not finite.
    """
    labels = group_labels(len(items), groups, seed=seed)
    replicates = [
        statistic([item for item, label in zip(items, labels, strict=True) if label != group])
        for group in range(int(labels.max()) + 1)
    ]
    return jackknife_estimate(statistic(list(items)), replicates, n=len(items), over=over, confidence=confidence)


def jackknife_estimate(
    value: float, replicates: ArrayLike, *, n: int, over: str = "clips", confidence: float = 0.95
) -> Estimate:
    """The interval around ``value`` from the statistic's values without each of the G groups in turn.

    Standard error = sqrt((G − 1) / G · Σ (θ_g − θ̄)²); the interval has G − 1 degrees of freedom, and is centred on
    ``value``. Bias = (G − 1)(θ̄ − θ): how much of ``value`` goes away with more items, to first order in 1/n. Where it
    is no longer small beside the standard error, the interval misses the truth more often than it says.
    """
    deleted = _checked(replicates, f"jackknife over {over}")
    if not math.isfinite(value):
        raise MelodyError(f"jackknife over {over}: the statistic is {value}; expected a finite number")
    groups = len(deleted)
    error = math.sqrt((groups - 1) / groups * float(((deleted - deleted.mean()) ** 2).sum()))
    estimate = _t_estimate(value, error, groups - 1, confidence, f"jackknife over {over}, {groups} groups", n)
    return replace(estimate, bias=(groups - 1) * (float(deleted.mean()) - value))


def two_level_jackknife(
    by_seed: ArrayLike, replicates: ArrayLike, *, n: int, over: str = "prompts", confidence: float = 0.95
) -> Estimate:
    """Mean over seeds of any statistic of a set of prompts, whose interval speaks of new seeds and of new prompts.

    As ``two_level_mean`` for shared prompts, which it equals for a mean with one prompt a group: the jackknife of the
    mean over seeds stands for the prompts, the variance of the seeds' values for the seeds, and what both hold is taken
    off once: (mean of the seeds' own jackknife variances − that of their mean) / (S − 1).

    Args:
        by_seed: the statistic of each seed's whole set, ``(S,)``.
        replicates: the same without each of the G groups of prompts in turn, ``(S, G)``.
    Raises:
        MelodyError: fewer than two seeds or groups, a value that is not finite.
    """
    values, deleted = _checked(by_seed, "jackknife over seeds"), np.asarray(replicates, dtype=np.float64)
    if deleted.ndim != 2 or len(deleted) != len(values) or deleted.shape[1] < 2 or not np.isfinite(deleted).all():
        raise MelodyError(f"jackknife over seeds and {over}: got replicates of shape {deleted.shape}; expected (S, G)")
    seeds, groups = deleted.shape

    def spread(rows: Floats) -> Floats:
        centred: Floats = rows - rows.mean(axis=-1, keepdims=True)
        variance: Floats = (groups - 1) / groups * (centred**2).sum(axis=-1)
        return variance

    joint = float(spread(deleted.mean(axis=0)))
    both = max(0.0, (float(spread(deleted).mean()) - joint) / (seeds - 1))
    squares = (float(values.var(ddof=1)) / seeds, joint, both)
    total, freedom = _satterthwaite(squares, (seeds - 1, groups - 1, (seeds - 1) * (groups - 1)))
    method = f"jackknife over {over}, {groups} groups, and {seeds} seeds, crossed, {freedom:.1f} degrees of freedom"
    estimate = _t_estimate(float(values.mean()), math.sqrt(total), freedom, confidence, method, n)
    return replace(estimate, levels=_levels(squares, (seeds, groups)))


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int = 0,
    permutations: int = 9_999,
    over: str = "pairs",
    confidence: float = 0.95,
) -> PairedDifference:
    """Mean of a − b over pairs (the same prompt, or the same seed), with interval, p-value and effect size.

    Raises:
        MelodyError: lengths differ, fewer than two pairs, or a value that is not finite.
    """
    first, second = _checked(a, "paired difference"), _checked(b, "paired difference")
    if len(first) != len(second):
        raise MelodyError(f"paired difference: got {len(first)} and {len(second)} values; expected pairs")
    differences = first - second
    estimate = mean_interval(differences, over=f"{over}, paired", confidence=confidence)
    p_value = sign_flip_p_value(differences, seed=seed, permutations=permutations)
    return PairedDifference(estimate, p_value, _effect_size(differences))


def sign_flip_p_value(differences: ArrayLike, *, seed: int = 0, permutations: int = 9_999) -> float:
    """Two-sided p-value of a mean of zero, by flipping the signs of the differences.

    All patterns up to 12 pairs, where the smallest possible p-value is 2 / 2ⁿ; beyond that ``permutations`` drawn ones,
    the observed one counted with them.

    >>> sign_flip_p_value([1.0, 2.0, 3.0, 4.0, 5.0])
    0.0625
    """
    sample = _checked(differences, "sign-flip test")
    n = len(sample)
    if n <= EXACT_PAIRS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(_as_extreme(signs @ sample, sample).mean())
    rng = np.random.default_rng(seed)
    extreme = sum(
        int(_as_extreme((1 - 2 * rng.integers(2, size=(len(rows), n))) @ sample, sample).sum())
        for rows in np.array_split(np.arange(permutations), max(1, permutations * n // 1_000_000))
    )
    return (extreme + 1) / (permutations + 1)


def holm(p_values: ArrayLike) -> list[float]:
    """Holm's step-down adjustment: adjusted p-values in the given order, each at most 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.atleast_1d(np.asarray(p_values, dtype=np.float64))
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise MelodyError(f"Holm's correction: got p-values {p.tolist()}; expected numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _t_estimate(value: float, error: float, freedom: float, confidence: float, method: str, n: int) -> Estimate:
    _check_confidence(confidence)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    levels = (Level(error**2, freedom),)
    return Estimate(value, value - half, value + half, error, f"{100 * confidence:g} % {method}", n, levels=levels)


def _as_extreme(sums: NDArray[Any], observed: Floats) -> NDArray[np.bool_]:
    # Sums in another order differ by rounding; an arrangement that ties with the observed one must count.
    extreme: NDArray[np.bool_] = np.abs(sums) >= abs(float(observed.sum())) - 1e-12 * float(np.abs(observed).sum())
    return extreme


def _effect_size(differences: Floats) -> float:
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if deviation == 0:
        return 0.0 if mean == 0 else math.copysign(math.inf, mean)
    return mean / deviation


def _checked(values: ArrayLike, name: str) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2:
        raise MelodyError(f"{name}: got values of shape {sample.shape}; expected at least two in a row")
    if not np.isfinite(sample).all():
        raise MelodyError(f"{name}: {int((~np.isfinite(sample)).sum())} of {len(sample)} values are NaN or infinite")
    return sample


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise MelodyError(f"the confidence is {confidence}: expected a number between 0 and 1, as 0.95")
