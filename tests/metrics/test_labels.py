"""Label divergence and Inception score: direction, pooling, bounds, and torch's own divergence."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melody.errors import MelodyError
from melody.metrics.label_inception import LabelInceptionScore, label_inception_score
from melody.metrics.label_kl import PairedLabelKL, PooledLabelKL, paired_kl

LABELS = 7
seeds = st.integers(0, 10_000)
poolings = st.sampled_from(["logits", "probabilities"])


def draw(seed: int, windows: int = 3, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(windows, LABELS, generator=generator, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_equals_torch_from_reference_to_generated(seed: int, m: int, n: int) -> None:
    generated, reference = draw(seed, m), draw(seed + 1, n)
    p, q = (x.mean(0).softmax(0) for x in (reference, generated))
    assert paired_kl(generated, reference) == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-12)
    p, q = (x.softmax(1).mean(0) for x in (reference, generated))
    theirs = torch.nn.functional.kl_div(q.log(), p, reduction="sum")
    assert paired_kl(generated, reference, pooling="probabilities") == pytest.approx(float(theirs), abs=1e-12)


def test_a_missing_label_costs_more_than_an_added_one() -> None:
    """The direction: reference ‖ generated."""
    both, one = torch.tensor([[9.0, 9.0, 0.0]]), torch.tensor([[9.0, 0.0, 0.0]])
    assert paired_kl(preds=one, target=both) > 5 * paired_kl(preds=both, target=one)


def test_pooling_matters_where_a_clip_changes() -> None:
    changing, steady = torch.tensor([[8.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    logits, probabilities = (paired_kl(changing, steady, pooling=p) for p in ("logits", "probabilities"))
    assert logits == pytest.approx(0.0, abs=1e-9)
    assert probabilities > 0.3


@settings(max_examples=25, deadline=None)
@given(seeds, poolings, st.floats(-500, 500))
def test_is_zero_of_equals_never_negative_and_ignores_an_offset(seed: int, pooling: str, offset: float) -> None:
    x, y = draw(seed), draw(seed + 1)
    assert paired_kl(x, x, pooling=pooling) == 0  # type: ignore[arg-type]
    value = paired_kl(x, y, pooling=pooling)  # type: ignore[arg-type]
    assert value > 0
    assert paired_kl(x + offset, y, pooling=pooling) == pytest.approx(value, abs=1e-9)  # type: ignore[arg-type]


def test_large_divergences_are_not_capped() -> None:
    """With 1e-6 inside the logarithm the most there is would be 13.8."""
    assert paired_kl(torch.tensor([[0.0, 200.0]]), torch.tensor([[200.0, 0.0]])) == pytest.approx(200.0)


def test_pairs_see_what_the_pool_cannot() -> None:
    sharp = 20 * torch.eye(4)[:, None, :]  # clip i has label i
    paired, pooled = PairedLabelKL(), PooledLabelKL(num_labels=4)
    for generated, reference in zip(sharp.roll(1, 0), sharp, strict=True):  # the right labels on the wrong clips
        paired.update(generated, reference)
        pooled.update(generated, real=False)
        pooled.update(reference, real=True)
    assert float(paired.compute()) == pytest.approx(20.0, rel=1e-3)
    assert float(pooled.compute()) == pytest.approx(0.0, abs=1e-9)
    assert paired.scored == pooled.scored == 4


def test_pool_stays_finite_where_a_label_is_gone() -> None:
    pooled = PooledLabelKL(num_labels=2)
    pooled.update(torch.tensor([[0.0, 2000.0]]), real=False)
    pooled.update(torch.tensor([[2000.0, 0.0]]), real=True)
    assert 700 < float(pooled.compute()) < 710


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 12), poolings)
def test_inception_score_stays_between_one_and_clips_and_labels(seed: int, count: int, pooling: str) -> None:
    clips = [draw(seed + index, spread=8.0) for index in range(count)]
    score = label_inception_score(clips, pooling=pooling)  # type: ignore[arg-type]
    assert 1 - 1e-9 <= score <= min(count, LABELS) + 1e-9
    assert label_inception_score(clips * 3, pooling=pooling) == pytest.approx(score)  # type: ignore[arg-type]


def test_inception_score_of_known_sets() -> None:
    sharp = list(200 * torch.eye(LABELS)[:, None, :])
    assert label_inception_score(sharp) == pytest.approx(LABELS)
    assert label_inception_score(sharp[:1] * 9) == pytest.approx(1)
    assert label_inception_score([torch.zeros(2, LABELS)] * 5) == pytest.approx(1)
    by_hand = [torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])]  # (½, ½) and (¾, ¼)
    mean_kl = (0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)) / 2
    mean_kl += (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)) / 2
    assert label_inception_score(by_hand) == pytest.approx(math.exp(mean_kl))


def test_reference_clips_do_not_change_the_inception_score() -> None:
    metric = LabelInceptionScore(num_labels=LABELS)
    for seed in range(5):
        metric.update(draw(seed), real=False)
    value = float(metric.compute())
    metric.update(draw(9), real=True)
    assert float(metric.compute()) == value
    assert metric.scored == 5


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(MelodyError, match=r"shape \(7,\); expected \(windows, labels\)"):
        paired_kl(draw(0)[0], draw(1))
    with pytest.raises(MelodyError, match="logits of 7 and 6 labels"):
        paired_kl(draw(0), draw(1)[:, :6])
    with pytest.raises(MelodyError, match="logits of 7 labels; expected 527"):
        PooledLabelKL().update(draw(0), real=True)
    with pytest.raises(MelodyError, match="NaN"):
        LabelInceptionScore(num_labels=LABELS).update(draw(0) * math.nan, real=False)
    with pytest.raises(MelodyError, match="pooling is 'max'"):
        paired_kl(draw(0), draw(1), pooling="max")  # type: ignore[arg-type]
    pooled = PooledLabelKL(num_labels=LABELS)
    pooled.update(draw(0), real=False)
    with pytest.raises(MelodyError, match="reference set: nothing was scored"):
        pooled.compute()
