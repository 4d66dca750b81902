"""The jackknife of any metric: as ours where we have one, for a third party's sums, and for what keeps every vector."""

from __future__ import annotations

import math

import pytest
import torch
import torchmetrics
from torch import Tensor

from melody.errors import MelodyError
from melody.metrics.fad_infinity import FrechetInfinity
from melody.metrics.frechet import (
    FrechetDistance,
    Statistics,
    fad_with_jackknife,
    frechet_distance_of,
)
from melody.metrics.grouped_jackknife import GroupedJackknife, add_states
from melody.metrics.kernel_distance import KernelDistance, kernel_distance
from melody.metrics.statistics import jackknife

CLIPS = 15


def draw(seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(4 + seed % 3, 3, generator=torch.Generator().manual_seed(seed)) + shift


def clips(shift: float) -> list[Tensor]:
    return [draw(seed, shift) for seed in range(CLIPS)]


def filled(create: object, generated: list[Tensor]) -> GroupedJackknife:
    scores = GroupedJackknife(create, count=len(generated), groups=6, seed=2)  # type: ignore[arg-type]
    for index, clip in enumerate(generated):
        scores.update(index, embeddings=clip, real=False)
    for seed in range(100, 110):
        reference = create()  # type: ignore[operator]
        reference.update(draw(seed), real=True)
        scores.fix(reference)
    return scores


REFERENCE = torch.cat([draw(seed) for seed in range(100, 110)])


class ThirdPartyDistance(torchmetrics.Metric):
    """Distance of the means, of sums; and the largest number seen, of a maximum."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("generated", "reference"):
            self.add_state(name, torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{name}_n", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("largest", torch.zeros(()), dist_reduce_fx="max")

    def update(self, embeddings: Tensor, real: bool) -> None:
        name = "reference" if real else "generated"
        setattr(self, name, getattr(self, name) + embeddings.double().sum(dim=0))
        setattr(self, f"{name}_n", getattr(self, f"{name}_n") + len(embeddings))
        if not real:
            self.largest = torch.maximum(self.largest, embeddings.max())

    def compute(self) -> Tensor:
        return (self.generated / self.generated_n - self.reference / self.reference_n).norm() + self.largest


def test_equals_our_own_jackknives() -> None:
    fad = filled(lambda: FrechetDistance(dimension=3), clips(0.5)).estimate()
    expected = fad_with_jackknife([Statistics.of(c) for c in clips(0.5)], Statistics.of(REFERENCE), groups=6, seed=2)
    assert (fad.value, fad.low, fad.high) == pytest.approx((expected.value, expected.low, expected.high), rel=1e-9)
    assert (fad.method, fad.n) == (expected.method, expected.n)
    kad = filled(lambda: KernelDistance(dimension=3), clips(0.5)).estimate()
    expected = jackknife(clips(0.5), lambda kept: kernel_distance(torch.cat(kept), REFERENCE), groups=6, seed=2)
    assert (kad.value, kad.low, kad.high) == pytest.approx((expected.value, expected.low, expected.high), rel=1e-9)


def test_a_metric_s_own_way_of_leaving_out_is_used_and_equals_merging() -> None:
    scores = filled(lambda: KernelDistance(dimension=3), clips(0.5))
    expected = []
    for group in range(6):
        metric = KernelDistance(dimension=3)
        metric.update(REFERENCE, real=True)
        for clip, label in zip(clips(0.5), scores.labels, strict=True):
            if label != group:
                metric.update(clip, real=False)
        expected.append(float(metric.compute()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KernelDistance, "compute", lambda _: pytest.fail("a compute for each group"))
        assert scores.replicates() == pytest.approx(expected, rel=1e-9)


def test_states_that_were_stored_fill_it_as_updates_do() -> None:
    updated = filled(lambda: FrechetDistance(dimension=3), clips(0.5))
    stored = GroupedJackknife(lambda: FrechetDistance(dimension=3), count=CLIPS, groups=6, seed=2)
    reference = FrechetDistance(dimension=3)
    reference.update(REFERENCE, real=True)
    stored.fix(reference)
    for place, clip in enumerate(clips(0.5)):
        one = FrechetDistance(dimension=3)
        one.update(clip, real=False)
        add_states(stored.part(place), one.metric_state)
    assert stored.estimate().low == pytest.approx(updated.estimate().low, rel=1e-9)


def test_one_clip_has_a_value_and_no_interval() -> None:
    scores = filled(lambda: KernelDistance(dimension=3), clips(0.5)[:1])
    assert scores.value > 0
    with pytest.raises(MelodyError, match="kad: 0 generated"):
        scores.estimate()


def test_paired_difference_equals_our_own() -> None:
    a, b = (filled(lambda: FrechetDistance(dimension=3), clips(shift)) for shift in (0.5, 0.9))
    reference = Statistics.of(REFERENCE)

    def difference(pairs: list[tuple[Tensor, Tensor]]) -> float:
        first, second = (
            frechet_distance_of(Statistics.of(torch.cat(kept)), reference) for kept in zip(*pairs, strict=True)
        )
        return first - second

    expected = jackknife(
        list(zip(clips(0.5), clips(0.9), strict=True)), difference, groups=6, seed=2, over="clips, paired"
    )
    got = a.difference(b)
    assert got.standard_error < 0.5 * math.hypot(a.estimate().standard_error, b.estimate().standard_error)
    assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high), rel=1e-9)
    assert got.method == expected.method


def test_a_third_party_s_metric_gets_an_interval() -> None:
    scores = filled(ThirdPartyDistance, clips(0.5))
    generated = clips(0.5)

    def by_hand(kept: list[Tensor]) -> float:
        windows = torch.cat(kept).double()
        return float((windows.mean(0) - REFERENCE.double().mean(0)).norm() + windows.max())

    assert scores.value == pytest.approx(by_hand(generated), rel=1e-6)
    for group, value in enumerate(scores.replicates()):
        kept = [clip for clip, label in zip(generated, scores.labels, strict=True) if label != group]
        assert value == pytest.approx(by_hand(kept), rel=1e-6)
    estimate = scores.estimate()
    assert estimate.low < estimate.value < estimate.high


def test_what_keeps_every_vector_has_an_interval_too() -> None:
    estimate = filled(lambda: FrechetInfinity(dimension=3, draws=2), clips(0.5)).estimate()
    assert estimate.low < estimate.value < estimate.high
    assert estimate.method == "95 % jackknife over clips, 6 groups"


def test_bad_use_is_one_clear_line() -> None:
    with pytest.raises(MelodyError, match="SumMetric cannot be merged; expected full_state_update = False"):
        GroupedJackknife(lambda: torchmetrics.SumMetric(dist_sync_on_step=True), count=4)
    scores = GroupedJackknife(lambda: FrechetDistance(dimension=3), count=4)
    with pytest.raises(MelodyError, match="clip 4; expected 0 to 3"):
        scores.update(4, embeddings=draw(0), real=False)
    scores.update(0, embeddings=draw(0), real=False)
    with pytest.raises(MelodyError, match="some clips were not given"):
        scores.estimate()
    with pytest.raises(MelodyError, match="grouped differently"):
        scores.difference(GroupedJackknife(lambda: FrechetDistance(dimension=3), count=4, seed=1))
