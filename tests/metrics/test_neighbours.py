"""Precision, recall, density and coverage against their definitions written out, and where the answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from melody.errors import MelodyError
from melody.metrics import pairwise
from melody.metrics.density_coverage import coverage, density, expected_coverage
from melody.metrics.precision_recall import precision, recall

MEASURES: dict[str, Callable[..., float]] = {
    "precision": precision,
    "recall": recall,
    "density": density,
    "coverage": coverage,
}


def draw(n: int, dimension: int, seed: int, *, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimension, generator=generator, dtype=torch.float64) + shift


def by_definition(generated: torch.Tensor, reference: torch.Tensor, k: int) -> dict[str, float]:
    x, y = generated.numpy(), reference.numpy()
    across = cdist(x, y)
    own_x, own_y = (np.sort(cdist(z, z), axis=1)[:, k] for z in (x, y))  # column 0 is the point itself
    return {
        "precision": float((across <= own_y[None]).any(axis=1).mean()),
        "recall": float((across <= own_x[:, None]).any(axis=0).mean()),
        "density": float((across <= own_y[None]).sum(axis=1).mean() / k),
        "coverage": float((across.min(axis=0) <= own_y).mean()),
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(6, 40), st.integers(6, 40), st.integers(1, 5), st.sampled_from([7, 1024]))
def test_equal_their_definitions_in_blocks_of_any_size(seed: int, m: int, n: int, k: int, block: int) -> None:
    x, y = draw(m, 3, seed, shift=0.5), draw(n, 3, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise, "BLOCK", block)
        got = {name: measure(x, y, k=k) for name, measure in MEASURES.items()}
    assert got == pytest.approx(by_definition(x, y, k), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(6, 30), st.integers(1, 5), st.floats(-1000, 1000), st.floats(0.1, 10))
def test_a_set_against_itself_and_what_changes_nothing(seed: int, n: int, k: int, shift: float, scale: float) -> None:
    x, y = draw(n, 3, seed), draw(n + 2, 3, seed + 1, shift=0.5)
    assert precision(x, x, k=k) == recall(x, x, k=k) == coverage(x, x, k=k) == 1
    assert density(x, x, k=k) == pytest.approx((k + 1) / k)  # its own ball, and those of k others on average
    assert recall(x, y, k=k) == precision(y, x, k=k)
    for name, measure in MEASURES.items():
        value = measure(x, y, k=k)
        assert measure(scale * x.flip(0) + shift, scale * y + shift, k=k) == pytest.approx(value, abs=1e-12), name
        assert value >= 0
        assert name == "density" or value <= 1


def test_collapse_and_strangeness_show_where_they_should() -> None:
    reference = draw(200, 4, 0)
    collapsed, strange = 0.05 * draw(200, 4, 1), draw(200, 4, 1, shift=20.0)
    assert precision(collapsed, reference) > 0.95
    assert recall(collapsed, reference) < 0.05
    assert coverage(collapsed, reference) < 0.5
    for measure in MEASURES.values():
        assert measure(strange, reference) == 0


def test_doubled_windows_tie_at_distance_zero() -> None:
    doubled = draw(10, 3, 0).repeat(4, 1) + 100.0
    assert precision(doubled[:10], doubled, k=3) == recall(doubled, doubled[:10] + 0.0, k=3) == 1
    assert coverage(doubled[:10], doubled, k=3) == 1


def test_coverage_of_the_same_distribution_is_as_expected() -> None:
    values = [coverage(draw(60, 3, seed), draw(50, 3, 500 + seed), k=3) for seed in range(40)]
    assert np.mean(values) == pytest.approx(expected_coverage(60, 50, k=3), abs=0.02)


def test_bad_input_is_one_clear_line() -> None:
    x = draw(5, 2, 0)
    with pytest.raises(MelodyError, match="the reference has 3 windows; expected more than k, which is 3"):
        precision(x, x[:3])
    with pytest.raises(MelodyError, match="the generated set has 3 windows"):
        recall(x[:3], x)
    with pytest.raises(MelodyError, match="coverage: the reference has 5 windows"):
        coverage(x, x)
    with pytest.raises(MelodyError, match="density: embeddings of width 2 and 3"):
        density(x, draw(9, 3, 0))
    with pytest.raises(MelodyError, match="expected 1 <= k"):
        expected_coverage(5, 3, k=3)
