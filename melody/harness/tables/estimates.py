"""From the outcomes of units to measurements with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from melody.harness.results import Measurement
from melody.harness.units import Outcome
from melody.metrics.cosine import cosines, shuffled_control
from melody.metrics.frechet import Statistics, fad_with_jackknife, frechet_distance_of, warning
from melody.metrics.statistics import Estimate, jackknife, mean_interval, paired_difference


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

    The interval is a jackknife over prompts: a group of prompts is deleted from all seeds at once, since clips of one
    prompt are not independent. The reference is taken as fixed.
    """
    target = pooled(clip_statistics(reference, embedder))
    by_seed = {seed: clip_statistics(outcome, embedder) for seed, outcome in generated.items()}

    def mean_distance(prompts: list[int]) -> float:
        distances = [frechet_distance_of(pooled([clips[p] for p in prompts]), target) for clips in by_seed.values()]
        return sum(distances) / len(distances)

    prompts = list(range(len(next(iter(by_seed.values())))))
    estimate = jackknife(prompts, mean_distance, over="prompts")
    each = {str(seed): frechet_distance_of(pooled(clips), target) for seed, clips in by_seed.items()}
    measured = measurement(estimate, expected=expected, scored=sum(map(len, by_seed.values())), by_seed=each)
    return measured.model_copy(update={"warning": warning(pooled(next(iter(by_seed.values()))), target)})


def fad_between(a: Sequence[Statistics], b: Sequence[Statistics], expected: int) -> Measurement:
    """Fréchet distance of one set of clips to another, which is taken as fixed."""
    target = pooled(b)
    measured = measurement(fad_with_jackknife(a, target), expected=expected, scored=len(a))
    return measured.model_copy(update={"warning": warning(pooled(a), target)})


def fad_of_halves(outcome: Outcome, embedder: str) -> Measurement:
    """Fréchet distance of every second clip to the others: what a perfect system would get from so many clips."""
    clips = clip_statistics(outcome, embedder)
    return fad_between(clips[0::2], clips[1::2], expected=len(clips[0::2]))


def mcc(generated: Mapping[int, Outcome], expected: int) -> Measurement:
    """Mean cosine of each prompt with its clip; the interval is over prompts, whose seeds are averaged first."""
    rows = {seed: cosines(*joint(outcome)) for seed, outcome in generated.items()}  # each (prompts,)
    estimate = mean_interval(torch.stack(list(rows.values())).mean(dim=0).numpy(), over="prompts")
    by_seed = {str(seed): float(row.mean()) for seed, row in rows.items()}
    return measurement(estimate, expected=expected, scored=sum(map(len, rows.values())), by_seed=by_seed)


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
