"""From the outcomes of jobs to measurements with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.errors import MelodyError
from melody.evaluation.result import Measurement, Sample
from melody.metrics.frechet import Statistics, fad_with_jackknife, frechet_distance_of, frechet_distances, warning
from melody.metrics.levels import SILENCE_DB
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
from melody.metrics.text_correlation import cosines, shuffled_cosines
from melody.reproduce.jobs.job import JobResult

GROUPS = 20
"""At most so many groups of prompts in a jackknife."""
FLOOR_DRAWS = 20
"""Draws of real clips for the floor of FAD: a choice of ours."""
SILENT_PEAK = 10 ** (SILENCE_DB / 20)


def clip_windows(outcome: JobResult, embedder: str) -> list[Tensor]:
    """Embeddings of each clip of a job, ``(windows, E)``; raises ``MelodyError`` if there are none."""
    if f"embedding.{embedder}" not in outcome.arrays:
        raise MelodyError(f"no clip was embedded by {embedder!r}")
    embeddings = torch.from_numpy(outcome.arrays[f"embedding.{embedder}"])
    return list(embeddings.split(outcome.values["windows"][embedder]))


def clip_statistics(outcome: JobResult, embedder: str) -> list[Statistics]:
    """Statistics of each clip of a job."""
    return [Statistics.of(clip) for clip in clip_windows(outcome, embedder)]


@dataclass(frozen=True)
class Distances:
    """Fréchet distances of each of S seeds' clips to one reference, or differences of two such."""

    by_seed: dict[str, float]
    without: NDArray[np.float64]
    """Without each of G groups of prompts in turn, ``(S, G)``."""
    prompts: int

    def __sub__(self, other: Distances) -> Distances:
        by_seed = {seed: value - other.by_seed[seed] for seed, value in self.by_seed.items()}
        return Distances(by_seed, self.without - other.without, self.prompts)

    @property
    def estimate(self) -> Estimate:
        """The mean over seeds."""
        whole = list(self.by_seed.values())
        if len(whole) > 1:
            return two_level_jackknife(whole, self.without, n=self.prompts)
        return jackknife_estimate(whole[0], self.without[0], n=self.prompts, over="prompts")


def pooled(statistics: Sequence[Statistics]) -> Statistics:
    """Statistics of all clips together."""
    total = statistics[0]
    for one in statistics[1:]:
        total = total + one
    return total


def fad(generated: Mapping[int, JobResult], reference: JobResult, embedder: str, expected: int) -> Measurement:
    """Mean over seeds of the Fréchet distance to the reference, by seed the distance of that seed's clips.

    The interval is cut at 0 and has prompts and seeds as two levels: a group of prompts is deleted from all seeds at
    once, since clips of one prompt are not independent. Of a single seed, prompts only. The reference is fixed.
    """
    target = pooled(clip_statistics(reference, embedder))
    found = fad_distances(generated, target, embedder)
    first = next(iter(generated.values()))
    measured = measurement(found.estimate, expected=expected, scored=clips_of(generated), by_seed=found.by_seed)
    said = warning(pooled(clip_statistics(first, embedder)), target)
    sample = Sample(of="set", rows=found.without.tolist())
    return _above_zero(measured).model_copy(update={"warning": said, "sample": sample})


def _above_zero(measured: Measurement) -> Measurement:
    """The interval of a distance, cut to the distances that there are."""
    return measured.model_copy(update={"low": None if measured.low is None else max(0.0, measured.low)})


def fad_distances(generated: Mapping[int, JobResult], target: Statistics, embedder: str) -> Distances:
    """Distances of every seed's clips to the target; all seeds have clips of the same prompts in the same order."""
    rows = [clip_statistics(outcome, embedder) for outcome in generated.values()]
    labels = group_labels(len(rows[0]), GROUPS)
    kept = [[place for place, label in enumerate(labels) if label != group] for group in range(max(labels) + 1)]
    sets = [pooled(clips) for clips in rows]
    parts = [[pooled([clips[place] for place in places]) for places in kept] for clips in rows]
    whole = frechet_distances(sets, target)
    return Distances(
        dict(zip(map(str, generated), whole, strict=True)),
        np.array([frechet_distances(some, target) for some in parts]),
        prompts=len(labels),
    )


