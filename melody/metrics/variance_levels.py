"""Intervals and p-values of a number whose variance comes from several random levels, some of them with few members.

Three seeds estimate their own variance with two degrees of freedom: now and then they lie close together by chance, and
an approximation by pooled degrees of freedom (Satterthwaite's) then takes their variance as known to be small. At 95 %
that costs little, far out in the tail, where several claims at once are decided, a lot: of 19 claims of which none is
true one is decided in up to 40 % of runs. Here each level keeps its own quantile:

    half width² = Σ variance_i · t(freedom_i)²

With one level that is Student's t exactly; with more it is a little wide, and at most 5 % of runs decide one of 19.
``tests/metrics/test_variance_levels.py`` shows it on simulated prompts and seeds.

Sources: Howe (1974), Journal of the American Statistical Association 69, 789-794; Graybill and Wang (1980), ibid. 75,
869-873, for sums of variances. Version 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

SMALLEST = 1e-15
"""Below it a p-value is told as 0: rounding decides no more."""
STEPS = 40
"""Halvings of the p-value's logarithm, which leave it to one part in 10¹⁰."""


@dataclass(frozen=True)
class Level:
    """A random level's part in the variance of a number, and the degrees of freedom that it is known by."""

    variance: float
    freedom: float


def half_width(levels: Sequence[Level], confidence: float = 0.95) -> float:
    """Half of the interval around a number.

    >>> round(half_width([Level(1.0, 2)]), 2), round(half_width([Level(1.0, 2), Level(1.0, 15)]), 2)
    (4.3, 4.8)
    """
    return _half_width(levels, 1 - confidence)


def p_value(value: float, levels: Sequence[Level]) -> float:
    """Two-sided p-value of zero: at which confidence the interval around ``value`` begins to leave zero out.

    >>> round(p_value(4.303, [Level(1.0, 2)]), 3), p_value(0.0, [Level(0.0, 2)]), p_value(1.0, [Level(0.0, 2)])
    (0.05, 1.0, 0.0)
    """
    if value == 0:
        return 1.0
    if len(levels) == 1 and levels[0].variance > 0:
        return float(2 * stdtr(levels[0].freedom, -abs(value) / math.sqrt(levels[0].variance)))
    if _half_width(levels, SMALLEST) < abs(value):
        return 0.0
    low, high = math.log(SMALLEST), 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _half_width(levels, math.exp(middle)) > abs(value) else (low, middle)
    return math.exp(high)


def _half_width(levels: Sequence[Level], tail: float) -> float:
    """``tail`` is the share that both sides leave out together."""
    return math.sqrt(sum(level.variance * float(stdtrit(level.freedom, tail / 2)) ** 2 for level in levels))
