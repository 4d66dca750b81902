"""The semantic language model: a decoder-only Transformer of the LLaMA architecture (section 1 of the paper).

RMSNorm before every part, rotary positions, SwiGLU, no biases, a head of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.errors import MelodyError
from melody.lm.decoder_only import DecoderOnly, embed
from melody.registry import language_models

NORM_EPSILON = 1e-6  # Touvron et al. 2023 (LLaMA)
ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2


@dataclass
class Cache:
    """Keys and values of the tokens so far, in tensors that never move."""

    keys: Tensor  # (num_layers, B, heads, capacity, head_dim)
    values: Tensor
    length: int = 0


@language_models.register("llama")
class Llama(DecoderOnly):
    """LLaMA-type language model from MuLan tokens to semantic tokens (section 1: 429.5M parameters).

    The paper prints the architecture, the number of tokens and the size. The widths are ours, such that there are
    429.97M parameters, 0.1 % more than it prints.

    Args:
        num_prefix_tokens: P, MuLan tokens before the semantic ones, one a level of the quantiser (section 1).
        prefix_codebook_size: size of a level of the quantiser.
        codebook_size: how many semantic tokens there are (section 1).
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
        num_prefix_tokens: int = 12,
        prefix_codebook_size: int = 1024,
        codebook_size: int = 1024,
        hidden_size: int = 1024,
        num_layers: int = 24,
        num_heads: int = 16,
        feed_forward_size: int = 4096,
        max_tokens: int = 512,
    ) -> None:
        super().__init__(num_prefix_tokens, prefix_codebook_size, codebook_size, max_tokens)
        if hidden_size % (2 * num_heads):
            raise MelodyError(f"hidden_size is {hidden_size}: expected a multiple of 2 * num_heads = {2 * num_heads}")
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.embedding = nn.Embedding(self.vocabulary_size, hidden_size)
        self.layers = nn.ModuleList(_Layer(hidden_size, num_heads, feed_forward_size) for _ in range(num_layers))
        self.norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.head = nn.Linear(hidden_size, self.vocabulary_size, bias=False)
        self._initialise(num_layers, into_residual=("attention.out.weight", "feed_forward.down.weight"))

    def forward(self, rows: Tensor, cache: Cache | None = None) -> Tensor:
        """Rows ``(B, N)`` -> logits of what follows each, ``(B, N, V)``; with a cache, the last, ``(B, 1, V)``."""
        hidden = self._hidden(rows, cache)  # (B, N, d)
        if cache is not None:
            hidden = hidden[:, -1:]
        logits: Tensor = self.head(hidden)  # (B, N or 1, V)
        return logits

    def _hidden(self, rows: Tensor, cache: Cache | None) -> Tensor:
        start = 0 if cache is None else cache.length
        rotation = _rotation(start, rows.shape[1], self.head_dim, rows.device)
        x: Tensor = embed(self.embedding, rows)  # (B, N, d)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotation, index, cache)  # (B, N, d)
        if cache is not None:
            cache.length += rows.shape[1]
        x = self.norm(x)
        return x  # noqa: RET504 (forward order)

    @property
    def head_weight(self) -> Tensor:
        return self.head.weight

    def hidden(self, rows: Tensor) -> Tensor:
        return self._hidden(rows, None)

    def empty_cache(self, batch: int, capacity: int) -> Cache:
        shape = (len(self.layers), batch, self.num_heads, capacity, self.head_dim)
        weight = self.head.weight
        return Cache(weight.new_empty(shape), weight.new_empty(shape))


class _Layer(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, feed_forward_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.attention = _Attention(hidden_size, num_heads)
        self.feed_forward_norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.feed_forward = _SwiGLU(hidden_size, feed_forward_size)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], index: int, cache: Cache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, index, cache)
        output: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return output


class _Attention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries_keys_values = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], index: int, cache: Cache | None) -> Tensor:
        heads = self.queries_keys_values(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, head_dim)
        queries, keys, values = heads.transpose(1, 3).unbind(2)  # (B, heads, N, head_dim)
        queries, keys = _rotate(queries, rotation), _rotate(keys, rotation)
        start = 0
        if cache is not None:
            start, end = cache.length, cache.length + x.shape[1]
            cache.keys[index, :, :, start:end] = keys
            cache.values[index, :, :, start:end] = values
            keys, values = cache.keys[index, :, :, :end], cache.values[index, :, :, :end]
        assert start == 0 or x.shape[1] == 1, "after the first pass, tokens come one by one"
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=start == 0)
        output: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, N, d)
        return output


class _SwiGLU(nn.Module):
    def __init__(self, hidden_size: int, feed_forward_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden_size, 2 * feed_forward_size, bias=False)
        self.down = nn.Linear(feed_forward_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        output: Tensor = self.down(F.silu(gate) * up)
        return output


def _rotation(start: int, length: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(length, head_dim / 2)`` of positions from ``start`` on."""
    exponent = torch.arange(0, head_dim, 2, device=device) / head_dim
    angle = torch.arange(start, start + length, device=device)[:, None] * ROTARY_BASE**-exponent
    return angle.cos(), angle.sin()


def _rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(heads.dtype)