def fad_difference(found: Distances, other: Distances, expected: int, scored: int) -> Measurement:
    """FAD less another FAD, at the same prompts and seeds; the interval is that of ``fad``, of the paired values."""
    paired = found - other
    measured = measurement(paired.estimate, expected=expected, scored=scored, by_seed=paired.by_seed)
    return measured.model_copy(update={"interval": f"{measured.interval}; paired by prompt and seed"})


def fad_between(a: Sequence[Statistics], b: Sequence[Statistics], expected: int) -> Measurement:
    """Fréchet distance of one set of clips to another, which is taken as fixed."""
    target = pooled(b)
    measured = _above_zero(measurement(fad_with_jackknife(a, target), expected=expected, scored=len(a)))
    return measured.model_copy(update={"warning": warning(pooled(a), target)})


def distance(a: Sequence[Statistics], b: Sequence[Statistics]) -> float:
    """Fréchet distance of one set of clips to another."""
    return frechet_distance_of(pooled(a), pooled(b))


def fad_floor(outcome: JobResult, embedder: str, count: int, draws: int = FLOOR_DRAWS) -> Measurement:
    """Mean Fréchet distance of ``count`` real clips, drawn at random, to the others: what a perfect system would get.

    The range is that of the draws, which share clips: it says how much the choice of clips matters, and is no
    confidence interval. Raises ``MelodyError`` unless at least one clip is left over.
    """
    clips = clip_statistics(outcome, embedder)
    if count >= len(clips):
        raise MelodyError(f"the floor of FAD needs more real clips than the {count} that are generated: {len(clips)}")
    generator, total = torch.Generator().manual_seed(0), pooled(clips)
    drawn = [pooled([clips[i] for i in torch.randperm(len(clips), generator=generator)[:count]]) for _ in range(draws)]
    measured = over_draws([frechet_distance_of(some, total - some) for some in drawn], count)
    return measured.model_copy(update={"warning": warning(drawn[0], total - drawn[0])})


def over_draws(values: Sequence[float], count: int) -> Measurement:
    """Mean over seeded draws of so many clips against the rest, with the range of the draws."""
    low, high = np.percentile(values, [2.5, 97.5])
    return Measurement(
        value=float(np.mean(values)),
        low=float(low),
        high=float(high),
        interval=f"range of 95 % of {len(values)} seeded draws of {count} clips against the rest",
        expected=count,
        scored=count,
    )


def mcc(generated: Mapping[int, JobResult], expected: int) -> Measurement:
    """Mean cosine of each prompt with its clip; the interval is over prompts and seeds, of one seed over prompts."""
    return over_prompts({seed: cosines(*joint(outcome)).tolist() for seed, outcome in generated.items()}, expected)


def mcc_difference(generated: Mapping[int, JobResult], other: Mapping[int, JobResult], expected: int) -> Measurement:
    """MCC less another MCC, at the same prompts and seeds; the interval is that of ``mcc``, of the paired values."""
    rows = {s: (cosines(*joint(outcome)) - cosines(*joint(other[s]))).tolist() for s, outcome in generated.items()}
    measured = over_prompts(rows, expected)
    return measured.model_copy(update={"interval": f"{measured.interval}; paired by prompt and seed"})


def over_prompts(by_seed: Mapping[int, Sequence[float]], expected: int) -> Measurement:
    """Mean of a value of each prompt's clip, with the interval as of ``mcc``; raises ``MelodyError`` for no values."""
    if not all(by_seed.values()):
        raise MelodyError("the clips are too short for this number")
    scores = [np.asarray(values) for values in by_seed.values()]
    estimate = two_level_mean(scores).estimate if len(scores) > 1 else mean_interval(scores[0], over="prompts")
    means = {str(seed): float(np.mean(values)) for seed, values in by_seed.items()}
    measured = measurement(estimate, expected=expected, scored=sum(map(len, by_seed.values())), by_seed=means)
    return measured.model_copy(update={"sample": Sample(of="mean", rows=[list(row) for row in by_seed.values()])})


