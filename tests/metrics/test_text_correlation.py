"""Mean cosine, its shuffled control and its permutation test."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melody.errors import MelodyError
from melody.metrics.text_correlation import (
    TextCorrelation,
    cosines,
    derangement,
    mean_cosine,
    permutation_p_value,
    shuffled_control,
)


def pairs(count: int, seed: int, likeness: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    text = torch.randn(count, 16, generator=g)
    return text, likeness * text + torch.randn(count, 16, generator=g)


def test_equals_torch() -> None:
    text, audio = pairs(9, 0)
    torch.testing.assert_close(cosines(text, audio).float(), torch.nn.functional.cosine_similarity(text, audio))


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(0, 100))
def test_ignores_scale_and_stays_in_range(a: float, b: float, seed: int) -> None:
    text, audio = pairs(4, seed)
    score = mean_cosine(text, audio)
    assert -1 <= score <= 1
    assert mean_cosine(a * text, b * audio) == pytest.approx(score, abs=1e-5)
    assert mean_cosine(text, a * text) == pytest.approx(1.0, abs=1e-6)


@given(st.integers(2, 40), st.integers(0, 1000))
def test_derangement_moves_everything(count: int, seed: int) -> None:
    drawn = derangement(count, seed)
    assert sorted(drawn) == list(range(count))
    assert all(place != index for index, place in enumerate(drawn))
    assert drawn == derangement(count, seed)


def test_control_and_p_value_tell_matched_from_unmatched() -> None:
    text, audio = pairs(40, 1)
    assert mean_cosine(text, audio) > 0.5
    assert abs(shuffled_control(text, audio, seed=0)) < 0.15
    assert permutation_p_value(text, audio, permutations=999) == 1 / 1000
    text, audio = pairs(40, 2, likeness=0.0)
    assert permutation_p_value(text, audio, permutations=999) > 0.05


def test_one_prompt_for_all_has_p_one() -> None:
    text, audio = pairs(6, 3)
    same = text[:1].expand(6, -1)
    assert permutation_p_value(same, audio, permutations=99) == 1.0
    assert shuffled_control(same, audio, seed=0) == pytest.approx(mean_cosine(same, audio))


def test_p_value_is_uniform_without_correlation() -> None:
    values = [permutation_p_value(*pairs(8, seed, 0.0), permutations=99) for seed in range(150)]
    assert sum(value <= 0.1 for value in values) / 150 == pytest.approx(0.1, abs=0.06)


def test_bad_input_is_one_clear_line() -> None:
    text, audio = pairs(3, 0)
    with pytest.raises(MelodyError, match="expected the same"):
        TextCorrelation().update(text, audio[:2])
    with pytest.raises(MelodyError, match="1 of 3 audio embeddings are all zeros"):
        TextCorrelation().update(text, audio * torch.tensor([[1.0], [0.0], [1.0]]))
    with pytest.raises(MelodyError, match=r"expected \(B, E\)"):
        mean_cosine(text[0], audio[0])
    with pytest.raises(MelodyError, match="NaN"):
        mean_cosine(text * math.nan, audio)
    for function in (shuffled_control, permutation_p_value):
        with pytest.raises(MelodyError, match="got 1 pair; expected at least 2"):
            function(text[:1], audio[:1], seed=0)
