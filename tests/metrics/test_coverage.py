"""Coverage by simulation on known truths: nominal 95 % within 92 and 98 %, and the ways that fail, far below.

The cases are those of ``benchmarks/interval_coverage.py``, repeated less often. Monte-Carlo errors at a true 95 %: 0.5
points at 2,000 repetitions, 1.0 at 500, 1.4 at 250; seeds are fixed, so that a pass stays one.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from melody.metrics.statistics import holm, paired_difference, sign_flip_p_value

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "interval_coverage.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


simulation = _load()
CASES = simulation.cases()


@pytest.mark.parametrize("case", [case for case in CASES if not case.fails], ids=lambda case: case.name)
def test_nominal_95_percent_covers(case) -> None:  # type: ignore[no-untyped-def]
    found = simulation.cover(case, 2000)
    assert 0.92 <= found.share <= 0.98, f"{found.share:.3f} ± {found.error:.3f}"


@pytest.mark.parametrize("case", [case for case in CASES if case.fails], ids=lambda case: case.name)
def test_what_must_not_be_done_falls_far_below(case) -> None:  # type: ignore[no-untyped-def]
    found = simulation.cover(case, 1600)
    most = 0.8 if "frame bootstrap" in case.name else 0.92
    assert found.share + 2 * found.error < most, f"{found.share:.3f} ± {found.error:.3f}"


@pytest.mark.parametrize("n", [20, 64])
def test_wilson_covers_on_average_and_never_falls_far(n: int) -> None:
    """Exact, by summing the binomial: a discrete count cannot cover 95 % at every share."""
    mean, least = simulation.wilson_coverage(n)
    assert 0.94 <= mean <= 0.965
    assert least >= 0.90


@pytest.mark.parametrize("n", [8, 20], ids=["all patterns", "drawn patterns"])
def test_permutation_p_values_are_uniform_under_the_null(n: int) -> None:
    """P(p <= α) never exceeds α, and stays below it by no more than a step of the p-values (0.01 here)."""
    rng = np.random.default_rng(11)
    p = np.array([sign_flip_p_value(rng.standard_t(4, size=n), seed=trial, permutations=199) for trial in range(2000)])
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        error = np.sqrt(level * (1 - level) / len(p))
        assert level - 0.01 - 3 * error <= np.mean(p <= level) <= level + 3 * error


def test_paired_test_finds_what_an_unpaired_one_would_miss() -> None:
    """Prompts differ by ten times the difference: pairing takes them out of it."""
    rng = np.random.default_rng(12)
    p = []
    for _ in range(100):
        prompts = 5 * rng.normal(size=20)
        p.append(
            paired_difference(
                prompts + 0.5 + 0.5 * rng.normal(size=20), prompts + 0.5 * rng.normal(size=20), permutations=499
            ).p_value
        )
    assert np.mean(np.array(p) <= 0.05) > 0.8


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_holm_keeps_the_family_wise_error(correlation: float) -> None:
    """Ten claims, seven of them true nulls: one false alarm or more in at most 5 % of tables, dependent or not."""
    from scipy.stats import norm

    rng = np.random.default_rng(13)
    repetitions, false_alarms, found = 3000, 0, 0
    for _ in range(repetitions):
        shared, own = rng.normal(), rng.normal(size=10)
        z = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own + np.array([0.0] * 7 + [3.5] * 3)
        adjusted = np.array(holm(2 * norm.sf(np.abs(z))))
        false_alarms += bool((adjusted[:7] <= 0.05).any())
        found += int((adjusted[7:] <= 0.05).sum())
    assert false_alarms / repetitions <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)
    assert found / repetitions > 1.5  # of three: it still finds things
