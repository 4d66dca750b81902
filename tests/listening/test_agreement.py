"""Krippendorff's alpha against his own worked examples, and against chance."""

from __future__ import annotations

import numpy as np
import pytest

from melody.listening.agreement import krippendorff_alpha, observed_agreement


def coded(*rows: str) -> np.ndarray:
    """One row a coder, one letter a unit, a dot where it is missing."""
    return np.array([[-1 if mark == "." else ord(mark) - ord("0") for mark in row.replace(" ", "")] for row in rows])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): sections A, B and C
        (coded("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095),
        (coded("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692),
        (
            coded(
                "1 2 3 3 2 1 4 1 2 . . .",
                "1 2 3 3 2 2 4 1 2 5 . 3",
                ". 3 3 3 2 3 4 2 2 5 1 .",
                "1 2 3 3 2 4 4 1 2 5 1 .",
            ),
            0.743,
        ),
    ],
    ids=["two values", "nominal", "four coders, missing values"],
)
def test_alpha_equals_the_published_worked_examples(labels: np.ndarray, expected: float) -> None:
    assert krippendorff_alpha(labels) == pytest.approx(expected, abs=5e-4)


def test_alpha_is_one_for_full_agreement_and_nothing_by_chance() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=200)
    assert krippendorff_alpha(np.stack([truth] * 4)) == pytest.approx(1.0)
    assert krippendorff_alpha(rng.integers(3, size=(5, 2000))) == pytest.approx(0.0, abs=0.02)
    assert observed_agreement(rng.integers(3, size=(5, 2000))) == pytest.approx(1 / 3, abs=0.02)


def test_chance_is_what_the_same_pair_of_systems_gives() -> None:
    """Three pairs of three systems, answered by chance: no agreement, though each pair has names of its own."""
    rng = np.random.default_rng(2)
    pairs = np.arange(3000) % 3
    winners = np.array([[0, 1], [0, 2], [1, 2]])[pairs, rng.integers(2, size=(5, 3000))]
    assert krippendorff_alpha(winners, pairs) == pytest.approx(0.0, abs=0.02)
    assert krippendorff_alpha(winners) == pytest.approx(0.25, abs=0.02)  # all in one heap
    assert krippendorff_alpha(np.stack([winners[0]] * 3), pairs) == 1.0


def test_alpha_does_not_depend_on_names_or_on_who_is_first() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 3, size=(6, 50))
    renamed = np.where(labels < 0, -1, (labels + 1) % 3)
    assert krippendorff_alpha(renamed[::-1]) == pytest.approx(krippendorff_alpha(labels))


def test_alpha_is_undefined_where_nothing_can_be_told() -> None:
    assert krippendorff_alpha(np.zeros((3, 5), dtype=np.int64)) is None
    assert krippendorff_alpha(coded("0 .", ". 1")) is None
    assert krippendorff_alpha(np.empty((0, 0), dtype=np.int64)) is None
    assert observed_agreement(coded("0 .", ". 1")) is None
