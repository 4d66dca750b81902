"""The Transformer over several streams: rows, places in time, the cache, drawing, learning, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.lm.multi_stream import MultiStream

Given = list[Tensor]


@pytest.fixture
def model() -> MultiStream:
    torch.manual_seed(0)
    model = MultiStream(
        [(3, 5, 0.0), (1, 7, 4.0)], 2, 6, hidden_size=16, num_layers=2, num_heads=2, feed_forward_size=24
    )
    with torch.no_grad():  # logits far from uniform, so that differences show
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return model.eval()


@pytest.fixture
def given() -> Given:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, (3, 1, 3), generator=generator), torch.randint(7, (3, 4, 1), generator=generator)]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_every_level_has_its_rows_and_every_token_its_place_in_time(model: MultiStream) -> None:
    rows, places = model.given_rows([torch.tensor([[[0, 1, 4]]]), torch.tensor([[[0], [6]]])])
    assert rows.tolist() == [[0, 6, 14, 15, 21]]
    assert places.tolist() == [-3.0, -2.0, -1.0, 0.0, 4.0]
    assert model.embedding.num_embeddings == 3 * 5 + 7 + 2 * 6
    assert model.head.out_features == 2 * 6


def test_tokens_that_are_drawn_are_those_that_the_loss_finds_probable(model: MultiStream, given: Given) -> None:
    """Greedy drawing by the cache agrees with passes over everything, without a cache."""
    drawn = model.generate(given, 5, top_k=1)
    assert drawn.shape == (3, 5, 2)
    best = model.loss(given, drawn)
    for frame, level in ((0, 0), (2, 1), (4, 0)):
        for token in range(6):
            other = drawn.clone()
            other[:, frame, level] = token
            shorter = other[:, : frame + 1]
            losses = model.level_losses(given, shorter)[level]
            assert model.level_losses(given, drawn[:, : frame + 1])[level] <= losses + 1e-5
    assert best < model.loss(given, (drawn + 1) % 6)


def test_the_cache_changes_nothing(model: MultiStream, given: Given) -> None:
    tokens = torch.randint(6, (3, 4, 2), generator=torch.Generator().manual_seed(1))
    expected = model.level_losses(given, tokens)
    rows, places = model.given_rows(given)
    cache = model.empty_cache(3, rows.shape[1] + 8)
    losses: list[list[Tensor]] = [[], []]
    with torch.no_grad():
        for index in range(8):
            level, token = index % 2, tokens.flatten(1)[:, index]
            logits = model(rows, places, level, cache)
            losses[level].append(torch.nn.functional.cross_entropy(logits, token))
            rows = (model.first_row + level * 6 + token)[:, None]
            places = torch.full((1,), index)
    torch.testing.assert_close(torch.stack([torch.stack(each).mean() for each in losses]), expected, rtol=0, atol=1e-5)


def test_a_row_draws_the_same_alone_as_in_a_batch(model: MultiStream, given: Given) -> None:
    together = model.generate(given, 4, temperature=0.9, generators=generators(5, 6, 7))
    alone = model.generate([stream[1:2] for stream in given], 4, temperature=0.9, generators=generators(6))
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


def test_known_frames_are_gone_on_from(model: MultiStream, given: Given) -> None:
    whole = model.generate(given, 4, top_k=1)
    rest = model.generate(given, 2, known=whole[:, :2], top_k=1)
    assert torch.equal(rest, whole[:, 2:])
    assert model.generate(given, 0, known=whole).shape == (3, 0, 2)


def test_learns_to_copy_what_sounds_at_the_same_time() -> None:
    torch.manual_seed(0)
    model = MultiStream([(1, 6, 2.0)], 2, 6, hidden_size=16, num_layers=2, num_heads=2, feed_forward_size=24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        given = torch.randint(6, (16, 8, 1))
        loss = model.loss([given], given.expand(-1, -1, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(torch.tensor(6.0).log().item(), abs=0.05)
    assert losses[-1] < 0.3 * losses[0]


def test_hidden_tokens_do_not_bear_on_what_follows(model: MultiStream, given: Given) -> None:
    tokens = torch.zeros(3, 3, 2, dtype=torch.int64)
    dropped = torch.zeros(3, 3, 2, dtype=torch.bool)
    dropped[:, 1, 0] = True
    other = tokens.clone()
    other[:, 1, 0] = 3
    after = torch.tensor([False, True])  # level 1 never predicts the changed token
    assert not torch.equal(model.level_losses(given, tokens)[after], model.level_losses(given, other)[after])
    hidden = [model.level_losses(given, each, dropped)[after] for each in (tokens, other)]
    torch.testing.assert_close(*hidden, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": 1}, "got 1 streams that are given, expected 2"),
        ({"size": 9}, r"given stream 2: got values in \[\d, 8\], expected \[0, 6\]"),
        ({"known": torch.zeros(3, 2, 3, dtype=torch.int64)}, r"tokens: got .* \(3, 2, 3\), expected integers of"),
        ({"frames": -1}, "num_frames is -1"),
        ({"generators": generators(1)}, "there are 1 generators for 3 rows"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_bad_input_is_one_clear_line(model: MultiStream, given: Given, change: dict[str, object], message: str) -> None:
    change = dict(change)
    streams = given[: change.pop("given", 2)]  # type: ignore[misc]
    if change.pop("size", None):
        streams = [streams[0], streams[1].clone().fill_(8)]
        streams[1][0, 0] = 1
    with pytest.raises(MelodyError, match=message):
        model.generate(streams, change.pop("frames", 2), **change)  # type: ignore[arg-type]


def test_damaged_weights_are_refused(model: MultiStream, given: Given) -> None:
    with torch.no_grad():
        model.head.weight[0] = torch.nan
    with pytest.raises(MelodyError, match="the logits of token 0 are not finite"):
        model.generate(given, 1)
    with pytest.raises(MelodyError, match="no stream is given"):
        MultiStream([], 1, 2, 8, 1, 2, 8)
