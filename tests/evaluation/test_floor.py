"""What music scores at best, and intervals over prompts and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.evaluation import floor
from melody.evaluation.levels import of_one_set, over_seeds, paired
from melody.evaluation.plan import MetricRun, run_on_vectors
from melody.evaluation.scoring import MetricValue, filled, grouped, over_sets
from melody.metrics.frechet import FrechetDistance

CLIPS, WINDOWS, WIDTH = 64, 8, 3


@pytest.fixture
def alternating() -> list[Tensor]:
    """Clips of two instruments in turn, ten apart in every dimension."""
    windows = np.random.default_rng(0).standard_normal((CLIPS, WINDOWS, WIDTH)).astype(np.float32)
    windows[1::2] += 10
    return list(torch.from_numpy(windows))


@pytest.fixture
def fad() -> MetricRun:
    return run_on_vectors("fad", "e", WIDTH)


def score(run: MetricRun, clips: list[Tensor], reference: list[Tensor]) -> MetricValue:
    return over_sets(grouped(run, clips, len(clips), 0, filled(run, reference, real=True)))


def test_the_floor_does_not_depend_on_the_order_of_the_clips(fad: MetricRun, alternating: list[Tensor]) -> None:
    by_parity = score(fad, alternating[0::2], alternating[1::2]).value
    assert by_parity == pytest.approx(300, rel=0.05)
    found = floor.floor(fad, alternating, 32, seed=0)
    assert found.value < by_parity / 20
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.interval == "range of 95 % of 50 seeded draws of 32 clips against the rest"
    assert (found.expected, found.scored) == (32, 32)
    assert floor.floor(fad, alternating, 32, seed=0) == found, "the draws are seeded"
    assert floor.halves(fad, alternating, seed=0) == found


def test_two_seeds_of_halves_differ_by_far_less_than_two_draws(fad: MetricRun) -> None:
    rng = np.random.default_rng(0)
    offsets = rng.standard_normal((CLIPS, 1, WIDTH))
    clips = list(torch.from_numpy((offsets + rng.standard_normal((CLIPS, WINDOWS, WIDTH))).astype(np.float32)))
    found = [floor.halves(fad, clips, seed) for seed in range(3)]
    values = [half.value for half in found]
    assert max(values) < 1.35 * min(values)
    assert min(half.high / half.low for half in found if half.high and half.low) > 4


def test_the_floor_rises_for_fewer_clips(fad: MetricRun, alternating: list[Tensor]) -> None:
    values = [floor.floor(fad, alternating, count, seed=0).value for count in (4, 16, 32)]
    assert values == sorted(values, reverse=True)


def test_the_floor_needs_clips_that_are_left_over(fad: MetricRun, alternating: list[Tensor]) -> None:
    with pytest.raises(MelodyError, match="more real clips than the 64 that are generated: 64"):
        floor.floor(fad, alternating, CLIPS, seed=0)
    with pytest.raises(MelodyError, match="fewer than 4"):
        floor.halves(fad, alternating[:3], seed=0)


def test_no_distance_is_below_zero(fad: MetricRun, alternating: list[Tensor]) -> None:
    """Few clips of a wide choice: the jackknife's interval alone would reach below."""
    value = score(fad, [*alternating[0:3], alternating[1]], alternating)
    assert value.estimate is not None
    assert value.estimate.low < 0
    cut = of_one_set(value, 4, FrechetDistance)
    assert (cut.value, cut.low, cut.high) == (value.value, 0.0, value.estimate.high)
    over_two = over_seeds({0: value, 1: value}, 8, FrechetDistance)
    assert over_two.low is not None
    assert over_two.low >= 0
    assert paired(over_two, over_two).value == 0


def test_numbers_that_do_not_pair_are_refused(fad: MetricRun, alternating: list[Tensor]) -> None:
    value = score(fad, alternating[:8], alternating)
    with pytest.raises(MelodyError, match="could be paired"):
        paired(of_one_set(value, 8, FrechetDistance), over_seeds({0: value}, 8, FrechetDistance))
