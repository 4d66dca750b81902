"""Our LLaMA against transformers': logits, loss, gradients, tokens, and music in a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

from melody.config import Preset
from melody.lm.backbone import NORM_EPSILON
from melody.lm.decoder_only import DecoderOnly, embed
from melody.lm.llama import Llama
from melody.nn.rotary import ROTARY_BASE
from melody.pipeline import MelodyPipeline

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


class TransformersLlama(DecoderOnly):
    """LLaMA by transformers, with our tokens and our drawing."""

    def __init__(
        self,
        num_prefix_tokens: int,
        prefix_codebook_size: int,
        codebook_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        feed_forward_size: int,
        max_tokens: int,
    ) -> None:
        super().__init__(num_prefix_tokens, prefix_codebook_size, codebook_size, max_tokens)
        config = LlamaConfig(
            vocab_size=self.vocabulary_size,
            hidden_size=hidden_size,
            intermediate_size=feed_forward_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            max_position_embeddings=num_prefix_tokens + max_tokens,
            rms_norm_eps=NORM_EPSILON,
            rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.llama: Any = LlamaForCausalLM(config)

    def forward(self, rows: Tensor, cache: Any = None) -> Tensor:
        if cache is None:
            every: Tensor = self.llama(inputs_embeds=self._embed(rows), use_cache=False).logits
            return every
        last: Tensor = self.llama(
            inputs_embeds=self._embed(rows), past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits
        return last

    def _embed(self, rows: Tensor) -> Tensor:
        return embed(self.llama.get_input_embeddings(), rows)

    @property
    def head_weight(self) -> Tensor:
        weight: Tensor = self.llama.lm_head.weight
        return weight

    def hidden(self, rows: Tensor) -> Tensor:
        output: Tensor = self.llama.model(inputs_embeds=self._embed(rows), use_cache=False).last_hidden_state
        return output

    def empty_cache(self, batch: int, capacity: int) -> Any:
        return StaticCache(config=self.llama.config, max_cache_len=capacity)


_OUTSIDE_LAYERS = {
    "embedding.weight": "llama.model.embed_tokens.weight",
    "norm.weight": "llama.model.norm.weight",
    "head.weight": "llama.lm_head.weight",
}
_IN_A_LAYER = {
    "attention.queries_keys_values.weight": (
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
    ),
    "attention.out.weight": ("self_attn.o_proj.weight",),
    "attention_norm.weight": ("input_layernorm.weight",),
    "feed_forward.gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "feed_forward.down.weight": ("mlp.down_proj.weight",),
    "feed_forward_norm.weight": ("post_attention_layernorm.weight",),
}
"""Our tensor, and theirs that it holds one below the other."""


def from_llama(state: Mapping[str, Tensor], num_layers: int = SMALL["num_layers"]) -> dict[str, Tensor]:
    """The weights of a ``llama``, its ``state_dict``, as those of ``TransformersLlama`` of the same sizes."""
    theirs = {name: state[ours] for ours, name in _OUTSIDE_LAYERS.items()}
    for layer in range(num_layers):
        for ours, names in _IN_A_LAYER.items():
            pieces = state[f"layers.{layer}.{ours}"].chunk(len(names))
            theirs |= {f"llama.model.layers.{layer}.{name}": piece for name, piece in zip(names, pieces, strict=True)}
    return theirs


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


def test_same_gradients(ours: Llama, theirs: TransformersLlama) -> None:
    for model in (ours, theirs):
        model.loss(PREFIX, TOKENS).backward()
    expected = from_llama({name: p.grad for name, p in ours.named_parameters() if p.grad is not None})
    gradients: dict[str, Tensor | None] = {name: p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


def test_takes_the_role_of_ours_in_a_pipeline(tiny_preset: Preset) -> None:
    """The pipeline counts its passes against the formula, and the tokens are those of ours, so the sound is too."""
    parts = dict(MelodyPipeline.random(tiny_preset, seed=1).networks.modules)
    expected = MelodyPipeline(tiny_preset, parts)("a slow piano", duration_s=1.25, seeds=3)
    model = TransformersLlama(**tiny_preset.language_model.arguments)
    model.load_state_dict(from_llama(parts["language_model"].state_dict(), model.llama.config.num_hidden_layers))
    generation = MelodyPipeline(tiny_preset, {**parts, "language_model": model})(
        "a slow piano", duration_s=1.25, seeds=3
    )
    assert generation.trace.passes == expected.trace.passes
    assert torch.equal(generation.waveform, expected.waveform)
