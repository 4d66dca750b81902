"""KAD against its formula written out, its invariances, its bias, and its jackknife in one pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melody.errors import MelodyError
from melody.metrics import pairwise
from melody.metrics.grouped_jackknife import GroupedJackknife
from melody.metrics.kernel_distance import KernelDistance, kernel_bandwidth, kernel_distance
from melody.metrics.pairwise import median_distance
from melody.metrics.statistics import jackknife

sizes = st.integers(2, 40)


def draw(n: int, dimension: int, seed: int, *, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimension, generator=generator, dtype=torch.float64) + shift


def by_formula(x: torch.Tensor, y: torch.Tensor) -> float:
    """As the paper prints it, pair by pair."""
    pairs = sorted(float((a - b).norm()) for i, a in enumerate(y) for b in y[:i])
    sigma = pairs[(len(pairs) - 1) // 2]

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / (2 * sigma**2))

    own = [
        math.fsum(kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    return 100 * (own[0] + own[1] - 2 * math.fsum(kernel(a, b) for a in x for b in y) / (len(x) * len(y)))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9), st.integers(3, 9), st.integers(1, 4))
def test_equals_the_formula(seed: int, m: int, n: int, dimension: int) -> None:
    x, y = draw(m, dimension, seed, shift=0.5), draw(n, dimension, seed + 1)
    assert kernel_distance(x, y) == pytest.approx(by_formula(x, y), abs=1e-9)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(50, 3, 0, shift=0.4), draw(70, 3, 1)
    whole = kernel_distance(x, y)
    monkeypatch.setattr(pairwise, "BLOCK", 16)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), sizes, st.integers(3, 40), st.floats(-1000, 1000), st.floats(0.01, 100))
def test_ignores_shifts_rotations_and_scale(seed: int, m: int, n: int, shift: float, scale: float) -> None:
    x, y = draw(m, 3, seed, shift=0.3), draw(n, 3, seed + 1)
    rotation = torch.linalg.qr(draw(3, 3, seed + 2)).Q
    value = kernel_distance(x, y)
    assert kernel_distance(scale * (x + shift), scale * (y + shift)) == pytest.approx(value, abs=1e-6)
    assert kernel_distance(x @ rotation, y @ rotation) == pytest.approx(value, abs=1e-8)
    given_width = kernel_distance(x, y, bandwidth=1.0)
    assert kernel_distance(y, x, bandwidth=1.0) == pytest.approx(given_width, abs=1e-9)
    assert -200 <= value <= 200


def test_the_kernel_is_the_reference_s() -> None:
    """A set that is wide itself does not widen the kernel that it is measured with."""
    reference = draw(60, 4, 0)
    assert kernel_bandwidth(reference) == pytest.approx(float(np.median(torch.pdist(reference))), rel=0.02)
    near, wide = kernel_distance(draw(60, 4, 1), reference), kernel_distance(9 * draw(60, 4, 1), reference)
    assert wide > 20 > 5 > near


def test_is_unbiased_of_independent_windows() -> None:
    values = [kernel_distance(draw(20, 5, seed), draw(20, 5, 1000 + seed)) for seed in range(200)]
    error = np.std(values, ddof=1) / math.sqrt(200)
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0 < max(values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40), st.sampled_from([0, 50, 10**6]))
def test_median_is_exact_whatever_fits_into_memory(seed: int, n: int, gathered: int) -> None:
    x = draw(n, 2, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise, "GATHERED", gathered)
        got = median_distance(x)
    assert got == pytest.approx(float(torch.pdist(x).median()), rel=1e-6)


def test_median_of_a_set_with_an_outlier_and_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwise, "GATHERED", 10)
    spread = torch.cat([draw(60, 3, 0), torch.full((1, 3), 1e4, dtype=torch.float64)])
    assert median_distance(spread) == pytest.approx(float(torch.pdist(spread).median()), rel=1e-6)
    tied = torch.eye(20, dtype=torch.float64)
    assert median_distance(tied) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_jackknife_in_one_pass_equals_leaving_out() -> None:
    clips = [draw(2 + seed % 4, 3, seed, shift=0.1 * seed) for seed in range(12)]
    reference = draw(60, 3, 99)
    scores = GroupedJackknife(lambda: KernelDistance(dimension=3), count=len(clips), groups=5, seed=3)
    for number, clip in enumerate(clips):
        scores.update(number, embeddings=clip, real=False)
    fixed = KernelDistance(dimension=3)
    fixed.update(reference, real=True)
    scores.fix(fixed)
    estimate = scores.estimate()
    expected = jackknife(clips, lambda part: kernel_distance(torch.cat(part), reference), groups=5, seed=3)
    assert estimate.value == pytest.approx(expected.value, rel=1e-5)  # kept in float32
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), rel=1e-4)
    assert estimate.method == expected.method


def test_bad_input_is_one_clear_line() -> None:
    x = draw(5, 2, 0)
    with pytest.raises(MelodyError, match="bandwidth, is 0"):
        kernel_distance(x, torch.zeros(9, 2))
    with pytest.raises(MelodyError, match="1 generated and 5 reference windows"):
        kernel_distance(x[:1], x)
    with pytest.raises(MelodyError, match="reference has 1 window"):
        kernel_distance(x, x[:1])
    with pytest.raises(MelodyError, match="bandwidth is 0"):
        kernel_distance(x, x, bandwidth=0.0)
    with pytest.raises(MelodyError, match="width 2 and 3"):
        kernel_distance(x, draw(5, 3, 0))
    with pytest.raises(MelodyError, match="NaN"):
        kernel_distance(x * math.nan, x)
    with pytest.raises(MelodyError, match=r"generated embeddings have shape \(0, 2\)"):
        kernel_distance(x[:0], x)
