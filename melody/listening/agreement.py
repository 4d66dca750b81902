"""Agreement between raters: Krippendorff's alpha for names, 1 where all agree, 0 where they agree as by chance.

A unit is an item with a pair of systems; its label is the preferred system's name, or *similar*. Units that a single
rater judged say nothing and are left out; raters need not judge the same units. Nominal: *similar* is as far from
either system as they are from each other.

With more than two systems, a pair's units can only bear that pair's names: chance is therefore what the answers to the
same pair give, alpha = 1 − Σ observed / Σ expected disagreement over the pairs (ours; one pair is Krippendorff's own
form). Over all answers in one heap, raters who answer by chance would come out at 0.25 for three systems.

Source: Krippendorff, Content Analysis (2004), chapter 11; Hayes and Krippendorff (2007),
doi:10.1080/19312450709336664.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from melody.listening.ratings import Judgement

Labels = NDArray[np.int64]
Name = TypeVar("Name", bound=Hashable)
MISSING = -1
SIMILAR = ""
"""Label of a tie: no system is called so."""


def krippendorff_alpha(labels: Labels, strata: Labels | None = None) -> float | None:
    """Alpha of ``(raters, units)`` labels from 0 on, ``-1`` where a rater did not judge.

    Args:
        labels: what each rater called each unit.
        strata: ``(units,)``, which of them share what may be answered; all of them if not given.
    Returns:
        ``None`` where it is undefined: no unit with two labels, or one label throughout, which leaves nothing to tell.

    >>> alpha = krippendorff_alpha(np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]))
    >>> round(alpha, 3)
    0.095
    """
    strata = np.zeros(labels.shape[1], dtype=np.int64) if strata is None else strata
    observed = expected = 0.0
    for stratum in np.unique(strata):
        coincidences = _coincidences(labels[:, strata == stratum])
        total, by_label = float(coincidences.sum()), coincidences.sum(axis=1)
        if total >= 2:
            observed += total - float(np.trace(coincidences))
            expected += (total**2 - float((by_label**2).sum())) / (total - 1)
    return 1 - observed / expected if expected > 0 else None


def observed_agreement(labels: Labels) -> float | None:
    """Share of pairs of raters on one unit who gave the same label, each unit as alpha weighs it."""
    coincidences = _coincidences(labels)
    total = float(coincidences.sum())
    return float(np.trace(coincidences)) / total if total else None


def labelled(judgements: Iterable[Judgement]) -> tuple[Labels, Labels]:
    """Labels of one question's judgements, ``(raters, units)``, and the pair of systems of each unit, ``(units,)``."""
    chosen = list(judgements)
    raters = _numbered(judgement.rater for judgement in chosen)
    units = _numbered((judgement.item, judgement.pair) for judgement in chosen)
    names = _numbered(judgement.preferred or SIMILAR for judgement in chosen)
    pairs = _numbered(judgement.pair for judgement in chosen)
    labels = np.full((len(raters), len(units)), MISSING, dtype=np.int64)
    for judgement in chosen:
        labels[raters[judgement.rater], units[judgement.item, judgement.pair]] = names[judgement.preferred or SIMILAR]
    return labels, np.array([pairs[pair] for _, pair in units], dtype=np.int64)


def _numbered(names: Iterable[Name]) -> dict[Name, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _coincidences(labels: Labels) -> NDArray[np.float64]:
    """``(labels, labels)``: pairs of values within units, each unit weighed by 1 / (values − 1)."""
    kinds = max(0, int(labels.max(initial=MISSING))) + 1
    counts = np.stack([(labels == kind).sum(axis=0) for kind in range(kinds)], axis=1).astype(np.float64)
    values = counts.sum(axis=1)
    counts, values = counts[values > 1], values[values > 1]
    weighed = counts / (values - 1)[:, None]
    pairs: NDArray[np.float64] = weighed.T @ counts - np.diag(weighed.sum(axis=0))
    return pairs
