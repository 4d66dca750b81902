"""The semantic language model: a decoder-only Transformer of the LLaMA architecture (main text of the paper).

RMSNorm before every part, rotary positions, SwiGLU, no biases, a head of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melody.bounds import Entries, Heads, Layers, Levels, Tokens, Width
from melody.lm.backbone import INTO_RESIDUAL, NORM_EPSILON, Cache, check_heads, layers_of, through_layers
from melody.lm.decoder_only import DecoderOnly, embed, initialise
from melody.nn.rotary import Rotation
from melody.registry import language_models


@language_models.register("llama")
class Llama(DecoderOnly):
    """LLaMA-type language model from MuLan tokens to semantic tokens (main text: 429.5M parameters).

    The paper prints the architecture, the number of tokens and the size. The widths are ours, such that there are
    429.97M parameters, 0.1 % more than it prints.

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
        self.head_dim = hidden_size // num_heads
        self.embedding = nn.Embedding(self.vocabulary_size, hidden_size)
        self.layers = layers_of(hidden_size, num_layers, num_heads, feed_forward_size)
        self.norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.head = nn.Linear(hidden_size, self.vocabulary_size, bias=False)
        initialise(self, num_layers, INTO_RESIDUAL)

    def forward(self, rows: Tensor, cache: Cache | None = None) -> Tensor:
        """Rows ``(B, N)`` -> logits of what follows each, ``(B, N, V)``; with a cache, the last, ``(B, 1, V)``."""
        hidden = self._hidden(rows, cache)  # (B, N, d)
        if cache is not None:
            hidden = hidden[:, -1:]
        logits: Tensor = self.head(hidden)  # (B, N or 1, V)
        return logits

    def _hidden(self, rows: Tensor, cache: Cache | None) -> Tensor:
        start = 0 if cache is None else cache.length
        positions = torch.arange(start, start + rows.shape[1], device=rows.device)
        x: Tensor = embed(self.embedding, rows)  # (B, N, d)
        x = through_layers(self.layers, x, Rotation.at(positions, self.head_dim), cache)  # (B, N, d)
        hidden: Tensor = self.norm(x)
        return hidden

    @property
    def head_weight(self) -> Tensor:
        return self.head.weight

    def hidden(self, rows: Tensor) -> Tensor:
        return self._hidden(rows, None)

    def empty_cache(self, batch: int, capacity: int) -> Cache:
        return Cache.empty(self.layers, batch, capacity)