def agreement(generated: Mapping[int, JobResult]) -> Measurement:
    """Per cent of clips in which the instrument of the prompt is heard; the interval as of ``mcc``, cut to 0 to 100.

    Where all clips agree or none does, there is no spread to go by: Wilson's interval over the prompts of one seed.
    """
    rows = {seed: [100 * one for one in _instruments(outcome)] for seed, outcome in generated.items()}
    expected = clips_of(generated)
    measured = over_prompts(rows, expected)
    prompts = len(next(iter(rows.values())))
    if len({one for values in rows.values() for one in values}) == 1:
        alike = percentage(prompts if measured.value else 0, prompts, expected, over="prompts")
        return alike.model_copy(update={"by_seed": measured.by_seed, "scored": measured.scored})
    low, high = (None if end is None else min(max(end, 0.0), 100.0) for end in (measured.low, measured.high))
    return measured.model_copy(update={"low": low, "high": high})


def agreement_of(outcome: JobResult) -> Measurement:
    """The same of clips that are no prompt's seeds: real ones, and controls."""
    heard = _instruments(outcome)
    return percentage(int(sum(heard)), len(heard), int(outcome.values["clips"]))


def _instruments(outcome: JobResult) -> list[float]:
    if (heard := outcome.values.get("instrument_agreement")) is None:
        raise MelodyError("no judges heard the clips: this run has no training clips for them to learn from")
    if not heard:
        raise MelodyError("no prompt names an instrument of the corpus")
    return list(heard)


def mcc_shuffled(generated: Mapping[int, JobResult], expected: int) -> Measurement:
    """The same with every clip against another prompt: the score where prompts do not matter."""
    rows = {seed: shuffled_cosines(*joint(outcome), seed=seed).tolist() for seed, outcome in generated.items()}
    return over_prompts(rows, expected)


def over_repeats(by_seed: Mapping[str, float], *, expected: int) -> Measurement:
    """Mean over repeats of a timing with Student's t interval, or without an interval for a single one."""
    values, sample = list(by_seed.values()), Sample(of="repeats")
    if len(values) < 2:
        return Measurement(value=values[0], by_seed=dict(by_seed), expected=expected, scored=len(values), sample=sample)
    estimate = mean_interval(values, over="repeats")
    measured = measurement(estimate, expected=expected, scored=len(values), by_seed=by_seed)
    return measured.model_copy(update={"sample": sample})


def count(by_seed: Mapping[str, float]) -> Measurement:
    """A count, which has no spread: it is the same whenever it is made, so nothing is tested of it."""
    value = sum(by_seed.values()) / len(by_seed)
    items = len(by_seed)
    return Measurement(value=value, by_seed=dict(by_seed), expected=items, scored=items, sample=Sample(of="count"))


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


def passes(generated: Mapping[int, JobResult], counted: str) -> Measurement:
    """Passes that made each seed's clips: one of a trace's counts. It is the same for every seed, without interval.

    Raises:
        MelodyError: the system reports none.
    """
    traces = {str(seed): outcome.values["trace"][counted] for seed, outcome in generated.items()}
    if not any(traces.values()):
        raise MelodyError("it reports no passes")
    return count({seed: float(sum(trace.values())) for seed, trace in traces.items()})


def with_silence(measured: Measurement, generated: Mapping[int, JobResult]) -> Measurement:
    """A measurement that says how many of the generated clips in it are silent, if any are."""
    peaks = [peak for outcome in generated.values() for peak in outcome.values.get("peak", [])]
    silent = sum(peak < SILENT_PEAK for peak in peaks)
    if not silent:
        return measured
    said = f"{silent} of {len(peaks)} generated clips are silent"
    return measured.model_copy(update={"warning": "; ".join(filter(None, [said, measured.warning]))})


def clips_of(generated: Mapping[int, JobResult]) -> int:
    """Clips of all seeds."""
    return sum(int(outcome.values["clips"]) for outcome in generated.values())


def joint(outcome: JobResult) -> tuple[Tensor, Tensor]:
    """Joint embeddings of a job's texts and clips, each ``(clips, E)``."""
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
