from __future__ import annotations

import math

import pytest
import torch

from melody.errors import MelodyError
from melody.metrics.ngrams import bigram_log_probabilities, bigram_loss, unigram_log_probabilities, unigram_loss
from melody.metrics.retrieval import ranks

SIZE = 4


def test_models_are_distributions_and_unseen_histories_fall_back() -> None:
    tokens = torch.tensor([[0, 1, 0, 1, 2]])
    unigram, bigram = unigram_log_probabilities(tokens, SIZE), bigram_log_probabilities(tokens, SIZE)
    assert float(unigram.exp().sum()) == pytest.approx(1)
    assert torch.allclose(bigram.exp().sum(dim=1), torch.ones(SIZE + 1, dtype=torch.float64))
    assert torch.allclose(bigram[3], unigram), "3 was never a history"
    # History 0 was seen twice, with one successor: (2 + 1 · P(1)) / (2 + 1).
    assert float(bigram[0, 1].exp()) == pytest.approx((2 + 3 / 9) / 3)


def test_bigram_learns_a_cycle_that_a_unigram_cannot() -> None:
    cycle = (torch.arange(60)[None] + torch.arange(8)[:, None]) % SIZE
    unigram = unigram_loss(unigram_log_probabilities(cycle, SIZE), cycle[:1, :40])
    bigram = bigram_loss(bigram_log_probabilities(cycle, SIZE), cycle[:1, :40])
    assert float(unigram) == pytest.approx(math.log(SIZE), rel=1e-3)
    assert float(bigram) < 0.1


def test_tokens_outside_the_codebook_are_refused() -> None:
    with pytest.raises(MelodyError, match="expected 0 to 3"):
        unigram_log_probabilities(torch.tensor([[4]]), SIZE)
    with pytest.raises(MelodyError, match=r"expected \(S, N\)"):
        bigram_log_probabilities(torch.tensor([1, 2]), SIZE)


def test_ranks_count_ties_against_the_right_one() -> None:
    assert ranks(torch.eye(5), torch.eye(5)).tolist() == [0] * 5
    assert ranks(torch.eye(5), torch.eye(5).roll(1, 0))[0] >= 1
    same = torch.ones(5, 3)
    assert ranks(same, same).tolist() == [4] * 5, "one point for everything recalls nothing"
