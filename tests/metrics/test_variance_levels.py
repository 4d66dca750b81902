"""Intervals over several levels: with one, Student's t; far out in the tail, no more errors than they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from melody.metrics.statistics import mean_interval, two_level_jackknife, two_level_mean
from melody.metrics.variance_levels import Level, half_width, p_value

POSITIVE = st.floats(1e-3, 1e3)


@given(value=st.floats(-100, 100), variance=POSITIVE, freedom=st.integers(1, 200))
def test_one_level_is_students_t(value: float, variance: float, freedom: int) -> None:
    expected = 2 * student.sf(abs(value) / math.sqrt(variance), freedom)
    assert p_value(value, [Level(variance, freedom)]) == pytest.approx(expected, rel=1e-6, abs=1e-14)


@given(
    value=st.floats(0.1, 100), levels=st.lists(st.builds(Level, POSITIVE, st.integers(1, 60)), min_size=2, max_size=4)
)
def test_the_p_value_is_where_the_interval_reaches_zero(value: float, levels: list[Level]) -> None:
    p = p_value(value, levels)
    assert p_value(-value, levels) == p
    if 1e-9 < p < 0.999:
        assert half_width(levels, 1 - p) == pytest.approx(value, rel=1e-4)
    assert (half_width(levels) < value) == (p < 0.05)


def test_estimates_say_their_levels() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 16))
    mean = two_level_mean(list(scores)).estimate
    deleted = (scores.sum(axis=1, keepdims=True) - scores) / 15
    jackknife = two_level_jackknife(scores.mean(axis=1), deleted, n=16)
    assert [level.freedom for level in mean.levels] == [2, 15]
    for one, other in zip(mean.levels, jackknife.levels, strict=True):
        assert one.variance == pytest.approx(other.variance)
    assert mean_interval([1.0, 2.0, 4.0]).levels[0].freedom == 2


@pytest.mark.parametrize("of_seeds", [0.0, 0.3, 1.0])
def test_the_tail_of_a_corrected_test_keeps_its_level(of_seeds: float) -> None:
    """At 0.05 / 19 Satterthwaite's interval is wrong five times as often as it says where seeds matter a little."""
    rng, runs, tail = np.random.default_rng(1), 2000, 0.05 / 19
    wrong = 0
    for _ in range(runs):
        scores = rng.standard_normal((3, 16)) + of_seeds * rng.standard_normal((3, 1))
        estimate = two_level_mean(list(scores)).estimate
        wrong += abs(estimate.value) > half_width(estimate.levels, 1 - tail)
    assert wrong / runs < 2.5 * tail
