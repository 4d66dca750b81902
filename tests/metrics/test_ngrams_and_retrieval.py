from __future__ import annotations

import math

import pytest
import torch

from melody.errors import MelodyError
from melody.metrics import retrieval
from melody.metrics.ngrams import bigram_log_probabilities, bigram_loss, unigram_log_probabilities, unigram_loss
from melody.metrics.retrieval import MedianRank, RecallAt1, RecallAt5, RecallAt10, ranks

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


def pairs(count: int, likeness: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(count, 16, generator=generator)
    return texts, likeness * texts + torch.randn(count, 16, generator=generator)


def test_registered_metrics_rank_the_right_text_among_all() -> None:
    texts, audio = pairs(60, 0.4)
    cosine = torch.nn.functional.cosine_similarity(audio[:, None].double(), texts[None].double(), dim=2)
    places = (cosine.argsort(dim=1, descending=True) == torch.arange(60)[:, None]).int().argmax(dim=1)
    for metric, k in ((RecallAt1(), 1), (RecallAt5(), 5), (RecallAt10(), 10)):
        for text, sound in zip(texts.split(7), audio.split(7), strict=True):
            metric.update(text, sound)
        assert float(metric.compute()) == pytest.approx(100 * float((places < k).double().mean()))
        assert metric.scored == 60
    median = MedianRank()
    median.update(texts, audio)
    assert float(median.compute()) == pytest.approx(float(places.double().quantile(0.5)) + 1)
    assert 1 < float(median.compute()) < 30


def test_shuffled_prompts_rank_by_chance() -> None:
    texts, audio = pairs(200, 3.0)
    matched, shuffled = RecallAt10(), RecallAt10()
    matched.update(texts, audio)
    shuffled.update(texts.roll(1, 0), audio)
    assert float(matched.compute()) > 95
    assert float(shuffled.compute()) == pytest.approx(5, abs=4)


def test_blocks_change_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, audio = pairs(60, 0.7)
    whole = ranks(audio, texts)
    monkeypatch.setattr(retrieval, "BLOCK", 7)
    assert torch.equal(ranks(audio, texts), whole)


def test_doubled_prompts_are_named() -> None:
    texts, audio = pairs(5, 3.0)
    metric = RecallAt1()
    metric.update(texts, audio)
    assert metric.warning is None
    metric.update(texts[:2], audio[:2])
    assert metric.warning is not None
    assert "2 of 7 prompts" in metric.warning
    with pytest.raises(MelodyError, match=r"expected \(B, E\)"):
        metric.update(texts[0], audio[0])
