"""From the outcomes of units to measurements with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.harness.results import Measurement
from melody.harness.units import Outcome
from melody.metrics.cosine import cosines, shuffled_control
from melody.metrics.frechet import Statistics, fad_with_jackknife, frechet_distance_of, warning
from melody.metrics.statistics import (
    Estimate,
    group_labels,
    jackknife_estimate,
    mean_interval,
    paired_difference,
    two_level_jackknife,
    two_level_mean,
    wilson_interval,
)

GROUPS = 20
"""At most so many groups of prompts in a jackknife."""
FLOOR_DRAWS = 20
"""Draws of real clips for the floor of FAD: a choice of ours."""


def clip_statistics(outcome: Outcome, embedder: str) -> list[Statistics]:
    """Statistics of each clip of a unit."""
    embeddings = torch.from_numpy(outcome.arrays[f"embedding.{embedder}"])
    return [Statistics.of(clip) for clip in embeddings.split(outcome.values["windows"][embedder])]


def pooled(statistics: Sequence[Statistics]) -> Statistics:
    """Statistics of all clips together."""
    total = statistics[0]
    for one in statistics[1:]:
        total = total + one
    return total


def fad(generated: Mapping[int, Outcome], reference: Outcome, embedder: str, expected: int) -> Measurement:
    """Mean over seeds of the Fréchet distance to the reference, by seed the distance of that seed's clips.

    The interval has prompts and seeds as two levels: a group of prompts is deleted from all seeds at once, since clips
    of one prompt are not independent. Of a single seed, prompts only. The reference is taken as fixed.
    """
    target = pooled(clip_statistics(reference, embedder))
    by_seed = {seed: clip_statistics(outcome, embedder) for seed, outcome in generated.items()}
    clips = list(by_seed.values())
    labels = group_labels(len(clips[0]), GROUPS)

    def distances(left_out: int | None = None) -> list[float]:
        kept = [place for place, label in enumerate(labels) if label != left_out]
        return [frechet_distance_of(pooled([seed[place] for place in kept]), target) for seed in clips]

    whole, replicates = distances(), [distances(group) for group in range(int(labels.max()) + 1)]
    if len(clips) > 1:
        estimate = two_level_jackknife(whole, np.transpose(replicates), n=len(labels))
    else:
        estimate = jackknife_estimate(whole[0], np.ravel(replicates), n=len(labels), over="prompts")
    each = dict(zip(map(str, by_seed), whole, strict=True))
    measured = measurement(estimate, expected=expected, scored=sum(map(len, clips)), by_seed=each)
    return measured.model_copy(update={"warning": warning(pooled(clips[0]), target)})


def fad_between(a: Sequence[Statistics], b: Sequence[Statistics], expected: int) -> Measurement:
    """Fréchet distance of one set of clips to another, which is taken as fixed."""
    target = pooled(b)
    measured = measurement(fad_with_jackknife(a, target), expected=expected, scored=len(a))
    return measured.model_copy(update={"warning": warning(pooled(a), target)})


def distance(a: Sequence[Statistics], b: Sequence[Statistics]) -> float:
    """Fréchet distance of one set of clips to another."""
    return frechet_distance_of(pooled(a), pooled(b))


def fad_floor(outcome: Outcome, embedder: str, count: int, draws: int = FLOOR_DRAWS) -> Measurement:
    """Mean Fréchet distance of ``count`` real clips, drawn at random, to the others: what a perfect system would get.

    The range is that of the draws, which share clips: it says how much the choice of clips matters, and is no
    confidence interval. Raises ``MelodyError`` unless at least one clip is left over.
    """
    clips = clip_statistics(outcome, embedder)
    if count >= len(clips):
        raise MelodyError(f"the floor of FAD needs more real clips than the {count} that are generated: {len(clips)}")
    generator, total = torch.Generator().manual_seed(0), pooled(clips)
    drawn = [pooled([clips[i] for i in torch.randperm(len(clips), generator=generator)[:count]]) for _ in range(draws)]
    distances = [frechet_distance_of(some, total - some) for some in drawn]
    low, high = np.percentile(distances, [2.5, 97.5])
    return Measurement(
        value=float(np.mean(distances)),
        low=float(low),
        high=float(high),
        interval=f"range of 95 % of {draws} seeded draws of {count} clips against the rest",
        expected=count,
        scored=count,
        warning=warning(drawn[0], total - drawn[0]),
    )


def mcc(generated: Mapping[int, Outcome], expected: int) -> Measurement:
    """Mean cosine of each prompt with its clip; the interval is over prompts and seeds, of one seed over prompts."""
    return over_prompts({seed: cosines(*joint(one)).tolist() for seed, one in generated.items()}, expected)


def over_prompts(by_seed: Mapping[int, Sequence[float]], expected: int) -> Measurement:
    """Mean of a value of each prompt's clip, with the interval as of ``mcc``; raises ``MelodyError`` for no values."""
    if not all(by_seed.values()):
        raise MelodyError("the clips are too short for this number")
    scores = [np.asarray(values) for values in by_seed.values()]
    estimate = two_level_mean(scores).estimate if len(scores) > 1 else mean_interval(scores[0], over="prompts")
    means = {str(seed): float(np.mean(values)) for seed, values in by_seed.items()}
    return measurement(estimate, expected=expected, scored=sum(map(len, by_seed.values())), by_seed=means)


