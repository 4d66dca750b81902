"""transformers' LLaMA in the language model's role: the logits, tokens, passes and errors of ours."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from melody import registry
from melody.config import Preset
from melody.errors import MelodyError
from melody.lm.llama import Llama
from melody.lm.transformers_llama import TransformersLlama, from_llama, to_llama
from melody.pipeline import MelodyPipeline, build_part

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
PREFIX = torch.tensor([[0, 1, 2], [4, 4, 4], [3, 0, 1]])
TOKENS = torch.randint(7, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def ours() -> Llama:
    torch.manual_seed(0)
    model = Llama(**SMALL).eval()
    with torch.no_grad():  # logits far from uniform, and norms that do something, so that differences show
        for parameter in model.parameters():
            parameter.mul_(10) if parameter.ndim > 1 else parameter.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def theirs(ours: Llama) -> TransformersLlama:
    model = TransformersLlama(**SMALL).eval()
    model.load_state_dict(from_llama(ours.state_dict()))
    return model


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_same_weights_same_logits_and_loss(ours: Llama, theirs: TransformersLlama) -> None:
    rows = ours.rows(PREFIX, TOKENS)
    assert torch.equal(rows, theirs.rows(PREFIX, TOKENS))
    expected = ours(rows)
    assert expected.std() > 0.5
    torch.testing.assert_close(theirs(rows), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs.loss(PREFIX, TOKENS), ours.loss(PREFIX, TOKENS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given", [0, 5])
def test_same_generators_same_tokens(ours: Llama, theirs: TransformersLlama, given: int) -> None:
    settings: dict[str, Any] = {"temperature": 1.3, "top_k": 6, "top_p": 0.95}
    tokens = TOKENS[:, :given] if given else None
    drawn = [
        model.generate(PREFIX, 20, semantic_tokens=tokens, generator=generators(1, 2, 3), **settings)
        for model in (ours, theirs)
    ]
    assert torch.equal(*drawn)
    assert len(drawn[0].unique()) > 3


def test_weights_go_over_and_back(ours: Llama, theirs: TransformersLlama) -> None:
    state = ours.state_dict()
    back = to_llama(theirs.state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_one_forward_call_a_token(theirs: TransformersLlama) -> None:
    sizes: list[tuple[int, ...]] = []
    theirs.register_forward_hook(lambda _, arguments, __: sizes.append(tuple(arguments[0].shape)))
    theirs.generate(PREFIX, 4, semantic_tokens=TOKENS[:, :5])
    assert sizes == [(3, 8), (3, 1), (3, 1), (3, 1)]


def test_the_cache_changes_nothing_and_never_grows(theirs: TransformersLlama) -> None:
    rows = theirs.rows(PREFIX, TOKENS)
    expected = theirs(rows)
    cache = theirs.empty_cache(3, capacity=12)
    with torch.no_grad():
        torch.testing.assert_close(theirs(rows[:, :4], cache)[:, 0], expected[:, 3], rtol=0, atol=1e-5)
        places = [layer.keys.data_ptr() for layer in cache.layers]
        for place in range(4, 12):
            logits = theirs(rows[:, place : place + 1], cache)
            torch.testing.assert_close(logits[:, 0], expected[:, place], rtol=0, atol=1e-5)
    assert [layer.keys.data_ptr() for layer in cache.layers] == places
    assert all(layer.keys.shape == (3, 2, 12, 8) for layer in cache.layers)


def test_same_gradients(ours: Llama, theirs: TransformersLlama) -> None:
    for model in (ours, theirs):
        model.loss(PREFIX, TOKENS).backward()
    expected = from_llama({name: p.grad for name, p in ours.named_parameters() if p.grad is not None})
    gradients: dict[str, Tensor | None] = {name: p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


def test_a_fresh_one_has_the_papers_size_and_the_same_spread_of_weights_as_ours() -> None:
    with torch.device("meta"):
        model = registry.language_models.create("transformers-llama")
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(429.97e6, rel=1e-4)
    wide = {**SMALL, "hidden_size": 128, "feed_forward_size": 256}
    expected = from_llama(Llama(**wide).state_dict())
    for name, parameter in TransformersLlama(**wide).named_parameters():
        torch.testing.assert_close(parameter.std(), expected[name].std(), rtol=0.1, atol=1e-6)


def test_takes_the_seat_of_ours_in_a_preset(tiny_preset: Preset) -> None:
    """The pipeline counts its passes against the formula, and the tokens are those of ours, so the sound is too."""
    component = tiny_preset.language_model.model_copy(update={"use": "transformers-llama"})
    parts = dict(MelodyPipeline.random(tiny_preset, seed=1).networks.modules)
    expected = MelodyPipeline(tiny_preset, parts)("a slow piano", duration_s=1.25, seeds=3)
    swapped = tiny_preset.model_copy(update={"language_model": component})
    model = build_part(swapped, "language_model")
    model.load_state_dict(from_llama(parts["language_model"].state_dict()))
    generation = MelodyPipeline(swapped, {**parts, "language_model": model})("a slow piano", duration_s=1.25, seeds=3)
    assert generation.trace.passes == expected.trace.passes
    assert torch.equal(generation.waveform, expected.waveform)


def test_bad_input_is_named_as_by_ours(theirs: TransformersLlama) -> None:
    with pytest.raises(MelodyError, match="expected at most max_tokens = 30"):
        theirs.generate(PREFIX, 22, semantic_tokens=TOKENS)
    with pytest.raises(MelodyError, match=r"the prefix: got values in \[0, 5\]"):
        theirs.loss(torch.tensor([[0, 1, 5]]), TOKENS[:1])
    with pytest.raises(MelodyError, match="hidden_size is 18"):
        TransformersLlama(**{**SMALL, "hidden_size": 18})


def test_listing_it_does_not_import_transformers() -> None:
    code = "import sys; from melody.registry import language_models; language_models.names(); "
    code += "sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=600).returncode == 0


def test_dropped_tokens_and_guidance_are_the_same_in_both(ours: Llama, theirs: TransformersLlama) -> None:
    dropped = torch.rand(3, 12, generator=torch.Generator().manual_seed(1)) < 0.5
    losses = [model.loss(PREFIX, TOKENS, dropped) for model in (ours, theirs)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    drawn = [model.generate(PREFIX, 8, generator=generators(1, 2, 3), guidance_scale=2.5) for model in (ours, theirs)]
    assert torch.equal(*drawn)
