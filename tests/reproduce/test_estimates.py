from __future__ import annotations

import numpy as np
import pytest

from melody.errors import MelodyError
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.tables import estimates

CLIPS, WINDOWS, WIDTH = 64, 8, 3


@pytest.fixture
def alternating() -> JobResult:
    """Clips of two instruments in turn, ten apart in every dimension."""
    windows = np.random.default_rng(0).standard_normal((CLIPS, WINDOWS, WIDTH)).astype(np.float32)
    windows[1::2] += 10
    return JobResult({"windows": {"e": [WINDOWS] * CLIPS}}, {"embedding.e": windows.reshape(-1, WIDTH)})


def test_floor_does_not_depend_on_the_order_of_the_clips(alternating: JobResult) -> None:
    clips = estimates.clip_statistics(alternating, "e")
    by_parity = estimates.fad_between(clips[0::2], clips[1::2], expected=32).value
    assert by_parity == pytest.approx(300, rel=0.05)
    floor = estimates.fad_floor(alternating, "e", 32)
    assert floor.value < by_parity / 20
    assert floor.low is not None
    assert floor.high is not None
    assert floor.low < floor.value < floor.high
    assert floor.interval == "range of 95 % of 20 seeded draws of 32 clips against the rest"
    assert (floor.expected, floor.scored) == (32, 32)
    assert estimates.fad_floor(alternating, "e", 32) == floor, "the draws are seeded"


def test_floor_rises_for_fewer_clips(alternating: JobResult) -> None:
    values = [estimates.fad_floor(alternating, "e", count).value for count in (4, 16, 32)]
    assert values == sorted(values, reverse=True)


def test_floor_needs_clips_that_are_left_over(alternating: JobResult) -> None:
    with pytest.raises(MelodyError, match="more real clips than the 64 that are generated: 64"):
        estimates.fad_floor(alternating, "e", CLIPS)


def test_no_distance_is_below_zero(alternating: JobResult) -> None:
    """Few clips of a wide choice: the jackknife's interval alone would reach below."""
    clips = estimates.clip_statistics(alternating, "e")
    few = [*clips[0:3], clips[1]]
    bare = estimates.fad_with_jackknife(few, estimates.pooled(clips))
    cut = estimates.fad_between(few, clips, expected=4)
    assert bare.low < 0
    assert (cut.value, cut.low, cut.high) == (bare.value, 0.0, bare.high)
    arrays = {"embedding.e": alternating.arrays["embedding.e"][: 4 * WINDOWS]}
    some = JobResult({"windows": {"e": [WINDOWS] * 4}, "clips": 4}, arrays)
    generated = estimates.fad({0: some, 1: some}, alternating, "e", expected=8)
    assert generated.low is not None
    assert generated.low >= 0
