"""Raters that never were, whose preferences are known."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from melody.listening.ratings import QUESTIONS

HEADER = (
    "rater",
    "item",
    "question",
    "system_a",
    "system_b",
    "answer",
    "first_shown",
    "attention",
    "repeat",
    "timestamp",
)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows under a header as a file of ratings."""

    def _write(rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER, name: str = "ratings.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(list(row) + [""] * (len(header) - len(row)) for row in rows)
        return path

    return _write


def simulated(
    strengths: Mapping[str, float],
    *,
    raters: int = 8,
    items: int = 10,
    ties: float = 0.0,
    first_bonus: float = 0.0,
    rater_spread: float = 0.0,
    questions: Sequence[str] = QUESTIONS,
    seed: int = 0,
) -> list[list[object]]:
    """Rows of raters who prefer by Bradley and Terry, say similar at a fixed rate, and may like what comes first."""
    rng = np.random.default_rng(seed)
    rows: list[list[object]] = []
    for rater in range(raters):
        own = {name: value + rater_spread * rng.normal() for name, value in strengths.items()}
        for item in range(items):
            for question in questions:
                for a, b in combinations(strengths, 2):
                    shown = "ab"[rng.integers(2)]
                    first, second = (a, b) if shown == "a" else (b, a)
                    chance = 1 / (1 + np.exp(own[second] - own[first] - first_bonus))
                    answer = "similar" if rng.random() < ties else "first" if rng.random() < chance else "second"
                    rows.append([f"r{rater}", f"item {item}", question, a, b, answer, shown])
    return rows
