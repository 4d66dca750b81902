"""Judgements counted: who preferred what to what, by rater, for one question.

Points are how the paper's Table 3 counts, as far as its numbers tell: one for the preferred system, half for each where
the answer is *similar*. A pair's two rates then sum to one with every judgement in the denominator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melody.listening.ratings import Judgement

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """Counts of one question; R raters, S systems."""

    raters: tuple[str, ...]
    systems: tuple[str, ...]
    wins: Counts
    """``(R, S, S)``: how often the rater preferred the row's system to the column's."""
    ties: Counts
    """``(R, S, S)``, symmetric."""

    @property
    def points(self) -> Floats:
        """``(R, S, S)``: wins, and half for each tie."""
        return self.wins + self.ties / 2

    @property
    def judged(self) -> Counts:
        """``(R, S, S)``, symmetric: how often the rater judged the two."""
        judged: Counts = self.wins + self.wins.transpose(0, 2, 1) + self.ties
        return judged


def count(judgements: Sequence[Judgement], systems: Sequence[str], question: str) -> Tally:
    """Count what counts of one question; raters without an answer to it are left out."""
    chosen = [judgement for judgement in judgements if judgement.counts and judgement.question == question]
    raters = tuple(dict.fromkeys(judgement.rater for judgement in chosen))
    row = {name: number for number, name in enumerate(raters)}
    number_of = {name: number for number, name in enumerate(systems)}
    wins = np.zeros((len(raters), len(systems), len(systems)), dtype=np.int64)
    ties = np.zeros_like(wins)
    for judgement in chosen:
        a, b = number_of[judgement.system_a], number_of[judgement.system_b]
        if judgement.preferred is None:
            ties[row[judgement.rater], [a, b], [b, a]] += 1
        else:
            winner, loser = (a, b) if judgement.preferred == judgement.system_a else (b, a)
            wins[row[judgement.rater], winner, loser] += 1
    return Tally(raters, tuple(systems), wins, ties)
