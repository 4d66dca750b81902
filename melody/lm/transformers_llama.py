"""The semantic language model by transformers' ``LlamaForCausalLM``: another implementation in the same role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.bounds import Entries, Heads, Layers, Levels, Tokens, Width
from melody.lm.backbone import NORM_EPSILON, check_heads
from melody.lm.decoder_only import DecoderOnly, embed
from melody.nn.rotary import ROTARY_BASE
from melody.registry import language_models
from melody.tensor_names import Names

LLAMA = Names(
    "transformers' LlamaForCausalLM",
    {
        "embedding": "model.embed_tokens",
        "norm": "model.norm",
        "head": "lm_head",
        "layers.#.attention_norm": "model.layers.#.input_layernorm",
        "layers.#.attention.query": "model.layers.#.self_attn.q_proj",
        "layers.#.attention.key": "model.layers.#.self_attn.k_proj",
        "layers.#.attention.value": "model.layers.#.self_attn.v_proj",
        "layers.#.attention.out": "model.layers.#.self_attn.o_proj",
        "layers.#.feed_forward_norm": "model.layers.#.post_attention_layernorm",
        "layers.#.feed_forward.gate": "model.layers.#.mlp.gate_proj",
        "layers.#.feed_forward.up": "model.layers.#.mlp.up_proj",
        "layers.#.feed_forward.down": "model.layers.#.mlp.down_proj",
    },
)


@language_models.register("transformers-llama")
class TransformersLlama(DecoderOnly):
    """LLaMA by transformers, ``LlamaForCausalLM``: the arguments, tokens and drawing of ``llama``, their network.

    With the weights of a ``llama`` (``from_llama``) it has the same logits, and draws the same tokens.

    Args:
        num_prefix_tokens: P, MuLan tokens before the semantic ones, one a level of the quantiser (main text).
        prefix_codebook_size: size of a level of the quantiser.
        codebook_size: how many semantic tokens there are (main text).
        hidden_size: width (ours).
        num_layers: layers (ours).
        num_heads: heads of attention (ours).
        feed_forward_size: inner width of SwiGLU (ours).
        max_tokens: semantic tokens in a sequence at most; the paper trains on 250, the limit is ours.
    Raises:
        MelodyError: sizes that do not fit together.
    """

    library_names: ClassVar = {"llama": LLAMA}

    def __init__(
        self,
        num_prefix_tokens: Levels = 12,
        prefix_codebook_size: Entries = 1024,
        codebook_size: Entries = 1024,
        hidden_size: Width = 1024,
        num_layers: Layers = 24,
        num_heads: Heads = 16,
        feed_forward_size: Width = 4096,
        max_tokens: Tokens = 512,
    ) -> None:
        super().__init__(num_prefix_tokens, prefix_codebook_size, codebook_size, max_tokens)
        check_heads(hidden_size, num_heads)
        from transformers import LlamaConfig, LlamaForCausalLM

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
        self._initialise(num_layers, into_residual=("o_proj.weight", "down_proj.weight"))

    def forward(self, rows: Tensor, cache: Any = None) -> Tensor:
        """Rows ``(B, N)`` -> logits of what follows each, ``(B, N, V)``; with a cache, the last, ``(B, 1, V)``."""
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
        from transformers import StaticCache

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


def from_llama(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``llama``, its ``state_dict``, as those of a ``transformers-llama`` of the same sizes."""
    theirs = {name: state[ours] for ours, name in _OUTSIDE_LAYERS.items()}
    for layer in range(_num_layers(state, "layers.")):
        for ours, names in _IN_A_LAYER.items():
            pieces = state[f"layers.{layer}.{ours}"].chunk(len(names))
            theirs |= {f"llama.model.layers.{layer}.{name}": piece for name, piece in zip(names, pieces, strict=True)}
    return theirs


def to_llama(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``transformers-llama`` as those of a ``llama``: the inverse of ``from_llama``."""
    converted = {ours: state[name] for ours, name in _OUTSIDE_LAYERS.items()}
    for layer in range(_num_layers(state, "llama.model.layers.")):
        for ours, names in _IN_A_LAYER.items():
            pieces = [state[f"llama.model.layers.{layer}.{name}"] for name in names]
            converted[f"layers.{layer}.{ours}"] = torch.cat(pieces)
    return converted


def _num_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)})
