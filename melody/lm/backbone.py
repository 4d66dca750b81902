"""The layers of a decoder-only Transformer of the LLaMA architecture, whatever its tokens mean.

RMSNorm before every part, rotary positions, SwiGLU, no biases. A network holds its layers in a ``ModuleList`` with a
norm behind them, and sends embedded tokens through by ``through_layers``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from melody.errors import MelodyError
from melody.nn.feed_forward import SwiGLU
from melody.nn.rotary import Rotation

NORM_EPSILON = 1e-6  # Touvron et al. 2023 (LLaMA)
INTO_RESIDUAL = ("attention.out.weight", "feed_forward.down.weight")
"""Endings of the names of weights whose products go into the residual stream."""


@dataclass
class Cache:
    """Keys and values of the tokens so far, in tensors that never move."""

    keys: Tensor  # (num_layers, B, heads, capacity, head_dim)
    values: Tensor
    length: int = 0

    @classmethod
    def empty(cls, layers: nn.ModuleList, batch: int, capacity: int) -> Cache:
        """A cache of ``capacity`` places for ``batch`` rows, of the layers' device and precision."""
        attention = layers[0].attention
        weight: Tensor = attention.out.weight  # type: ignore[union-attr,assignment]
        heads: int = attention.num_heads  # type: ignore[union-attr,assignment]
        shape = (len(layers), batch, heads, capacity, len(weight) // heads)
        return cls(weight.new_empty(shape), weight.new_empty(shape))


def check_heads(hidden_size: int, num_heads: int) -> None:
    """Raise ``MelodyError`` for a width that does not go into heads with pairs of rotary channels."""
    if hidden_size % (2 * num_heads):
        raise MelodyError(f"hidden_size is {hidden_size}: expected a multiple of 2 * num_heads = {2 * num_heads}")


def layers_of(hidden_size: int, num_layers: int, num_heads: int, feed_forward_size: int) -> nn.ModuleList:
    """Layers for ``through_layers``, of a width that ``check_heads`` allows."""
    return nn.ModuleList(Layer(hidden_size, num_heads, feed_forward_size) for _ in range(num_layers))


def through_layers(layers: nn.ModuleList, x: Tensor, rotation: Rotation, cache: Cache | None) -> Tensor:
    """Embedded tokens ``(B, N, d)`` through all layers, after those in the cache, which takes them in: ``(B, N, d)``.

    Args:
        rotation: of the N new tokens' positions ``(N,)``.
    """
    for index, layer in enumerate(layers):
        x = layer(x, rotation, index, cache)  # (B, N, d)
    if cache is not None:
        cache.length += x.shape[1]
    return x


class Layer(nn.Module):
    """Attention, then feed-forward, each added to what came in."""

    def __init__(self, hidden_size: int, num_heads: int, feed_forward_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.attention = _Attention(hidden_size, num_heads)
        self.feed_forward_norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.feed_forward = SwiGLU(hidden_size, feed_forward_size)

    def forward(self, x: Tensor, rotation: Rotation, index: int, cache: Cache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, index, cache)
        output: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return output


class _Attention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries_keys_values = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, rotation: Rotation, index: int, cache: Cache | None) -> Tensor:
        heads = self.queries_keys_values(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, head_dim)
        queries, keys, values = heads.transpose(1, 3).unbind(2)  # (B, heads, N, head_dim)
        queries, keys = rotation(queries), rotation(keys)
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