def mcc_shuffled(generated: Mapping[int, Outcome], expected: int) -> Measurement:
    """The same with every clip against another prompt: the score where prompts do not matter."""
    by_seed = {str(seed): shuffled_control(*joint(outcome), seed=seed) for seed, outcome in generated.items()}
    scored = sum(outcome.values["clips"] for outcome in generated.values())
    return over_seeds(by_seed, expected=expected, scored=scored)


def over_seeds(by_seed: Mapping[str, float], *, expected: int, scored: int) -> Measurement:
    """Mean over seeds with Student's t interval, or without an interval for a single seed."""
    values = list(by_seed.values())
    if len(values) < 2:
        return Measurement(value=values[0], by_seed=dict(by_seed), expected=expected, scored=scored)
    return measurement(mean_interval(values), expected=expected, scored=scored, by_seed=by_seed)


def over_clips(values: Sequence[float], expected: int) -> Measurement:
    """Mean over clips with Student's t interval."""
    if len(values) < 2:
        return Measurement(value=values[0], expected=expected, scored=len(values))
    return measurement(mean_interval(values, over="clips"), expected=expected, scored=len(values))


def difference(a: Sequence[float], b: Sequence[float], expected: int) -> Measurement:
    """Mean of a − b over pairs, with interval and permutation p-value."""
    paired = paired_difference(a, b)
    measured = measurement(paired.estimate, expected=expected, scored=len(a))
    interval = f"{paired.estimate.method}; p by sign flips"
    return measured.model_copy(update={"p_value": paired.p_value, "interval": interval})


def percentage(successes: int, scored: int, expected: int, *, over: str = "clips") -> Measurement:
    """A share in per cent with Wilson's interval."""
    share = wilson_interval(successes, scored, over=over)
    return Measurement(
        value=100 * share.value,
        low=100 * share.low,
        high=100 * share.high,
        interval=share.method,
        standard_error=100 * share.standard_error,
        expected=expected,
        scored=scored,
    )


def joint(outcome: Outcome) -> tuple[Tensor, Tensor]:
    """Joint embeddings of a unit's texts and clips, each ``(clips, E)``."""
    return torch.from_numpy(outcome.arrays["joint_text"]), torch.from_numpy(outcome.arrays["joint_audio"])


def measurement(
    estimate: Estimate, *, expected: int, scored: int, by_seed: Mapping[str, float] | None = None
) -> Measurement:
    """An estimate as the record that a table holds."""
    return Measurement(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        interval=estimate.method,
        standard_error=estimate.standard_error,
        by_seed=dict(by_seed or {}),
        expected=expected,
        scored=scored,
    )
