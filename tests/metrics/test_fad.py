"""The Fréchet distance against the public package, closed forms, and its own algebra."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import linalg

from melody.errors import MelodyError
from melody.metrics.frechet import (
    FrechetDistance,
    Statistics,
    fad_with_jackknife,
    frechet_distance,
    frechet_distance_of,
)


def normal(n: int, dimension: int, seed: int, *, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    return torch.randn(n, dimension, generator=generator, dtype=torch.float64) @ mixing + shift


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("n", "dimension"), [(300, 8), (400, 48), (300, 128)])
def test_equals_the_public_package(public_fad: Any, n: int, dimension: int) -> None:
    a, b = normal(n, dimension, 1), normal(n + 7, dimension, 2, shift=0.3)
    moments = [part for x in (a, b) for part in (x.mean(0).numpy(), np.cov(x.numpy(), rowvar=False))]
    ours = frechet_distance_of(Statistics.of(a), Statistics.of(b))
    assert ours == pytest.approx(float(public_fad.calculate_frechet_distance(None, *moments)), rel=1e-6)


def test_equals_the_matrix_square_root() -> None:
    a, b = Statistics.of(normal(200, 16, 3)), Statistics.of(normal(200, 16, 4))
    root = linalg.sqrtm((a.covariance @ b.covariance).numpy())
    expected = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * np.trace(root).real
    assert frechet_distance_of(a, b) == pytest.approx(float(expected), rel=1e-9)


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 2, *[st.floats(0, 5)] * 2), min_size=1, max_size=6))
def test_closed_form_of_diagonal_covariances(places: list[tuple[float, float, float, float]]) -> None:
    mean_a, mean_b, std_a, std_b = torch.tensor(places, dtype=torch.float64).T
    expected = float((mean_a - mean_b).square().sum() + (std_a - std_b).square().sum())
    got = frechet_distance(mean_a, std_a.square().diag(), mean_b, std_b.square().diag())
    assert got == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 30))
def test_is_a_distance_and_ignores_rotations(seed: int, dimension: int, n: int) -> None:
    x, y = normal(n, dimension, seed), normal(n + 3, dimension, seed + 1, shift=1.0)
    a, b = Statistics.of(x), Statistics.of(y)
    scale = float(a.covariance.trace() + b.covariance.trace()) + 1
    distance = frechet_distance_of(a, b)
    rotation = torch.linalg.qr(normal(dimension, dimension, seed + 2)).Q
    assert distance >= 0
    assert frechet_distance_of(a, a) <= 1e-11 * scale  # also where n <= dimension: the covariance is singular
    assert frechet_distance_of(b, a) == pytest.approx(distance, abs=1e-9 * scale)
    rotated = frechet_distance_of(Statistics.of(x @ rotation), Statistics.of(y @ rotation))
    assert rotated == pytest.approx(distance, abs=1e-8 * scale)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 30), min_size=2, max_size=8))
@example(seed=1, sizes=[1, 1, 1])
def test_streaming_and_merging_equal_one_pass(seed: int, sizes: list[int]) -> None:
    x, y = normal(sum(sizes), 5, seed, shift=-4.0), normal(50, 5, seed + 1)
    expected = frechet_distance_of(Statistics.of(x), Statistics.of(y))
    parts = x.split(sizes)
    first, second = FrechetDistance(dimension=5), FrechetDistance(dimension=5)
    for index, part in enumerate(parts):
        (first if index % 2 else second).update(part, real=False)
    second.update(y, real=True)
    first.merge_state(second)
    # Of no more points than dimensions the covariance is singular: its roots turn rounding of 1e-16 into 1e-8.
    rel = 1e-9 if len(x) > x.shape[1] else 2e-8
    assert float(first.compute()) == pytest.approx(expected, rel=rel, abs=1e-9)
    assert first.scored == len(x)
    pieces = [Statistics.of(part) for part in parts]
    total = pieces[0]
    for piece in pieces[1:]:
        total = total + piece
    torch.testing.assert_close(total.covariance, torch.cov(x.T), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((total - pieces[0] + pieces[0]).outer, total.outer, rtol=1e-12, atol=1e-9)


def test_plain_estimate_is_biased_upwards_as_one_over_n() -> None:
    def mean_distance(n: int) -> float:
        pairs = [(torch.randn(n, 8, generator=g), torch.randn(n, 8, generator=g)) for _ in range(60)]
        return sum(frechet_distance_of(Statistics.of(a), Statistics.of(b)) for a, b in pairs) / 60

    g = torch.Generator().manual_seed(0)
    assert mean_distance(50) / mean_distance(200) == pytest.approx(4, rel=0.15)


def test_jackknife_equals_fits_without_each_group() -> None:
    clips = [normal(6, 3, seed, shift=0.1 * seed) for seed in range(6)]
    reference = Statistics.of(normal(100, 3, 99))
    estimate = fad_with_jackknife([Statistics.of(clip) for clip in clips], reference, groups=20)
    without = [
        frechet_distance_of(Statistics.of(torch.cat(clips[:i] + clips[i + 1 :])), reference) for i in range(len(clips))
    ]
    assert estimate.value == pytest.approx(frechet_distance_of(Statistics.of(torch.cat(clips)), reference))
    assert estimate.standard_error == pytest.approx(
        math.sqrt(5 / 6 * ((without - np.mean(without)) ** 2).sum()), rel=1e-6
    )
    assert estimate.low < estimate.value < estimate.high
    assert estimate.n == 6
    assert "jackknife over clips, 6 groups" in estimate.method


def test_jackknife_interval_covers_where_clips_are_correlated_inside() -> None:
    reference = Statistics.of(torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    g = torch.Generator().manual_seed(1)

    def clips() -> list[Statistics]:  # windows of a clip share an offset
        offsets = torch.randn(40, 1, 2, generator=g, dtype=torch.float64) + 1.5
        return [Statistics.of(clip) for clip in offsets + 0.5 * torch.randn(40, 6, 2, generator=g, dtype=torch.float64)]

    estimates = [fad_with_jackknife(clips(), reference) for _ in range(100)]
    truth = float(np.mean([estimate.value for estimate in estimates]))
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert 0.88 <= covered <= 1.0
    spread = np.std([estimate.value for estimate in estimates], ddof=1)
    assert np.mean([estimate.standard_error for estimate in estimates]) == pytest.approx(spread, rel=0.25)


def test_warns_of_a_singular_covariance() -> None:
    metric = FrechetDistance(dimension=4)
    metric.update(normal(4, 4, 0), real=False)
    metric.update(normal(50, 4, 1), real=True)
    assert metric.warning is not None
    assert "generated set has 4 windows for 4 dimensions" in metric.warning
    metric.update(normal(1, 4, 2), real=False)
    assert metric.warning is None


def test_bad_input_is_one_clear_line() -> None:
    nan = torch.tensor([[1.0, math.nan]])
    metric = FrechetDistance(dimension=2)
    with pytest.raises(MelodyError, match="1 of 2 values are NaN"):
        metric.update(nan, real=True)
    with pytest.raises(MelodyError, match="width 3; expected 2"):
        metric.update(torch.zeros(2, 3), real=True)
    with pytest.raises(MelodyError, match=r"shape \(4,\); expected \(windows, dimension\)"):
        metric.update(torch.zeros(4), real=False)  # one clip's 1-D embedding must not become a scalar distance
    metric.update(torch.zeros(1, 2), real=False)
    metric.update(torch.zeros(5, 2), real=True)
    with pytest.raises(MelodyError, match="at least 2 embeddings, got 1"):
        metric.compute()
    with pytest.raises(MelodyError, match="of one E"):
        frechet_distance(torch.zeros(2), torch.eye(2), torch.zeros(2), torch.eye(3))
    with pytest.raises(MelodyError, match="width 2 and 3"):
        frechet_distance_of(Statistics.of(torch.zeros(3, 2)), Statistics.of(torch.zeros(3, 3)))
    with pytest.raises(MelodyError, match="got 1 items"):
        fad_with_jackknife([Statistics.of(torch.zeros(3, 2))], Statistics.of(torch.zeros(3, 2)))
