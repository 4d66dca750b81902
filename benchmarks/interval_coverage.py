"""How often nominal 95 % intervals hold truths that are known: ``python benchmarks/interval_coverage.py``.

Each row is a way to an interval (``melody.metrics.statistics``, ``melody.metrics.frechet``) on simulated data whose
true value is known exactly; the share of repetitions whose interval holds it stands beside its Monte-Carlo error. The
rows marked *shown to fail* are what must not be done, or not be read as 95 %: the simulation sees it.

Clips of the Fréchet distance are Gaussian: window = clip + within, both drawn from N(0, I), so that two windows of one
clip correlate by one half. The reference is taken as fixed, at its population values; the truth is the distance of the
two populations, |shift|² + Σ (√2 − 1)² over the dimensions.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from melody.metrics.frechet import (
    Statistics,
    fad_with_jackknife,
    frechet_distance_of,
)
from melody.metrics.statistics import (
    Estimate,
    bootstrap_mean,
    jackknife,
    mean_interval,
    paired_difference,
    two_level_mean,
    wilson_interval,
)

NOMINAL = 0.95
WINDOWS = 10
"""Windows of a clip."""
SHIFT = 2.0
"""Distance of the means of generated and reference embeddings."""
RESAMPLES = 100
"""Of the frame bootstrap."""

Trial = Callable[[Generator], tuple[float, float, float]]
"""One repetition: low and high of the interval, and the truth."""


@dataclass(frozen=True)
class Case:
    """One way to an interval, on one kind of data."""

    name: str
    trial: Trial
    cost: int = 1
    """A case of cost c is repeated 1/c times as often."""
    fails: bool = False
    """Whether it is there to show that it does not hold what it promises."""


@dataclass(frozen=True)
class Coverage:
    """The share of intervals that held the truth, and its Monte-Carlo standard error."""

    name: str
    share: float
    error: float
    repetitions: int
    fails: bool


def cover(case: Case, repetitions: int, seed: int = 0) -> Coverage:
    """Run a case; the same seed gives the same share."""
    rng = np.random.default_rng(seed)
    n = max(50, repetitions // case.cost)
    held = [low <= truth <= high for low, high, truth in (case.trial(rng) for _ in range(n))]
    share = float(np.mean(held))
    return Coverage(case.name, share, math.sqrt(share * (1 - share) / n), n, case.fails)


def clips(
    rng: Generator, count: int, dimension: int, shift: float = SHIFT, prompts: np.ndarray | None = None
) -> torch.Tensor:
    """``(clips, windows, dimension)`` embeddings whose windows correlate by one half within a clip."""
    of_clip = rng.normal(size=(count, 1, dimension))
    if prompts is not None:
        of_clip = math.sqrt(0.5) * (of_clip + prompts)
    embeddings = of_clip + rng.normal(size=(count, WINDOWS, dimension))
    embeddings[..., 0] += shift
    return torch.from_numpy(embeddings)


def fixed_reference(dimension: int) -> Statistics:
    """Statistics whose mean is 0 and whose covariance is I, exactly."""
    n = 10_000
    return Statistics(n, torch.zeros(dimension, dtype=torch.float64), (n - 1) * torch.eye(dimension).double())


def true_distance(dimension: int, shift: float = SHIFT) -> float:
    """Of N(shift, 2 I) and N(0, I)."""
    return shift**2 + dimension * (math.sqrt(2) - 1) ** 2


def fad(count: int, dimension: int, *, corrected: bool = False) -> Trial:
    """The delete-a-group jackknife over clips, around the plain distance or around the bias-corrected one."""
    reference, truth = fixed_reference(dimension), true_distance(dimension)

    def trial(rng: Generator) -> tuple[float, float, float]:
        generated = [Statistics.of(clip) for clip in clips(rng, count, dimension)]
        estimate = fad_with_jackknife(generated, reference, seed=int(rng.integers(2**31)))
        bias = estimate.bias or 0.0 if corrected else 0.0
        return estimate.low - bias, estimate.high - bias, truth

    return trial


def fad_difference(count: int, dimension: int, shifts: tuple[float, float] = (SHIFT, 1.5)) -> Trial:
    """Two systems over the same prompts: half of what tells clips apart is the prompt's, and common to both."""
    reference = fixed_reference(dimension)
    truth = true_distance(dimension, shifts[0]) - true_distance(dimension, shifts[1])

    def difference(pairs: list[tuple[Statistics, Statistics]]) -> float:
        first, second = (functools.reduce(operator.add, side) for side in zip(*pairs, strict=True))
        return frechet_distance_of(first, reference) - frechet_distance_of(second, reference)

    def trial(rng: Generator) -> tuple[float, float, float]:
        prompts = rng.normal(size=(count, 1, dimension))
        systems = [clips(rng, count, dimension, shift, prompts) for shift in shifts]
        a, b = ([Statistics.of(clip) for clip in system] for system in systems)
        pairs, seed = list(zip(a, b, strict=True)), int(rng.integers(2**31))
        estimate = jackknife(pairs, difference, seed=seed, over="clips, paired")
        return estimate.low, estimate.high, truth

    return trial


def fad_by_frames(count: int, dimension: int) -> Trial:
    """Shown to fail: windows drawn with replacement as if they were independent."""
    reference, truth = fixed_reference(dimension), true_distance(dimension)

    def trial(rng: Generator) -> tuple[float, float, float]:
        windows = clips(rng, count, dimension).flatten(0, 1)
        drawn = [windows[torch.from_numpy(rng.integers(len(windows), size=len(windows)))] for _ in range(RESAMPLES)]
        distances = [frechet_distance_of(Statistics.of(part), reference) for part in drawn]
        low, high = np.quantile(distances, [(1 - NOMINAL) / 2, (1 + NOMINAL) / 2])
        return float(low), float(high), truth

    return trial


