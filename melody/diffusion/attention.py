"""Roformer layers of the coarse path: rotary self-attention, attention to the tokens, feed-forward (Figure 2).

What is built in the middle of a pass is a named tuple, not a dataclass, for ``torch.compile`` can follow those.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.diffusion.norm import RMSNorm
from melody.nn.feed_forward import SwiGLU
from melody.nn.rotary import Rotation


class Columns(NamedTuple):
    """What a block's attention knows about the places of its merged columns, the same for every row."""

    rotation: Rotation
    """Of the columns' times, ``(width, 1, S, 1, head_dim / 2)``."""
    mask: Tensor
    """Added to the scores of a column's keys, ``(width, 1, 1, S)``: minus infinity where a place holds no frame."""


class Guidance(NamedTuple):
    """Which rows see the tokens: both are indices ``(rows,)``."""

    conditional: Tensor
    unconditional: Tensor

    @classmethod
    def of(cls, unconditional: Tensor) -> Guidance:
        return cls(torch.nonzero(~unconditional)[:, 0], torch.nonzero(unconditional)[:, 0])


Memory = tuple[Tensor, Tensor]
"""Keys, rotated, and values of the semantic tokens for one layer: each ``(B, heads, N, head_dim)``."""


class RoformerLayer(nn.Module):
    """Pre-normalised layer on every column in parallel; SwiGLU feed-forward (ours), no biases (ours)."""

    def __init__(self, hidden_size: int, num_heads: int, feed_forward_size: int) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.forward_norm = (RMSNorm(hidden_size) for _ in range(3))
        self.self_attention = SelfAttention(hidden_size, num_heads)
        self.cross_attention = CrossAttention(hidden_size, num_heads)
        self.feed_forward = SwiGLU(hidden_size, feed_forward_size)

    def forward(self, x: Tensor, columns: Columns, memory: Memory, guidance: Guidance | None) -> Tensor:
        """Columns ``(width, B, S, d)`` -> the same shape."""
        x = x + self.self_attention(self.self_norm(x), columns)
        x = x + self.cross_attention(self.cross_norm(x), columns, memory, guidance)
        output: Tensor = x + self.feed_forward(self.forward_norm(x))
        return output


class SelfAttention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries_keys_values = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, columns: Columns) -> Tensor:
        heads = self.queries_keys_values(x).unflatten(-1, (3, self.num_heads, -1))  # (width, B, S, 3, heads, head_dim)
        queries, keys, values = heads.unbind(-3)
        attended = across_segments(columns.rotation(queries), columns.rotation(keys), values, columns.mask)
        output: Tensor = self.out(attended)  # (width, B, S, d)
        return output


class CrossAttention(nn.Module):
    """Attention of all columns to the semantic tokens; of unconditional rows to their own hidden sequence instead.

    The weights are the same for both, so that nothing but the sequence is replaced (grade S: a public summary).
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries = nn.Linear(hidden_size, hidden_size, bias=False)
        self.keys_values = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def remember(self, semantic_embedding: Tensor, rotation: Rotation) -> Memory:
        """Keys and values of E_ST ``(B, N, d)``, which are the same at every step of the sampler."""
        keys, values = self._keys_values(semantic_embedding)
        return rotation(keys).transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous()

    def forward(self, x: Tensor, columns: Columns, memory: Memory, guidance: Guidance | None) -> Tensor:
        heads = self.queries(x).unflatten(-1, (self.num_heads, -1))  # (width, B, S, heads, head_dim)
        attended = self._attend(columns.rotation(heads), x, columns, memory, guidance)
        output: Tensor = self.out(attended)  # (width, B, S, d)
        return output

    def _attend(
        self, queries: Tensor, x: Tensor, columns: Columns, memory: Memory, guidance: Guidance | None
    ) -> Tensor:
        if guidance is None or not len(guidance.unconditional):
            return _to_tokens(queries, memory)
        if not len(guidance.conditional):
            return self._to_itself(queries, x, columns)
        seeing, blind = guidance.conditional, guidance.unconditional
        to_tokens = _to_tokens(queries[:, seeing], (memory[0][seeing], memory[1][seeing]))
        to_itself = self._to_itself(queries[:, blind], x[:, blind], columns)
        order = torch.argsort(torch.cat([seeing, blind]))
        return torch.cat([to_tokens, to_itself], dim=1)[:, order]

    def _to_itself(self, queries: Tensor, x: Tensor, columns: Columns) -> Tensor:
        keys, values = self._keys_values(x)
        return across_segments(queries, columns.rotation(keys), values, columns.mask)

    def _keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.keys_values(x).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return keys, values


def across_segments(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention over S within every column: heads ``(width, B, S, heads, head_dim)`` -> ``(width, B, S, d)``."""
    width, batch = queries.shape[:2]
    # (width * B, heads, S, head_dim)
    q, k, v = (heads.flatten(0, 1).transpose(1, 2) for heads in (queries, keys, values))
    rows = mask[:, None].expand(-1, batch, -1, -1, -1).flatten(0, 1)  # (width * B, 1, 1, S)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=rows.to(q.dtype).expand(-1, -1, q.shape[2], -1))
    return attended.transpose(1, 2).reshape(width, batch, q.shape[2], -1)


def _to_tokens(queries: Tensor, memory: Memory) -> Tensor:
    """Attention of every place to the tokens: heads ``(width, B, S, heads, head_dim)`` -> ``(width, B, S, d)``."""
    width, _, num_segments, num_heads, head_dim = queries.shape
    places = queries.permute(1, 3, 0, 2, 4).flatten(2, 3)  # (B, heads, width * S, head_dim)
    attended = F.scaled_dot_product_attention(places, *memory)
    columns = attended.view(*attended.shape[:2], width, num_segments, head_dim)
    return columns.permute(2, 0, 3, 1, 4).reshape(width, -1, num_segments, num_heads * head_dim)
