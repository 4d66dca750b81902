"""Intervals and tests against scipy, closed forms, and small simulations of coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from melody.errors import MelodyError
from melody.metrics.statistics import (
    bootstrap_mean,
    group_labels,
    holm,
    jackknife,
    jackknife_estimate,
    mean_interval,
    paired_difference,
    sign_flip_p_value,
    two_level_jackknife,
    two_level_mean,
    wilson_interval,
)

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


def test_t_interval_equals_scipy() -> None:
    values = np.random.default_rng(0).normal(size=7)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    estimate = mean_interval(values, confidence=0.9)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.standard_error == pytest.approx(stats.sem(values))
    assert estimate.method == "90 % t interval over seeds"
    assert estimate.n == 7


@given(numbers)
def test_delete_one_jackknife_of_the_mean_is_the_t_interval(values: list[float]) -> None:
    ours = jackknife(values, lambda part: float(np.mean(part)), groups=len(values))
    expected = mean_interval(values)
    assert (ours.value, ours.low, ours.high) == pytest.approx((expected.value, expected.low, expected.high), abs=1e-6)


@given(st.integers(2, 60), st.integers(2, 25), st.integers(0, 99))
def test_groups_are_even(count: int, groups: int, seed: int) -> None:
    sizes = np.bincount(group_labels(count, groups, seed=seed))
    assert len(sizes) == min(count, groups)
    assert sizes.max() - sizes.min() <= 1
    assert sizes.sum() == count


def test_jackknife_bias_of_a_variance_with_n_in_its_denominator_is_exact() -> None:
    """Σ(x − x̄)²/n is too small by s²/n, and deleting one at a time says so to the digit (Quenouille 1956)."""
    sample = list(np.random.default_rng(7).normal(size=12))
    estimate = jackknife(sample, lambda part: float(np.var(part)), groups=12)
    assert estimate.bias == pytest.approx(-np.var(sample, ddof=1) / 12)
    assert mean_interval(sample).bias is None


def test_nested_levels_are_the_t_interval_over_the_seeds_means() -> None:
    rows = [[1.0, 2.0, 3.0], [4.0, 6.0], [2.0, 2.0, 5.0, 7.0]]
    found = two_level_mean(rows, shared_prompts=False)
    expected = mean_interval([np.mean(row) for row in rows])
    assert (found.estimate.low, found.estimate.high) == pytest.approx((expected.low, expected.high))
    assert found.freedom == 2
    assert found.between_prompts is None
    assert "2 degrees of freedom" in found.estimate.method
    assert found.estimate.n == 9


def test_crossed_levels_recover_what_made_the_scores() -> None:
    rng = np.random.default_rng(8)
    scores = 0.5 * rng.normal(size=(200, 1)) + 2.0 * rng.normal(size=(1, 300)) + rng.normal(size=(200, 300))
    found = two_level_mean(list(scores))
    made = (found.between_seeds, found.between_prompts, found.within)
    assert made == pytest.approx((0.5, 2.0, 1.0), rel=0.12)
    assert found.estimate.value == pytest.approx(scores.mean())
    assert found.estimate.standard_error == pytest.approx(math.sqrt(0.25 / 200 + 4 / 300), rel=0.1)


@given(st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=2, max_size=5))
def test_crossed_interval_is_never_narrower_than_what_one_level_says(rows: list[list[float]]) -> None:
    scores = np.array(rows)
    error = two_level_mean(rows).estimate.standard_error
    for axis in (0, 1):
        means = scores.mean(axis=axis)
        assert error >= means.std(ddof=1) / math.sqrt(len(means)) - 1e-9


def test_equal_seeds_leave_the_prompts_alone() -> None:
    found = two_level_mean([[1.0, 2.0, 3.0]] * 3)
    expected = mean_interval([1.0, 2.0, 3.0])
    assert (found.estimate.low, found.estimate.high) == pytest.approx((expected.low, expected.high))
    assert (found.between_seeds, found.freedom) == (0.0, 2)


def test_two_levels_refuse_what_is_not_two_levels() -> None:
    with pytest.raises(MelodyError, match="got 1 seeds; expected at least two"):
        two_level_mean([[1.0, 2.0]])
    with pytest.raises(MelodyError, match=r"seeds have \[2, 3\] shared prompts"):
        two_level_mean([[1.0, 2.0], [1.0, 2.0, 3.0]])
    with pytest.raises(MelodyError, match="seed 2 of 2: 1 of 2 values are NaN"):
        two_level_mean([[1.0, 2.0], [1.0, math.nan]])


def covered(low_high: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in low_high]))


def test_t_interval_covers() -> None:
    rng = np.random.default_rng(1)
    estimates = [mean_interval(rng.normal(size=5)) for _ in range(1500)]
    assert covered([(e.low, e.high) for e in estimates], 0.0) == pytest.approx(0.95, abs=0.02)


def test_jackknife_over_clips_covers_where_windows_would_not() -> None:
    rng = np.random.default_rng(2)

    def clips() -> list[np.ndarray]:
        return list(rng.normal(size=(40, 1)) + 0.3 * rng.normal(size=(40, 10)))

    def spread(part: list[np.ndarray]) -> float:
        return float(np.concatenate(part).var(ddof=1))

    samples = [clips() for _ in range(300)]
    by_clip = [jackknife(sample, spread) for sample in samples]
    by_window = [
        jackknife(list(np.concatenate(sample)), lambda part: float(np.var(part, ddof=1))) for sample in samples[:60]
    ]
    assert 0.88 <= covered([(e.low, e.high) for e in by_clip], 1.09) <= 0.99
    assert covered([(e.low, e.high) for e in by_window], 1.09) < 0.75


def test_bootstrap_covers_and_holds_its_own_estimate() -> None:
    rng = np.random.default_rng(3)
    estimates = [bootstrap_mean(rng.normal(size=50), seed=trial, resamples=300) for trial in range(200)]
    assert covered([(e.low, e.high) for e in estimates], 0.0) == pytest.approx(0.94, abs=0.05)
    assert all(e.low <= e.value <= e.high for e in estimates)
    errors = [e.standard_error for e in estimates]
    assert np.mean(errors) == pytest.approx(1 / math.sqrt(50), rel=0.1)


def test_bootstrap_is_seeded() -> None:
    values = list(range(20))
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_paired_difference_equals_scipy() -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(size=10)
    b = a + rng.normal(0.4, 0.3, size=10)
    paired = paired_difference(b, a)
    test = stats.ttest_rel(b, a)
    interval = test.confidence_interval(0.95)
    assert (paired.estimate.low, paired.estimate.high) == pytest.approx((interval.low, interval.high))
    assert paired.effect_size == pytest.approx(test.statistic / math.sqrt(10))
    exact = stats.permutation_test((b - a,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert paired.p_value == pytest.approx(exact.pvalue)


def test_drawn_sign_flips_come_near_the_exact_ones() -> None:
    differences = np.random.default_rng(5).normal(0.4, 1, size=14)
    exact = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_p_value(differences) == pytest.approx(exact, abs=0.015)


def test_sign_flip_keeps_its_level() -> None:
    rng = np.random.default_rng(6)
    rejected = np.mean([sign_flip_p_value(rng.normal(size=8)) <= 0.05 for _ in range(1000)])
    assert rejected <= 0.065


def test_equal_pairs_are_no_difference() -> None:
    same = paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (same.estimate.value, same.p_value, same.effect_size) == (0.0, 1.0, 0.0)
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).effect_size == math.inf


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_by_definition(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    for rank, index in enumerate(order):
        steps = [(len(p_values) - earlier) * p_values[order[earlier]] for earlier in range(rank + 1)]
        assert adjusted[index] == pytest.approx(min(1.0, max(steps)))
    assert all(after >= before for after, before in zip(adjusted, p_values, strict=True))


def test_bad_input_is_one_clear_line() -> None:
    for function in (mean_interval, bootstrap_mean, sign_flip_p_value):
        with pytest.raises(MelodyError, match="at least two"):
            function([1.0])
        with pytest.raises(MelodyError, match="1 of 2 values are NaN"):
            function([1.0, math.nan])
    with pytest.raises(MelodyError, match="got 2 and 3 values"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(MelodyError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], confidence=95)
    with pytest.raises(MelodyError, match="from 0 to 1"):
        holm([0.2, 1.4])
    with pytest.raises(MelodyError, match="at least 2 of each"):
        group_labels(1, 20)
    with pytest.raises(MelodyError, match="the statistic is nan"):
        jackknife_estimate(math.nan, [1.0, 2.0], n=2)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (3, 7), (90, 128), (16, 16)])
def test_wilson_interval_equals_scipy(successes: int, n: int) -> None:
    theirs = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    ours = wilson_interval(successes, n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.value == successes / n


def test_wilson_interval_refuses_more_successes_than_items() -> None:
    for successes, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(MelodyError, match="expected 0 to n"):
            wilson_interval(successes, n)


@given(st.integers(2, 5), st.integers(3, 9), st.integers(0, 1000))
def test_two_level_jackknife_of_a_mean_is_the_two_level_mean(seeds: int, prompts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(seeds, prompts)) + rng.normal(size=(seeds, 1)) + rng.normal(size=(1, prompts))
    without = np.stack([np.delete(scores, place, axis=1).mean(axis=1) for place in range(prompts)], axis=1)
    found = two_level_jackknife(scores.mean(axis=1), without, n=prompts)
    expected = two_level_mean(scores).estimate
    assert (found.value, found.standard_error) == pytest.approx((expected.value, expected.standard_error))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_scores_that_hardly_differ_have_an_interval() -> None:
    found = two_level_mean([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9e-118, 0.0]])
    assert math.isfinite(found.freedom)
    assert found.estimate.low <= found.estimate.value <= found.estimate.high


def test_two_level_jackknife_wants_replicates_of_every_seed() -> None:
    with pytest.raises(MelodyError, match=r"shape \(1, 3\); expected \(S, G\)"):
        two_level_jackknife([1.0, 2.0], [[1.0, 2.0, 3.0]], n=3)
