"""The language model: size, the cache, counted passes, bad input; transformers' LLaMA stands beside it elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from melody import registry
from melody.errors import MelodyError
from melody.lm.decoder_only import DROPPED
from melody.lm.llama import Llama

SMALL: dict[str, Any] = {
    "num_prefix_tokens": 3,
    "prefix_codebook_size": 5,
    "codebook_size": 7,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_size": 24,
    "max_tokens": 30,
}


@pytest.fixture
def model() -> Llama:
    torch.manual_seed(0)
    model = Llama(**SMALL).eval()
    with torch.no_grad():  # logits far from uniform, so that differences show
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return model


@pytest.fixture
def prefix() -> Tensor:
    return torch.tensor([[0, 1, 2], [4, 4, 4], [3, 0, 1]])


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(7, (3, 9), generator=torch.Generator().manual_seed(0))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_default_has_the_papers_size() -> None:
    with torch.device("meta"):
        model = registry.language_models.create("llama")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(429.97e6, rel=1e-4)  # derived: see the arithmetic above
    assert count == pytest.approx(429.5e6, rel=2e-3)  # main text of the paper


def test_rows_of_levels_come_before_semantic_rows(model: Llama) -> None:
    rows = model.rows(torch.tensor([[0, 1, 4]]), torch.tensor([[0, 6]]))
    assert rows.tolist() == [[0, 6, 14, 15, 21]]
    assert model.embedding.num_embeddings == model.head.out_features == 22


def test_the_cache_changes_nothing(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    rows = model.rows(prefix, tokens)
    expected = model(rows)
    cache = model.empty_cache(3, capacity=rows.shape[1])
    with torch.no_grad():
        torch.testing.assert_close(model(rows[:, :4], cache)[:, 0], expected[:, 3], rtol=0, atol=1e-5)
        for place in range(4, rows.shape[1]):
            logits = model(rows[:, place : place + 1], cache)
            assert logits.shape == (3, 1, 22)
            torch.testing.assert_close(logits[:, 0], expected[:, place], rtol=0, atol=1e-5)


def test_runs_with_bf16_weights(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    rows = model.rows(prefix, tokens)
    expected = model(rows)[:, -1]
    model.bfloat16()
    cache = model.empty_cache(3, capacity=12)
    with torch.no_grad():
        model(rows[:, :-1], cache)
        last = model(rows[:, -1:], cache)[:, 0]
    assert last.dtype == torch.bfloat16
    torch.testing.assert_close(last.float(), expected, rtol=0.1, atol=0.1 * float(expected.std()))


def test_the_future_is_not_seen(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    rows = model.rows(prefix, tokens)
    changed = rows.clone()
    changed[:, 6:] = 15
    torch.testing.assert_close(model(rows)[:, :6], model(changed)[:, :6])


def test_generates_what_full_passes_would(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    new = model.generate(prefix, 6, semantic_tokens=tokens, top_k=1)
    expected = tokens
    for _ in range(6):
        best = model(model.rows(prefix, expected))[:, -1, 15:].argmax(dim=-1, keepdim=True)
        expected = torch.cat([expected, best], dim=1)
    assert torch.equal(new, expected[:, 9:])


@pytest.mark.parametrize("given", [0, 5])
def test_one_forward_call_a_token(model: Llama, prefix: Tensor, tokens: Tensor, given: int) -> None:
    sizes: list[tuple[int, ...]] = []
    progress: list[tuple[int, int]] = []
    model.register_forward_hook(lambda _, arguments, __: sizes.append(tuple(arguments[0].shape)))
    new = model.generate(
        prefix, 4, semantic_tokens=tokens[:, :given] if given else None, callback=lambda *now: progress.append(now)
    )
    assert new.shape == (3, 4)
    assert sizes == [(3, 3 + given), (3, 1), (3, 1), (3, 1)]
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_only_semantic_tokens_are_drawn(model: Llama, prefix: Tensor) -> None:
    with torch.no_grad():
        model.head.weight[:15] = 0
        model.head.weight[15:] *= 0.01  # rows of the prefix are now as probable as any
    new = model.generate(prefix, 25, generator=generators(1, 2, 3))
    assert new.dtype == torch.int64
    assert set(new.flatten().tolist()) == set(range(7))


def test_same_seed_same_tokens_alone_and_in_a_batch(model: Llama, prefix: Tensor) -> None:
    together = model.generate(prefix, 20, generator=generators(1, 2, 3), temperature=1.5)
    assert torch.equal(together, model.generate(prefix, 20, generator=generators(1, 2, 3), temperature=1.5))
    for row in range(3):
        alone = model.generate(prefix[row : row + 1], 20, generator=generators(row + 1), temperature=1.5)
        assert torch.equal(alone, together[row : row + 1])


def test_generation_leaves_the_global_stream_alone(model: Llama, prefix: Tensor) -> None:
    before = torch.get_rng_state()
    model.generate(prefix, 3, generator=generators(1, 2, 3))
    assert torch.equal(before, torch.get_rng_state())


def test_no_new_tokens_take_no_pass(model: Llama, prefix: Tensor) -> None:
    model.register_forward_hook(lambda *_: pytest.fail("a pass for nothing"))
    assert model.generate(prefix, 0).shape == (3, 0)


def test_loss_is_the_cross_entropy_of_semantic_tokens(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    logits = model(model.rows(prefix, tokens))[:, 2:-1, 15:]
    expected = -logits.log_softmax(dim=-1).gather(2, tokens[:, :, None]).mean()
    torch.testing.assert_close(model.loss(prefix, tokens), expected)


def test_a_fresh_model_knows_nothing(prefix: Tensor, tokens: Tensor) -> None:
    torch.manual_seed(0)
    assert Llama(**SMALL).loss(prefix, tokens).item() == pytest.approx(math.log(7), abs=0.05)


def test_learns_tokens_that_follow_from_the_prefix() -> None:
    torch.manual_seed(0)
    model = Llama(**SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    prefix, tokens = torch.tensor([[0, 1, 2], [3, 3, 3]]), torch.tensor([[1, 2, 3, 4], [6, 5, 4, 3]])
    for _ in range(60):
        loss = model.loss(prefix, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert torch.equal(model.generate(prefix, 4, top_k=1), tokens)


def test_too_long_is_named_with_its_numbers(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    assert model.generate(prefix, 21, semantic_tokens=tokens).shape == (3, 21)
    with pytest.raises(
        MelodyError, match="9 given and 22 new semantic tokens are 31: expected at most max_tokens = 30"
    ):
        model.generate(prefix, 22, semantic_tokens=tokens)
    with pytest.raises(MelodyError, match="max_tokens = 30"):
        model.loss(prefix, torch.zeros(3, 31, dtype=torch.long))


def test_bad_tokens_are_named(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    with pytest.raises(MelodyError, match=r"the prefix: got values in \[0, 5\], expected \[0, 4\]"):
        model.generate(torch.tensor([[0, 1, 5]]), 1)
    with pytest.raises(MelodyError, match=r"the prefix: got .* expected integers of shape \(batch, 3\)"):
        model.generate(prefix[:, :2], 1)
    with pytest.raises(MelodyError, match=r"semantic tokens: got values in \[-1, 0\]"):
        model.loss(prefix, torch.tensor([[0, -1]] * 3))
    with pytest.raises(MelodyError, match="3 prefixes for 2 rows"):
        model.loss(prefix, tokens[:2])
    with pytest.raises(MelodyError, match="no semantic tokens"):
        model.loss(prefix, tokens[:, :0])
    with pytest.raises(MelodyError, match="num_tokens is -1"):
        model.generate(prefix, -1)
    with pytest.raises(MelodyError, match="top_p is 2"):
        model.generate(prefix, 1, top_p=2)
    with pytest.raises(MelodyError, match="hidden_size is 18"):
        Llama(**{**SMALL, "hidden_size": 18})


def test_damaged_weights_are_named(model: Llama, prefix: Tensor) -> None:
    with torch.no_grad():
        model.head.weight[17] = math.nan
    with pytest.raises(MelodyError, match="logits of token 0 are not finite"):
        model.generate(prefix, 2)


def test_a_dropped_token_is_seen_as_zeros_and_still_predicted(model: Llama, prefix: Tensor, tokens: Tensor) -> None:
    dropped = torch.zeros(3, 12, dtype=torch.bool)
    torch.testing.assert_close(model.loss(prefix, tokens, dropped), model.loss(prefix, tokens), rtol=0, atol=0)
    dropped[:, 5] = True
    changed = tokens.clone()
    changed[:, 2] = (tokens[:, 2] + 1) % 7  # what stands at the dropped place does not matter, but as a target
    rows = [model.rows(prefix, which).masked_fill(dropped, DROPPED) for which in (tokens, changed)]
    torch.testing.assert_close(model(rows[0]), model(rows[1]), rtol=0, atol=0)
    assert not torch.equal(model.loss(prefix, tokens, dropped), model.loss(prefix, changed, dropped))
    assert not torch.allclose(model(rows[0]), model(model.rows(prefix, tokens)))


def test_guidance_goes_from_logits_without_the_prefix_towards_those_with_it(model: Llama, prefix: Tensor) -> None:
    given = torch.tensor([[0, 3], [6, 6], [2, 1]])
    rows = model.rows(prefix, given)
    free = model(rows.masked_fill(torch.arange(5) < 3, DROPPED))[:, -1, 15:]
    full = model(rows)[:, -1, 15:]
    for scale, expected in ((0.0, free), (1.0, full), (3.0, free + 3 * (full - free)), (-1.0, None)):
        if expected is None:
            with pytest.raises(MelodyError, match="guidance_scale is -1"):
                model.generate(prefix, 1, semantic_tokens=given, guidance_scale=scale)
            continue
        drawn = model.generate(prefix, 1, semantic_tokens=given, top_k=1, guidance_scale=scale)
        assert torch.equal(drawn[:, 0], expected.argmax(dim=-1))


def test_guided_tokens_are_the_same_alone_and_in_a_batch(model: Llama, prefix: Tensor) -> None:
    sizes: list[int] = []
    model.register_forward_hook(lambda _, arguments, __: sizes.append(len(arguments[0])))
    together = model.generate(prefix, 12, generator=generators(1, 2, 3), guidance_scale=2.0)
    assert sizes == [6] * 12  # one pass a token, of twice the rows
    assert not torch.equal(together, model.generate(prefix, 12, generator=generators(1, 2, 3)))
    for row in range(3):
        alone = model.generate(prefix[row : row + 1], 12, generator=generators(row + 1), guidance_scale=2.0)
        assert torch.equal(alone, together[row : row + 1])