def of(make: Callable[[Generator], Estimate], truth: float) -> Trial:
    """A trial of anything that makes an estimate."""

    def trial(rng: Generator) -> tuple[float, float, float]:
        estimate = make(rng)
        return estimate.low, estimate.high, truth

    return trial


def bootstrap(n: int, draw: Callable[[Generator, int], np.ndarray], truth: float) -> Trial:
    return of(lambda rng: bootstrap_mean(draw(rng, n), seed=int(rng.integers(2**31)), resamples=1000), truth)


def paired(n: int) -> Trial:
    """Two systems on shared prompts, correlated by 0.8; b is better by 0.3."""

    def make(rng: Generator) -> Estimate:
        prompt = 2 * rng.normal(size=n)
        return paired_difference(
            prompt + rng.normal(size=n), prompt + 0.3 + rng.normal(size=n), permutations=1
        ).estimate

    return of(make, -0.3)


def scores(
    rng: Generator, seeds: int, prompts: int, deviations: tuple[float, float, float], shared: bool
) -> np.ndarray:
    """``(seeds, prompts)`` scores: the seed's own part, the prompt's, and the rest."""
    of_seed, of_prompt, rest = deviations
    effects = rng.normal(size=(1 if shared else seeds, prompts))
    return of_seed * rng.normal(size=(seeds, 1)) + of_prompt * effects + rest * rng.normal(size=(seeds, prompts))


def two_levels(seeds: int, prompts: int, deviations: tuple[float, float, float], *, shared: bool = True) -> Trial:
    return of(
        lambda rng: (
            two_level_mean(list(scores(rng, seeds, prompts, deviations, shared)), shared_prompts=shared).estimate
        ),
        0.0,
    )


def seeds_as_clips(seeds: int, prompts: int, deviations: tuple[float, float, float]) -> Trial:
    """Shown to fail: all clips of all seeds in one row, as if they were independent."""
    return of(lambda rng: mean_interval(scores(rng, seeds, prompts, deviations, shared=True).ravel()), 0.0)


def cases() -> list[Case]:
    """Every row of the table; those about the Fréchet distance cost the most."""
    return [
        Case("FAD, jackknife over 100 clips, d = 4", fad(100, 4), 4),
        Case("FAD, jackknife over 100 clips, d = 16, bias taken off", fad(100, 16, corrected=True), 8),
        Case("FAD, jackknife over 100 clips, d = 16, biased", fad(100, 16), 16, fails=True),
        Case("FAD difference, paired jackknife, 100 prompts, d = 4", fad_difference(100, 4), 8),
        Case("FAD, frame bootstrap, 100 clips, d = 4", fad_by_frames(100, 4), 32, fails=True),
        Case("mean, bootstrap over 50 prompts, normal", bootstrap(50, lambda rng, n: rng.normal(size=n), 0.0)),
        Case(
            "mean, bootstrap over 100 prompts, exponential", bootstrap(100, lambda rng, n: rng.exponential(size=n), 1.0)
        ),
        Case("mean, t over 5 seeds", of(lambda rng: mean_interval(rng.normal(size=5)), 0.0)),
        Case("difference, paired t, 20 prompts", paired(20)),
        Case("mean, 3 seeds × 20 prompts, crossed, seeds differ much", two_levels(3, 20, (1.0, 1.0, 1.0))),
        Case("mean, 3 seeds × 20 prompts, crossed, seeds differ little", two_levels(3, 20, (0.1, 1.0, 1.0))),
        Case("mean, 5 seeds × 50 prompts, crossed", two_levels(5, 50, (0.3, 1.0, 1.0))),
        Case("mean, 5 seeds, 20 prompts within each", two_levels(5, 20, (0.5, 1.0, 1.0), shared=False)),
        Case("mean, 3 × 20 clips in one row", seeds_as_clips(3, 20, (1.0, 1.0, 1.0)), fails=True),
    ]


def wilson_coverage(n: int) -> tuple[float, float]:
    """Mean and least coverage of Wilson's interval over shares from 0.02 to 0.98, by summing, not by drawing."""
    counts = np.arange(n + 1)
    intervals = [wilson_interval(int(count), n) for count in counts]
    low, high = np.array([e.low for e in intervals]), np.array([e.high for e in intervals])
    shares = np.linspace(0.02, 0.98, 193)
    covered = [float(binom.pmf(counts, n, p)[(low <= p) & (p <= high)].sum()) for p in shares]
    return float(np.mean(covered)), float(np.min(covered))


def table(found: Iterable[Coverage]) -> Table:
    shown = Table(
        "interval", "coverage", "Monte-Carlo error", "repetitions", title="Nominal 95 %", title_justify="left"
    )
    for one in found:
        name = f"{one.name} (shown to fail)" if one.fails else one.name
        shown.add_row(name, f"{100 * one.share:.1f} %", f"± {100 * one.error:.1f}", str(one.repetitions))
    for n in (20, 64):
        mean, least = wilson_coverage(n)
        shown.add_row(f"share, Wilson, {n} clips, mean over shares", f"{100 * mean:.1f} %", "exact", "–")
        shown.add_row(f"share, Wilson, {n} clips, the worst share", f"{100 * least:.1f} %", "exact", "–")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=8000, help="of the cheapest rows; costly ones get a part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [cover(case, arguments.repetitions, arguments.seed) for case in cases()]
    Console(width=120).print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()
