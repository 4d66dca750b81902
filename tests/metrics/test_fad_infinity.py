"""FAD∞ on Gaussians whose distance is known, and per-clip FAD."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melody.errors import MelodyError
from melody.metrics.fad_infinity import FrechetInfinity, fad_infinity
from melody.metrics.fad_per_clip import FrechetPerClip
from melody.metrics.frechet import Statistics, frechet_distance_of, frechet_distances_of_clips, warning

DIMENSION, SHIFT, CLIPS, WINDOWS = 6, 0.2, 40, 5
TRUTH = DIMENSION * SHIFT**2
# A reference of N(0, 1) to the digit: 2 E points at ±sqrt(E − ½) on the axes have mean 0 and covariance 1 (ddof 1).
REFERENCE = Statistics.of(np.sqrt(DIMENSION - 0.5) * torch.cat([torch.eye(DIMENSION), -torch.eye(DIMENSION)]).double())


def draw(seed: int) -> list[torch.Tensor]:
    """Clips from N(shift, 1), whose windows are independent."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(CLIPS, WINDOWS, DIMENSION, generator=generator, dtype=torch.float64) + SHIFT)


def with_replacement(clips: list[torch.Tensor], seed: int) -> float:
    """What public tools do: the same fit over windows drawn with replacement."""
    rng, windows = np.random.default_rng(seed), torch.cat(clips)
    sizes = np.linspace(len(windows) // 4, len(windows), 10).astype(int)
    distances = [
        np.mean(
            [frechet_distance_of(Statistics.of(windows[rng.integers(len(windows), size=n)]), REFERENCE) for _ in "1234"]
        )
        for n in sizes
    ]
    return float(np.polyfit(1 / sizes, distances, 1)[1])


def test_the_reference_is_the_standard_normal() -> None:
    torch.testing.assert_close(REFERENCE.covariance, torch.eye(DIMENSION, dtype=torch.float64))
    assert float(REFERENCE.mean.abs().max()) == 0


def test_is_unbiased_where_the_plain_distance_and_draws_with_replacement_are_not() -> None:
    fits = [fad_infinity(draw(seed), REFERENCE, seed=seed) for seed in range(40)]
    ours = np.array([fit.value for fit in fits])
    plain = np.array([fit.plain for fit in fits])
    frames = np.array([with_replacement(draw(seed), seed) for seed in range(40)])
    error = ours.std(ddof=1) / np.sqrt(40)
    assert abs(ours.mean() - TRUTH) < 3 * error
    assert plain.mean() - TRUTH > 8 * plain.std(ddof=1) / np.sqrt(40)
    assert frames.mean() - TRUTH > 5 * frames.std(ddof=1) / np.sqrt(40)
    assert abs(ours.mean() - TRUTH) < 0.25 * (frames.mean() - TRUTH)
    # The bias that each fit states is what the plain distances are off by.
    assert np.mean([fit.bias for fit in fits]) == pytest.approx(plain.mean() - TRUTH, rel=0.2)


def test_windows_of_a_clip_count_together() -> None:
    """Clips of one window repeated: 40 independent windows, whatever the number of windows says."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(200, 20, 1, DIMENSION, generator=generator, dtype=torch.float64) + SHIFT
    fits = [fad_infinity(list(one.expand(-1, 8, -1)), REFERENCE, draws=4) for one in means[:60]]
    assert np.mean([fit.plain for fit in fits]) > 3 * TRUTH
    assert np.mean([fit.value for fit in fits]) < 0.5 * np.mean([fit.plain for fit in fits])


def test_states_its_fit() -> None:
    fit = fad_infinity(draw(0), REFERENCE)
    inverse, distances = np.array(fit.points).T
    assert len(fit.points) == 10
    assert round(1 / inverse.max()) == CLIPS * WINDOWS / 4
    assert 1 / inverse.min() == pytest.approx(CLIPS * WINDOWS)
    assert fit.plain == pytest.approx(frechet_distance_of(Statistics.of(torch.cat(draw(0))), REFERENCE))
    assert fit.plain == pytest.approx(distances[-1])
    missed = fit.value + fit.slope * inverse - distances
    assert fit.residual == pytest.approx(np.sqrt((missed**2).mean()))
    assert fit.residual < 0.1 * fit.bias
    assert fit.bias == pytest.approx(fit.slope / 200)


def test_is_seeded_and_ignores_the_order_of_clips() -> None:
    clips = draw(1)
    value = fad_infinity(clips, REFERENCE).value
    assert fad_infinity(clips, REFERENCE).value == value
    assert fad_infinity(clips[::-1], REFERENCE).value == pytest.approx(value, rel=1e-9)
    assert fad_infinity(clips, REFERENCE, seed=1).value != value


def test_says_when_there_are_too_few_windows_for_the_law() -> None:
    few = draw(2)[:4]  # a quarter: one clip of 5 windows, for 6 dimensions
    fit = fad_infinity(few, REFERENCE)
    assert fit.warning is not None
    assert "from 5 windows on, for 6 dimensions" in fit.warning
    assert fad_infinity(draw(2), REFERENCE).warning is None
    small = Statistics.of(few[0])
    assert "biased upwards by about 0.5: the generated set has 5 windows" in str(warning(small, REFERENCE, bias=0.5))


def test_a_clip_s_own_windows_are_the_root_of_its_covariance() -> None:
    clips = [clip[: 2 + index % 4] for index, clip in enumerate(draw(3)[:8])] + [torch.cat(draw(3))]
    expected = [frechet_distance_of(Statistics.of(clip), REFERENCE) for clip in clips]
    # Through the covariance, rounding of its zero eigenvalues costs half the digits: the windows are the better root.
    assert frechet_distances_of_clips(clips, REFERENCE) == pytest.approx(expected, rel=1e-6)


def test_per_clip_finds_the_odd_one_out() -> None:
    metric = FrechetPerClip(dimension=DIMENSION)
    for index, clip in enumerate(draw(4)):
        metric.update(clip + (3.0 if index == 17 else 0.0), real=False)
    for clip in draw(5):
        metric.update(clip, real=True)
    values = metric.per_clip()
    assert int(np.argmax(values)) == 17
    assert float(metric.compute()) == pytest.approx(np.mean(values))
    assert metric.scored == CLIPS


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(MelodyError, match="3 clips and 8 draws; expected at least 4"):
        fad_infinity(draw(0)[:3], REFERENCE)
    with pytest.raises(MelodyError, match=r"clip 1: shape \(1, 6\); expected .* at least 2 windows"):
        frechet_distances_of_clips([draw(0)[0], draw(0)[1][:1]], REFERENCE)
    with pytest.raises(MelodyError, match="width 5 and 6"):
        fad_infinity([clip[:, :5] for clip in draw(0)], REFERENCE)
    with pytest.raises(MelodyError, match=r"shape \(6,\); expected \(windows, 6\)"):
        FrechetInfinity(dimension=6).update(torch.zeros(6), real=False)  # one clip's 1-D embedding
