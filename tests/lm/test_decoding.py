"""Temperature, top-k, top-p and drawing, as properties of distributions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melody.errors import MelodyError
from melody.lm.decoding import check_decoding, draw, draw_uniforms, keep_top_k, keep_top_p, token_probabilities

logits = st.lists(st.floats(-30, 30), min_size=1, max_size=20).map(lambda values: torch.tensor(values)[None])
quick = settings(deadline=None)


@quick
@given(
    logits=logits,
    temperature=st.floats(0.05, 20),
    top_k=st.none() | st.integers(1, 30),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_is_a_distribution_in_float64(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    probabilities = token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert probabilities.dtype == torch.float64
    assert (probabilities >= 0).all()
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-12)


@quick
@given(logits=logits, temperature=st.floats(0.1, 10))
def test_temperature_divides_logits(logits: Tensor, temperature: float) -> None:
    expected = torch.exp(logits.double() / temperature - torch.logsumexp(logits.double() / temperature, dim=-1))
    torch.testing.assert_close(token_probabilities(logits, temperature=temperature), expected, atol=1e-12, rtol=1e-9)


@quick
@given(logits=logits, top_k=st.integers(1, 30))
def test_top_k_keeps_the_k_most_probable_in_their_proportions(logits: Tensor, top_k: int) -> None:
    plain = token_probabilities(logits)
    kept = keep_top_k(plain, top_k)
    chosen = kept > 0
    assert int(chosen.sum()) <= min(top_k, logits.shape[1])
    mass = plain.sort(descending=True).values[0, :top_k].sum()
    assert float(plain[chosen].sum()) == pytest.approx(float(mass))
    torch.testing.assert_close(kept[chosen] * mass, plain[chosen])


@quick
@given(logits=logits, top_p=st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_reach_p(logits: Tensor, top_p: float) -> None:
    plain = token_probabilities(logits)
    chosen = keep_top_p(plain, top_p) > 0
    assert chosen.any()
    assert float(plain[chosen].sum()) >= top_p - 1e-9
    assert float(plain[chosen].sum() - plain[chosen].min()) < top_p + 1e-9, "one token fewer would do"
    if not chosen.all():
        assert plain[chosen].min() >= plain[~chosen].max()


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}])
def test_limits_are_the_most_probable_token(settings: dict[str, float]) -> None:
    probabilities = token_probabilities(torch.tensor([[0.1, 2.0, -3.0, 1.9]]), **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(probabilities, torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=torch.float64))


def test_no_limit_changes_nothing() -> None:
    plain = token_probabilities(torch.randn(3, 7))
    torch.testing.assert_close(keep_top_k(plain, 7), plain)
    torch.testing.assert_close(keep_top_p(plain, 1.0), plain)


@quick
@given(logits=logits, top_k=st.integers(1, 5), uniform=st.floats(0, 1, exclude_max=True))
def test_draws_the_token_whose_interval_holds_the_number(logits: Tensor, top_k: int, uniform: float) -> None:
    probabilities = token_probabilities(logits, top_k=top_k)
    token = int(draw(probabilities, torch.tensor([uniform], dtype=torch.float64)))
    assert probabilities[0, token] > 0
    assert float(probabilities[0, :token].sum()) <= uniform + 1e-12
    assert uniform - 1e-12 < float(probabilities[0, : token + 1].sum())


def test_ends_of_the_unit_interval_draw_possible_tokens() -> None:
    probabilities = torch.tensor([[0.0, 0.3, 0.7, 0.0]] * 2, dtype=torch.float64)
    assert draw(probabilities, torch.tensor([0.0, math.nextafter(1, 0)], dtype=torch.float64)).tolist() == [1, 2]


def test_frequencies_follow_the_probabilities() -> None:
    probabilities = token_probabilities(torch.tensor([0.0, 1.0, -1.0, 0.5])).expand(20_000, -1).contiguous()
    uniforms = draw_uniforms(20_000, torch.Generator().manual_seed(0), torch.device("cpu"))[:, 0]
    frequencies = torch.bincount(draw(probabilities, uniforms), minlength=4) / 20_000
    deviation = (probabilities[0] * (1 - probabilities[0]) / 20_000).sqrt()
    assert ((frequencies - probabilities[0]).abs() < 4 * deviation).all()


def test_a_row_has_its_own_stream() -> None:
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    cpu = torch.device("cpu")
    together = draw_uniforms(3, generators(5, 6, 7), cpu)
    assert together.dtype == torch.float64
    assert torch.equal(together[1:2], draw_uniforms(1, generators(6), cpu))
    with pytest.raises(MelodyError, match="2 generators for 3 rows"):
        draw_uniforms(3, generators(5, 6), cpu)


def test_no_generator_means_the_global_one() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = draw_uniforms(2, None, torch.device("cpu"))
        torch.manual_seed(3)
        assert torch.equal(first, draw_uniforms(2, None, torch.device("cpu")))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "message"),
    [
        (0.0, None, None, "temperature is 0.0"),
        (float("nan"), None, None, "temperature is nan"),
        (-1.0, None, None, "temperature is -1.0"),
        (1.0, 0, None, "top_k is 0"),
        (1.0, None, 0.0, "top_p is 0.0"),
        (1.0, None, 1.1, "top_p is 1.1"),
    ],
)
def test_bad_settings_are_named(temperature: float, top_k: int | None, top_p: float | None, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        check_decoding(temperature, top_k, top_p)
